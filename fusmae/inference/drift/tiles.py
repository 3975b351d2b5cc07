"""The quantiles and embeddings of a scene's tiles, by which drift is judged."""

import math
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from fusmae.errors import InputError
from fusmae.inference.drift.reference import tile_quantiles
from fusmae.inference.run_tiles import scene_batches, setting_name
from fusmae.inference.scene.grid import Grid, Unit
from fusmae.inference.scene.nodata import LOOK_AT_NODATA
from fusmae.inference.scene.reader import SceneReader
from fusmae.inference.session import EMBEDDING, Session


@dataclass(frozen=True)
class SceneTiles:
    """Statistics of a scene's tiles.

    Attributes:
        quantiles: `[N, bands, 32]`, quantiles of each tile's pixels; NaN for bands of an absent modality.
        embeddings: `[N, D]`, embedding of each tile.
        settings: modalities of each tile, as `s1+s2`.
        corners_m: `[N, 2]`, distances of each tile's upper left corner from the grid's left and top.
    """

    quantiles: NDArray[np.float32]
    embeddings: NDArray[np.float32]
    settings: tuple[str, ...]
    corners_m: NDArray[np.int64]

    @property
    def setting(self) -> str:
        """The setting of most tiles."""
        return Counter(self.settings).most_common(1)[0][0]


def spread_units(grid: Grid, max_tiles: int) -> list[Unit]:
    """Evenly spread units with about `max_tiles` tiles in all; at least one unit."""
    units = grid.units()
    step = math.ceil(sum(len(unit.lefts_m) for unit in units) / max_tiles)
    return units[step // 2 :: step] or [units[len(units) // 2]]


def describe_tiles(session: Session, reader: SceneReader, units: Sequence[Unit], wrapped: Any = iter) -> SceneTiles:
    """Compute the statistics of every tile of some units.

    Args:
        session: session that computes embeddings.
        reader: reader of the scenes.
        units: units whose tiles are read.
        wrapped: function that wraps the iterator over units, as a progress bar does.

    Raises:
        InputError: no tile has data, or a file can't be read.
    """
    with scene_batches(reader, units) as found:
        parts = list(_described(session, wrapped(found)))
    if not parts:
        raise InputError(
            "There is no tile with data where the scene was looked at.",
            expected="tiles of which a sensor has 90 %",
            hint=LOOK_AT_NODATA,
        )
    quantiles, embeddings, settings, corners = zip(*parts, strict=True)
    return SceneTiles(
        np.concatenate(quantiles),
        np.concatenate(embeddings),
        tuple(name for names in settings for name in names),
        np.concatenate(corners),
    )


def _described(session: Session, units: Iterable[Any]) -> Iterator[Any]:
    for unit, batches in units:
        for batch in batches:
            size = len(batch.columns)
            yield (
                tile_quantiles(batch.pixels, session.inputs),
                session.run(batch.pixels, batch.modalities)[EMBEDDING],
                [setting_name(batch.modalities)] * size,
                np.array([(unit.lefts_m[column], unit.top_m) for column in batch.columns], np.int64),
            )
