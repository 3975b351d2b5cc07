"""Stage probe: logistic regressions on a frozen encoder's features, one per modality setting."""

from pathlib import Path

import numpy as np

from fusmae.config.training import ProbeConfig
from fusmae.data.datamodule import Draws, PairDataModule
from fusmae.data.index import Split
from fusmae.evaluation.conditions import conditions_of
from fusmae.evaluation.features import CheckpointEncoder, features_of
from fusmae.evaluation.metrics import headline_of
from fusmae.evaluation.probe import fit_probe
from fusmae.runs.device import device_of
from fusmae.runs.distributed import require_one_process
from fusmae.runs.provenance import stage_code
from fusmae.training.checkpoint import load_checkpoint, save_checkpoint
from fusmae.training.stage import TrainingStage

LEARNT_FROM: tuple[Split, ...] = ("train", "validation")


def probe(
    section: ProbeConfig, stage: TrainingStage, *, weights: Path, shards: Path, out: Path, run_file: Path
) -> None:
    """Probe the encoder in the checkpoint folder `weights`; write encoder and heads to `out`."""
    require_one_process("probe")
    start, modalities = load_checkpoint(weights, stage.model), tuple(stage.tiles.modalities)
    data = PairDataModule(shards, batch_size=section.batch_size, draws=Draws(stage.seed, modalities, num_patches=1))
    task = data.task().of_tiles
    encoder, conditions = CheckpointEncoder(start, section.readout), conditions_of(modalities, modalities)
    device = device_of(stage.runtime.accelerator)
    name, params = f"probe-{weights.name}", {"model": stage.model.model_dump(), "probe": section.model_dump()}
    with stage.run(name, params, stage_code("probe"), [weights, shards], run_file, data) as run:
        features = {split: features_of(encoder, data, split, conditions, device) for split in LEARNT_FROM}
        labels = {split: np.asarray(data.reader(split).labels) for split in LEARNT_FROM}
        fitted = {
            name: fit_probe(found, labels["train"], features["validation"][name], labels["validation"], task)
            for name, found in features["train"].items()
        }
        chosen = {
            name: {"strength": found.strength, f"validation_{headline_of(task)}": found.score}
            for name, found in fitted.items()
        }
        kept = {f"encoder.{name}": tensor for name, tensor in encoder.encoder.state_dict().items()}
        for name, found in fitted.items():
            kept |= {f"heads.{name}.{part}": tensor for part, tensor in found.head().state_dict().items()}
        facts = {**run.facts, "chosen": chosen}
        save_checkpoint(out, start.with_head(section.readout, task, facts, kept))
        run.log_metrics({f"{name}/{key}": value for name, values in chosen.items() for key, value in values.items()})
