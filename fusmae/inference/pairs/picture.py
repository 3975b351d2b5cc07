"""A picture of the tiles that a scene was cut into: the scene, the splits of its tiles, and maps of labels."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from fusmae.config.task import Task
from fusmae.data.index import SPLITS
from fusmae.files import written_whole
from fusmae.inference.map.quicklook import BLANK, stretched
from fusmae.inference.pairs.blocks import Blocks
from fusmae.inference.pairs.folder import CutScene
from fusmae.inference.scene.grid import Grid
from fusmae.inference.scene.tiles import LOOK_PX, look_input
from fusmae.modalities import ModalityInput
from fusmae.rasters.palette import class_colours
from fusmae.rasters.raster_file import Floats

# Blue, orange and vermilion are told apart by people who can't tell red from green, too. Then what is no pair: without
# data, without a label, near another split.
_COLOURS = ("#0072b2", "#f0a000", "#d0341b", "#000000", "#707070", "#ffffff")
_OPACITY = (0.62, 0.7, 0.7, 1.0, 0.85, 0.75)
# The scene under the tiles has little contrast, so that it is not taken for a colour.
_DARKEST, _BRIGHTEST = 0.35, 0.85
_PANEL_IN, _FIGURE_IN, _DPI = 5.2, 12.0, 140
# Lines between tiles are drawn where a tile has as many pixels of the picture, at least.
_LEAST_LINED_PX = 6
_MOST_NAMED, _LONGEST_NAME = 20, 28


def picture_side_m(grid: Grid, inputs: Sequence[ModalityInput]) -> int:
    """Side in metres of the pixels that show the scene: a part of a tile with which the picture fits a screen."""
    gsd_m = look_input(inputs).gsd_m
    sides = (side for side in range(gsd_m, grid.tile_m, gsd_m) if grid.tile_m % side == 0)
    return next((side for side in sides if max(grid.height_m, grid.width_m) <= LOOK_PX * side), grid.tile_m)


def save_picture(
    path: Path,
    look: Floats,
    outcomes: NDArray[np.int8],
    grid: Grid,
    blocks: Blocks,
    scene: CutScene,
    names: Sequence[str],
    task: Task,
    maps: Floats | None = None,
) -> None:
    """Draw the scene, its tiles and, where there are some, maps of labels side by side, as a PNG.

    Args:
        path: file of the picture.
        look: the scene for people, `[1 or 3, h, w]`, NaN where it has no data.
        outcomes: what became of each tile, `[rows, columns]`, as positions in `names`.
        grid: grid of the tiles.
        blocks: blocks of ground that gave each tile its split.
        scene: what was cut.
        names: names of the splits, then of the reasons for which a tile is no pair.
        task: what the labels are.
        maps: labels of the scene's ground `[1, h, w]`, positions of classes or values, NaN without a label; None
            without maps.
    """
    from matplotlib.colors import to_rgba
    from matplotlib.figure import Figure

    rows, columns = outcomes.shape
    panel_in = _PANEL_IN * min(1.6, max(0.35, rows / columns))
    num_panels = 2 if maps is None else 3
    figure = Figure(figsize=(_FIGURE_IN * num_panels / 2, panel_in + 1.5), layout="constrained")
    when = f", {scene.date[:10]}" if scene.date else ""
    figure.suptitle(
        f"{scene.name}{when}: {scene.num_pairs:,} pairs of {grid.tile_m:,} m\n"
        f"blocks of {blocks.side_m / 1000:g} km, splits at least {blocks.gap_m / 1000:g} km apart",
        fontsize=11,
    )
    shown, splits, *others = figure.subplots(1, num_panels, sharex=True, sharey=True)
    extent = (0.0, grid.width_m / 1000, grid.height_m / 1000, 0.0)
    pixels = stretched(look)
    shown.imshow(pixels, cmap="gray", vmin=0, vmax=1, extent=extent, interpolation="auto")
    shown.set_title("scene", fontsize=10)
    grey = pixels if pixels.ndim == 2 else pixels.mean(axis=-1)
    splits.imshow(
        _DARKEST + (_BRIGHTEST - _DARKEST) * grey, cmap="gray", vmin=0, vmax=1, extent=extent, interpolation="auto"
    )
    colours = np.array([to_rgba(colour, opacity) for colour, opacity in zip(_COLOURS, _OPACITY, strict=True)])
    splits.imshow(colours[outcomes], extent=extent, interpolation="nearest")
    if splits_px := _PANEL_IN * _DPI / max(rows, columns) >= _LEAST_LINED_PX:
        _draw_lines(splits, grid)
    splits.set_title("tiles by split" + ("" if splits_px else " (lines between tiles left out)"), fontsize=10)
    code = grid.crs.to_string() if grid.crs.to_epsg() else "its CRS"
    if maps is not None:
        _draw_maps(figure, others[0], maps[0], task, extent)
    for axis in (shown, splits, *others):
        axis.tick_params(labelsize=8)
        axis.set_xlabel(f"km east of x = {grid.left:,.0f} m ({code})", fontsize=8)
        axis.set_facecolor((BLANK,) * 3)
    shown.set_ylabel(f"km south of y = {grid.top:,.0f} m", fontsize=8)
    figure.legend(handles=_legend(outcomes, names), loc="outside lower center", ncols=3, fontsize=9, frameon=False)
    with written_whole(path) as partial:
        figure.savefig(partial, dpi=_DPI, format="png", metadata={"Software": None})


def _draw_maps(figure: Any, axis: Any, maps: Floats, task: Task, extent: tuple[float, float, float, float]) -> None:
    """Draw the labels of pixels, with a legend of the largest classes or a bar of values."""
    from matplotlib.patches import Patch

    if task.value is not None:
        drawn = axis.imshow(maps, cmap="viridis", extent=extent, interpolation="nearest")
        figure.colorbar(drawn, ax=axis, label=task.value.title, shrink=0.8)
        axis.set_title("labels", fontsize=10)
        return
    colours = np.array(class_colours(task.classes)) / 255
    has_class = np.isfinite(maps)
    positions = np.where(has_class, maps, 0).astype(np.intp)
    axis.imshow(np.dstack([colours[positions], has_class]), extent=extent, interpolation="nearest")
    counts = np.bincount(positions[has_class], minlength=len(task.classes))
    largest = [int(number) for number in np.argsort(-counts, kind="stable")[:_MOST_NAMED] if counts[number]]
    axis.set_title(
        "labels" + (f" ({len(largest)} largest classes named)" if (counts > 0).sum() > len(largest) else ""),
        fontsize=10,
    )
    axis.legend(
        handles=[Patch(label=_short(task.classes[number]), facecolor=colours[number]) for number in largest],
        loc="upper left",
        bbox_to_anchor=(1, 1),
        fontsize=8,
        frameon=False,
    )


def _short(name: str) -> str:
    return name if len(name) <= _LONGEST_NAME else f"{name[: _LONGEST_NAME - 1]}…"


def _draw_lines(axis: Any, grid: Grid) -> None:
    width, height, tile = (side / 1000 for side in (grid.width_m, grid.height_m, grid.tile_m))
    style: dict[str, Any] = {"colors": "white", "linewidth": 0.4, "alpha": 0.7}
    axis.vlines(np.arange(tile, width - tile / 2, tile), 0, height, **style)
    axis.hlines(np.arange(tile, height - tile / 2, tile), 0, width, **style)


def _legend(outcomes: NDArray[np.int8], names: Sequence[str]) -> list[Any]:
    """A patch per split, with its number of tiles and its share of the pairs, and one per reason that occurs."""
    from matplotlib.colors import to_rgba
    from matplotlib.patches import Patch

    counts = np.bincount(outcomes.ravel(), minlength=len(names))
    total = max(1, int(counts[: len(SPLITS)].sum()))
    patches = []
    for number, (name, count) in enumerate(zip(names, counts.tolist(), strict=True)):
        if number < len(SPLITS):
            label = f"{name}: {count:,} ({count / total:.0%})"
        elif count:
            label = f"{name}, no pair: {count:,}"
        else:
            continue
        face = to_rgba(_COLOURS[number], _OPACITY[number])
        patches.append(Patch(label=label, facecolor=face, edgecolor="black", linewidth=0.5))
    return patches
