"""Stage probe: linear heads on a frozen encoder, one per modality setting; learning rate chosen on validation."""

from pathlib import Path

import numpy as np
import torch

from fusmae.config.data import DataConfig
from fusmae.config.runtime import RuntimeConfig
from fusmae.config.training import ModelConfig, ProbeConfig
from fusmae.data.datamodule import Draws, PairDataModule
from fusmae.evaluation.metrics import average_precisions
from fusmae.models.architecture import modality_settings
from fusmae.models.preprocess import Preprocess
from fusmae.runs.distributed import require_one_process
from fusmae.runs.stage_code import stage_code
from fusmae.runs.tracking import stage_run
from fusmae.training.checkpoint import load_checkpoint, save_checkpoint
from fusmae.training.probe import Prober, choose_heads
from fusmae.training.trainer import build_trainer, fit, predict


def probe(
    section: ProbeConfig,
    model: ModelConfig,
    tiles: DataConfig,
    runtime: RuntimeConfig,
    seed: int,
    experiment: str,
    *,
    weights: Path,
    shards: Path,
    out: Path,
    run_file: Path,
) -> None:
    """Probe the encoder in the checkpoint folder `weights`; write encoder and chosen heads to `out`."""
    require_one_process("probe")
    start, modalities = load_checkpoint(weights, model), tuple(tiles.modalities)
    draws = Draws(seed, modalities, num_patches=1)
    data = PairDataModule(shards, batch_size=section.batch_size, draws=draws, num_workers=runtime.num_workers)
    classes, labels = data.reader("train").classes, np.asarray(data.reader("validation").labels)
    encoder = start.encoder()
    torch.manual_seed(seed)
    module = Prober(
        encoder,
        Preprocess(start.preprocessing),
        settings=modality_settings(modalities),
        learning_rates=section.learning_rates,
        num_classes=len(classes),
        readout=section.readout,
    )
    with stage_run(
        f"probe-{weights.name}",
        experiment=experiment,
        seed=seed,
        params={"model": model.model_dump(), "probe": section.model_dump()},
        code=stage_code("probe"),
        inputs=[weights, shards],
        run_file=run_file,
        accelerator=runtime.accelerator,
        data=data.reader("train").origin.described,
    ) as run:
        trainer = build_trainer(runtime, section.epochs, seed, run.scratch, run.logger)
        fit(trainer, module, data, run.scratch)
        found = module.collect(predict(runtime, module, data.loader("validation")))
        scores = {name: [average_precisions(labels, logits)[0] for logits in found[name]] for name in found}
        chosen = choose_heads(scores)
        choice = {name: {"learning_rate": section.learning_rates[at], "validation_micro_ap": scores[name][at]}
                  for name, at in chosen.items()}  # fmt: skip
        facts = {**run.facts, "chosen": choice}
        save_checkpoint(out, start.with_head(section.readout, classes, facts, module.published(chosen)))
        run.log_metrics({f"{name}/{key}": value for name, values in choice.items() for key, value in values.items()})
