"""torchgeo reads the same folders: what it agrees on, and the two ways in which its S1 side is wrong."""

import json
import shutil
from datetime import UTC, datetime
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import rasterio
import torch
from rasterio.transform import from_origin
from torch.nn.functional import interpolate
from torchgeo.datasets import BigEarthNet, BigEarthNetV2
from torchgeo.datasets.utils import sort_sentinel2_bands

from fusmae.data.index import Pair
from fusmae.errors import PairError, SourceError
from fusmae.modalities import BIGEARTHNET
from fusmae.sources.bigearthnet import source as bigearthnet
from fusmae.sources.bigearthnet.source import BigEarthNetSource
from fusmae.sources.patches import v2
from fusmae.sources.patches.geotiff import read_pair_folders
from fusmae.sources.patches.nomenclature import CLASSES

TORCHGEO_SPLITS = {"train": "train", "validation": "val", "test": "test"}
TORCHGEO_S1 = ("VH", "VV")  # sorted by file name
TORCHGEO_S2 = sorted(BIGEARTHNET["s2"].bands, key=lambda band: sort_sentinel2_bands(f"x_{band}.tif"))


def assert_same_s2(theirs: np.ndarray, ours: dict[str, np.ndarray]) -> None:
    assert len(theirs) == len(TORCHGEO_S2)
    for channel, band in zip(theirs, TORCHGEO_S2, strict=True):
        # The way torchgeo has GDAL resample to 10 m: bilinear between pixel centres, rounded half up.
        source = torch.from_numpy(ours[band].astype(np.float64))[None, None]
        fine = interpolate(source, size=(120, 120), mode="bilinear", align_corners=False)[0, 0].numpy()
        differs = channel != np.floor(fine + 0.5)
        # From 60 m the weights are sixths, which floats don't hold: exact halves may be rounded either way.
        is_half = np.abs(fine - np.floor(fine) - 0.5) < 1e-6
        assert not (differs & ~is_half).any(), band
        assert np.abs(channel - fine).max() < 0.5 + 1e-6, band
        assert len(ours[band]) == 20 or not differs.any(), band


def assert_s1_is_swapped_and_whole(theirs: np.ndarray, ours: dict[str, np.ndarray]) -> None:
    assert len(theirs) == len(TORCHGEO_S1)
    for channel, band in zip(theirs, TORCHGEO_S1, strict=True):
        # GDAL makes int32 of float32 by rounding half away from zero.
        whole = np.copysign(np.floor(np.abs(ours[band]) + np.float32(0.5)), ours[band])
        np.testing.assert_array_equal(channel, whole, err_msg=band)
        assert not np.array_equal(channel, ours[band])


def names_of(label: torch.Tensor) -> tuple[str, ...]:
    return tuple(name for name, is_there in zip(CLASSES, label.tolist(), strict=True) if is_there)


def test_torchgeo_agrees_on_splits_labels_and_s2_of_24_real_v2_pairs(v2_raw: Path, tmp_path: Path):
    both = pd.concat([pd.read_parquet(v2_raw / name) for name in (v2.TABLE, v2.FLAGGED_TABLE)])
    raw = tmp_path / "raw"
    raw.mkdir()
    for name in ("BigEarthNet-S1", "BigEarthNet-S2", "Reference_Maps"):
        (raw / name).symlink_to(v2_raw / name)
    both.to_parquet(raw / v2.TABLE)
    # torchgeo knows one table only: with the flags gone, both readers see all pairs in it.
    both.drop(columns=["contains_seasonal_snow", "contains_cloud_or_shadow"]).to_parquet(raw / v2.TABLE)
    source = BigEarthNetSource(2, [], snow_and_clouds=False)
    ours = {pair.key: pair for pair in source.pairs(raw)}
    assert len(ours) == 24
    seen = set()
    for split, word in TORCHGEO_SPLITS.items():
        theirs = BigEarthNetV2(raw, split=word)
        keys = theirs.metadata_df["patch_id"].tolist()
        assert {key for key, pair in ours.items() if pair.split == split} == set(keys)
        for index, key in enumerate(keys):
            found, bands = theirs[index], source.read(raw, ours[key])
            assert names_of(found["label"]) == ours[key].labels
            assert_same_s2(found["image_s2"].numpy(), bands)
            assert_s1_is_swapped_and_whole(found["image_s1"].numpy(), bands)
            seen.add(key)
    assert seen == set(ours)


def test_torchgeo_agrees_on_splits_labels_and_s2_of_5_real_v1_pairs(v1_raw: Path):
    source = BigEarthNetSource(1, [], snow_and_clouds=False)
    ours = {pair.key: pair for pair in source.pairs(v1_raw)}
    assert len(ours) == 5
    seen = set()
    for split, word in TORCHGEO_SPLITS.items():
        theirs = BigEarthNet(v1_raw, split=word, bands="all", num_classes=19)
        keys = [Path(folders["s2"]).name for folders in theirs.folders]
        assert {key for key, pair in ours.items() if pair.split == split} == set(keys)
        for index, key in enumerate(keys):
            found, bands = theirs[index], source.read(v1_raw, ours[key])
            assert names_of(found["label"]) == ours[key].labels
            image = found["image"].numpy()
            assert_s1_is_swapped_and_whole(image[:2], bands)
            assert_same_s2(image[2:], bands)
            seen.add(key)
    assert seen == set(ours)


def test_torchgeo_pairs_two_places_silently_and_ours_refuses(shared_bigearthnet: Path, tmp_path: Path):
    raw = tmp_path / "raw"
    shutil.copytree(shared_bigearthnet / "one_patch_layout", raw)
    (s1,), (s2,) = raw.glob("BigEarthNet-S1/*/*"), raw.glob("BigEarthNet-S2/*/*")
    reference = raw / "Reference_Maps" / s2.parent.name / s2.name / f"{s2.name}_reference_map.tif"
    reference.parent.mkdir(parents=True)
    (map_of_another,) = (raw / "Reference_Maps").glob("*/*/*.tif")
    shutil.copy(map_of_another, reference)
    row = {"patch_id": s2.name, "labels": ["Pastures"], "split": "train", "s1_name": s1.name}
    pd.DataFrame([row]).to_parquet(raw / v2.TABLE)
    found = BigEarthNetV2(raw, split="train")[0]
    ours = {**read_pair_folders(s1.name, {"s1": s1}), **read_pair_folders(s2.name, {"s2": s2})}
    assert_same_s2(found["image_s2"].numpy(), ours)
    assert_s1_is_swapped_and_whole(found["image_s1"].numpy(), ours)
    source = BigEarthNetSource(2, [], snow_and_clouds=False)
    with pytest.raises(SourceError, match="1 of 1 rows have an s1_name of another place"):
        source.pairs(raw)
    # Where a table's names are as wrong as its files, the files tell.
    folders = {"s1": s1.relative_to(raw).as_posix(), "s2": s2.relative_to(raw).as_posix()}
    pair = Pair(s2.name, folders, ("Pastures",), "train", "33UUP_75_43", datetime(2017, 6, 13, tzinfo=UTC))
    with pytest.raises(PairError, match="don't cover the same ground") as caught:
        source.read(raw, pair)
    assert caught.value.fault == "georeference"


def test_addresses_and_checksums_are_those_of_torchgeo():
    theirs = {
        name: (BigEarthNetV2.url.format(name), md5)
        for part in ("s1", "s2", "maps", "metadata")
        for name, md5 in BigEarthNetV2.metadata_locs[part]["files"].items()
    }
    parts = [part for archive in bigearthnet.V2_ARCHIVES for part in archive.parts]
    assert {part.name: (part.address, part.md5) for part in (bigearthnet.V2_TABLE, *parts)} == theirs
    for archive, side in zip(bigearthnet.V2_ARCHIVES, ("s1", "s2", "maps"), strict=True):
        assert archive.makes == BigEarthNetV2.dir_file_names[side]
        assert [part.name for part in archive.parts] == sorted(BigEarthNetV2.metadata_locs[side]["files"])

    for archive, side in zip(bigearthnet.V1_ARCHIVES, ("s1", "s2"), strict=True):
        stated, (part,) = BigEarthNet.metadata[side], archive.parts
        assert (part.name, part.address, part.md5) == (stated["filename"], stated["url"], stated["md5"])
        assert archive.makes == stated["directory"]
    stated_lists = {(one["filename"], one["url"], one["md5"]) for one in BigEarthNet.splits_metadata.values()}
    assert {(one.name, one.address, one.md5) for one in bigearthnet.V1_LISTS.values()} == stated_lists


def written(path: Path, dtype: str, side_px: int, crs: str, pixel: float) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    with rasterio.open(
        path,
        "w",
        driver="GTiff",
        dtype=dtype,
        count=1,
        width=side_px,
        height=side_px,
        crs=crs,
        transform=from_origin(0, 0, pixel, pixel),
    ) as dataset:
        dataset.write(np.zeros((side_px, side_px), dtype), 1)


def test_v2_folders_as_torchgeo_generates_them_are_indexed_and_their_int16_pixels_refused(tmp_path: Path):
    # Their table has four columns, both sides lie in other cells, every band has 120 px and is int16.
    rows = [
        ("S2A_MSIL2A_20170613T101031_N9999_R022_T33UUP_26_57", "S1A_IW_GRDH_1SDV_20170613T165043_33UUP_26_57", "train"),
        (
            "S2B_MSIL2A_20170615T102019_N9999_R122_T32TNS_45_23",
            "S1A_IW_GRDH_1SDV_20170615T170156_32TNS_45_23",
            "validation",
        ),
        ("S2A_MSIL2A_20170618T101021_N9999_R022_T32TQR_89_34", "S1A_IW_GRDH_1SDV_20170618T165722_32TQR_89_34", "test"),
    ]
    for s2_name, s1_name, _ in rows:
        for modality, name in (("s1", s1_name), ("s2", s2_name)):
            for band in BIGEARTHNET[modality].bands:
                path = tmp_path / v2.patch_folder(modality, name) / f"{name}_{band}.tif"
                written(path, "int16", 120, "+proj=utm +zone=32 +datum=WGS84 +units=m +no_defs", 10)
    table = [{"patch_id": s2, "s1_name": s1, "split": split, "labels": ["Pastures"]} for s2, s1, split in rows]
    pd.DataFrame(table).to_parquet(tmp_path / v2.TABLE)
    source = BigEarthNetSource(2, [], snow_and_clouds=False)
    pairs = source.pairs(tmp_path)
    assert {pair.split for pair in pairs} == {"train", "validation", "test"}
    for pair in pairs:
        with pytest.raises(PairError, match=r"band VV(.|\n)*int16 \[120, 120\](.|\n)*float32 \[120, 120\]") as caught:
            source.read(tmp_path, pair)
        assert caught.value.fault == "units"


def test_v1_folders_as_torchgeo_generates_them_are_indexed_and_each_fault_of_their_pixels_named(tmp_path: Path):
    # 2 x 2 px in degrees; in one pair VV has 1 x 1 px, in another the S1 files bear another name than their folder.
    sides = {"39": 1, "40": 2, "42": 2}
    for row, vv_px in sides.items():
        s1, s2 = f"S1A_IW_GRDH_1SDV_20170613T165043_33UUP_61_{row}", f"S2A_MSIL2A_20170613T101031_61_{row}"
        prefix = s1 + ("_41" if row == "42" else "")
        written(tmp_path / "BigEarthNet-S1-v1.0" / s1 / f"{prefix}_VV.tif", "float32", vv_px, "EPSG:4326", 1)
        written(tmp_path / "BigEarthNet-S1-v1.0" / s1 / f"{prefix}_VH.tif", "float32", 2, "EPSG:4326", 1)
        for band in BIGEARTHNET["s2"].bands:
            written(tmp_path / "BigEarthNet-v1.0" / s2 / f"{s2}_{band}.tif", "uint16", 2, "EPSG:4326", 1)
        stated = {
            "labels": ["Non-irrigated arable land", "Broad-leaved forest", "Water courses"],
            "coordinates": {"ulx": 0, "uly": 0, "lrx": 0, "lry": 0},
            "projection": "",
            "tile_source": "",
            "acquisition_date": "",
        }
        (tmp_path / "BigEarthNet-v1.0" / s2 / f"{s2}_labels_metadata.json").write_text(json.dumps(stated, indent=4))
        word = {"39": "train", "40": "val", "42": "test"}[row]
        (tmp_path / f"bigearthnet-{word}.csv").write_text(f"{s2},{s1}\n")
    source = BigEarthNetSource(1, [], snow_and_clouds=False)
    pairs = source.pairs(tmp_path)
    assert {pair.split for pair in pairs} == {"train", "validation", "test"}
    assert {pair.labels for pair in pairs} == {("Arable land", "Broad-leaved forest", "Inland waters")}
    faults = {}
    for pair in pairs:
        with pytest.raises(PairError) as caught:
            source.read(tmp_path, pair)
        faults[pair.key[-2:]] = caught.value.fault
    assert faults == {"39": "georeference", "40": "grid", "42": "incomplete"}
