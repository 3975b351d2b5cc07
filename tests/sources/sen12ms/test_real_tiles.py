"""A second opinion: the authors' own tiles, and torchgeo's reader on the same files."""

import shutil
from pathlib import Path

import numpy as np
import pytest
import rasterio
from rasterio import Affine
from torchgeo.datasets import SEN12MS

from fusmae.data.pixels import stack_bands
from fusmae.errors import PairError
from fusmae.modalities import SEN12MS as ON_DISK
from fusmae.modalities import modality_inputs
from fusmae.sources.sen12ms.source import Sen12msSource

FOLDERS = ("ROIs1158_spring", "ROIs1868_summer", "ROIs1970_fall", "ROIs2017_winter")
NAME = "ROIs1868_summer_s2_19_p30.tif"
SOURCE = Sen12msSource([], 0.1)
INPUTS = modality_inputs(ON_DISK, 2560)


# Real tiles


def test_real_tiles_get_the_labels_that_the_source_states_of_them(shared_sen12ms, tmp_path, list_writer):
    shutil.copytree(shared_sen12ms, tmp_path, dirs_exist_ok=True)
    names = ["ROIs1970_fall_s2_4_p30", "ROIs2017_winter_s2_27_p36"]
    list_writer(tmp_path, train=[f"{name}.tif" for name in names], test=[])
    for kind in ("multilabel", "multiclass", "segmentation"):
        source = Sen12msSource([], 0.1, kind)
        found = {pair.key: pair.labels for pair in source.pairs(tmp_path)}
        assert found == source.facts(tmp_path).labels
    by_key = {pair.key: pair for pair in SOURCE.pairs(tmp_path)}
    mauritania, texas = (by_key[name] for name in names)
    assert (mauritania.lon, mauritania.lat) == (pytest.approx(-14.67, abs=0.01), pytest.approx(20.08, abs=0.01))
    assert (texas.lon, texas.lat) == (pytest.approx(-102.21, abs=0.01), pytest.approx(32.73, abs=0.01))


def test_a_real_pair_is_the_same_to_torchgeo(shared_sen12ms, tmp_path, tile_writer, list_writer):
    raw = real_pair(shared_sen12ms, tmp_path, tile_writer, list_writer)
    torchgeo = SEN12MS(str(raw), split="test", bands=SEN12MS.BAND_SETS["all"])
    (pair,) = SOURCE.pairs(raw)
    assert [f"{pair.key}.tif"] == torchgeo.ids
    bands = SOURCE.read(raw, pair)
    image = torchgeo[0]["image"].numpy()
    assert tuple(bands) == SEN12MS.BAND_SETS["all"]
    assert image.dtype == np.float32
    for channel, (name, pixels) in enumerate(bands.items()):
        np.testing.assert_array_equal(pixels.astype(np.float32), image[channel], err_msg=name)


def test_a_real_pair_is_plausible(shared_sen12ms, tmp_path, tile_writer, list_writer):
    raw = real_pair(shared_sen12ms, tmp_path, tile_writer, list_writer)
    bands = SOURCE.read(raw, *SOURCE.pairs(raw))
    assert bands["VV"].mean() > bands["VH"].mean()
    assert bands["B10"].max() < 100  # cirrus: 18 at most, where its neighbours in the order have thousands
    stack_bands("pair", bands, INPUTS)


def real_pair(shared: Path, folder: Path, tile_writer, list_writer) -> Path:
    """The real S1 and S2 tiles under their SEN12MS names; land cover of this one is not there, so it is made up."""
    raw = folder / "raw"
    list_writer(raw, train=[], test=[NAME])
    for season_folder in FOLDERS:
        (raw / season_folder).mkdir()
    with rasterio.open(shared / "ROIs1868_summer/s1_19/ROIs1868_summer_s1_19_p30.tif") as dataset:
        ground = {"crs": dataset.crs, "transform": dataset.transform}
    tile_writer(raw, NAME, "lc", **ground)
    for kind, real in (("s1", "s1_19_p30"), ("s2", "s2_cloudy_19_p30")):
        target = raw / f"ROIs1868_summer/{kind}_19/ROIs1868_summer_{kind}_19_p30.tif"
        target.parent.mkdir()
        shutil.copyfile(shared / f"ROIs1868_summer/{kind}_19/ROIs1868_summer_{real}.tif", target)
    return raw


def test_torchgeo_takes_the_same_tiles_for_train_and_test(raw_land_cover):
    ours = {split: set[str]() for split in ("train", "validation", "test")}
    for pair in SOURCE.pairs(raw_land_cover):
        ours[pair.split].add(f"{pair.key}.tif")
    assert set(SEN12MS(str(raw_land_cover), split="train").ids) == ours["train"] | ours["validation"]
    assert set(SEN12MS(str(raw_land_cover), split="test").ids) == ours["test"]


# torchgeo's fixtures


@pytest.fixture
def torchgeo_raw(tmp_path: Path, tile_writer, list_writer) -> Path:
    """The layout of torchgeo's own fixtures: 64 px tiles, land cover from 0 as uint16, both lists the same."""
    raw = tmp_path / "torchgeo"
    names = [f"{folder}_s2_1_p{patch}.tif" for folder in FOLDERS for patch in (1, 2)]
    list_writer(raw, train=names, test=names)
    ground = {"crs": "EPSG:32737", "transform": Affine(10, 0, 390772.34, 0, -10, 8114182.84), "side_px": 64}
    random = np.random.default_rng(0)
    for name in names:
        for kind, top, count in (("s1", 65535, 2), ("s2", 65535, 13), ("lc", 11, 4)):
            dtype = {"dtype": "uint16"} if kind == "lc" else {}
            tile_writer(raw, name, kind, pixels=random.integers(0, top, (count, 64, 64)), **ground, **dtype)
    return raw


def test_torchgeos_fixture_layout_is_indexed(torchgeo_raw):
    assert SEN12MS(str(torchgeo_raw), split="train")[0]["image"].shape == (15, 64, 64)
    pairs = SOURCE.pairs(torchgeo_raw)
    assert [f"{pair.key}.tif" for pair in pairs] == SEN12MS(str(torchgeo_raw), split="test").ids
    # Both of its lists name every tile. A real scene is in one list only; here all are held out.
    assert {pair.split for pair in pairs} == {"test"}
    # Its land cover has zeros, which are no IGBP class: they count for nothing.
    assert all(pair.labels for pair in pairs)


def test_torchgeos_fixture_pixels_are_refused_for_their_size(torchgeo_raw):
    # 64 px where SEN12MS has 256, and S1 from 0 to 65535 where dB are mostly below 0: the first is said.
    pair = SOURCE.pairs(torchgeo_raw)[0]
    with pytest.raises(PairError, match=r"\[2, 64, 64\]") as caught:
        SOURCE.read(torchgeo_raw, pair)
    assert caught.value.fault == "grid"
