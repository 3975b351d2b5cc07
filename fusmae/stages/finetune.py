"""Stage finetune: train encoder and head together, from pretrained or from random weights."""

from pathlib import Path

from fusmae.config.training import FinetuneConfig
from fusmae.runs.provenance import stage_code
from fusmae.training.checkpoint import load_checkpoint, save_checkpoint
from fusmae.training.stage import TrainingStage
from fusmae.training.supervised import start_finetuning


def finetune(
    section: FinetuneConfig, stage: TrainingStage, *, weights: Path, shards: Path, out: Path, run_file: Path
) -> None:
    """Train a classifier from the checkpoint folder `weights`; write it to `out`."""
    start = load_checkpoint(weights, stage.model)
    data = stage.pairs(shards, section, tuple(stage.tiles.modalities))
    classes = data.classes()
    module = start_finetuning(start, section, len(classes), stage.seed)
    name, params = f"finetune-{weights.name}", {"model": stage.model.model_dump(), "finetune": section.model_dump()}
    with stage.run(name, params, stage_code("finetune"), [weights, shards], run_file, data) as run:
        trained = stage.fit(module, data, run, section.epochs)
        if run.is_first:
            save_checkpoint(out, start.with_head(section.readout, classes, run.facts, trained))
