"""Open a variant's weights, and write its cell with pictures of reconstructed tiles and of the worst predictions."""

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from fusmae.config.data import DataConfig
from fusmae.config.study import VariantConfig
from fusmae.config.training import PretrainConfig, Readout
from fusmae.data.datamodule import Batch, PairDataModule
from fusmae.data.index import Pair
from fusmae.errors import CheckpointError
from fusmae.evaluation import diagnostics
from fusmae.evaluation.features import CheckpointEncoder, FrozenEncoder
from fusmae.evaluation.figures import Image, displayed, save_tiles
from fusmae.evaluation.reconstructions import draw_reconstructions
from fusmae.evaluation.resampling import independent_places
from fusmae.files import file_sha256, written_whole
from fusmae.modalities import Modality, ModalityInput
from fusmae.rivals.backbones import build_rival
from fusmae.rivals.rival import Rival
from fusmae.runs.tracking import Run, describe_hardware
from fusmae.study.measure.measurement import Measurement
from fusmae.study.results import PICTURES, Cell, Picture, write_cell, write_pictures
from fusmae.training.checkpoint import Checkpoint, load_checkpoint


class RivalEncoder:
    """A rival under the protocol of `FrozenEncoder`."""

    def __init__(self, rival: Rival) -> None:
        self.rival = rival
        self.modalities = rival.modalities
        self.num_parameters = sum(parameter.numel() for parameter in rival.parameters())

    @torch.no_grad()
    def features(self, pixels: dict[str, Tensor], setting: Sequence[str]) -> Tensor:
        """See `FrozenEncoder`."""
        found: Tensor = self.rival(pixels, tuple(setting))
        return found.float()

    def to(self, device: torch.device) -> "RivalEncoder":
        """Move the rival to a device."""
        self.rival.to(device)
        return self


@dataclass(frozen=True)
class Opened:
    """A variant's weights, ready to use.

    Attributes:
        about: description of the variant.
        encoder: the frozen encoder.
        checkpoint: weights to train further; None for a rival.
        is_reconstructing: whether the variant was trained to reconstruct.
        history: training curves and cost of the pretraining.
    """

    about: str
    encoder: FrozenEncoder
    checkpoint: Checkpoint | None
    is_reconstructing: bool
    history: Mapping[str, Any]


def open_variant(variant: VariantConfig, pretrain: PretrainConfig, readout: Readout, folder: Path, seed: int) -> Opened:
    """Load what `study_pretrain` wrote to `folder`, or make the rival that the variant names.

    Args:
        variant: the variant.
        pretrain: how the variant was trained.
        readout: how an encoder's tokens become features; a rival has its own way.
        folder: folder of the checkpoint.
        seed: random seed of a rival's weights where it has no file of them.

    Raises:
        CheckpointError: the weights are absent, damaged, changed or of another model.
    """
    checkpoint = load_checkpoint(folder)
    history = json.loads((folder / "history.json").read_text(encoding="utf-8"))
    if variant.start not in ("pretrained", "random"):
        weights = _unchanged(variant) if variant.weights else None
        rival = build_rival(variant.start, checkpoint.preprocessing, weights, seed)
        return Opened(f"{variant.about}, {rival.origin}", RivalEncoder(rival), None, False, history)
    encoder = CheckpointEncoder(checkpoint, readout)
    is_reconstructing = variant.start == "pretrained" and bool(pretrain.reconstruction_weight)
    return Opened(variant.about, encoder, checkpoint, is_reconstructing, history)


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
    name: str,
    opened: Opened,
    measurement: Measurement,
    retrieval: Mapping[str, Mapping[str, float]],
    tiles: DataConfig,
    pairs: Mapping[str, Pair],
    run: Run,
) -> None:
    """Write the cell `out` with its pictures, as a whole or not at all.

    Args:
        out: folder to write.
        name: name of the variant.
        opened: the variant's weights.
        measurement: the variant's rows.
        retrieval: retrieval scores by direction.
        tiles: the variant's data.
        pairs: entries of the index by key.
        run: run of the measurement.
    """
    book, data, history = measurement.book, measurement.data, opened.history
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
        "device": describe_hardware(measurement.runtime.accelerator)["fusmae.device"],
        "warning": data.reader("test").origin.warning,
        "test_places": len(set(independent_places([pairs[key] for key in data.reader("test").keys]))),
    }
    reconstruction = {}
    if opened.is_reconstructing and opened.checkpoint is not None:
        reconstruction = diagnostics.reconstruction(opened.checkpoint, data, measurement.device)
    cell = Cell(
        variant=name,
        seed=measurement.seed,
        about=opened.about,
        rows=book.rows,
        cost=cost,
        reconstruction=reconstruction,
        retrieval=retrieval,
        history=history["points"],
        origin=origin,
        classes=book.classes,
        map_classes=data.reader("test").map_classes,
    )
    with written_whole(out) as partial:
        partial.mkdir()
        write_cell(partial, cell, book.labels, book.predictions, book.confusions)
        write_pictures(partial, _pictures(partial / PICTURES, opened, measurement, tiles, pairs))


def _pictures(
    folder: Path,
    opened: Opened,
    measurement: Measurement,
    tiles: DataConfig,
    pairs: Mapping[str, Pair],
) -> list[Picture]:
    count, book, data = measurement.study.num_pictures, measurement.book, measurement.data
    found: list[Picture] = []
    if not count:
        return []
    # A stack has no separate tiles per modality that could be drawn.
    checkpoint = opened.checkpoint
    if opened.is_reconstructing and checkpoint is not None and not checkpoint.preprocessing.is_stacked:
        found += reconstruction_pictures(folder, checkpoint, data, pairs, tiles.modalities, count)
    best = next((row for row in reversed(book.rows) if row.name in book.predictions), None)
    if best is not None:
        name = f"{best.protocol}/{best.share:g}/{book.rows[0].condition}"
        found += failure_pictures(folder, data, pairs, book.predictions[name], count)
    return found


def reconstruction_pictures(
    folder: Path,
    checkpoint: Checkpoint,
    data: PairDataModule,
    pairs: Mapping[str, Pair],
    modalities: Mapping[str, Modality],
    count: int,
) -> list[Picture]:
    """Draw reconstructions of test tiles that are evenly spread over the split; `folder` is written anew.

    Args:
        folder: folder of the cell's pictures.
        checkpoint: checkpoint of the pretrained model.
        data: pairs, whose draws give each tile its masks.
        pairs: entries of the index by key, with each pair's location.
        modalities: modalities by name, which give the order of bands.
        count: number of tiles.
    """
    reader = data.reader("test")
    rows = np.unique(np.linspace(0, len(reader) - 1, count).astype(int)).tolist()
    keys = [reader.keys[row] for row in rows]
    batch = whole(list(data.batches("test", rows)))
    batch = batch._replace(pixels=batch.only(tuple(modalities)))
    draw_reconstructions(folder, checkpoint, batch, keys, modalities, reader.origin.warning)
    return [
        Picture(f"{at:02d}_{key}.png", "reconstruction", key, "true, masked, predicted", pairs[key].lon, pairs[key].lat)
        for at, key in enumerate(keys)
    ]


def failure_pictures(
    folder: Path,
    data: PairDataModule,
    pairs: Mapping[str, Pair],
    probabilities: NDArray[Any],
    count: int,
) -> list[Picture]:
    """Draw the test tiles whose labels a model finds least likely.

    Args:
        folder: folder of the cell's pictures, to which these are added.
        data: pairs of every split.
        pairs: entries of the index by key, with each pair's labels and location.
        probabilities: probabilities `[N, K]` of test.
        count: number of tiles.
    """
    reader = data.reader("test")
    labels, chances = (
        np.asarray(reader.labels, np.float64),
        np.clip(np.asarray(probabilities, np.float64), 1e-6, 1 - 1e-6),
    )
    surprise = -(labels * np.log(chances) + (1 - labels) * np.log(1 - chances)).sum(axis=1)
    rows = np.argsort(-surprise, kind="stable")[:count].tolist()
    folder.mkdir(parents=True, exist_ok=True)
    found = []
    for at, (row, batch) in enumerate((row, next(data.batches("test", [row]))) for row in rows):
        key, classes = reader.keys[row], reader.classes
        said = [
            f"{classes[k]} {chances[row, k]:.2f}" for k in np.argsort(-chances[row])[: max(2, int(labels[row].sum()))]
        ]
        caption = f"true: {'; '.join(pairs[key].labels)}. Said: {'; '.join(said)}."
        file = f"failure_{at:02d}_{key}.png"
        save_tiles(folder / file, key, _images(batch, reader.inputs), reader.origin.warning)
        found.append(Picture(file, "failure", key, caption, pairs[key].lon, pairs[key].lat))
    return found


def whole(batches: Sequence[Batch]) -> Batch:
    """Several batches joined into one."""
    first = batches[0]
    return first._replace(
        pixels={name: torch.cat([batch.pixels[name] for batch in batches]) for name in first.pixels},
        labels=torch.cat([batch.labels for batch in batches]),
        indices=torch.cat([batch.indices for batch in batches]),
        geometry=torch.cat([batch.geometry for batch in batches]),
        noise={name: torch.cat([batch.noise[name] for batch in batches]) for name in first.noise},
    )


def _images(batch: Batch, inputs: Sequence[ModalityInput]) -> dict[str, Image]:
    """The first tile of a batch as an image per modality, from the bands of its finest resolution."""
    images = {}
    for modality in dict.fromkeys(item.modality for item in inputs):
        finest = min((item for item in inputs if item.modality == modality), key=lambda item: item.gsd_m)
        pixels = batch.pixels[finest.name][0].numpy()
        images[modality] = displayed(dict(zip(finest.bands, pixels, strict=True)), finest.unit)
    return images
