"""Stage finetune: train encoder and head together, from pretrained or from random weights."""

from pathlib import Path

from fusmae.config.data import DataConfig
from fusmae.config.runtime import RuntimeConfig
from fusmae.config.training import FinetuneConfig, ModelConfig
from fusmae.data.datamodule import Draws, PairDataModule
from fusmae.runs.stage_code import stage_code
from fusmae.runs.tracking import stage_run
from fusmae.training.checkpoint import load_checkpoint, part_of, save_checkpoint
from fusmae.training.supervised import start_finetuning
from fusmae.training.trainer import build_trainer, fit


def finetune(
    section: FinetuneConfig,
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
    """Train a classifier from the checkpoint folder `weights`; write it to `out`."""
    start = load_checkpoint(weights, model)
    draws = Draws(seed, tuple(tiles.modalities), 1, section.modality_drop, section.augment.model_dump())
    data = PairDataModule(shards, batch_size=section.batch_size, draws=draws, num_workers=runtime.num_workers)
    classes = data.reader("train").classes
    module = start_finetuning(start, section, len(classes), seed)
    with stage_run(
        f"finetune-{weights.name}",
        experiment=experiment,
        seed=seed,
        params={"model": model.model_dump(), "finetune": section.model_dump()},
        code=stage_code("finetune"),
        inputs=[weights, shards],
        run_file=run_file,
        accelerator=runtime.accelerator,
        data=data.reader("train").origin.described,
    ) as run:
        trainer = build_trainer(runtime, section.epochs, seed, run.resume_folder, run.logger)
        trained = part_of(fit(trainer, module, data, run.resume_folder), "model.")
        if not run.is_first:
            return
        save_checkpoint(out, start.with_head(section.readout, classes, run.facts, trained))
