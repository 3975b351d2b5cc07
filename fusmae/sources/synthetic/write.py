"""Writing of a block in BigEarthNet v2's layout: a folder per scene, in it one per patch, in it a GeoTIFF per band."""

import struct
from collections.abc import Sequence
from contextlib import ExitStack
from functools import lru_cache
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from numpy.typing import NDArray
from rasterio import Affine
from rasterio.io import MemoryFile

from fusmae.files import write_json, written_whole
from fusmae.modalities import BIGEARTHNET
from fusmae.sources.patches import v2
from fusmae.sources.patches.places import PATCH_M, parse_patch_name, utm_corner
from fusmae.sources.synthetic.plan import Block, Patch
from fusmae.sources.synthetic.scene import SyntheticScene, labels_of, make_scene

Row = dict[str, Any]

RECORDS = ".blocks"
_FLAGS = ("contains_seasonal_snow", "contains_cloud_or_shadow")
# Any coordinates that GDAL would not write elsewhere in a file by itself: the template is searched for them.
_WEST, _NORTH = 123456.0, 7654320.0


def scene_folders(raw: Path, block: Block) -> tuple[Path, Path, Path]:
    """Return the folders of a block's patches: s1, s2, reference maps."""
    return (
        raw / v2.FOLDERS["s1"] / block.s1_scene,
        raw / v2.FOLDERS["s2"] / block.s2_scene,
        raw / v2.MAPS_FOLDER / block.s2_scene,
    )


def record_of(raw: Path, block: Block) -> Path:
    """Return the path of the rows of a block that is written, until all are."""
    return raw / RECORDS / f"{block.number:06d}.json"


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


def write_tables(rows: Sequence[Row], raw: Path) -> None:
    """Write both metadata tables, with the columns and the row order of the real tables."""
    texts = [(name, pa.string()) for name in ("split", "country", "s1_name", "s2v1_name")]
    flags = [(name, pa.bool_()) for name in _FLAGS]
    schema = pa.schema([("patch_id", pa.string()), ("labels", pa.list_(pa.string())), *texts, *flags])
    ordered = sorted(rows, key=lambda row: str(row["patch_id"]))
    # The table of clean patches is written last: its presence makes the folder a complete dataset.
    for name, is_flagged in ((v2.FLAGGED_TABLE, True), (v2.TABLE, False)):
        part = [row for row in ordered if any(row[flag] for flag in _FLAGS) == is_flagged]
        with written_whole(raw / name) as partial:
            pq.write_table(pa.Table.from_pylist(part, schema=schema), partial)


def _row(scene: SyntheticScene, patch: Patch) -> Row:
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
    }


def _write_patch(scene: SyntheticScene, patch: Patch, s1: Path, s2: Path, maps: Path) -> None:
    cut = scene.cut(patch)
    # As in the real files: 0 is nodata in S2; S1 files state no nodata value.
    for modality, folder, nodata in (("s1", s1 / patch.s1_name, None), ("s2", s2 / patch.s2_name, 0)):
        folder.mkdir(parents=True)
        for band in BIGEARTHNET[modality].bands:
            _write_tiff(folder / f"{folder.name}_{band}.tif", cut[band], patch, nodata=nodata)
    # As in the real dataset, only reference maps are compressed.
    folder = maps / patch.s2_name
    folder.mkdir(parents=True)
    path = folder / f"{folder.name}_reference_map.tif"
    _write_tiff(path, patch.cut(scene.corine), patch, nodata=0, is_deflated=True)


def _write_tiff(
    path: Path, pixels: NDArray[Any], patch: Patch, *, nodata: int | None, is_deflated: bool = False
) -> None:
    """Write a GeoTIFF with one band `[h, w]` and the tag SYNTHETIC=YES, as GDAL does.

    GDAL itself writes one uncompressed file per kind, which serves as a template: this is many times faster.
    """
    epsg, west, north = utm_corner(parse_patch_name(patch.s2_name))
    if is_deflated:
        path.write_bytes(_by_gdal(pixels, epsg, west, north, nodata, compress="deflate", predictor=2))
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
