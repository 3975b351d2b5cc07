"""The quantiles and embeddings of a scene's tiles, by which drift is judged."""

import math
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from fusmae.inference.drift.reference import tile_quantiles
from fusmae.inference.run_tiles import no_tile, scene_batches, setting_name
from fusmae.inference.scene.grid import Grid, Unit
from fusmae.inference.scene.reader import SceneReader
from fusmae.inference.scene.tiles import UnitView
from fusmae.inference.session import EMBEDDING, Session


@dataclass(frozen=True)
class SceneTiles:
    """Statistics of a scene's tiles."""

    quantiles: NDArray[np.float32]  # `[N, bands, 32]`, of each tile; NaN for bands of an absent modality
    embeddings: NDArray[np.float32]  # `[N, D]`, embedding of each tile
    settings: tuple[str, ...]  # modalities of each tile, as `s1+s2`
    corners_m: NDArray[np.int64]  # `[N, 2]`, distances of each tile's upper left corner from the grid's left and top

    @property
    def setting(self) -> str:
        """The setting of most tiles."""
        return Counter(self.settings).most_common(1)[0][0]


def spread_units(grid: Grid, max_tiles: int) -> list[Unit]:
    """Evenly spread units with about `max_tiles` tiles in all; at least one unit."""
    units = grid.units()
    step = math.ceil(sum(len(unit.lefts_m) for unit in units) / max_tiles)
    return units[step // 2 :: step] or [units[len(units) // 2]]


def describe_tiles(
    session: Session, reader: SceneReader, units: Sequence[Unit], advance: Callable[[], None] = lambda: None
) -> SceneTiles:
    """Compute the statistics of every tile of some units; `advance` is called after each, for a progress bar.

    Raises:
        InputError: no tile has data, or a file can't be read.
    """
    quantiles, embeddings, corners = [], [], []
    settings: list[str] = []
    with scene_batches(reader, units) as items:
        for item in items:
            if isinstance(item, UnitView):
                advance()
                continue
            quantiles.append(tile_quantiles(item.pixels, session.inputs))
            embeddings.append(session.run(item.pixels, item.modalities, outputs=[EMBEDDING])[EMBEDDING])
            settings += [setting_name(item.modalities)] * len(item.columns)
            corners += [(item.unit.lefts_m[column], item.unit.top_m) for column in item.columns]
    if not settings:
        raise no_tile(" where the scene was looked at.")
    return SceneTiles(
        np.concatenate(quantiles), np.concatenate(embeddings), tuple(settings), np.array(corners, np.int64)
    )
