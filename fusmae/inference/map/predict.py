"""Makes a map from scenes: every tile is predicted once and stored at once; all are blended at the end."""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, closing, contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from fusmae.errors import InputError, StorageError
from fusmae.files import storage_error, write_json
from fusmae.inference.map.blend import blended
from fusmae.inference.map.progress import Result, Work, work_key
from fusmae.inference.map.quicklook import save_quicklook
from fusmae.inference.map.rasters import Rasters, stac_item, write_rasters
from fusmae.inference.prefetch import ahead
from fusmae.inference.scene.checks import check_pixels, print_warnings
from fusmae.inference.scene.files import stored_in
from fusmae.inference.scene.grid import Grid, Unit, lay_grid
from fusmae.inference.scene.nodata import LOOK_AT_NODATA, nodata_sentences
from fusmae.inference.scene.reader import SceneReader
from fusmae.inference.scene.scene import Reading, Scene, open_scenes, scene_date
from fusmae.inference.scene.tiles import TileBatch, UnitView, cut_batches, look_side_m, read_strips
from fusmae.inference.session import Session

# Largest numbers of batches that wait for the session, and of strips that wait to be cut.
_BATCHES_AHEAD, _STRIPS_AHEAD = 4, 1
_KEPT = "what was predicted is kept"


@dataclass(frozen=True)
class Model:
    """A model that predicts, and how outputs name it.

    Attributes:
        session: session that runs the graph.
        label: name and version, as `fusmae/3`, or the file's name.
        sha256: SHA-256 of the ONNX file.
    """

    session: Session
    label: str
    sha256: str


@dataclass(frozen=True)
class Map:
    """A finished map.

    Attributes:
        files: paths of all files that were written; the first is the map itself.
        grid: grid of the map.
        num_tiles: number of tiles with a prediction, in this run or in an interrupted one before.
        num_kept: number of strips that an interrupted run had stored.
        counts: number of cells by class number; 0 is nodata.
        nodata: sentences on the pixels without data that this run read, and why they have none.
    """

    files: tuple[Path, ...]
    grid: Grid
    num_tiles: int
    num_kept: int
    counts: NDArray[np.int64]
    nodata: tuple[str, ...] = ()


def predict_map(
    model: Model,
    paths: Mapping[str, Sequence[str | Path]],
    out: Path,
    *,
    readings: Mapping[str, Reading] | None = None,
    stride_m: int | None = None,
    is_checked: bool = True,
    taken: datetime | None = None,
) -> Map:
    """Predict every tile of a scene and write a map beside its picture and its STAC item.

    If a run is killed at any time, the same call continues it; the files are the same to the last bit.

    Args:
        model: a tile classifier.
        paths: files, folders and archives by modality; one modality is enough.
        out: path of the map, `….tif`; the other files are named after it.
        readings: how to interpret the files, by modality.
        stride_m: distance from tile to tile; None for half a tile.
        is_checked: whether to refuse pixels that look like other units.
        taken: date of the scenes; None to find it in file names, else in the files' time of change.

    Raises:
        InputError: the scenes can't be used; no file of this run is left behind.
        StorageError: the disk is full, and what was predicted is kept for the next run; or another run writes this map.
    """
    inputs = model.session.inputs
    scenes = open_scenes(inputs, paths, readings or {})
    grid = lay_grid(scenes, inputs, stride_m)
    date, date_source = (taken, "--date") if taken is not None else _date(scenes)
    work = Work(out, work_key(model.sha256, scenes, grid))
    # The claim begins when there is something to store, and lasts until the map is written, after the reader is closed.
    with ExitStack() as claim:
        with SceneReader(scenes, inputs, grid) as reader:
            if is_checked:
                print_warnings(check_pixels(reader, scenes))
            claim.enter_context(work.claimed())
            num_kept = _predict_units(model.session, reader, work)
            nodata = nodata_sentences(reader.tallies)
        num_tiles = _count_tiles(grid, work)
        if not num_tiles:
            raise _all_empty(scenes, nodata)
        with _disk_named(out):
            facts = _facts(model, scenes, grid) | {"datetime_from": date_source}
            files, counts = _publish(model, scenes, grid, work, out, date, facts)
    return Map(files, grid, num_tiles, num_kept, counts, nodata)


def predicted_units(session: Session, items: Iterable[TileBatch | UnitView]) -> Iterator[tuple[Unit, Result, int]]:
    """Run batches and yield each unit with its result and its number of predicted tiles."""
    found: dict[int, NDArray[np.float32]] = {}
    for item in items:
        if isinstance(item, TileBatch):
            found.update(zip(item.columns, session.run(item.pixels, item.modalities)["probabilities"], strict=True))
            continue
        probabilities = np.full((len(item.unit.lefts_m), len(session.metadata["classes"])), np.nan, np.float32)
        for column, values in found.items():
            probabilities[column] = values
        yield item.unit, Result(probabilities, item.has_data, item.look), len(found)
        found = {}


def _predict_units(session: Session, reader: SceneReader, work: Work) -> int:
    """Predict and store the units that are not done; returns how many were done before."""
    units = reader.grid.units()
    todo = [unit for unit in units if not work.is_done(unit)]
    strips = ahead(read_strips(reader, todo), _STRIPS_AHEAD)
    look_m = look_side_m(reader.grid, reader.inputs)
    batches = ahead(cut_batches(strips, reader.inputs, reader.grid.cell_m, look_m), _BATCHES_AHEAD)
    with (
        ThreadPoolExecutor(1) as writer,
        _progress(len(units), len(units) - len(todo)) as advance,
        closing(strips),
        closing(batches),
    ):
        saved: Any = None
        for unit, result, num_tiles in predicted_units(session, batches):
            if saved is not None:
                saved.result()
            saved = writer.submit(work.save, unit, result)
            advance(num_tiles)
        if saved is not None:
            saved.result()
    return len(units) - len(todo)


@contextmanager
def _progress(num_units: int, num_done: int) -> Iterator[Any]:
    from rich.console import Console
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

    console = Console(stderr=True)
    if num_done:
        console.print(f"{num_done} of {num_units} strips were predicted before: goes on with the next")
    columns = (TextColumn("predicting"), BarColumn(), MofNCompleteColumn(), TextColumn("strips"), TimeRemainingColumn())
    with Progress(*columns, TextColumn("{task.fields[tiles]:,} tiles"), console=console) as progress:
        task, tiles = progress.add_task("", total=num_units, completed=num_done, tiles=0), 0

        def advance(num_tiles: int) -> None:
            nonlocal tiles
            tiles += num_tiles
            progress.update(task, advance=1, tiles=tiles)

        yield advance


def _count_tiles(grid: Grid, work: Work) -> int:
    return sum(int(np.isfinite(work.load(unit).probabilities[:, 0]).sum()) for unit in grid.units())


def _all_empty(scenes: Mapping[str, Scene], nodata: Sequence[str]) -> InputError:
    files = ", ".join(str(path) for scene in scenes.values() for path in scene.files[:3])
    return InputError(
        "There is no tile with data: the scenes are nodata where they overlap.",
        got="; ".join([files, *nodata]),
        expected="at least one tile of which a sensor has 90 %",
        hint=LOOK_AT_NODATA,
    )


@contextmanager
def _disk_named(out: Path) -> Iterator[None]:
    from rasterio.errors import RasterioError

    try:
        yield
    except OSError as error:
        raise storage_error(out, error, _KEPT) from error
    except RasterioError as error:
        raise StorageError(
            f"{out} could not be written: {error.__cause__ or error}; {_KEPT}.",
            hint="make room on the disk, then run the same command again",
        ) from error


def _publish(
    model: Model,
    scenes: Mapping[str, Scene],
    grid: Grid,
    work: Work,
    out: Path,
    date: datetime,
    facts: Mapping[str, Any],
) -> tuple[tuple[Path, ...], NDArray[np.int64]]:
    """Write every file into the work folder, then move all of them to their final places, the map last."""
    name, classes = out.stem, model.session.metadata["classes"]
    tags = {key.upper(): ", ".join(value) if isinstance(value, list) else str(value) for key, value in facts.items()}
    rasters: Rasters = write_rasters(work.folder, name, grid, blended(grid, work), classes, tags)
    title = f"{name}: {model.label} on {'+'.join(scenes)}, tiles of {grid.tile_m} m every {grid.stride_m} m"
    save_quicklook(work.folder / f"{name}.png", rasters, classes, grid, title)
    properties = {f"fusmae:{key}": value for key, value in facts.items()}
    write_json(work.folder / f"{name}.json", stac_item(name, grid, classes, date, properties))
    aux = rasters.classes.with_name(f"{rasters.classes.name}.aux.xml")
    made = [aux, rasters.classes, work.folder / f"{name}.png", work.folder / f"{name}.json", rasters.probabilities]
    for path in made:
        path.replace(out.with_name(path.name))
    return tuple(out.with_name(path.name) for path in reversed(made)), rasters.counts


def _facts(model: Model, scenes: Mapping[str, Scene], grid: Grid) -> dict[str, Any]:
    return {
        "model": model.label,
        "model_sha256": model.sha256,
        "modalities": list(scenes),
        "sources": sorted({path.name for scene in scenes.values() for path in scene.files}),
        "tile_m": grid.tile_m,
        "stride_m": grid.stride_m,
        "note": f"a tile classifier: a pixel of {grid.cell_m} m is the blended probability of the tiles of "
        f"{grid.tile_m} m that cover it, not of the pixel alone",
    }


def _date(scenes: Mapping[str, Scene]) -> tuple[datetime, str]:
    """When the scenes were taken, and where this was found."""
    named = scene_date(scenes)
    if named is not None:
        return named, "file names"
    newest = max(stored_in(path).stat().st_mtime for scene in scenes.values() for path in scene.files)
    return datetime.fromtimestamp(newest, UTC), "time of the files' last change: their names tell no date"
