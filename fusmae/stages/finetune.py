"""Stage finetune: train encoder and head together, from pretrained or from random weights."""

from dataclasses import replace
from pathlib import Path

from fusmae.config.training import FinetuneConfig
from fusmae.models.predictors import PixelPredictor
from fusmae.runs.provenance import stage_code
from fusmae.training.checkpoint import load_checkpoint, save_checkpoint
from fusmae.training.reconstruction import initial_autoencoder
from fusmae.training.stage import TrainingStage
from fusmae.training.start import encoder_alone, facts_of, read_start, take_weights
from fusmae.training.supervised import start_finetuning

RANDOM = "random"
"""Name of the checkpoint folder that always keeps its weights, for comparison."""


def finetune(
    section: FinetuneConfig,
    stage: TrainingStage,
    *,
    weights: Path,
    shards: Path,
    out: Path,
    run_file: Path,
    start: Path | None = None,
) -> None:
    """Train a predictor of the labels' kind from the checkpoint folder `weights`; write it to `out`.

    The folder `start` has the weights that `section.start` means, which take the place of those in `weights`, but not
    of the random ones.
    """
    begun = load_checkpoint(weights, stage.model)
    other = None if weights.name == RANDOM else read_start(start, section.start)
    taken = None
    if other:
        _, initial = initial_autoencoder(stage.model, begun.preprocessing, stage.seed)
        taken = take_weights(other, encoder_alone(initial))
        begun = replace(begun, weights=taken.weights)
    if section.group_drop:
        preprocessing = begun.preprocessing.model_copy(update={"may_lack_groups": True})
        begun = replace(begun, preprocessing=preprocessing)
    data = stage.pairs(shards, section, tuple(stage.tiles.modalities), with_labels=True)
    module = start_finetuning(begun, section, data.reader("train"), stage.seed)
    name, params = f"finetune-{weights.name}", {"model": stage.model.model_dump(), "finetune": section.model_dump()}
    inputs = [weights, shards, *([start] if start and taken else [])]
    with stage.run(name, params, stage_code("finetune"), inputs, run_file, data) as run:
        facts = facts_of(run, taken)
        trained = stage.fit(module, data, run, section.epochs)
        if run.is_first:
            map_px = module.model.head.map_px if isinstance(module.model, PixelPredictor) else None
            save_checkpoint(out, begun.with_head(section.readout, module.model.task, facts, trained, map_px))
