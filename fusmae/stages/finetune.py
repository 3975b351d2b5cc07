"""Stage finetune: train encoder and head together, from pretrained or from random weights."""

from pathlib import Path

import torch

from fusmae.config.data import DataConfig
from fusmae.config.runtime import RuntimeConfig
from fusmae.config.training import FinetuneConfig, ModelConfig
from fusmae.data.datamodule import Draws, PairDataModule
from fusmae.models.heads import Classifier, ClassifierHead, readout_dim
from fusmae.runs.stage_code import stage_code
from fusmae.runs.tracking import stage_run
from fusmae.training.build import build_encoder, build_preprocess, part_of
from fusmae.training.checkpoint import Checkpoint, load_checkpoint, load_weights, require_same_model, save_checkpoint
from fusmae.training.supervised import Finetuner, FinetuneRecipe
from fusmae.training.trainer import Machine, build_trainer, fit


def finetune(
    section: FinetuneConfig,
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
    """Train a classifier from the checkpoint folder `weights`; write it to `out`."""
    start = load_checkpoint(weights)
    require_same_model(start, architecture.model_dump(mode="json"), weights)
    draws = Draws(seed, tuple(tiles.modalities), 1, section.modality_drop, section.augment.model_dump())
    data = PairDataModule(shards, batch_size=section.batch_size, draws=draws, num_workers=runtime.num_workers)
    classes = data.reader("train").classes
    encoder = build_encoder(start.architecture, drop_path=section.drop_path)
    load_weights(encoder, part_of(start.weights, "encoder."), weights)
    torch.manual_seed(seed)
    model = Classifier(encoder, section.readout, ClassifierHead(readout_dim(encoder, section.readout), len(classes)))
    recipe = FinetuneRecipe(
        section.base_lr, section.batch_size, section.weight_decay, section.warmup_epochs, section.layer_decay
    )
    module = Finetuner(model, build_preprocess(start.preprocessing), recipe)
    with stage_run(
        f"finetune-{weights.name}",
        experiment=experiment,
        seed=seed,
        params={"model": architecture.model_dump(), "finetune": section.model_dump()},
        code=stage_code("finetune"),
        inputs=[weights, shards],
        run_file=run_file,
        accelerator=runtime.accelerator,
        data=data.reader("train").origin.described,
    ) as run:
        trainer = build_trainer(Machine(**runtime.machine), section.epochs, seed, run.scratch, run.logger)
        trained = part_of(fit(trainer, module, data, run.scratch), "model.")
        if not run.is_first:
            return
        described = {**start.architecture, "num_classes": len(classes), "readout": section.readout}
        finished = Checkpoint(described, start.preprocessing, classes, run.facts, trained)
        save_checkpoint(out, finished)
