"""Reference maps of v2: which class each CORINE code is, where a map must lie, and what else is refused."""

import shutil
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import rasterio
from torchgeo.datasets import BigEarthNetV2

from fusmae.data.index import Pair
from fusmae.data.pixels import NO_CLASS
from fusmae.errors import PairError
from fusmae.sources.bigearthnet.source import BigEarthNetSource
from fusmae.sources.patches import v2
from fusmae.sources.patches.nomenclature import CLASS_OF_CODE, CLASSES, DROPPED_V1_LABELS
from fusmae.sources.patches.places import parse_patch_name, utm_corner

V2 = BigEarthNetSource(2, [], snow_and_clouds=False)
REAL = "S2A_MSIL2A_20170613T101031_N9999_R022_T33UUP_26_57"


def map_path(raw: Path, pair: Pair) -> Path:
    return raw / pair.files["s2"].replace("BigEarthNet-S2", "Reference_Maps") / f"{pair.key}_reference_map.tif"


def refused(raw: Path, pair: Pair, fault: str) -> str:
    with pytest.raises(PairError) as caught:
        V2.read_map(raw, pair)
    assert caught.value.fault == fault
    assert pair.key in str(caught.value)
    return str(caught.value)


def rewritten(path: Path, pixels: np.ndarray, **changes) -> None:
    with rasterio.open(path) as dataset:
        profile = {**dataset.profile, **changes, "dtype": pixels.dtype}
    profile |= dict(zip(("height", "width"), pixels.shape, strict=True))
    with rasterio.open(path, "w", **profile) as dataset:
        dataset.write(pixels, 1)


@pytest.fixture
def pair(v2_copy: Path) -> Pair:
    return V2.pairs(v2_copy)[0]


@pytest.fixture
def real_map(shared_bigearthnet: Path, tmp_path: Path) -> tuple[Path, Pair]:
    """A raw folder with the real map of one patch; of the patch itself, made-up pixels of B02 where its name says."""
    raw = tmp_path / "raw"
    shutil.copytree(shared_bigearthnet / "one_patch_layout" / "Reference_Maps", raw / "Reference_Maps")
    s2 = v2.patch_folder("s2", REAL)
    epsg, left, top = utm_corner(parse_patch_name(REAL))
    band = raw / s2 / f"{REAL}_B02.tif"
    band.parent.mkdir(parents=True)
    profile = {"driver": "GTiff", "count": 1, "height": 120, "width": 120, "dtype": "uint16", "crs": f"EPSG:{epsg}"}
    with rasterio.open(band, "w", transform=rasterio.Affine(10, 0, left, 0, -10, top), **profile) as dataset:
        dataset.write(np.zeros((120, 120), np.uint16), 1)
    date = parse_patch_name(REAL).date
    return raw, Pair(REAL, {"s2": s2}, (), "train", "place", date)


def test_codes_are_those_of_torchgeo_and_merge_the_19_classes_of_v1s_labels():
    assert {code: CLASSES.index(name) for code, name in CLASS_OF_CODE.items()} == BigEarthNetV2.clc_codes
    assert len(CLASS_OF_CODE) == 43 - len(DROPPED_V1_LABELS)


def test_a_real_map_has_the_labels_of_its_patch(real_map, shared_bigearthnet: Path):
    raw, pair = real_map
    found = V2.read_map(raw, pair)
    assert (found.dtype, found.shape) == (np.uint8, (120, 120))
    with rasterio.open(map_path(raw, pair)) as dataset:
        codes = dataset.read(1)
    names = {code: CLASSES[place] for code, place in zip(codes.ravel().tolist(), found.ravel(), strict=True)}
    assert names == {211: "Arable land", 231: "Pastures", 311: "Broad-leaved forest", 313: "Mixed forest"}
    table = pd.read_parquet(shared_bigearthnet / "metadata.parquet", filters=[("patch_id", "==", REAL)])
    assert set(table["labels"].iloc[0]) == set(names.values())


def test_a_real_map_is_the_same_to_torchgeo(real_map):
    raw, pair = real_map
    with rasterio.open(map_path(raw, pair)) as dataset:
        codes = dataset.read(1)
    theirs = np.vectorize(BigEarthNetV2.clc_codes.__getitem__)(codes)
    assert np.array_equal(V2.read_map(raw, pair), theirs)


def test_codes_outside_the_nomenclature_are_no_class(v2_copy: Path, pair: Pair):
    codes = np.full((120, 120), 523, np.uint16)
    codes[0, :8] = 0, 122, 332, 335, 423, 999, 1000, 65535
    rewritten(map_path(v2_copy, pair), codes)
    found = V2.read_map(v2_copy, pair)
    assert found[0, :8].tolist() == [NO_CLASS] * 8
    assert (found.ravel()[8:] == CLASSES.index("Marine waters")).all()


def test_an_absent_map_is_incomplete(v2_copy: Path, pair: Pair):
    path = map_path(v2_copy, pair)
    path.unlink()
    text = refused(v2_copy, pair, "incomplete")
    assert f"{path} is absent" in text
    assert str(path) in text


def test_a_truncated_map_is_unreadable(v2_copy: Path, pair: Pair):
    path = map_path(v2_copy, pair)
    path.write_bytes(path.read_bytes()[:900])
    assert str(path) in refused(v2_copy, pair, "unreadable")


def test_a_map_of_another_patch_is_elsewhere(v2_copy: Path, pair: Pair):
    other = next(one for one in V2.pairs(v2_copy) if one.place != pair.place)
    shutil.copy(map_path(v2_copy, other), map_path(v2_copy, pair))
    assert "reference map and B02 don't cover the same ground" in refused(v2_copy, pair, "georeference")


def test_a_map_of_another_size_or_type_is_on_another_grid(v2_copy: Path, pair: Pair):
    path = map_path(v2_copy, pair)
    with rasterio.open(path) as dataset:
        coarse = dataset.transform @ rasterio.Affine.scale(2)
    rewritten(path, np.full((120, 120), 211, np.int32))
    assert "int32 [120, 120]" in refused(v2_copy, pair, "grid")
    rewritten(path, np.full((60, 60), 211, np.uint16), transform=coarse)
    assert "uint16 [60, 60]" in refused(v2_copy, pair, "grid")


def test_a_segmentation_has_the_classes_of_the_table_and_leaves_its_labels_in_the_index(v2_raw: Path):
    source = BigEarthNetSource(2, [], snow_and_clouds=False, kind="segmentation")
    assert (source.task.kind, source.task.classes, source.map_classes) == ("segmentation", CLASSES, CLASSES)
    assert source.pairs(v2_raw) == V2.pairs(v2_raw)


def test_v1_has_no_maps(pair: Pair, tmp_path: Path):
    source = BigEarthNetSource(1, [], snow_and_clouds=False)
    assert source.map_classes == ()
    assert V2.map_classes == V2.task.classes
    with pytest.raises(PairError, match="no map: bigearthnet with these settings has none"):
        source.read_map(tmp_path, pair)
