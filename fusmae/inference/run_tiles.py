"""Embeds a scene's tiles in batches as they are read, so that memory is bounded whatever the scene's size."""

from collections.abc import Iterator, Sequence
from contextlib import closing, contextmanager
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from fusmae.errors import ExportError
from fusmae.inference.prefetch import ahead
from fusmae.inference.scene.grid import Unit
from fusmae.inference.scene.reader import SceneReader
from fusmae.inference.scene.tiles import TileBatch, cut_batches, read_strips
from fusmae.inference.session import EMBEDDING, Session

# Largest numbers of batches that wait for the session, and of strips that wait to be cut.
_BATCHES_AHEAD, _STRIPS_AHEAD = 4, 1


@dataclass(frozen=True)
class EmbeddedUnit:
    """The tiles of a unit that have data, in the order of their columns.

    Attributes:
        unit: the unit.
        columns: `[N]`, numbers of the tiles in the unit, from 0.
        settings: modalities of each tile, as `s1+s2`.
        embeddings: `[N, D]`, embedding of each tile.
    """

    unit: Unit
    columns: tuple[int, ...]
    settings: tuple[str, ...]
    embeddings: NDArray[np.float32]


def require_embedding(session: Session, label: str) -> None:
    """Refuse a graph without an output of embeddings, as older versions exported it.

    Raises:
        ExportError: the graph has no such output.
    """
    if not session.embedding_dim:
        raise ExportError(
            f"{label} gives no embedding: it was exported by an older version.",
            expected=f"an output `{EMBEDDING}` [B, D]",
            hint="export again: dvc repro export register",
        )


@contextmanager
def scene_batches(reader: SceneReader, units: Sequence[Unit]) -> Iterator[Iterator[tuple[Unit, Sequence[TileBatch]]]]:
    """Yield an iterator over units, each with its batches, in order; the next strip is read in the background."""
    strips = ahead(read_strips(reader, units), _STRIPS_AHEAD)
    items = ahead(cut_batches(strips, reader.inputs, reader.grid.cell_m), _BATCHES_AHEAD)

    def by_unit() -> Iterator[tuple[Unit, Sequence[TileBatch]]]:
        found: list[TileBatch] = []
        for item in items:
            if isinstance(item, TileBatch):
                found.append(item)
                continue
            yield item.unit, found
            found = []

    with closing(strips), closing(items):
        yield by_unit()


def embedded_units(session: Session, reader: SceneReader, units: Sequence[Unit]) -> Iterator[EmbeddedUnit]:
    """Embed every tile of units that has enough data in some modality.

    Raises:
        InputError: a file can't be read.
    """
    with scene_batches(reader, units) as found:
        for unit, batches in found:
            rows = sorted(
                (column, setting_name(batch.modalities), embedding)
                for batch in batches
                for column, embedding in zip(batch.columns, _embed(session, batch), strict=True)
            )
            columns, settings, embeddings = zip(*rows, strict=True) if rows else ((), (), ())
            shape = (len(rows), session.embedding_dim)
            yield EmbeddedUnit(unit, columns, settings, np.array(embeddings, np.float32).reshape(shape))


def setting_name(modalities: Sequence[str]) -> str:
    """The name of a set of modalities: `s1+s2`."""
    return "+".join(modalities)


def _embed(session: Session, batch: TileBatch) -> NDArray[np.float32]:
    return session.run(batch.pixels, batch.modalities)[EMBEDDING]
