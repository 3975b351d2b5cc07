"""A map as a picture for people: the scene in its own pixels, its most probable classes, confidence and a legend."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import rasterio
from numpy.typing import NDArray
from rasterio.enums import Resampling

from fusmae.inference.map.rasters import NO_CLASS, STEP, Rasters, class_colours
from fusmae.inference.scene.grid import Grid
from fusmae.inference.scene.tiles import LOOK_PX

_MAX_NAMED = 14
BLANK = 0.86
"""Grey of pixels without data."""
_PANEL_IN, _FIGURE_IN = 4.6, 15.0
_DPI = 140


def save_quicklook(path: Path, rasters: Rasters, classes: Sequence[str], grid: Grid, title: str) -> None:
    """Draw the scene, the classes and the confidence side by side, as a PNG."""
    from matplotlib.figure import Figure

    look, look_m, numbers, sure = _reduced(rasters, grid)
    height, width = numbers.shape
    palette = np.array([(BLANK * 255,) * 3, *class_colours(classes)]) / 255
    legend = _legend(rasters.counts, classes, palette)
    panel_in = _PANEL_IN * min(2.0, height / width)
    figure = Figure(figsize=(_FIGURE_IN, panel_in + 0.9 + 0.11 * len(legend)), layout="constrained")
    figure.suptitle(title, fontsize=11)
    axes = figure.subplots(1, 3)
    extent = (0.0, grid.width_m / 1000, grid.height_m / 1000, 0.0)
    axes[0].imshow(stretched(look), cmap="gray", vmin=0, vmax=1, extent=extent, interpolation="auto")
    shows = "natural colour" if len(look) == 3 else "first band"
    axes[0].set_title(f"scene ({shows}, pixels of {look_m:g} m)", fontsize=10)
    axes[1].imshow(palette[numbers], extent=extent, interpolation="nearest")
    axes[1].set_title(f"most probable class (pixels of {grid.cell_m} m)", fontsize=10)
    shown = axes[2].imshow(sure, cmap="viridis", vmin=0, vmax=1, extent=extent, interpolation="nearest")
    axes[2].set_facecolor(palette[NO_CLASS])
    axes[2].set_title("confidence", fontsize=10)
    figure.colorbar(shown, ax=axes[2], shrink=0.75)
    for axis in axes:
        axis.tick_params(labelsize=8)
        axis.set_xlabel("km", fontsize=8)
    figure.legend(handles=legend, loc="outside lower center", ncols=2, fontsize=8, frameon=False)
    figure.savefig(path, dpi=_DPI, format="png", metadata={"Software": None})


def _reduced(rasters: Rasters, grid: Grid) -> tuple[Any, float, Any, Any]:
    """Read the rasters at a size for a screen.

    Returns:
        Look `[C, H, W]`, the side of its pixels in metres, class numbers `[h, w]` and confidence `[h, w]`; look and
        confidence are NaN where there is no data.
    """
    height, width = _on_screen(grid.shape)
    with rasterio.open(rasters.look) as dataset:
        shape = _on_screen(dataset.shape)
        look = dataset.read(out_shape=(dataset.count, *shape), resampling=Resampling.average)
    with rasterio.open(rasters.classes) as dataset:
        numbers = dataset.read(1, out_shape=(height, width))
    with rasterio.open(rasters.probabilities) as dataset:
        sure = dataset.read(dataset.count, out_shape=(height, width), masked=True).astype(np.float32) * STEP
    return look, grid.width_m / shape[1], numbers, sure.filled(np.nan)


def _on_screen(shape: tuple[int, int]) -> tuple[int, int]:
    factor = max(1.0, max(shape) / LOOK_PX)
    rows, columns = (max(1, round(side / factor)) for side in shape)
    return rows, columns


def stretched(look: NDArray[np.float32]) -> NDArray[np.float32]:
    """Stretch bands `[C, h, w]` to `[h, w, C]` (`[h, w]` for one band) from 0 to 1, in the same way for all bands."""
    is_known = np.isfinite(look)
    low, high = np.percentile(look[is_known], [1, 98]) if is_known.any() else (0.0, 1.0)
    shown = np.where(is_known, np.clip((look - low) / max(float(high - low), 1e-6), 0, 1), BLANK).astype(np.float32)
    return np.moveaxis(shown, 0, -1) if len(look) == 3 else np.asarray(shown[0])


def _legend(counts: NDArray[np.int64], classes: Sequence[str], palette: NDArray[np.float64]) -> list[Any]:
    """A patch for each class that the map shows, the largest first, with its share of the map."""
    from matplotlib.patches import Patch

    total = max(1, int(counts[NO_CLASS + 1 :].sum()))
    order = [number for number in np.argsort(-counts[1:], kind="stable") + 1 if counts[number]]
    edge: dict[str, Any] = {"edgecolor": "black", "linewidth": 0.4}
    patches = [
        Patch(facecolor=palette[number], label=f"{_short(classes[number - 1])}  {counts[number] / total:.1%}", **edge)
        for number in order[:_MAX_NAMED]
    ]
    if rest := order[_MAX_NAMED:]:
        patches.append(Patch(facecolor="none", label=f"{len(rest)} other classes  {counts[rest].sum() / total:.1%}"))
    if counts[NO_CLASS]:
        patches.append(Patch(facecolor=palette[NO_CLASS], label="no data", **edge))
    return patches


def _short(name: str) -> str:
    return name if len(name) <= 60 else f"{name[:57].rstrip(', ')}…"
