"""Embeddings of a scene's tiles or of a data set's pairs, as a table to search."""

from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import shapely
from numpy.typing import NDArray
from rich.console import Console
from rich.progress import track

from fusmae.cli.scene_files import SceneFiles
from fusmae.data.index import Split, read_index
from fusmae.data.shards import ShardReader
from fusmae.errors import InputError
from fusmae.inference.devices import Device
from fusmae.inference.geoparquet import embedding_table, write_tables
from fusmae.inference.run_tiles import EmbeddedUnit, embedded_units, no_tile, setting_name
from fusmae.inference.scene.checks import check_pixels, print_warnings
from fusmae.inference.scene.grid import Grid, lay_grid
from fusmae.inference.scene.reader import SceneReader
from fusmae.inference.scene.scene import open_scenes
from fusmae.inference.session import EMBEDDING, Session
from fusmae.modalities import tile_side_m
from fusmae.release.registry.model_file import ModelFile, model_file

_BATCH = 16


def write_embeddings(
    *,
    model: str,
    files: SceneFiles,
    out: Path,
    stride: int | None,
    is_checked: bool,
    shards: Path | None,
    split: Split | None,
    index: Path | None,
    device: Device = "cpu",
) -> str:
    """Write a table of embeddings, of scenes or of a data set's pairs; see the options of `fusmae embed`.

    The result is a summary for people.

    Raises:
        RegistryError: there is no such model.
        ConfigError: the device can't be used.
        ExportError: its graph gives no embedding.
        InputError: scenes that can't be used, shards of other bands, or options that don't go together.
        ShardError: shards that can't be read.
        StorageError: the disk is full.
    """
    if files.is_empty != bool(shards):
        raise InputError(
            "Embeddings are of scenes or of shards.",
            expected="--scene for one modality or more, --search, or --shards alone",
        )
    if not shards and (split or index):
        raise InputError("--split and --index are of shards.", got="scenes", hint="leave them out")
    if shards and (stride is not None or files != SceneFiles()):
        raise InputError(
            "Shards say themselves what they hold.",
            expected="no --stride or --bbox, and none of --bands, --units, --offset and their short forms such as "
            "--s1-bands",
        )
    version = model_file(model)
    session = Session(version.path, device=device)
    session.require_embedding(version.label)
    if shards:
        rows, notes = _embed_pairs(version, session, shards, split or "test", index, out)
    else:
        rows, notes = _embed_scenes(version, session, files, stride, is_checked, out)
    return "\n".join([f"{rows}, {session.embedding_dim} numbers each, by {version.label}", *notes, f"wrote {out}"])


def _embed_scenes(
    model: ModelFile, session: Session, files: SceneFiles, stride: int | None, is_checked: bool, out: Path
) -> tuple[str, tuple[str, ...]]:
    """What the rows are, and sentences on nodata."""
    files = files.with_found(session.inputs)
    scenes = open_scenes(session.inputs, files.paths, files.readings, files.bbox, session.groups)
    # Tiles side by side, unless asked: a neighbour that overlaps is no find.
    tile_m = tile_side_m(session.inputs)
    grid = lay_grid(scenes, session.inputs, stride or tile_m, has_cells=False)
    with SceneReader(scenes, session.inputs, grid) as reader:
        if is_checked:
            print_warnings(check_pixels(reader, scenes))
        units = grid.units()
        embedded = track(embedded_units(session, reader, units), "embedding", len(units), console=Console(stderr=True))
        num_tiles = write_tables(out, _unit_tables(embedded, grid, model), grid.crs)
        return f"{num_tiles:,} tiles", reader.nodata_sentences()


def _unit_tables(units: Iterable[EmbeddedUnit], grid: Grid, model: ModelFile) -> Iterator[Any]:
    tops_m, all_lefts_m, is_empty = grid.tile_tops_m, grid.tile_lefts_m, True
    for embedded in units:
        if not embedded.columns:
            continue
        is_empty = False
        lefts_m, top_m = np.array(embedded.unit.lefts_m)[list(embedded.columns)], embedded.unit.top_m
        lefts, top = grid.left + lefts_m, grid.top - top_m
        columns = {
            "tile_row": np.full(len(lefts), tops_m.index(top_m), np.int32),
            "tile_column": np.searchsorted(all_lefts_m, lefts_m).astype(np.int32),
        }
        shapes = shapely.box(lefts, top - grid.tile_m, lefts + grid.tile_m, top)
        yield embedding_table(columns | _facts(embedded.settings, model), embedded.embeddings, shapes)
    if is_empty:
        raise no_tile(": the scenes are nodata where they overlap.")


def _embed_pairs(
    model: ModelFile, session: Session, shards: Path, split: Split, index: Path | None, out: Path
) -> tuple[str, tuple[str, ...]]:
    reader = ShardReader(shards, split)
    session.require_inputs(reader.inputs, str(shards))
    places = _points(index, reader.keys) if index else None
    starts = track(range(0, len(reader), _BATCH), "embedding", console=Console(stderr=True))
    tables = _pair_tables(starts, session, reader, places, model)
    num_rows = write_tables(out, tables, None if places is None else "OGC:CRS84")
    lost = f" without geometry: {index} lacks the place of some" if index and places is None else ""
    return f"{num_rows:,} {split} pairs{lost}", ()


def _pair_tables(
    starts: Iterable[int], session: Session, reader: ShardReader, places: NDArray[Any] | None, model: ModelFile
) -> Iterator[Any]:
    setting = setting_name(session.metadata["modalities"])
    for start in starts:
        rows = range(start, min(start + _BATCH, len(reader)))
        if reader.task.value is not None:
            labels = {"value": reader.labels[list(rows), 0]}
        else:
            names = [[reader.classes[k] for k in np.flatnonzero(reader.labels[row])] for row in rows]
            labels = {"labels": pa.array(names, pa.list_(pa.string()))}  # all may be empty
        columns = {
            "key": [reader.keys[row] for row in rows],
            **labels,
            **_facts([setting] * len(rows), model),
        }
        embeddings = session.run(reader.read(rows), outputs=[EMBEDDING])[EMBEDDING]
        yield embedding_table(columns, embeddings, None if places is None else places[list(rows)])


def _points(index: Path, keys: Sequence[str]) -> NDArray[Any] | None:
    """Centres of pairs as shapely's points `[N]`; None where the index does not have them all."""
    known = {pair.key: (pair.lon, pair.lat) for pair in read_index(index)}
    found = [known.get(key, (None, None)) for key in keys]
    return None if any(lon is None for lon, _ in found) else shapely.points(np.array(found, np.float64))


def _facts(settings: Sequence[str], model: ModelFile) -> dict[str, Any]:
    size = len(settings)
    return {"modalities": settings, "model": [model.label] * size, "model_sha256": [model.sha256] * size}
