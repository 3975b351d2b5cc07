"""Writing of a block in BigEarthNet v2's layout: a folder per scene, in it one per patch, in it a GeoTIFF per band."""

from collections.abc import Sequence
from contextlib import ExitStack
from pathlib import Path
from typing import Any

from numpy.typing import NDArray

from fusmae.files import write_json, write_text, written_whole
from fusmae.sources.patches import v2
from fusmae.sources.patches.bands import MODALITIES, PATCH_M
from fusmae.sources.patches.names import parse_patch_name
from fusmae.sources.patches.places import utm_corner
from fusmae.sources.synthetic.plan import Block, Patch
from fusmae.sources.synthetic.scene import SyntheticScene, labels_of, make_scene
from fusmae.sources.synthetic.tiff import Kind, geotiff

S1_FOLDER, S2_FOLDER, MAPS_FOLDER = v2.FOLDERS["s1"], v2.FOLDERS["s2"], v2.MAPS_FOLDER
CLEAN_TABLE = "metadata.parquet"
SNOW_AND_CLOUD_TABLE = "metadata_for_patches_with_snow_cloud_or_shadow.parquet"
COUNTRY = "Synthetic"

Row = dict[str, Any]


def scene_folders(raw: Path, block: Block) -> tuple[Path, Path, Path]:
    """Return the folders of a block's patches: s1, s2, reference maps."""
    return raw / S1_FOLDER / block.s1_scene, raw / S2_FOLDER / block.s2_scene, raw / MAPS_FOLDER / block.s2_scene


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

    tables: dict[str, list[Row]] = {SNOW_AND_CLOUD_TABLE: [], CLEAN_TABLE: []}
    for row in sorted(rows, key=lambda row: str(row["patch_id"])):
        is_flagged = row["contains_seasonal_snow"] or row["contains_cloud_or_shadow"]
        tables[SNOW_AND_CLOUD_TABLE if is_flagged else CLEAN_TABLE].append(row)
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
    path = map_folder / f"{patch.s2_name}_reference_map.tif"
    _write_tiff(path, scene.reference_map(patch), patch, nodata=0, is_deflated=True)


def _write_tiff(
    path: Path, pixels: NDArray[Any], patch: Patch, *, nodata: int | None, is_deflated: bool = False
) -> None:
    epsg, west, north = utm_corner(parse_patch_name(patch.s2_name))
    side_px = pixels.shape[0]
    kind = Kind(str(pixels.dtype), side_px, PATCH_M / side_px, epsg, nodata, is_deflated)
    path.write_bytes(geotiff(kind, pixels, west, north))
