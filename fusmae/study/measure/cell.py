"""Open a variant's weights, and write its cell."""

import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from fusmae.config.params import Config
from fusmae.config.study import VariantConfig
from fusmae.data.datamodule import PairDataModule
from fusmae.data.index import Pair
from fusmae.errors import CheckpointError
from fusmae.evaluation.resampling import independent_places
from fusmae.files import file_sha256, written_whole
from fusmae.models.fusmae import FusMAE
from fusmae.models.preprocess import Preprocess
from fusmae.rivals.backbones import build_rival
from fusmae.runs.hardware import describe_hardware
from fusmae.runs.tracking import Run
from fusmae.study.measure.frozen import CheckpointEncoder, FrozenEncoder, RivalEncoder
from fusmae.study.measure.gallery import failure_pictures, reconstruction_pictures
from fusmae.study.measure.measurement import Measured
from fusmae.study.results import PICTURES, Cell, write_cell, write_pictures
from fusmae.study.variants import study_of
from fusmae.training.checkpoint import Checkpoint, load_checkpoint


@dataclass(frozen=True)
class Opened:
    """A variant's weights, ready to use.

    Attributes:
        about: description of the variant.
        encoder: the frozen encoder.
        checkpoint: weights to train further; None for a rival.
        reconstructor: model and preprocessing, if the variant was trained to reconstruct; None otherwise.
        history: training curves and cost of the pretraining.
    """

    about: str
    encoder: FrozenEncoder
    checkpoint: Checkpoint | None
    reconstructor: tuple[FusMAE, Preprocess] | None
    history: Mapping[str, Any]


def open_variant(config: Config, variant: VariantConfig, folder: Path, seed: int) -> Opened:
    """Load what `study_pretrain` wrote to `folder`, or make the rival that the variant names.

    Raises:
        CheckpointError: the weights are absent, damaged, changed or of another model.
    """
    checkpoint = load_checkpoint(folder)
    history = json.loads((folder / "history.json").read_text(encoding="utf-8"))
    if variant.start not in ("pretrained", "random"):
        weights = _unchanged(variant) if variant.weights else None
        rival = build_rival(variant.start, checkpoint.preprocessing, weights, seed)
        return Opened(f"{variant.about}, {rival.origin}", RivalEncoder(rival), None, None, history)
    encoder = CheckpointEncoder(checkpoint, study_of(config).readout)
    reconstructor = None
    if variant.start == "pretrained" and config.pretrain.reconstruction_weight:
        reconstructor = checkpoint.autoencoder(), Preprocess(checkpoint.preprocessing)
    return Opened(variant.about, encoder, checkpoint, reconstructor, history)


def _unchanged(variant: VariantConfig) -> Path:
    """A rival's file of weights, checked to be the one that the study was composed with."""
    weights = Path(variant.weights)
    found = file_sha256(weights) if weights.is_file() else "no such file"
    if found != variant.weights_sha256:
        raise CheckpointError(
            f"{weights} is not the file of weights that the study was composed with.",
            got=found,
            expected=variant.weights_sha256,
            hint="make study STUDY='…' once more",
        )
    return weights


def write_measured(
    out: Path,
    config: Config,
    name: str,
    opened: Opened,
    measured: Measured,
    data: PairDataModule,
    pairs: Mapping[str, Pair],
    run: Run,
) -> None:
    """Write the cell `out` with its pictures, as a whole or not at all."""
    book, history = measured.book, opened.history
    cost = {
        "parameters": opened.encoder.num_parameters,
        "pretrain_seconds": history["seconds"],
        "pretrain_epochs": max((len(points) for points in history["points"].values()), default=0),
        "pairs_per_second": history["pairs"] / history["seconds"] if history["seconds"] else 0.0,
    }
    git, shards = run.facts["git"], str(data.shards)
    origin = {
        "run": run.run_id,
        "pretrain_run": history["run_id"],
        "commit": git["commit"],
        "is_dirty": git["is_dirty"],
        "data": run.facts["inputs"][shards],
        "device": describe_hardware(config.runtime.accelerator)["fusmae.device"],
        "warning": data.reader("test").origin.warning,
        "test_places": len(set(independent_places([pairs[key] for key in data.reader("test").keys]))),
    }
    cell = Cell(
        variant=name,
        seed=config.seed,
        about=opened.about,
        rows=book.rows,
        cost=cost,
        reconstruction=measured.reconstruction,
        retrieval=measured.retrieval,
        history=history["points"],
        origin=origin,
        classes=book.classes,
        map_classes=data.reader("test").map_classes,
    )
    with written_whole(out) as partial:
        partial.mkdir()
        write_cell(partial, cell, book.labels, book.predictions, book.confusions)
        write_pictures(partial, _pictures(partial / PICTURES, config, opened, measured, data, pairs))


def _pictures(
    folder: Path,
    config: Config,
    opened: Opened,
    measured: Measured,
    data: PairDataModule,
    pairs: Mapping[str, Pair],
) -> list[Any]:
    count, found = study_of(config).num_pictures, []
    if not count:
        return []
    # A stack has no separate tiles per modality that could be drawn.
    checkpoint = opened.checkpoint
    if opened.reconstructor is not None and checkpoint is not None and not checkpoint.preprocessing.is_stacked:
        found += reconstruction_pictures(folder, checkpoint, data, pairs, config.data.modalities, count)
    best = next((row for row in reversed(measured.book.rows) if row.name in measured.book.predictions), None)
    if best is not None:
        name = f"{best.protocol}/{best.share:g}/{measured.book.rows[0].condition}"
        found += failure_pictures(folder, data, pairs, measured.book.predictions[name], count)
    return found
