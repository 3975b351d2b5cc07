"""The synthetic world as a source of pairs, and how it is written in BigEarthNet v2's layout.

That is a folder per scene, in it one per patch, in it a GeoTIFF per band. What the layout does not have is a map of
biomass beside each reference map, and a table of the labels of other kinds beside the metadata.
"""

import json
import multiprocessing
import struct
from collections.abc import Callable, Iterable, Sequence
from concurrent.futures import ProcessPoolExecutor
from contextlib import ExitStack
from dataclasses import replace
from functools import lru_cache, partial
from itertools import chain
from pathlib import Path
from typing import Any, Literal

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from filelock import FileLock
from numpy.typing import NDArray
from rasterio import Affine
from rasterio.io import MemoryFile
from rich.console import Console
from rich.progress import track

from fusmae.config.task import Kind, Task
from fusmae.data.index import SPLITS, Pair
from fusmae.errors import SourceError
from fusmae.files import remove, write_json, write_text, written_whole
from fusmae.modalities import BIGEARTHNET
from fusmae.sources.patches import v2
from fusmae.sources.patches.facts import V2_CHECKED, V2_NOT_CHECKED
from fusmae.sources.patches.geotiff import read_map_file, read_patches, read_reference_map
from fusmae.sources.patches.places import PATCH_M, parse_patch_name, utm_corner
from fusmae.sources.shared.source import Facts, Source
from fusmae.sources.synthetic.landscape import CLASSES
from fusmae.sources.synthetic.plan import Block, Patch, World, blocks_of
from fusmae.sources.synthetic.scene import (
    BIOMASS,
    SyntheticScene,
    labels_by_key,
    labels_of,
    largest_class_of,
    make_scene,
)
from fusmae.sources.transfer.remote import DEFAULT_OPTIONS, DownloadOptions

MARKER = "SYNTHETIC.txt"
_MADE_UP = (
    "SYNTHETIC: every pixel and label in this folder is made up by fusmae.\n"
    "It has BigEarthNet v2's layout and class names, and says nothing about any real place or class.\n"
)

OTHER_LABELS = "labels_of_other_kinds.parquet"
"""Table of each patch's largest class and of its mean biomass in t/ha."""

_TABLES = (OTHER_LABELS, v2.FLAGGED_TABLE, v2.TABLE)
_BIOMASS_MAP = "biomass"
_Row = dict[str, Any]

_RECORDS = ".blocks"
_FLAGS = ("contains_seasonal_snow", "contains_cloud_or_shadow")
# Any coordinates that GDAL would not write elsewhere in a file by itself: the template is searched for them.
_WEST, _NORTH = 123456.0, 7654320.0


class SyntheticSource(Source):
    """Made-up pairs in BigEarthNet v2's layout; see `Source` for the methods, `SyntheticConfig` for the settings."""

    name = "synthetic"
    is_synthetic = True
    licence = "made up by fusmae (Apache-2.0): no imagery of any real place"

    def __init__(
        self, num_pairs: int, seed: int, value_per: Literal["tile", "pixel"] = "pixel", kind: Kind = "multilabel"
    ) -> None:
        if kind == "regression":
            self.task = Task(kind=kind, value=BIOMASS.model_copy(update={"per": value_per}))
        else:
            self.task, self.map_classes = Task(kind=kind, classes=CLASSES), CLASSES
        self._world = World(num_pairs, seed)

    def fetch(self, downloads: Path, raw: Path, options: DownloadOptions = DEFAULT_OPTIONS) -> dict[str, str]:
        """Make the world in `raw`; nothing is downloaded."""
        generate(self._world, raw)
        return {"synthetic": str(self._world)}

    def pairs(self, raw: Path) -> list[Pair]:
        """Return every pair of the world in the order of keys, including pairs with clouds or snow."""
        if not is_complete(raw, self._world):
            raise SourceError(
                f"{raw} does not hold the whole synthetic world.",
                got=identity_of(raw) or f"no {MARKER}",
                expected=f"{self._world}, with its tables",
                hint="dvc repro -f -s fetch",
            )
        pairs = v2.table_pairs(raw, (), snow_and_clouds=True)
        if self.task.kind in ("multilabel", "segmentation"):
            return pairs
        rows = {row["patch_id"]: row for row in pq.read_table(raw / OTHER_LABELS).to_pylist()}
        if self.task.kind == "multiclass":
            return [replace(pair, labels=(rows[pair.key]["largest_class"],)) for pair in pairs]
        return [replace(pair, labels=(), value=rows[pair.key]["biomass"]) for pair in pairs]

    def read(self, raw: Path, pair: Pair) -> dict[str, NDArray[Any]]:
        """Read S1, float32 dB `[120, 120]`, and S2, uint16 `[120, 120]`, `[60, 60]` or `[20, 20]`, by band."""
        return read_patches(raw, pair)

    def read_map(self, raw: Path, pair: Pair) -> NDArray[Any]:
        """Read the map of classes or of biomass `[120, 120]`; each pixel has a class, and a value. See `Source`."""
        if self.task.value is not None:
            return read_map_file(raw, pair, _BIOMASS_MAP, np.float32)
        return read_reference_map(raw, pair, self.map_classes)

    def facts(self, raw: Path) -> Facts:
        """Return how many pairs each split has by the world's plan, and the labels of one block per split."""
        blocks = {split: [block for block in blocks_of(self._world) if block.split == split] for split in SPLITS}
        counts = {split: sum(block.num_patches for block in some) for split, some in blocks.items()}
        labels = (
            labels_of if self.task.kind != "multiclass" else lambda reference_map: (largest_class_of(reference_map),)
        )
        known = chain.from_iterable(
            labels_by_key(self._world.seed, some[0], labels).items() for some in blocks.values()
        )
        return Facts(
            counts=counts,
            labels=dict(known) if self.task.classes else {},
            cross_checked=V2_CHECKED,
            not_checked=V2_NOT_CHECKED,
        )


def generate(world: World, raw: Path, num_processes: int | None = None) -> None:
    """Make the world in `raw`, or the missing part of it; pixels don't depend on the number of processes.

    If `raw` holds a world of another seed, size or version, that one is removed first. `num_processes` run in parallel,
    one per core by default.

    Raises:
        SourceError: `raw` holds something that is not a synthetic world, or the world is too large.
        StorageError: the disk is full or refuses to write.
    """
    blocks = blocks_of(world)
    raw.parent.mkdir(parents=True, exist_ok=True)
    # A second process for the same folder waits, and then finds everything done.
    with FileLock(raw.with_name(f".{raw.name}.lock")):
        _claim(raw, world)
        if is_complete(raw, world):
            # The rows of all blocks are in the tables: only folders that were removed are made again.
            removed = [block for block in blocks if not all(folder.is_dir() for folder in scene_folders(raw, block))]
            _make(world, removed, raw, num_processes)
        else:
            missing = [block for block in blocks if not record_of(raw, block).exists()]
            _make(world, missing, raw, num_processes)
            records = (json.loads(record_of(raw, block).read_text(encoding="utf-8")) for block in blocks)
            write_tables(list(chain.from_iterable(records)), raw)
        remove(raw / _RECORDS)


def is_complete(raw: Path, world: World) -> bool:
    """Return whether this world was once finished in `raw`."""
    return identity_of(raw) == str(world) and all((raw / name).exists() for name in _TABLES)


def identity_of(raw: Path) -> str | None:
    """Return seed, size and version of the world in `raw`; None where there is no world."""
    marker = raw / MARKER
    return marker.read_text(encoding="utf-8").splitlines()[-1] if marker.exists() else None


def _claim(raw: Path, world: World) -> None:
    """Remove another world from `raw`, and write a marker that states that the data are made up."""
    identity = identity_of(raw)
    if identity == str(world):
        return
    if identity is None and raw.is_dir() and any(raw.iterdir()):
        raise SourceError(
            f"{raw} holds something other than a synthetic world; it is left as it is.",
            got=", ".join(sorted(path.name for path in raw.iterdir())[:5]),
            expected=f"an empty folder, or one with {MARKER}",
            hint="move the data away, or set data.source to what it is; then `dvc repro -f -s fetch`",
        )
    # The tables are removed first: without them the remaining files are not taken for a complete world.
    for name in (*_TABLES, _RECORDS, v2.MAPS_FOLDER, *v2.FOLDERS.values()):
        remove(raw / name)
    write_text(raw / MARKER, f"{_MADE_UP}{world}\n")


def _make(world: World, blocks: Sequence[Block], raw: Path, num_processes: int | None) -> None:
    from dask.system import CPU_COUNT

    if not blocks:
        return
    # CPU_COUNT is the number of cores that a container or a job scheduler grants to this process.
    num_processes = min(num_processes or CPU_COUNT, len(blocks))
    with ExitStack() as stack:
        run: Callable[..., Iterable[None]] = map
        if num_processes > 1:
            # A forked process would inherit locks held by other threads of this process.
            spawn = multiprocessing.get_context("spawn")
            run = stack.enter_context(ProcessPoolExecutor(num_processes, mp_context=spawn)).map
        written = run(partial(write_block, world.seed, raw), blocks)
        for _ in track(written, "synthetic pairs", len(blocks), console=Console(stderr=True)):
            pass


def scene_folders(raw: Path, block: Block) -> tuple[Path, Path, Path]:
    """Return the folders of a block's patches: s1, s2, reference maps."""
    return (
        raw / v2.FOLDERS["s1"] / block.s1_scene,
        raw / v2.FOLDERS["s2"] / block.s2_scene,
        raw / v2.MAPS_FOLDER / block.s2_scene,
    )


def record_of(raw: Path, block: Block) -> Path:
    """Return the path of the rows of a block that is written, until all are."""
    return raw / _RECORDS / f"{block.number:06d}.json"


def write_block(seed: int, raw: Path, block: Block) -> None:
    """Make a block and write it, each folder completely or not at all; the record of its rows is written last.

    Raises:
        StorageError: the disk is full or refuses to write.
    """
    scene = make_scene(seed, block)
    with ExitStack() as stack:
        s1, s2, maps = (stack.enter_context(written_whole(folder)) for folder in scene_folders(raw, block))
        for patch in block.patches:
            _write_patch(scene, patch, s1, s2, maps)
    write_json(record_of(raw, block), [_row(scene, patch) for patch in block.patches])


def write_tables(rows: Sequence[_Row], raw: Path) -> None:
    """Write both metadata tables, with the columns and the row order of the real tables, and that of other labels."""
    texts = [(name, pa.string()) for name in ("split", "country", "s1_name", "s2v1_name")]
    flags = [(name, pa.bool_()) for name in _FLAGS]
    schema = pa.schema([("patch_id", pa.string()), ("labels", pa.list_(pa.string())), *texts, *flags])
    ordered = sorted(rows, key=lambda row: str(row["patch_id"]))
    other = pa.schema([("patch_id", pa.string()), ("largest_class", pa.string()), ("biomass", pa.float64())])
    with written_whole(raw / OTHER_LABELS) as partial:
        pq.write_table(pa.Table.from_pylist(ordered, schema=other), partial)
    # The table of clean patches is written last: its presence makes the folder a complete dataset.
    for name, is_flagged in ((v2.FLAGGED_TABLE, True), (v2.TABLE, False)):
        part = [row for row in ordered if any(row[flag] for flag in _FLAGS) == is_flagged]
        with written_whole(raw / name) as partial:
            pq.write_table(pa.Table.from_pylist(part, schema=schema), partial)


def _row(scene: SyntheticScene, patch: Patch) -> _Row:
    return {
        "patch_id": patch.s2_name,
        # The real tables list labels alphabetically.
        "labels": sorted(labels_of(patch.cut(scene.corine))),
        "split": patch.block.split,
        "country": "Synthetic",
        "s1_name": patch.s1_name,
        "s2v1_name": patch.s2v1_name,
        "contains_seasonal_snow": scene.is_snowy(patch),
        "contains_cloud_or_shadow": scene.is_cloudy(patch),
        "largest_class": largest_class_of(patch.cut(scene.corine)),
        "biomass": float(patch.cut(scene.biomass).mean(dtype=np.float64)),
    }


def _write_patch(scene: SyntheticScene, patch: Patch, s1: Path, s2: Path, maps: Path) -> None:
    cut = scene.cut(patch)
    # As in the real files: 0 is nodata in S2; S1 files state no nodata value.
    for modality, folder, nodata in (("s1", s1 / patch.s1_name, None), ("s2", s2 / patch.s2_name, 0)):
        folder.mkdir(parents=True)
        for band in BIGEARTHNET[modality].bands:
            _write_tiff(folder / f"{folder.name}_{band}.tif", cut[band], patch, nodata=nodata)
    # As in the real dataset, only maps are compressed.
    folder = maps / patch.s2_name
    folder.mkdir(parents=True)
    for name, pixels, empty in (("reference_map", scene.corine, 0), (_BIOMASS_MAP, scene.biomass, None)):
        path = folder / f"{folder.name}_{name}.tif"
        _write_tiff(path, patch.cut(pixels), patch, nodata=empty, is_deflated=True)


def _write_tiff(
    path: Path, pixels: NDArray[Any], patch: Patch, *, nodata: int | None, is_deflated: bool = False
) -> None:
    """Write a GeoTIFF with one band `[h, w]` and the tag SYNTHETIC=YES, as GDAL does.

    GDAL itself writes one uncompressed file per kind, which serves as a template: this is many times faster.
    """
    epsg, west, north = utm_corner(parse_patch_name(patch.s2_name))
    if is_deflated:
        path.write_bytes(
            _by_gdal(
                pixels, epsg, west, north, nodata, compress="deflate", predictor=3 if pixels.dtype.kind == "f" else 2
            )
        )
        return
    template, pixels_at, corner_at = _template(str(pixels.dtype), len(pixels), epsg, nodata)
    content = bytearray(template)
    content[corner_at : corner_at + 16] = struct.pack("<2d", west, north)
    content[pixels_at : pixels_at + pixels.nbytes] = pixels.tobytes()
    path.write_bytes(content)


@lru_cache(maxsize=64)
def _template(dtype: str, side_px: int, epsg: int, nodata: int | None) -> tuple[bytes, int, int]:
    """Return a file of this kind, and the positions in bytes of its pixels and of its corner's coordinates."""
    pixels = np.random.default_rng(0).integers(1, 60_000, (side_px, side_px)).astype(dtype)
    content = _by_gdal(pixels, epsg, _WEST, _NORTH, nodata)
    parts = pixels.tobytes(), struct.pack("<2d", _WEST, _NORTH)
    if any(content.count(part) != 1 for part in parts):
        raise AssertionError("GDAL lays such a file out in another way than this module knows")
    return content, content.index(parts[0]), content.index(parts[1])


def _by_gdal(pixels: NDArray[Any], epsg: int, west: float, north: float, nodata: int | None, **options: Any) -> bytes:
    side_px = len(pixels)
    gsd_m = PATCH_M / side_px
    profile = {"driver": "GTiff", "height": side_px, "width": side_px, "count": 1, "dtype": pixels.dtype, **options}
    place = {"crs": f"EPSG:{epsg}", "transform": Affine(gsd_m, 0, west, 0, -gsd_m, north), "nodata": nodata}
    with MemoryFile() as memory:
        with memory.open(**profile, **place) as dataset:
            dataset.update_tags(SYNTHETIC="YES")
            dataset.write(pixels, 1)
        memory.seek(0)
        return bytes(memory.read())
