"""Stage pretrain: masked reconstruction; also keeps the random initial weights, for comparison."""

from dataclasses import replace
from pathlib import Path

from fusmae.config.training import PretrainConfig
from fusmae.data.statistics import read_statistics
from fusmae.data.verdict import require_verdict
from fusmae.evaluation.evidence import pretraining_callbacks
from fusmae.evaluation.figures import draw_reconstructions
from fusmae.models.preprocess import Preprocessing
from fusmae.runs.provenance import stage_code
from fusmae.training.checkpoint import save_checkpoint
from fusmae.training.reconstruction import start_pretraining
from fusmae.training.stage import TrainingStage
from fusmae.training.start import facts_of, read_start, take_weights


def pretrain(
    section: PretrainConfig,
    stage: TrainingStage,
    *,
    shards: Path,
    verdict: Path,
    statistics: Path,
    out: Path,
    pictures: Path,
    run_file: Path,
    start: Path | None = None,
) -> None:
    """Train on `shards` with an examination's `verdict`; write `out/pretrained`, `out/random` and `pictures`.

    The folder `start` has the weights that `section.start` means; without any, training starts from the random ones.
    """
    other = read_start(start, section.start)
    require_verdict(verdict, shards)
    model, modalities = stage.model, stage.tiles.modalities
    data = stage.pairs(shards, section, tuple(modalities), model.num_patches(stage.tiles.tile_px))
    reader = data.reader("train")
    preprocessing = Preprocessing(
        inputs=reader.inputs, statistics=read_statistics(statistics), may_lack_groups=section.group_drop > 0
    )
    module, initial = start_pretraining(model, preprocessing, section, stage.seed)
    taken = take_weights(other, initial) if other else None
    if taken:
        module.model.load_state_dict(taken.weights)
    params = {"model": model.model_dump(), "pretrain": section.model_dump()}
    inputs = [shards, statistics, *([start] if start and taken else [])]
    with stage.run("pretrain", params, stage_code("pretrain"), inputs, run_file, data) as run:
        facts = facts_of(run, taken)
        trained = stage.fit(module, data, run, section.epochs, pretraining_callbacks(data, section))
        if not run.is_first:
            return
        random = replace(initial, provenance=run.facts)
        pretrained = replace(random, provenance=facts, weights=trained)
        save_checkpoint(out / "pretrained", pretrained)
        save_checkpoint(out / "random", random)
        keys = data.reader("validation").keys[: section.num_pictures]
        batch = data.first("validation", len(keys))
        # Not the trained module: one process alone can't use a model that is split among processes.
        draw_reconstructions(pictures, pretrained, batch, keys, modalities, reader.origin.warning)
        run.log_folder(pictures)
