"""Writing of a block in BigEarthNet v2's layout: a folder per scene, in it one per patch, in it a GeoTIFF per band."""

import struct
from collections.abc import Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from fusmae.files import write_json, write_text, written_whole
from fusmae.sources.patches import v2
from fusmae.sources.patches.bands import MODALITIES, PATCH_M
from fusmae.sources.patches.places import parse_patch_name, utm_corner
from fusmae.sources.synthetic.plan import Block, Patch
from fusmae.sources.synthetic.scene import SyntheticScene, labels_of, make_scene

COUNTRY = "Synthetic"

Row = dict[str, Any]

# Any coordinates that GDAL would not write elsewhere in a file by itself: the template is searched for them.
_WEST, _NORTH = 123456.0, 7654320.0


def scene_folders(raw: Path, block: Block) -> tuple[Path, Path, Path]:
    """Return the folders of a block's patches: s1, s2, reference maps."""
    return (
        raw / v2.FOLDERS["s1"] / block.s1_scene,
        raw / v2.FOLDERS["s2"] / block.s2_scene,
        raw / v2.MAPS_FOLDER / block.s2_scene,
    )


def write_block(seed: int, block: Block, raw: Path, record: Path) -> None:
    """Make a block and write it, each folder completely or not at all; the record of its rows is written last.

    Raises:
        StorageError: the disk is full or refuses to write.
    """
    scene = make_scene(seed, block)
    with ExitStack() as stack:
        s1, s2, maps = (stack.enter_context(written_whole(folder)) for folder in scene_folders(raw, block))
        for patch in block.patches:
            _write_patch(scene, patch, s1, s2, maps)
    write_json(record, [_row(scene, patch) for patch in block.patches])


def write_tables(rows: Sequence[Row], raw: Path) -> None:
    """Write both metadata tables, with the columns and the row order of the real tables."""
    import pyarrow as pa
    import pyarrow.parquet as pq

    tables: dict[str, list[Row]] = {v2.FLAGGED_TABLE: [], v2.TABLE: []}
    for row in sorted(rows, key=lambda row: str(row["patch_id"])):
        is_flagged = row["contains_seasonal_snow"] or row["contains_cloud_or_shadow"]
        tables[v2.FLAGGED_TABLE if is_flagged else v2.TABLE].append(row)
    # The table of clean patches is written last: its presence makes the folder a complete dataset.
    for name, part in tables.items():
        with written_whole(raw / name) as partial:
            pq.write_table(pa.Table.from_pylist(part, schema=_schema()), partial)


def write_marker(path: Path, identity: str) -> None:
    """Write a text file beside the data that states that the data are made up."""
    write_text(
        path,
        "SYNTHETIC: every pixel and label in this folder is made up by fusmae.\n"
        "It has BigEarthNet v2's layout and class names, and says nothing about any real place or class.\n"
        f"{identity}\n",
    )


def _row(scene: SyntheticScene, patch: Patch) -> Row:
    return {
        "patch_id": patch.s2_name,
        # The real tables list labels alphabetically.
        "labels": sorted(labels_of(scene.reference_map(patch))),
        "split": patch.block.split,
        "country": COUNTRY,
        "s1_name": patch.s1_name,
        "s2v1_name": patch.s2v1_name,
        "contains_seasonal_snow": scene.is_snowy(patch),
        "contains_cloud_or_shadow": scene.is_cloudy(patch),
    }


def _schema() -> Any:
    import pyarrow as pa

    texts = ("split", "country", "s1_name", "s2v1_name")
    return pa.schema(
        [
            ("patch_id", pa.string()),
            ("labels", pa.list_(pa.string())),
            *((name, pa.string()) for name in texts),
            ("contains_seasonal_snow", pa.bool_()),
            ("contains_cloud_or_shadow", pa.bool_()),
        ]
    )


def _write_patch(scene: SyntheticScene, patch: Patch, s1: Path, s2: Path, maps: Path) -> None:
    sides = {"s1": s1 / patch.s1_name, "s2": s2 / patch.s2_name}
    map_folder = maps / patch.s2_name
    for folder in (*sides.values(), map_folder):
        folder.mkdir(parents=True)
    cut = scene.cut(patch)
    for modality, folder in sides.items():
        for band in MODALITIES[modality].bands:
            # As in the real files: 0 is nodata in S2; S1 files state no nodata value.
            nodata = None if modality == "s1" else 0
            _write_tiff(folder / f"{folder.name}_{band}.tif", cut[band], patch, nodata=nodata)
    # As in the real dataset, only reference maps are compressed.
    path = map_folder / f"{patch.s2_name}_reference_map.tif"
    _write_tiff(path, scene.reference_map(patch), patch, nodata=0, is_deflated=True)


@dataclass(frozen=True)
class _Kind:
    """Properties that files of one kind have in common.

    Attributes:
        dtype: data type of the pixels.
        side_px: height and width in pixels.
        gsd_m: size of a pixel in metres.
        epsg: EPSG code of the CRS.
        nodata: nodata value that the file states; None for none.
    """

    dtype: str
    side_px: int
    gsd_m: float
    epsg: int
    nodata: int | None


def _write_tiff(
    path: Path, pixels: NDArray[Any], patch: Patch, *, nodata: int | None, is_deflated: bool = False
) -> None:
    """Write a GeoTIFF with one band `[h, w]` and the tag SYNTHETIC=YES, as GDAL does.

    GDAL itself writes one uncompressed file per kind, which serves as a template: this is many times faster.
    """
    epsg, west, north = utm_corner(parse_patch_name(patch.s2_name))
    kind = _Kind(str(pixels.dtype), len(pixels), PATCH_M / len(pixels), epsg, nodata)
    if is_deflated:
        path.write_bytes(_by_gdal(kind, pixels, west, north, compress="deflate", predictor=2))
        return
    template, pixels_at, corner_at = _template(kind)
    content = bytearray(template)
    content[corner_at : corner_at + 16] = struct.pack("<2d", west, north)
    content[pixels_at : pixels_at + pixels.nbytes] = pixels.tobytes()
    path.write_bytes(content)


@lru_cache(maxsize=64)
def _template(kind: _Kind) -> tuple[bytes, int, int]:
    """Return a file of this kind, and the positions in bytes of its pixels and of its corner's coordinates."""
    pixels = np.random.default_rng(0).integers(1, 60_000, (kind.side_px, kind.side_px)).astype(kind.dtype)
    content = _by_gdal(kind, pixels, _WEST, _NORTH)
    parts = pixels.tobytes(), struct.pack("<2d", _WEST, _NORTH)
    if any(content.count(part) != 1 for part in parts):
        raise AssertionError("GDAL lays such a file out in another way than this module knows")
    return content, content.index(parts[0]), content.index(parts[1])


def _by_gdal(kind: _Kind, pixels: NDArray[Any], west: float, north: float, **options: Any) -> bytes:
    from rasterio import Affine
    from rasterio.io import MemoryFile

    with MemoryFile() as memory:
        with memory.open(
            driver="GTiff",
            height=kind.side_px,
            width=kind.side_px,
            count=1,
            dtype=kind.dtype,
            crs=f"EPSG:{kind.epsg}",
            transform=Affine(kind.gsd_m, 0, west, 0, -kind.gsd_m, north),
            nodata=kind.nodata,
            **options,
        ) as dataset:
            dataset.update_tags(SYNTHETIC="YES")
            dataset.write(pixels, 1)
        memory.seek(0)
        return bytes(memory.read())
