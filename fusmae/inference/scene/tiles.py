"""Reads strips of a scene, and cuts them into batches of tiles."""

from collections import defaultdict
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from fusmae.inference.scene.grid import Grid, Unit
from fusmae.inference.scene.reader import SceneReader
from fusmae.modalities import ModalityInput
from fusmae.rasters.raster_file import Flags, Floats

MAX_EMPTY_SHARE = 0.1
"""A modality with a larger share of nodata in a tile is absent there; less nodata is filled with the tile's means."""

BATCH_SIZE = 16
"""Number of tiles in a batch; the same for every map, since an operator may round differently in another size."""

NATURAL_COLOUR = ("B04", "B03", "B02")

LOOK_PX = 900
"""Longest side of the scene in a map's picture, in pixels, approximately."""


@dataclass(frozen=True)
class Strip:
    """All pixels of a unit's tiles."""

    unit: Unit
    pixels: dict[str, Floats]  # `[C, h, w]` by input name, NaN in all bands where there is no data
    ground: dict[str, tuple[Flags, Flags]]  # flags of rows `[h]` and columns `[w]` on the scenes' ground, by input

    def empty(self, item: ModalityInput) -> Flags:
        """Flags `[h, w]`, true where an input has no data."""
        return np.asarray(np.isnan(self.pixels[item.name][0]))

    def on_ground(self, item: ModalityInput) -> Flags:
        """Flags `[h, w]`, true where an input's pixels are on the scenes' ground."""
        rows, columns = self.ground[item.name]
        return rows[:, None] & columns


@dataclass(frozen=True)
class TileBatch:
    """Tiles of one unit that have the same modalities."""

    unit: Unit
    columns: tuple[int, ...]  # numbers of the tiles in the unit, from 0
    modalities: tuple[str, ...]  # modalities that are present
    pixels: dict[str, Floats]  # `[B, C, h, w]` by input name, finite


@dataclass(frozen=True)
class UnitView:
    """What a map shows of a unit besides its predictions; it follows the unit's batches."""

    unit: Unit
    has_data: Flags  # `[rows, columns]`, true for cells with data
    # The scene for people, in pixels of `look_m`: `[3, h, w]` natural colour, or `[1, h, w]` the first band.
    look: Floats


def read_strips(reader: SceneReader, units: Iterable[Unit]) -> Iterator[Strip]:
    """Read strips of units, in order.

    Pixels are read in slabs of a tile's height at fixed places. Each slab is read once for all rows of tiles that it is
    part of, and a strip's content does not depend on which units were read before.
    """
    grid, tile_m = reader.grid, reader.grid.tile_m
    slabs: dict[tuple[int, int], dict[str, Floats]] = {}
    for unit in units:
        first, offset_m = divmod(unit.top_m, tile_m)
        width_m = unit.lefts_m[-1] + tile_m - unit.left_m
        keys = [(number, unit.left_m) for number in range(first, first + 1 + bool(offset_m))]
        # Slabs that no later unit needs are dropped before new ones are read.
        slabs = {key: slab for key, slab in slabs.items() if key in keys}
        for key in keys:
            if key not in slabs:
                top_m = key[0] * tile_m
                box_m = (top_m, unit.left_m, min(tile_m, grid.height_m - top_m), width_m)
                slabs[key] = {item.name: reader.read_counted(item, *box_m) for item in reader.inputs}
        pixels = slabs[keys[0]]
        if offset_m:  # the strip ends at the row of the lower slab at which it begins in the upper one
            rows = {item.name: offset_m // item.gsd_m for item in reader.inputs}
            upper, lower = (slabs[key] for key in keys)
            pixels = {n: np.concatenate([upper[n][:, row:], lower[n][:, :row]], axis=1) for n, row in rows.items()}
        box_m = (unit.top_m, unit.left_m, tile_m, width_m)
        yield Strip(unit, pixels, {item.name: grid.is_ground(item.gsd_m, box_m) for item in reader.inputs})


def look_side_m(grid: Grid, inputs: Sequence[ModalityInput]) -> int:
    """Side in metres of the pixels in which a map's picture shows the scene.

    It is the least one from the scene's own pixel to the grid's block with which the picture has at most `LOOK_PX`,
    else the block's. It divides a block, so that a unit is a whole number of the picture's pixels.
    """
    gsd_m, block_m = look_input(inputs).gsd_m, grid.block_m or grid.cell_m
    sides = (side for side in range(gsd_m, block_m, gsd_m) if block_m % side == 0)
    return next((side for side in sides if max(grid.height_m, grid.width_m) <= LOOK_PX * side), block_m)


def cut_batches(
    strips: Iterable[Strip], inputs: tuple[ModalityInput, ...], cell_m: int, look_m: int | None = None
) -> Iterator[TileBatch | UnitView]:
    """Yield each strip's tiles in batches, then its cells.

    A batch always holds the same tiles, also after a restart, so that its predictions are the same to the last bit.
    `look_m` is the side of the pixels that show the scene, from `look_side_m`; None for that of the map's cells.
    """
    for strip in strips:
        settings: dict[tuple[str, ...], list[int]] = defaultdict(list)
        for column, present in enumerate(_present(strip, inputs)):
            if present:
                settings[present].append(column)
        for modalities, columns in sorted(settings.items()):
            for start in range(0, len(columns), BATCH_SIZE):
                yield _batch(strip, inputs, modalities, tuple(columns[start : start + BATCH_SIZE]))
        yield UnitView(strip.unit, _has_data(strip, inputs, cell_m), look_at(strip, inputs, look_m or cell_m))


def _present(strip: Strip, inputs: tuple[ModalityInput, ...]) -> list[tuple[str, ...]]:
    """For each tile, the modalities that have enough data, in the order of the inputs."""
    is_absent = {item.modality: np.zeros(len(strip.unit.lefts_m), np.bool_) for item in inputs}
    for item in inputs:
        if (empty := strip.empty(item)).any():
            # Only pixels on the scenes' ground count as lacking data.
            ground = strip.on_ground(item)
            lacking, whole = (_per_tile(flags, strip.unit, item) for flags in (ground & empty, ground))
            is_absent[item.modality] |= lacking > MAX_EMPTY_SHARE * whole
    return [
        tuple(modality for modality, absent in is_absent.items() if not absent[column])
        for column in range(len(strip.unit.lefts_m))
    ]


def _per_tile(flags: Flags, unit: Unit, item: ModalityInput) -> NDArray[np.int64]:
    """Number of true flags `[h, w]` in each tile of a unit."""
    sums = np.concatenate([[0], flags.sum(axis=0).cumsum()])
    starts = _starts_px(unit, item)
    return np.asarray(sums[starts + item.side_px] - sums[starts])


def _starts_px(unit: Unit, item: ModalityInput) -> NDArray[np.int64]:
    return (np.array(unit.lefts_m, np.int64) - unit.left_m) // item.gsd_m


def _batch(
    strip: Strip, inputs: tuple[ModalityInput, ...], modalities: tuple[str, ...], columns: tuple[int, ...]
) -> TileBatch:
    pixels = {}
    for item in inputs:
        if item.modality in modalities:
            starts = _starts_px(strip.unit, item)[list(columns)]
            tiles = np.stack([strip.pixels[item.name][:, :, start : start + item.side_px] for start in starts])
            for tile in tiles:
                fill_nodata(tile)
            pixels[item.name] = tiles
    return TileBatch(strip.unit, columns, modalities, pixels)


def fill_nodata(tile: Floats) -> None:
    """Fill a tile `[C, h, w]`, in place, with each band's mean where it has no data, which is NaN in all bands."""
    empty = np.isnan(tile[0])
    if empty.any():
        tile[:, empty] = tile[:, ~empty].mean(axis=1, dtype=np.float64)[:, None]


def _has_data(strip: Strip, inputs: tuple[ModalityInput, ...], cell_m: int) -> Flags:
    """Flags `[rows, columns]` of cells in which some modality has at least half of the pixels on the scenes' ground.

    A cell that is no whole number of pixels, as it is smaller, counts as the pixel at its centre.
    """
    found = np.zeros((strip.unit.height_m // cell_m, strip.unit.width_m // cell_m), np.bool_)
    finest = {item.modality: item for item in sorted(inputs, key=lambda item: item.gsd_m, reverse=True)}
    for item in finest.values():
        if cell_m % item.gsd_m:
            rows, columns = (((2 * np.arange(cells) + 1) * cell_m // (2 * item.gsd_m)) for cells in found.shape)
            found |= (strip.on_ground(item) & ~strip.empty(item))[rows[:, None], columns]
            continue
        side = cell_m // item.gsd_m
        rows, columns = (
            flags[: cells * side].reshape(cells, side).mean(axis=1, dtype=np.float32)
            for flags, cells in zip(strip.ground[item.name], found.shape, strict=True)
        )
        whole = rows[:, None] * columns
        data = (strip.on_ground(item) & ~strip.empty(item)).astype(np.float32)
        found |= (whole > 0) & (_cell_means(data[None], strip.unit, item, cell_m)[0] >= 0.5 * whole)
    return found


def look_input(inputs: Sequence[ModalityInput]) -> ModalityInput:
    """The array whose bands show the scene: the one with natural colour, else the first."""
    return next((item for item in inputs if set(NATURAL_COLOUR) <= set(item.bands)), inputs[0])


def look_at(strip: Strip, inputs: Sequence[ModalityInput], cell_m: int) -> Floats:
    """The scene for people, `[3, h, w]` in natural colour or `[1, h, w]` of the first band.

    It is the mean of the scene's pixels in each pixel of side `cell_m`; NaN where the scene has no data.
    """
    item = look_input(inputs)
    bands = [item.bands.index(name) for name in NATURAL_COLOUR] if set(NATURAL_COLOUR) <= set(item.bands) else [0]
    shares = _cell_means((~strip.empty(item)).astype(np.float32)[None], strip.unit, item, cell_m)
    values = np.nan_to_num(strip.pixels[item.name][bands])
    with np.errstate(invalid="ignore"):
        return _cell_means(values, strip.unit, item, cell_m) / shares


def _cell_means(values: Floats, unit: Unit, item: ModalityInput, cell_m: int) -> Floats:
    """`[C, h, w]` pixels to `[C, rows, columns]` means over the cells that the unit reports."""
    side = cell_m // item.gsd_m
    rows, columns = unit.height_m // cell_m, unit.width_m // cell_m
    reported = values[:, : rows * side, : columns * side]
    means: Floats = reported.reshape(len(values), rows, side, columns, side).mean(axis=(2, 4), dtype=np.float32)
    return means
