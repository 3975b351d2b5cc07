"""Embeddings of a scene's tiles or of a data set's pairs, as a table to search."""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from fusmae.cli.scene_files import SceneFiles
from fusmae.data.index import Split, read_index
from fusmae.data.shards import ShardReader
from fusmae.errors import InputError
from fusmae.inference.geoparquet import Geometry, embedding_table, write_tables
from fusmae.inference.run_tiles import EmbeddedUnit, embedded_units, require_embedding, setting_name
from fusmae.inference.scene.checks import check_pixels, print_warnings
from fusmae.inference.scene.grid import Grid, lay_grid
from fusmae.inference.scene.nodata import LOOK_AT_NODATA, nodata_sentences
from fusmae.inference.scene.reader import SceneReader
from fusmae.inference.scene.scene import open_scenes
from fusmae.inference.session import EMBEDDING, Session
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
) -> str:
    """Write a table of embeddings, of scenes or of a data set's pairs.

    Args:
        model: a registered version, or a file.
        files: the scenes; none where shards are given.
        out: the table, GeoParquet.
        stride: metres from tile to tile; None for tiles side by side.
        is_checked: whether to refuse pixels that look like other units than the model's.
        shards: the data set, instead of scenes.
        split: which of its splits; None for test.
        index: its index, which says where the pairs are.

    Returns:
        A summary for people.

    Raises:
        RegistryError: there is no such model.
        ExportError: its graph gives no embedding.
        InputError: scenes that can't be used, shards of other bands, or options that don't go together.
        ShardError: shards that can't be read.
        StorageError: the disk is full.
    """
    _require_one_kind(files, stride, shards, split, index)
    version = model_file(model)
    session = Session(version.path)
    require_embedding(session, version.label)
    nodata: tuple[str, ...] = ()
    if shards:
        summary = _embed_pairs(version, session, shards, split or "test", index, out)
    else:
        num_tiles, nodata = _embed_scenes(version, session, files, stride, is_checked, out)
        summary = f"{num_tiles:,} tiles"
    return "\n".join([f"{summary}, {session.embedding_dim} numbers each, by {version.label}", *nodata, f"wrote {out}"])


def _require_one_kind(
    files: SceneFiles, stride: int | None, shards: Path | None, split: Split | None, index: Path | None
) -> None:
    is_of_scenes = bool(files.paths)
    if is_of_scenes == bool(shards):
        raise InputError(
            "Embeddings are of scenes or of shards.", expected="--scene for one modality or more, or --shards alone"
        )
    if is_of_scenes and (split or index):
        raise InputError("--split and --index are of shards.", got="scenes", hint="leave them out")
    if shards and (stride is not None or files != SceneFiles()):
        raise InputError(
            "Shards say themselves what they hold.",
            expected="no --stride, and none of --bands, --units, --offset and their short forms such as --s1-bands",
        )


def _embed_scenes(
    model: ModelFile, session: Session, files: SceneFiles, stride: int | None, is_checked: bool, out: Path
) -> tuple[int, tuple[str, ...]]:
    """The number of tiles, and sentences on nodata."""
    scenes = open_scenes(session.inputs, files.paths, files.readings)
    # Tiles side by side, unless asked: a neighbour that overlaps is no find.
    tile_m = session.inputs[0].side_px * session.inputs[0].gsd_m
    grid = lay_grid(scenes, session.inputs, stride or tile_m, has_cells=False)
    with SceneReader(scenes, session.inputs, grid) as reader:
        if is_checked:
            print_warnings(check_pixels(reader, scenes))
        units = grid.units()
        found = _tracked(embedded_units(session, reader, units), len(units))
        num_tiles = write_tables(out, _unit_tables(found, grid, model), Geometry("Polygon", grid.crs))
        return num_tiles, nodata_sentences(reader.tallies)


def _unit_tables(units: Iterable[EmbeddedUnit], grid: Grid, model: ModelFile) -> Iterator[Any]:
    import shapely

    rows = {top: number for number, top in enumerate(grid.tile_tops_m)}
    columns = {left: number for number, left in enumerate(grid.tile_lefts_m)}
    is_empty = True
    for found in units:
        if not found.columns:
            continue
        is_empty = False
        lefts_m = [found.unit.lefts_m[column] for column in found.columns]
        lefts, top = grid.left + np.array(lefts_m), grid.top - found.unit.top_m
        shapes = shapely.box(lefts, top - grid.tile_m, lefts + grid.tile_m, top)
        named = {
            "tile_row": np.full(len(lefts), rows[found.unit.top_m], np.int32),
            "tile_column": np.array([columns[left] for left in lefts_m], np.int32),
        }
        yield embedding_table(named | _facts(found.settings, model), found.embeddings, shapes)
    if is_empty:
        raise InputError(
            "There is no tile with data: the scenes are nodata where they overlap.",
            expected="at least one tile of which a sensor has 90 %",
            hint=LOOK_AT_NODATA,
        )


def _embed_pairs(model: ModelFile, session: Session, shards: Path, split: Split, index: Path | None, out: Path) -> str:
    reader = ShardReader(shards, split)
    session.require_inputs(reader.inputs, str(shards))
    places = _points(index, reader.keys) if index else None
    starts = range(0, len(reader), _BATCH)
    tables = _pair_tables(_tracked(starts, len(starts)), session, reader, places, model)
    num_rows = write_tables(out, tables, Geometry("Point", "OGC:CRS84") if places is not None else None)
    is_lost = bool(index) and places is None
    return f"{num_rows:,} {split} pairs{f' without geometry: {index} lacks the place of some' if is_lost else ''}"


def _pair_tables(
    starts: Iterable[int], session: Session, reader: ShardReader, places: NDArray[Any] | None, model: ModelFile
) -> Iterator[Any]:
    for start in starts:
        rows = range(start, min(start + _BATCH, len(reader)))
        batch = reader.read(rows)
        labels = [[reader.classes[k] for k in np.flatnonzero(row)] for row in batch.labels]
        named: Mapping[str, Any] = {"key": [reader.keys[row] for row in rows], "labels": _lists(labels)}
        facts = _facts([setting_name(session.metadata["modalities"])] * len(rows), model)
        embeddings = session.run(batch.pixels)[EMBEDDING]
        yield embedding_table({**named, **facts}, embeddings, None if places is None else places[list(rows)])


def _points(index: Path, keys: Sequence[str]) -> NDArray[Any] | None:
    """Centres of pairs as shapely's points `[N]`; None where the index does not have them all."""
    import shapely

    known = {pair.key: (pair.lon, pair.lat) for pair in read_index(index)}
    found = [known.get(key, (None, None)) for key in keys]
    return None if any(lon is None for lon, _ in found) else shapely.points(np.array(found, np.float64))


def _facts(settings: Sequence[str], model: ModelFile) -> dict[str, Any]:
    return {
        "modalities": _repeated(settings),
        "model": _repeated([model.label] * len(settings)),
        "model_sha256": _repeated([model.sha256] * len(settings)),
    }


def _repeated(texts: Sequence[str]) -> Any:
    import pyarrow as pa

    return pa.array(texts, pa.string())


def _lists(texts: Sequence[Sequence[str]]) -> Any:
    import pyarrow as pa

    return pa.array(texts, pa.list_(pa.string()))


def _tracked(items: Iterable[Any], total: int) -> Iterator[Any]:
    from rich.console import Console
    from rich.progress import track

    return iter(track(items, "embedding", total, console=Console(stderr=True)))
