"""Write a variant's cell, with pictures of reconstructed tiles and of the worst predictions."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from fusmae.config.data import DataConfig
from fusmae.config.task import Task
from fusmae.data.datamodule import PairDataModule
from fusmae.data.index import Pair
from fusmae.evaluation import diagnostics
from fusmae.evaluation.figures import draw_reconstructions, save_images, tile_images
from fusmae.files import written_whole
from fusmae.modalities import Modality
from fusmae.runs.tracking import Run, describe_hardware
from fusmae.study.measure.measurement import Measurement
from fusmae.study.results import PICTURES, Cell, Found, Picture, write_cell
from fusmae.training.checkpoint import Checkpoint


def write_measured(
    out: Path,
    name: str,
    measurement: Measurement,
    retrieval: Mapping[str, Mapping[str, float]],
    tiles: DataConfig,
    run: Run,
) -> None:
    """Write the cell `out` of the variant `name` with its pictures, as a whole or not at all.

    `tiles` is the variant's own section `data`; `retrieval` has scores by direction.
    """
    book, data, opened = measurement.book, measurement.data, measurement.opened
    history, git, test = opened.history, run.facts["git"], data.reader("test")
    reconstruction = {}
    if opened.is_reconstructing and opened.checkpoint is not None:
        reconstruction = diagnostics.reconstruction(opened.checkpoint, data, measurement.device)
    cell = Cell(
        variant=name,
        seed=measurement.seed,
        about=opened.about,
        rows=book.rows,
        cost={
            "parameters": opened.encoder.num_parameters,
            "pretrain_seconds": history["seconds"],
            "pretrain_epochs": max((len(points) for points in history["points"].values()), default=0),
            "pairs_per_second": history["pairs"] / history["seconds"] if history["seconds"] else 0.0,
        },
        reconstruction=reconstruction,
        retrieval=retrieval,
        history=history["points"],
        origin={
            "run": run.run_id,
            "pretrain_run": history["run_id"],
            "commit": git["commit"],
            "is_dirty": git["is_dirty"],
            "data": run.facts["inputs"][str(data.shards)],
            "device": describe_hardware(measurement.runtime.accelerator)["fusmae.device"],
            "warning": test.origin.warning,
            "test_places": measurement.num_places,
        },
        classes=book.task.classes,
        map_classes=test.map_classes,
        value=book.task.value.title if book.task.value else "",
    )
    with written_whole(out) as partial:
        partial.mkdir()
        pictures = _pictures(partial / PICTURES, measurement, tiles)
        write_cell(Found(cell, book.labels, book.predictions, book.confusions, pictures, partial))


def _pictures(folder: Path, measurement: Measurement, tiles: DataConfig) -> list[Picture]:
    count, book, data, pairs = measurement.study.num_pictures, measurement.book, measurement.data, measurement.pairs
    if not count:
        return []
    found: list[Picture] = []
    checkpoint = measurement.opened.checkpoint if measurement.opened.is_reconstructing else None
    # A stack has no separate tiles per modality that could be drawn.
    if checkpoint is not None and not checkpoint.preprocessing.is_stacked:
        found += reconstruction_pictures(folder, checkpoint, data, pairs, tiles.modalities, count)
    best = next((row for row in reversed(book.rows) if row.name in book.predictions), None)
    if best is not None:
        name = f"{best.protocol}/{best.share:g}/{book.rows[0].condition}"
        found += failure_pictures(folder, data, pairs, book.task, book.predictions[name], count)
    return found


def reconstruction_pictures(
    folder: Path,
    checkpoint: Checkpoint,
    data: PairDataModule,
    pairs: Mapping[str, Pair],
    modalities: Mapping[str, Modality],
    count: int,
) -> list[Picture]:
    """Draw reconstructions of `count` test tiles that are evenly spread over the split; `folder` is written anew.

    The draws of `data` give each tile its masks, `modalities` the order of bands, `pairs` (by key) the locations.
    """
    reader = data.reader("test")
    rows = reader.spread(count)
    keys = [reader.keys[row] for row in rows]
    (batch,) = data.batches("test", rows, len(rows))
    batch = batch._replace(pixels=batch.only(tuple(modalities)))
    draw_reconstructions(folder, checkpoint, batch, keys, modalities, reader.origin.warning)
    return [
        Picture(f"{at:02d}_{key}.png", "reconstruction", key, "true, masked, predicted", pairs[key].lon, pairs[key].lat)
        for at, key in enumerate(keys)
    ]


def failure_pictures(
    folder: Path, data: PairDataModule, pairs: Mapping[str, Pair], task: Task, predicted: NDArray[Any], count: int
) -> list[Picture]:
    """Draw the `count` test tiles of which a model is most wrong: whose labels it finds least likely, or whose value.

    They are added to `folder`. `task` is that of tiles, `predicted` are probabilities `[N, K]` or values `[N, 1]`;
    `pairs` (by key) give locations.
    """
    reader = data.reader("test")
    labels, predicted = np.asarray(reader.labels, np.float64), np.asarray(predicted, np.float64)
    if task.value is not None:
        surprise = np.abs(labels - predicted)[:, 0]
    else:
        chances = np.clip(predicted, 1e-6, 1 - 1e-6)
        surprise = -(labels * np.log(chances) + (1 - labels) * np.log(1 - chances)).sum(axis=1)
    folder.mkdir(parents=True, exist_ok=True)
    found = []
    for at, row in enumerate(np.argsort(-surprise, kind="stable")[:count].tolist()):
        key, caption = reader.keys[row], _caption(task, labels[row], predicted[row])
        file = f"failure_{at:02d}_{key}.png"
        (batch,) = data.batches("test", [row])
        images = tile_images(batch, reader.inputs)
        save_images(folder / file, key, {"": images}, reader.origin.warning, (3.1 * len(images), 4.0), title_size=8)
        found.append(Picture(file, "failure", key, caption, pairs[key].lon, pairs[key].lat))
    return found


def _caption(task: Task, label: NDArray[Any], predicted: NDArray[Any]) -> str:
    """What is true of a tile, and what a model said of it."""
    if task.value is not None:
        unit = f" {task.value.unit}".rstrip()
        return f"true: {label[0]:.4g}{unit}. Said: {predicted[0]:.4g}{unit}."
    likeliest = np.argsort(-predicted)[: max(2, int(label.sum()))]
    said = "; ".join(f"{task.classes[k]} {predicted[k]:.2f}" for k in likeliest)
    return f"true: {'; '.join(task.classes[k] for k in np.flatnonzero(label))}. Said: {said}."
