"""Cuts scenes into pairs to train on, in the layout of docs/folder.md; a run that was killed goes on where it was.

Scenes are read strip by strip, so that memory does not depend on their size. Tiles and what is known of them wait in a
hidden folder until all are there; the table of pairs, which makes them pairs, is written last.
"""

import re
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from fusmae.config.task import Task
from fusmae.data.index import SPLITS
from fusmae.errors import InputError
from fusmae.inference.map.progress import Work, disk_named, work_key
from fusmae.inference.pairs.blocks import Blocks, SplitTiles, side_for, split_tiles
from fusmae.inference.pairs.folder import Content, CutScene, Tiles, data_section, read_content, work_text, write_content
from fusmae.inference.pairs.labels import Labels, label_tiles, map_look, open_labels
from fusmae.inference.pairs.picture import picture_side_m, save_picture
from fusmae.inference.pairs.raster_labels import LabelValues
from fusmae.inference.pairs.settings import (
    CutSettings,
    inputs_of,
    require_labels_fit,
    require_new,
    taken_modalities,
    with_those_of,
)
from fusmae.inference.pairs.tile_files import move_tiles, nodata_shares, write_map, write_tile
from fusmae.inference.scene.checks import check_pixels, print_warnings
from fusmae.inference.scene.grid import Grid, Unit, lay_grid
from fusmae.inference.scene.reader import SceneReader
from fusmae.inference.scene.scene import Reading, Scene, open_scenes, richest_first, scene_date
from fusmae.inference.scene.stac_item import SceneItem
from fusmae.inference.scene.tiles import Strip, look_at, read_strips
from fusmae.modalities import MAP_GSD_M, Modality, ModalityInput
from fusmae.rasters.geometry import Box
from fusmae.rasters.raster_file import Floats
from fusmae.runs.utf8 import composed
from fusmae.sources.folder.maps import MAPS
from fusmae.sources.folder.pairs_table import TABLE, PairRow

NODATA, UNLABELLED, BETWEEN = "without data", "without a label", "near another split"
OUTCOMES = (*SPLITS, NODATA, UNLABELLED, BETWEEN)
"""What becomes of a tile: its split, or the reason why it is no pair."""

# What stands at the end of a file's name for a band or a resolution.
_BAND_ENDING = re.compile(r"((^|[_.-])(B\d{1,2}A?|V[VH]|H[VH]|\d0m))+$", re.IGNORECASE)
_UNKNOWN_DATE = datetime(1970, 1, 1, tzinfo=UTC)


@dataclass(frozen=True)
class CutUnit:
    """What becomes of a unit's tiles."""

    outcomes: NDArray[np.int8]  # `[tiles]`, positions in `OUTCOMES`
    labels: NDArray[np.bool_]  # `[tiles, K]`, true for classes that are labels
    values: NDArray[np.float64]  # `[tiles]`, values of the tiles; NaN where there are none
    map_look: Floats  # `[h, w]`, the map of labels for people, NaN where there is no label; `[0, 0]` without one
    look: Floats  # `[1 or 3, h, w]`, the scene for people


@dataclass(frozen=True)
class Cut:
    """A scene that was cut."""

    content: Content  # all that the folder holds now
    scene: CutScene
    picture: Path  # path of the picture of the grid
    num_kept: int  # number of strips that an interrupted run had cut
    notes: tuple[str, ...]  # sentences on the pixels without data, and the labels, that this run read and did not use


def cut_pairs(
    paths: Mapping[str, Sequence[str | Path | SceneItem]],
    readings: Mapping[str, Reading],
    out: Path,
    settings: CutSettings,
    bbox: Box | None = None,
) -> Cut:
    """Cut one scene into pairs, and add them to the folder `out`.

    If a run is killed at any time, the same call continues it.

    Args:
        paths: files, folders and archives, or a STAC item, by modality.
        readings: how to interpret the files, by modality.
        out: folder of the pairs.
        settings: how to cut them.
        bbox: left, bottom, right and top in degrees of the part to cut; None for all of the scene.

    Raises:
        InputError: scenes, labels or settings can't be used, or no tile is left; nothing of this run is left behind.
        StorageError: the disk is full, and what was cut is kept for the next run; or another run writes this folder.
    """
    before = read_content(out)
    settings = with_those_of(before, settings, out)
    require_labels_fit(settings)
    modalities = taken_modalities(settings.modalities, paths, before)
    inputs = inputs_of(modalities, settings.tile_m)
    scenes = open_scenes(inputs, paths, readings, bbox)
    settings = replace(settings, name=settings.name or _name_of(scenes))
    require_new(before, settings.name, out)
    grid = _whole_tiles(lay_grid(scenes, inputs, settings.tile_m, has_cells=False))
    gap_m = settings.tile_m if settings.gap_m is None else settings.gap_m
    blocks = Blocks(settings.block_m or side_for(grid), gap_m, settings.seed, settings.shares)
    tiles = split_tiles(grid, blocks, before.placed if before else ())
    labels = _opened_labels(settings, grid, inputs)
    task = _task_of(settings, before, labels)
    work = Work(out / TABLE, work_key(_facts(settings, blocks, task), scenes, grid), CutUnit)
    side_m = picture_side_m(grid, inputs)
    with SceneReader(scenes, inputs, grid) as reader:
        if settings.is_checked:
            print_warnings(check_pixels(reader, scenes))
        with work.claimed():
            if read_content(out) != before:
                raise InputError(f"Another run has changed {out} in the meantime.", hint="run the same command again")
            units = grid.units()
            todo = [unit for unit in units if not work.is_done(unit)]
            with disk_named(out, "what was cut is kept"):
                for strip in _with_progress(reader, todo, len(units)):
                    work.save(strip.unit, _cut(strip, grid, inputs, tiles, labels, task, settings, work.folder, side_m))
            done = {unit: work.load(unit) for unit in units}
            notes = (*reader.nodata_sentences(), *(labels.notes() if labels else ()))
            scene = _summary(settings, grid, scenes, done.values(), notes)
            rows = _rows(settings, scene, grid, tiles, done, labels.names if labels else ())
            content = _joined(before, settings, modalities, blocks, scene, rows, task)
            data_section(content)  # nothing that params.yaml would refuse is written
            with disk_named(out, "what was cut is kept"):
                picture = out / f"tiles_{settings.name}.png"
                outcomes = _outcomes(grid, done)
                look = _look(grid, {unit: cut.look for unit, cut in done.items()}, side_m)
                maps = (
                    _look(grid, {unit: cut.map_look[None] for unit, cut in done.items()}, side_m)
                    if task.is_dense
                    else None
                )
                save_picture(picture, look, outcomes, grid, blocks, scene, OUTCOMES, task, maps)
                move_tiles(work.folder, out, [*modalities, *([MAPS] if task.is_dense else [])])
                write_content(out, content)
    return Cut(content, scene, picture, len(units) - len(todo), notes)


def _name_of(scenes: Mapping[str, Scene]) -> str:
    """The name of the scene with the most bands, as a part of file names: the item's, or the first file's stem."""
    scene = richest_first(scenes)[0]
    file = next(iter(scene.local_files), Path())
    names = (scene.item.id,) if scene.item else (file.stem, file.parent.name)
    for name in names:
        found = re.sub(r"[^A-Za-z0-9.-]+", "_", composed(_BAND_ENDING.sub("", name))).strip("._-")
        if found:
            return found
    return "scene"


def _whole_tiles(grid: Grid) -> Grid:
    """The grid with whole tiles side by side that lie on the scenes' ground, from its first whole pixel on."""
    step_m, tile_m = grid.cell_m, grid.tile_m
    top_m, left_m, bottom_m, right_m = grid.ground_m or (0, 0, grid.height_m, grid.width_m)
    starts, sizes = [], []
    for first_m, last_m, whole_m in ((top_m, bottom_m, grid.height_m), (left_m, right_m, grid.width_m)):
        start_m = -int(-(first_m - 1e-3) // step_m) * step_m
        if last_m - start_m < tile_m - 1e-3:  # less than a pixel of the first tile lies beyond the ground
            start_m = 0
        starts.append(start_m)
        sizes.append(int(min(last_m + 1e-3, whole_m) - start_m) // tile_m * tile_m or tile_m)
    (start_top_m, start_left_m), (height_m, width_m) = starts, sizes
    return replace(
        grid,
        left=grid.left + start_left_m,
        top=grid.top - start_top_m,
        height_m=height_m,
        width_m=width_m,
        ground_m=None,
    )


def _opened_labels(settings: CutSettings, grid: Grid, inputs: Sequence[ModalityInput]) -> Labels | LabelValues | None:
    if settings.labels is None:
        return None
    if settings.value is not None:
        return LabelValues(settings.labels, grid)
    is_dense = settings.kind == "segmentation"
    return open_labels(settings.labels, grid, MAP_GSD_M if is_dense else min(item.gsd_m for item in inputs))


def _task_of(settings: CutSettings, before: Content | None, labels: Labels | LabelValues | None) -> Task:
    """What the labels are; classes of earlier pairs come first, since maps have their numbers."""
    classes = dict.fromkeys([*(before.task.classes if before else ()), *(labels.names if labels else ())])
    return Task(kind=settings.kind or "multilabel", classes=tuple(classes), value=settings.value)


def _facts(settings: CutSettings, blocks: Blocks, task: Task) -> str:
    """All that pairs depend on besides scenes and grid."""
    stated = asdict(settings) | {"blocks": asdict(blocks), "task": task.model_dump()}
    for name in ("is_checked", "appends", "modalities", "value"):
        del stated[name]
    if settings.labels:
        state = settings.labels.path.stat()
        stated["labels_state"] = [str(settings.labels.path.absolute()), state.st_size, state.st_mtime_ns]
    bands = {key: modality.model_dump() for key, modality in settings.modalities.items()}
    return work_text(stated | {"bands": bands})


def _with_progress(reader: SceneReader, todo: Sequence[Unit], num_units: int) -> Iterator[Strip]:
    from rich.console import Console
    from rich.progress import track

    console, num_done = Console(stderr=True), num_units - len(todo)
    if num_done:
        console.print(f"{num_done} of {num_units} strips were cut before: goes on with the next")
    yield from track(read_strips(reader, todo), "cutting", len(todo), console=console)


def _cut(
    strip: Strip,
    grid: Grid,
    inputs: Sequence[ModalityInput],
    tiles: SplitTiles,
    labels: Labels | LabelValues | None,
    task: Task,
    settings: CutSettings,
    folder: Path,
    look_m: int,
) -> CutUnit:
    """Decide on each tile of a strip, and write those that become pairs."""
    unit, num_tiles = strip.unit, len(strip.unit.lefts_m)
    is_empty = nodata_shares(strip, inputs) > settings.max_nodata
    found = label_tiles(labels, unit, task, settings.min_share)
    needs_label = labels is not None and not settings.keeps_unlabelled
    outcomes = np.empty(num_tiles, np.int8)
    row, first = _tile_number(grid, unit)
    for column in range(num_tiles):
        number = int(tiles.splits[row, first + column])
        outcome = BETWEEN if number < 0 else OUTCOMES[number]
        if is_empty[column]:
            outcome = NODATA
        elif needs_label and not found.is_known[column]:
            outcome = UNLABELLED
        outcomes[column] = OUTCOMES.index(outcome)
        if outcome in SPLITS:
            key = key_of(settings.name, grid, unit, column)
            write_tile(strip, grid, inputs, column, folder, key)
            if found.maps is not None:
                write_map(found.maps, grid, unit, column, folder, key)
    look = look_at(strip, inputs, look_m)
    return CutUnit(outcomes, found.is_label, found.values, map_look(found.maps, *look.shape[1:]), look)


def key_of(name: str, grid: Grid, unit: Unit, column: int) -> str:
    """The key of the pair of a unit's tile: the scene's name, the tile's row and column."""
    row, first = _tile_number(grid, unit)
    return f"{name}_{row:04d}_{first + column:04d}"


def _tile_number(grid: Grid, unit: Unit) -> tuple[int, int]:
    """Row and column of a unit's first tile among all tiles."""
    return unit.top_m // grid.tile_m, unit.left_m // grid.tile_m


def _summary(
    settings: CutSettings, grid: Grid, scenes: Mapping[str, Scene], done: Any, notes: Sequence[str]
) -> CutScene:
    counts = Counter(OUTCOMES[number] for unit in done for number in unit.outcomes.tolist())
    left_out = {reason: counts[reason] for reason in OUTCOMES[len(SPLITS) :]}
    num_pairs = sum(counts[split] for split in SPLITS)
    files = sorted({path.name for scene in scenes.values() for path in scene.files})
    if not num_pairs:
        hints = {
            NODATA: "--max-nodata allows more of it; the scenes may be nodata where they overlap",
            UNLABELLED: f"--min-share takes classes that cover less than {settings.min_share:g} of a tile; "
            "--keep-unlabelled keeps tiles without a label",
            BETWEEN: "larger blocks (--block) or a smaller --gap leave more tiles",
        }
        raise InputError(
            "No tile is left.",
            got="; ".join([*(f"{number:,} {reason}" for reason, number in left_out.items() if number), *notes]),
            expected="tiles with data, a label and a distance from other splits",
            hint=hints[max(left_out, key=lambda reason: left_out[reason])],
        )
    taken = settings.taken or scene_date(scenes)
    return CutScene(
        name=settings.name,
        date=taken.isoformat() if taken else "",
        files=files,
        num_pairs=num_pairs,
        left_out=left_out,
        crs=grid.crs.to_wkt(),
        left=grid.left,
        top=grid.top,
    )


def _rows(
    settings: CutSettings,
    scene: CutScene,
    grid: Grid,
    tiles: SplitTiles,
    done: Mapping[Unit, CutUnit],
    names: Sequence[str],
) -> list[PairRow]:
    date = datetime.fromisoformat(scene.date) if scene.date else _UNKNOWN_DATE
    rows = []
    for unit, cut in done.items():
        row, first = _tile_number(grid, unit)
        for column, number in enumerate(cut.outcomes.tolist()):
            if number < len(SPLITS):
                labels = tuple(name for name, is_label in zip(names, cut.labels[column], strict=True) if is_label)
                key, place = key_of(settings.name, grid, unit, column), tiles.places[row][first + column]
                value = float(cut.values[column]) if np.isfinite(cut.values[column]) else None
                rows.append(PairRow(key, labels, OUTCOMES[number], place, date, "", value))
    return sorted(rows)


def _joined(
    before: Content | None,
    settings: CutSettings,
    modalities: Mapping[str, Modality],
    blocks: Blocks,
    scene: CutScene,
    rows: Sequence[PairRow],
    task: Task,
) -> Content:
    """What the folder holds with the new pairs: classes of earlier pairs keep their places, new ones follow."""
    if not task.is_dense:  # maps have numbers of all classes, whether they occur or not
        labelled = {label for row in [*(before.rows if before else ()), *rows] for label in row.labels}
        known = before.task.classes if before else ()
        classes = tuple(name for name in task.classes if name in labelled or name in known)
        task = task.model_copy(update={"classes": classes})
    scenes = [*(before.tiles.scenes if before else ()), scene]
    tiles = Tiles(
        tile_m=settings.tile_m,
        block_m=blocks.side_m,
        gap_m=blocks.gap_m,
        seed=blocks.seed,
        shares=list(blocks.shares),
        scenes=scenes,
    )
    all_rows = [*(before.rows if before else ()), *rows]
    return Content(tiles=tiles, task=task, modalities=dict(modalities), rows=all_rows)


def _outcomes(grid: Grid, done: Mapping[Unit, CutUnit]) -> NDArray[np.int8]:
    """What became of each tile, `[rows, columns]`."""
    found = np.zeros((grid.height_m // grid.tile_m, grid.width_m // grid.tile_m), np.int8)
    for unit, cut in done.items():
        row, column = _tile_number(grid, unit)
        found[row, column : column + len(cut.outcomes)] = cut.outcomes
    return found


def _look(grid: Grid, looks: Mapping[Unit, Floats], side_m: int) -> Floats:
    """The whole scene for people, `[1 or 3, h, w]`, from those of its units."""
    num_bands = len(next(iter(looks.values())))
    found = np.full((num_bands, grid.height_m // side_m, grid.width_m // side_m), np.nan, np.float32)
    for unit, look in looks.items():
        row, column = unit.top_m // side_m, unit.left_m // side_m
        found[:, row : row + look.shape[1], column : column + look.shape[2]] = look
    return found
