"""Makes a map from scenes: what is predicted is stored at once; the files of the map are written at the end.

Of a model with one answer per tile, the answers are stored and blended at the end; of a model that answers per pixel,
they are blended while it predicts, since they would take too much room.
"""

from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import numpy as np

from fusmae.config.task import Task
from fusmae.errors import InputError
from fusmae.files import write_json
from fusmae.inference.map.blend import blended
from fusmae.inference.map.layers import Layer, bands_of, map_layers
from fusmae.inference.map.pixels import PixelResult, finished_rows, predict_pixels
from fusmae.inference.map.progress import TileResult, Work, disk_named, work_key
from fusmae.inference.map.quicklook import save_quicklook
from fusmae.inference.map.rasters import Contents, Rows, stac_item, write_rasters
from fusmae.inference.run_tiles import no_tile, run_batches, scene_batches
from fusmae.inference.scene.checks import check_pixels, print_warnings
from fusmae.inference.scene.files import stored_in
from fusmae.inference.scene.grid import Grid, Unit, lay_grid
from fusmae.inference.scene.reader import SceneReader
from fusmae.inference.scene.scene import Reading, Scene, open_scenes, scene_date
from fusmae.inference.scene.stac_item import SceneItem
from fusmae.inference.scene.tiles import look_side_m
from fusmae.inference.session import Session
from fusmae.modalities import MAP_GSD_M
from fusmae.rasters.geometry import Box


@dataclass(frozen=True)
class Model:
    """A model that predicts, and how outputs name it: `fusmae/3` or the file's name, and the ONNX file's SHA-256."""

    session: Session
    label: str
    sha256: str


@dataclass(frozen=True)
class Map:
    """A finished map."""

    files: tuple[Path, ...]  # paths of all files that were written; the first is the map itself
    grid: Grid
    num_tiles: int  # number of tiles with a prediction, in this run or in an interrupted one before
    num_kept: int  # number of strips that an interrupted run had stored
    contents: Contents  # what its cells hold
    nodata: tuple[str, ...] = ()  # sentences on the pixels without data that this run read, and why they have none


def predict_map(
    model: Model,
    paths: Mapping[str, Sequence[str | Path | SceneItem]],
    out: Path,
    *,
    readings: Mapping[str, Reading] | None = None,
    stride_m: int | None = None,
    is_checked: bool = True,
    taken: datetime | None = None,
    bbox: Box | None = None,
    has_probabilities: bool = False,
) -> Map:
    """Predict every tile of a scene and write a map beside its picture and its STAC item.

    A model that answers per pixel makes a map with pixels of 10 m, other models one with blocks.

    If a run is killed at any time, the same call continues it; the files are the same to the last bit.

    Args:
        model: a model of classes or of a value.
        paths: files, folders and archives, or one STAC item, by modality; one modality is enough.
        out: path of the map, `….tif`; the other files are named after it.
        readings: how to interpret the files, by modality.
        stride_m: distance from tile to tile; None for half a tile.
        is_checked: whether to refuse pixels that look like other units.
        taken: date of the scenes; None to find it in a STAC item, in file names, or in the files' time of change.
        bbox: left, bottom, right and top of the map in degrees; None for all that the scenes cover.
        has_probabilities: whether to write the probabilities of all classes, too, of a segmentation.

    Raises:
        ExportError: the model is an encoder.
        InputError: the scenes can't be used, or probabilities are asked of another kind of model; no file of this run
            is left behind.
        StorageError: the disk is full, and what was predicted is kept for the next run; or another run writes this map.
    """
    task = model.session.require_task(model.label)
    if has_probabilities and task.kind != "segmentation":
        raise InputError(
            "--probabilities is for a segmentation, which this model is not.",
            got=f"{model.label}: {task.noun}",
            hint="leave it out" + ("" if task.value else "; the map of such a model holds them"),
        )
    layers = map_layers(task, has_probabilities=has_probabilities)
    inputs = model.session.inputs
    scenes = open_scenes(inputs, paths, readings or {}, bbox, model.session.groups)
    grid = lay_grid(scenes, inputs, stride_m, cell_m=MAP_GSD_M if task.is_dense else None)
    date, date_source = (taken, "--date") if taken is not None else _date(scenes)
    # A CPU and a GPU round differently: a map that one began and the other ended would be neither's.
    asked = " with probabilities" if has_probabilities else ""
    key = work_key(f"{model.sha256} on {model.session.device}{asked}", scenes, grid)
    work: Work[Any] = Work(out, key, PixelResult if task.is_dense else TileResult)
    # The claim begins when there is something to store, and lasts until the map is written, after the reader is closed.
    with ExitStack() as claim:
        with SceneReader(scenes, inputs, grid) as reader:
            if is_checked:
                print_warnings(check_pixels(reader, scenes))
            claim.enter_context(work.claimed())
            num_kept = _predict_units(model.session, reader, work, layers)
            nodata = reader.nodata_sentences()
        num_tiles = sum(_num_tiles(work, unit, task) for unit in grid.units())
        if not num_tiles:
            files = ", ".join(str(path) for scene in scenes.values() for path in scene.files[:3])
            raise no_tile(": the scenes are nodata where they overlap.", "; ".join([files, *nodata]))
        facts = {
            "model": model.label,
            "model_sha256": model.sha256,
            "modalities": list(scenes),
            "sources": sorted({path.name for scene in scenes.values() for path in scene.files}),
            "tile_m": grid.tile_m,
            "stride_m": grid.stride_m,
            "note": _note(task, grid),
            "datetime_from": date_source,
            # Without it the map of a model of several classes per tile is as it always was.
            **({} if task.kind == "multilabel" else {"kind": task.kind}),
        }
        with disk_named(out, "what was predicted is kept"):
            sources = [scene.item.link_from(out.parent) for scene in scenes.values() if scene.item is not None]
            written, contents = _publish(grid, work, out, layers, task, date, facts, sources)
    return Map(written, grid, num_tiles, num_kept, contents, nodata)


def _predict_units(session: Session, reader: SceneReader, work: Work[Any], layers: Sequence[Layer]) -> int:
    """Predict and store the units that are not done; returns how many were done before."""
    units = reader.grid.units()
    todo = [unit for unit in units if not work.is_done(unit)]
    with _progress(len(units), len(units) - len(todo)) as advance:
        if session.require_task(session.path.name).is_dense:
            predict_pixels(session, reader, work, layers, advance)
        else:
            _predict_tiles(session, reader, work, todo, advance)
    return len(units) - len(todo)


def _predict_tiles(
    session: Session,
    reader: SceneReader,
    work: Work[TileResult],
    units: Sequence[Unit],
    advance: Callable[[int], None],
) -> None:
    """Predict and store units of a model with one answer per tile."""
    num_answers, saved = session.require_task(session.path.name).num_outputs, None
    with (
        ThreadPoolExecutor(1) as writer,
        scene_batches(reader, units, look_side_m(reader.grid, reader.inputs)) as items,
    ):
        for view, rows in run_batches(session, items, session.output):
            answers = np.full((len(view.unit.lefts_m), num_answers), np.nan, np.float32)
            for column, (_, row) in rows.items():
                answers[column] = row
            if saved is not None:  # one result at a time waits for the disk
                saved.result()
            saved = writer.submit(work.save, view.unit, TileResult(answers, view.has_data, view.look))
            advance(len(rows))
        if saved is not None:
            saved.result()


def _num_tiles(work: Work[Any], unit: Unit, task: Task) -> int:
    """Number of a unit's tiles with a prediction."""
    if task.is_dense:
        return int(work.load_array(unit, "num_tiles"))
    return int(np.isfinite(work.load_array(unit, "answers")[:, 0]).sum())


def _note(task: Task, grid: Grid) -> str:
    """What a pixel of the map is, for people."""
    if task.is_dense:
        return f"a model of pixels: a pixel of {grid.cell_m} m is the mean of what the tiles that cover it say of it"
    what, maker = ("value", "model of whole tiles") if task.value else ("probability", "tile classifier")
    return (
        f"a {maker}: a pixel of {grid.cell_m} m is the blended {what} of the tiles of "
        f"{grid.tile_m} m that cover it, not of the pixel alone"
    )


@contextmanager
def _progress(num_units: int, num_done: int) -> Iterator[Callable[[int], None]]:
    """Show progress; yields a function that is called with the number of tiles of each unit that is predicted."""
    from rich.console import Console
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

    console = Console(stderr=True)
    if num_done:
        console.print(f"{num_done} of {num_units} strips were predicted before: goes on with the next")
    columns = (TextColumn("predicting"), BarColumn(), MofNCompleteColumn(), TextColumn("strips"), TimeRemainingColumn())
    with Progress(*columns, TextColumn("{task.fields[tiles]:,} tiles"), console=console) as progress:
        progress.add_task("", total=num_units, completed=num_done, tiles=0)
        (task,) = progress.tasks
        yield lambda tiles: progress.update(task.id, advance=1, tiles=task.fields["tiles"] + tiles)


def _publish(
    grid: Grid,
    work: Work[Any],
    out: Path,
    layers: Sequence[Layer],
    task: Task,
    date: datetime,
    facts: Mapping[str, Any],
    sources: Sequence[str],
) -> tuple[tuple[Path, ...], Contents]:
    """Write every file into the work folder, then move all of them to their final places, the map last."""
    name = out.stem
    tags = {key.upper(): ", ".join(value) if isinstance(value, list) else str(value) for key, value in facts.items()}
    if task.is_dense:
        rows = finished_rows(grid, work)
    else:
        rows = (Rows(row.first, bands_of(layers, row.answers), row.look) for row in blended(grid, work))
    rasters = write_rasters(work.folder, name, grid, rows, layers, tags)
    picture, item = work.folder / f"{name}.png", work.folder / f"{name}.json"
    modalities = "+".join(facts["modalities"])
    title = f"{name}: {facts['model']} on {modalities}, tiles of {grid.tile_m} m every {grid.stride_m} m"
    save_quicklook(picture, rasters, layers, grid, title)
    properties = {f"fusmae:{key}": value for key, value in facts.items()}
    write_json(item, stac_item(name, grid, layers, date, properties, sources))
    main, *others = (rasters.paths[layer.name] for layer in layers if layer.suffix is not None)
    aux = [path.with_name(f"{path.name}.aux.xml") for path in (main, *others)]
    for path in aux:
        if not path.exists():  # one of an older map would name the numbers of this one
            out.with_name(path.name).unlink(missing_ok=True)
    made = [*filter(Path.exists, aux), *others, picture, item, main]
    return tuple(path.replace(out.with_name(path.name)) for path in made)[::-1], rasters.contents


def _date(scenes: Mapping[str, Scene]) -> tuple[datetime, str]:
    """When the scenes were taken, and where this was found."""
    if found := scene_date(scenes):
        return found, "STAC item" if any(scene.item for scene in scenes.values()) else "file names"
    newest = max(stored_in(path).stat().st_mtime for scene in scenes.values() for path in scene.local_files)
    return datetime.fromtimestamp(newest, UTC), "time of the files' last change: their names tell no date"
