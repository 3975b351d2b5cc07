"""Stage finetune: encoder and head together, from pretrained or from initial weights."""

from pathlib import Path

import torch

from fusmae.config.params import Config
from fusmae.data.datamodule import Draws, PairDataModule
from fusmae.models.heads import Classifier, ClassifierHead, readout_dim
from fusmae.runs.tracking import stage_run
from fusmae.training.build import build_encoder, build_preprocess, part_of
from fusmae.training.checkpoint import Checkpoint, load_checkpoint, load_weights, require_same_model, save_checkpoint
from fusmae.training.supervised import Finetuner, FinetuneRecipe
from fusmae.training.trainer import Machine, build_trainer, fit


def finetune(config: Config, *, weights: Path, shards: Path, out: Path, run_file: Path) -> None:
    """Train a classifier from the checkpoint folder `weights`; write it to `out`."""
    section, start = config.finetune, load_checkpoint(weights)
    require_same_model(start, config.model.model_dump(mode="json"), weights)
    draws = Draws(config.seed, tuple(config.data.modalities), 1, section.modality_drop, section.augment.model_dump())
    data = PairDataModule(shards, batch_size=section.batch_size, draws=draws, num_workers=config.runtime.num_workers)
    classes = data.reader("train").classes
    encoder = build_encoder(start.architecture, drop_path=section.drop_path)
    load_weights(encoder, part_of(start.weights, "encoder."), weights)
    torch.manual_seed(config.seed)
    model = Classifier(encoder, section.readout, ClassifierHead(readout_dim(encoder, section.readout), len(classes)))
    recipe = FinetuneRecipe(
        section.base_lr, section.batch_size, section.weight_decay, section.warmup_epochs, section.layer_decay
    )
    module = Finetuner(model, build_preprocess(start.preprocessing), recipe)
    with stage_run(
        f"finetune-{weights.name}",
        experiment=config.register_as.experiment,
        seed=config.seed,
        params={"model": config.model.model_dump(), "finetune": section.model_dump()},
        inputs=[weights, shards],
        run_file=run_file,
        accelerator=config.runtime.accelerator,
        data=data.reader("train").origin.described,
    ) as run:
        trainer = build_trainer(Machine(**config.runtime.machine), section.epochs, config.seed, run.scratch, run.logger)
        trained = part_of(fit(trainer, module, data, run.scratch), "model.")
        if not run.is_first:
            return
        architecture = {**start.architecture, "num_classes": len(classes), "readout": section.readout}
        finished = Checkpoint(architecture, start.preprocessing, classes, run.facts, trained)
        save_checkpoint(out, finished)
