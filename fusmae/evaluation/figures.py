"""Figures: reconstructions, tiles and precision-recall curves."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from fusmae.files import written_whole
from fusmae.units import Unit

Image = NDArray[np.float32]
NATURAL_COLOUR = ("B04", "B03", "B02")


def displayed(bands: Mapping[str, NDArray[Any]], unit: Unit) -> Image:
    """Turn bands into an image with values in 0..1: `[H, W, 3]` in natural colour, or else `[H, W]` of VV or one band.

    Args:
        bands: arrays `[H, W]` in their unit, by band name.
        unit: unit of the bands, with the values that are shown as black and as white.
    """
    low, high = unit.shown
    if all(name in bands for name in NATURAL_COLOUR):
        shown = np.stack([bands[name] for name in NATURAL_COLOUR], axis=-1)
    else:
        shown = bands["VV"] if "VV" in bands else next(iter(bands.values()))
    return np.clip((shown - low) / (high - low), 0, 1).astype(np.float32)


def save_reconstruction(path: Path, title: str, rows: Mapping[str, tuple[Image, Image, Image]], note: str) -> None:
    """Draw true, masked and predicted tiles, one row per modality.

    Args:
        path: path of the PNG to write.
        title: text above the images.
        rows: images `(true, masked, predicted)` from `displayed`, by row label.
        note: text below the images, with what a reader must know.
    """
    from matplotlib.figure import Figure

    figure = Figure(figsize=(9, 3.1 * len(rows) + 0.5), layout="constrained")
    axes = figure.subplots(len(rows), 3, squeeze=False)
    figure.suptitle(title, fontsize=10)
    figure.supxlabel(note, fontsize=8)
    for row, (label, images) in enumerate(rows.items()):
        for column, (image, heading) in enumerate(zip(images, ("true", "masked", "predicted"), strict=True)):
            axis = axes[row][column]
            axis.imshow(image, cmap="gray", vmin=0, vmax=1, interpolation="nearest")
            axis.set_xticks([])
            axis.set_yticks([])
            if row == 0:
                axis.set_title(heading)
            if column == 0:
                axis.set_ylabel(label)
    _save(figure, path)


def save_tiles(path: Path, title: str, images: Mapping[str, Image], note: str) -> None:
    """Draw tiles side by side.

    Args:
        path: path of the PNG to write.
        title: text above the images.
        images: images from `displayed`, by heading.
        note: text below the images.
    """
    from matplotlib.figure import Figure

    figure = Figure(figsize=(3.1 * len(images), 4.0), layout="constrained")
    axes = figure.subplots(1, len(images), squeeze=False)[0]
    figure.suptitle(title, fontsize=8)
    figure.supxlabel(note, fontsize=8)
    for axis, (heading, image) in zip(axes, images.items(), strict=True):
        axis.imshow(image, cmap="gray", vmin=0, vmax=1, interpolation="nearest")
        axis.set(xticks=[], yticks=[], title=heading)
    _save(figure, path)


def save_precision_recall(path: Path, curves: Mapping[str, Sequence[Mapping[str, float]]], warning: str = "") -> None:
    """Draw micro-averaged precision-recall curves, one per row of the metrics table.

    Args:
        path: path of the PNG to write.
        curves: points with `recall` and `precision`, by name of the row.
        warning: text above the curves; "" for none.
    """
    from matplotlib.figure import Figure

    figure = Figure(figsize=(7, 5), layout="constrained")
    axis = figure.subplots()
    for name, points in curves.items():
        style = "--" if "random" in name else "-"
        axis.step([p["recall"] for p in points], [p["precision"] for p in points], style, where="post", label=name)
    axis.set(xlabel="recall", ylabel="precision", xlim=(0, 1), ylim=(0, 1.02), title="micro-averaged, whole test set")
    axis.legend(fontsize=7)
    figure.suptitle(warning, fontsize=9, color="firebrick")
    axis.grid(alpha=0.3)
    _save(figure, path)


def _save(figure: Any, path: Path) -> None:
    with written_whole(path) as partial:
        figure.savefig(partial, dpi=110, format="png")
