"""A map as a picture for people: the scene in its own pixels, then classes and how sure they are, or values."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import rasterio
from numpy.typing import NDArray
from rasterio.enums import Resampling

from fusmae.inference.map.layers import NO_CLASS, STEP, Layer
from fusmae.inference.map.rasters import Rasters
from fusmae.inference.scene.grid import Grid
from fusmae.inference.scene.tiles import LOOK_PX
from fusmae.rasters.palette import class_colours

_MAX_NAMED = 14
BLANK = 0.86
"""Grey of pixels without data."""
_PANEL_IN, _FIGURE_IN = 4.6, 15.0
_DPI = 140


def save_quicklook(path: Path, rasters: Rasters, layers: Sequence[Layer], grid: Grid, title: str) -> None:
    """Draw the scene and the map side by side, as a PNG: classes and confidence, or values."""
    from matplotlib.figure import Figure

    by_name = {layer.name: layer for layer in layers}
    num_panels = 2 if "values" in by_name else 3
    legend: list[Any] = []
    if "classes" in by_name:
        classes = by_name["classes"].classes
        palette = np.array([(BLANK * 255,) * 3, *class_colours(classes)]) / 255
        legend = _legend(rasters.contents.counts, classes, palette)
    (height, width), look = _on_screen(grid.shape), _look(rasters)
    panel_in = _PANEL_IN * min(2.0, height / width)
    size_in = (_FIGURE_IN * num_panels / 3, panel_in + 0.9 + 0.11 * len(legend))
    figure = Figure(figsize=size_in, layout="constrained")
    figure.suptitle(title, fontsize=11)
    axes = figure.subplots(1, num_panels)
    extent = (0.0, grid.width_m / 1000, grid.height_m / 1000, 0.0)
    axes[0].imshow(stretched(look), cmap="gray", vmin=0, vmax=1, extent=extent, interpolation="auto")
    shows = "natural colour" if len(look) == 3 else "first band"
    axes[0].set_title(f"scene ({shows}, pixels of {grid.width_m / look.shape[2]:g} m)", fontsize=10)
    if legend:
        numbers = _reduced(rasters, by_name["classes"], (height, width)).filled(NO_CLASS)
        axes[1].imshow(palette[numbers], extent=extent, interpolation="nearest")
        axes[1].set_title(f"most probable class (pixels of {grid.cell_m} m)", fontsize=10)
    last = layers[0] if num_panels == 2 else by_name.get("certainty", layers[0])
    values = _reduced(rasters, last, (height, width))
    if last.scale is not None:
        values = values.astype(np.float32) * STEP
    ends = (0.0, 1.0) if last.scale is not None else _ends(values)
    shown = axes[-1].imshow(
        values.filled(np.nan), cmap="viridis", vmin=ends[0], vmax=ends[1], extent=extent, interpolation="nearest"
    )
    axes[-1].set_facecolor((BLANK,) * 3)
    if last.scale is not None:
        axes[-1].set_title(last.bands[-1], fontsize=10)
        figure.colorbar(shown, ax=axes[-1], shrink=0.75)
    else:
        axes[-1].set_title(f"{last.bands[0]} (pixels of {grid.cell_m} m)", fontsize=10)
        figure.colorbar(shown, ax=axes[-1], shrink=0.75, label=last.title, extend="both")
    for axis in axes:
        axis.tick_params(labelsize=8)
        axis.set_xlabel("km", fontsize=8)
    if legend:
        figure.legend(handles=legend, loc="outside lower center", ncols=2, fontsize=8, frameon=False)
    figure.savefig(path, dpi=_DPI, format="png", metadata={"Software": None})


def _look(rasters: Rasters) -> NDArray[np.float32]:
    """The scene `[C, H, W]` at a size for a screen, NaN where there is no data."""
    with rasterio.open(rasters.look) as dataset:
        shape = _on_screen(dataset.shape)
        look: NDArray[np.float32] = dataset.read(out_shape=(dataset.count, *shape), resampling=Resampling.average)
    return look


def _reduced(rasters: Rasters, layer: Layer, shape: tuple[int, int]) -> Any:
    """The last band of a layer as a masked array `[h, w]` at a size for a screen."""
    with rasterio.open(rasters.paths[layer.name]) as dataset:
        return dataset.read(dataset.count, out_shape=shape, masked=True)


def _ends(values: Any) -> tuple[float, float]:
    """Ends of a scale of colours for most of the values."""
    known = values.compressed()
    low, high = np.percentile(known, [1, 99]) if known.size else (0.0, 1.0)
    return (float(low), float(high)) if high > low else (float(low) - 0.5, float(low) + 0.5)


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
