"""Tiles sampled from all over a scene, with the pixels as they are in its files; the checks of a scene use them."""

from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np

from fusmae.inference.scene.grid import Grid
from fusmae.inference.scene.reader import SceneReader
from fusmae.inference.scene.scene import Scene
from fusmae.rasters.raster_file import Floats

Samples = dict[str, Floats]
OVERRIDE = "if the pixels are right all the same, --no-check"

# Number of tiles with data that are enough, and of tiles that are read at most to find them in a mostly empty scene.
_ENOUGH, _AT_MOST = 24, 96


@dataclass(frozen=True)
class SampledTile:
    """One modality's pixels of a tile: its upper left corner in the grid's CRS, and pixels `[N]` with data by band."""

    left: float
    top: float
    bands: Samples


def sample_tiles(reader: SceneReader, scenes: Mapping[str, Scene]) -> dict[str, list[SampledTile]]:
    """Sample tiles with data by modality, far from one another.

    Pixels are as they are in the files: linear S1 is not converted, and no offset is subtracted from S2.
    """
    raw = {
        modality: replace(scene, reading=replace(scene.reading, units="dB", offset=None))
        for modality, scene in scenes.items()
    }
    grid, tiles = reader.grid, defaultdict[str, list[SampledTile]](list)
    with SceneReader(raw, reader.inputs, grid) as raw_reader:
        for top_m, left_m in _places(grid):
            found = defaultdict[str, Samples](dict)
            for item in raw_reader.inputs:
                if len(tiles[item.modality]) < _ENOUGH:
                    pixels = raw_reader.read(item, top_m, left_m, grid.tile_m, grid.tile_m)
                    has_data = np.isfinite(pixels).all(axis=0)
                    if has_data.any():
                        found[item.modality].update(zip(item.bands, pixels[:, has_data], strict=True))
            for modality, bands in found.items():
                tiles[modality].append(SampledTile(grid.left + left_m, grid.top - top_m, bands))
    return {modality: sampled for modality, sampled in tiles.items() if sampled}


def pooled(tiles: Sequence[SampledTile]) -> Samples:
    """The pixels of all tiles `[N]` by band."""
    names = dict.fromkeys(name for tile in tiles for name in tile.bands)
    return {name: np.concatenate([tile.bands[name] for tile in tiles if name in tile.bands]) for name in names}


def _places(grid: Grid) -> Iterator[tuple[int, int]]:
    """Upper left corners `(top_m, left_m)` of tiles, each far from those before it."""
    tops, lefts = grid.tile_tops_m, grid.tile_lefts_m
    # Steps by powers of the plastic number fill a square evenly, whatever their number.
    steps = np.arange(min(_AT_MOST, len(tops) * len(lefts)))[:, None] * [0.7548776662466927, 0.5698402909980532]
    rows, columns = ((0.5 + steps) % 1 * [len(tops), len(lefts)]).astype(int).T
    yield from dict.fromkeys((tops[row], lefts[column]) for row, column in zip(rows, columns, strict=True))
