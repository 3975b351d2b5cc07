"""Runs a model over a scene's tiles as they are read, in batches: memory is bounded whatever the scene's size."""

from collections import deque
from collections.abc import Generator, Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing, contextmanager
from dataclasses import dataclass
from typing import TypeVar

import numpy as np
from numpy.typing import NDArray

from fusmae.errors import InputError
from fusmae.inference.scene.grid import Unit
from fusmae.inference.scene.reader import SceneReader
from fusmae.inference.scene.tiles import TileBatch, UnitView, cut_batches, read_strips
from fusmae.inference.session import EMBEDDING, Session

Item = TypeVar("Item")
# Largest numbers of batches that wait for the session, and of strips that wait to be cut.
_BATCHES_AHEAD, _STRIPS_AHEAD = 4, 1
_END = object()


def ahead(items: Iterable[Item], depth: int) -> Generator[Item, None, None]:
    """Yield the same items in the same order; a thread computes up to `depth` of them in advance.

    Only that thread runs the iterable; its exceptions are raised here.
    """
    iterator = iter(items)
    with ThreadPoolExecutor(1) as pool:
        waiting = deque(pool.submit(next, iterator, _END) for _ in range(depth))
        try:
            while (item := waiting.popleft().result()) is not _END:
                waiting.append(pool.submit(next, iterator, _END))
                yield item  # type: ignore[misc]
        finally:
            pool.shutdown(cancel_futures=True)


@contextmanager
def scene_batches(
    reader: SceneReader, units: Sequence[Unit], look_m: int | None = None
) -> Iterator[Iterator[TileBatch | UnitView]]:
    """Yield an iterator over each unit's batches and its view after them; the next strip is read in the background.

    `look_m` is the side of a view's pixels, see `cut_batches`.
    """
    strips = ahead(read_strips(reader, units), _STRIPS_AHEAD)
    items = ahead(cut_batches(strips, reader.inputs, reader.grid.cell_m, look_m), _BATCHES_AHEAD)
    with closing(strips), closing(items):
        yield items


def run_batches(
    session: Session, items: Iterable[TileBatch | UnitView], output: str
) -> Iterator[tuple[UnitView, dict[int, tuple[str, NDArray[np.float32]]]]]:
    """Run batches; yield each unit's view with the setting and the row of an output by the tile's number in the unit.

    Tiles without data have no row.
    """
    rows: dict[int, tuple[str, NDArray[np.float32]]] = {}
    for item, values in answered(session, items, output):
        if isinstance(item, UnitView):
            yield item, rows
            rows = {}
        else:
            setting = setting_name(item.modalities)
            rows |= {column: (setting, row) for column, row in zip(item.columns, values, strict=True)}


def answered(
    session: Session, items: Iterable[TileBatch | UnitView], output: str
) -> Iterator[tuple[TileBatch | UnitView, NDArray[np.float32]]]:
    """Run batches; yield each with an output, one row per tile, and each unit's view with an empty array."""
    for item in items:
        if isinstance(item, UnitView):
            yield item, np.zeros(0, np.float32)
        else:
            yield item, session.run(item.pixels, item.modalities, outputs=[output])[output]


@dataclass(frozen=True)
class EmbeddedUnit:
    """The tiles of a unit that have data, in the order of their columns."""

    unit: Unit
    columns: tuple[int, ...]  # `[N]`, numbers of the tiles in the unit, from 0
    settings: tuple[str, ...]  # modalities of each tile, as `s1+s2`
    embeddings: NDArray[np.float32]  # `[N, D]`, embedding of each tile


def embedded_units(session: Session, reader: SceneReader, units: Sequence[Unit]) -> Iterator[EmbeddedUnit]:
    """Embed every tile of units that has enough data in some modality."""
    with scene_batches(reader, units) as items:
        for view, rows in run_batches(session, items, EMBEDDING):
            rows = dict(sorted(rows.items()))
            embeddings = np.array([row for _, row in rows.values()], np.float32).reshape(-1, session.embedding_dim)
            yield EmbeddedUnit(view.unit, tuple(rows), tuple(setting for setting, _ in rows.values()), embeddings)


def no_tile(where: str, got: str | None = None) -> InputError:
    """The error for scenes without a tile that has data; `where` ends its sentence."""
    return InputError(
        f"There is no tile with data{where}",
        got=got,
        expected="at least one tile of which a sensor has 90 %",
        hint="look at the files: `rio info` shows what they state as nodata; what is not finite, what a mask or an "
        "alpha band hides, and 0 in all bands have no data either",
    )


def setting_name(modalities: Sequence[str]) -> str:
    """The name of a set of modalities: `s1+s2`."""
    return "+".join(modalities)
