"""Stage probe: linear heads on a frozen encoder, one per modality setting; learning rate chosen on validation."""

from pathlib import Path

import numpy as np
import torch

from fusmae.config.data import DataConfig
from fusmae.config.runtime import RuntimeConfig
from fusmae.config.training import ModelConfig, ProbeConfig
from fusmae.data.datamodule import Draws, PairDataModule
from fusmae.evaluation.metrics import average_precisions
from fusmae.runs.distributed import require_one_process
from fusmae.runs.stage_code import stage_code
from fusmae.runs.tracking import stage_run
from fusmae.training.build import build_encoder, build_preprocess, modality_settings, part_of
from fusmae.training.checkpoint import Checkpoint, load_checkpoint, load_weights, require_same_model, save_checkpoint
from fusmae.training.probe import Prober, choose_heads
from fusmae.training.trainer import Machine, build_trainer, fit, predict


def probe(
    section: ProbeConfig,
    architecture: ModelConfig,
    tiles: DataConfig,
    runtime: RuntimeConfig,
    *,
    seed: int,
    experiment: str,
    weights: Path,
    shards: Path,
    out: Path,
    run_file: Path,
) -> None:
    """Probe the encoder in the checkpoint folder `weights`; write encoder and chosen heads to `out`."""
    require_one_process("probe")
    start = load_checkpoint(weights)
    require_same_model(start, architecture.model_dump(mode="json"), weights)
    modalities, machine = tuple(tiles.modalities), Machine(**runtime.machine)
    draws = Draws(seed, modalities, num_patches=1)
    data = PairDataModule(shards, batch_size=section.batch_size, draws=draws, num_workers=runtime.num_workers)
    classes, labels = data.reader("train").classes, np.asarray(data.reader("validation").labels)
    encoder, preprocess = build_encoder(start.architecture), build_preprocess(start.preprocessing)
    load_weights(encoder, part_of(start.weights, "encoder."), weights)
    torch.manual_seed(seed)
    module = Prober(
        encoder,
        preprocess,
        settings=modality_settings(modalities),
        learning_rates=section.learning_rates,
        num_classes=len(classes),
        readout=section.readout,
    )
    with stage_run(
        f"probe-{weights.name}",
        experiment=experiment,
        seed=seed,
        params={"model": architecture.model_dump(), "probe": section.model_dump()},
        code=stage_code("probe"),
        inputs=[weights, shards],
        run_file=run_file,
        accelerator=runtime.accelerator,
        data=data.reader("train").origin.described,
    ) as run:
        trainer = build_trainer(machine, section.epochs, seed, run.scratch, run.logger)
        fit(trainer, module, data, run.scratch)
        found = module.collect(predict(machine, module, data.loader("validation")))
        scores = {name: [average_precisions(labels, logits)[0] for logits in found[name]] for name in found}
        chosen = choose_heads(scores)
        described = {**start.architecture, "num_classes": len(classes), "readout": section.readout}
        choice = {name: {"learning_rate": section.learning_rates[at], "validation_micro_ap": scores[name][at]}
                  for name, at in chosen.items()}  # fmt: skip
        facts = {**run.facts, "chosen": choice}
        finished = Checkpoint(described, start.preprocessing, classes, facts, module.published(chosen))
        save_checkpoint(out, finished)
        run.log_metrics({f"{name}/{key}": value for name, values in choice.items() for key, value in values.items()})
