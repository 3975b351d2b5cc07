"""What reading a pair refuses, each with its fault."""

import shutil
from pathlib import Path

import numpy as np
import pytest
import rasterio

from fusmae.data.index import Pair
from fusmae.errors import PairError
from fusmae.sources.bigearthnet.source import BigEarthNetSource

V2 = BigEarthNetSource(2, [], snow_and_clouds=False)


def band_path(raw: Path, pair: Pair, band: str) -> Path:
    folder = raw / pair.files["s1" if band.startswith("V") else "s2"]
    return folder / f"{folder.name}_{band}.tif"


def refused(raw: Path, pair: Pair, fault: str) -> str:
    with pytest.raises(PairError) as caught:
        V2.read(raw, pair)
    assert caught.value.fault == fault
    assert pair.key in str(caught.value)
    return str(caught.value)


@pytest.fixture
def pair(v2_copy: Path) -> Pair:
    return V2.pairs(v2_copy)[0]


@pytest.mark.parametrize("side", ["s1", "s2"])
def test_a_pair_of_the_table_without_its_folder_is_incomplete(v2_copy: Path, pair: Pair, side):
    shutil.rmtree(v2_copy / pair.files[side])
    assert f"lacks a side: {side}" in refused(v2_copy, pair, "incomplete")


def test_a_missing_band_is_incomplete(v2_copy: Path, pair: Pair):
    band_path(v2_copy, pair, "B8A").unlink()
    assert "_B8A.tif is absent" in refused(v2_copy, pair, "incomplete")


@pytest.mark.parametrize("share", [0.0, 0.01, 0.5, 0.99])
def test_a_truncated_band_is_unreadable(v2_copy: Path, pair: Pair, share):
    path = band_path(v2_copy, pair, "B11")
    path.write_bytes(path.read_bytes()[: int(path.stat().st_size * share)])
    assert str(path) in refused(v2_copy, pair, "unreadable")


@pytest.mark.parametrize(("band", "pixel_m"), [("B05", 20), ("B01", 60)])
@pytest.mark.parametrize("compress", [None, "deflate"])
def test_a_band_on_an_offset_grid_is_elsewhere(v2_copy: Path, pair: Pair, rewrite, band, pixel_m, compress):
    path = band_path(v2_copy, pair, band)
    with rasterio.open(path) as dataset:
        moved = rasterio.Affine.translation(pixel_m / 2, 0) @ dataset.transform
    rewrite(path, transform=moved, compress=compress)
    text = refused(v2_copy, pair, "georeference")
    assert f"{band} and VV don't cover the same ground" in text
    assert "EPSG:326" in text


def test_a_band_in_another_crs_is_elsewhere(v2_copy: Path, pair: Pair, rewrite):
    rewrite(band_path(v2_copy, pair, "B02"), crs="EPSG:32601")
    assert "EPSG:32601" in refused(v2_copy, pair, "georeference")


def test_a_band_without_a_georeference_is_elsewhere(v2_copy: Path, pair: Pair, rewrite):
    rewrite(band_path(v2_copy, pair, "B02"), crs=None)
    assert "CRS None" in refused(v2_copy, pair, "georeference")


def test_a_band_of_another_resolution_is_of_another_grid(v2_copy: Path, pair: Pair, rewrite):
    path = band_path(v2_copy, pair, "B02")
    with rasterio.open(path) as dataset:
        coarse = dataset.transform @ rasterio.Affine.scale(2)
    rewrite(path, width=60, height=60, transform=coarse)
    assert "uint16 [60, 60]" in refused(v2_copy, pair, "grid")


def test_whole_decibels_as_integers_are_of_another_unit(v2_copy: Path, pair: Pair, rewrite):
    rewrite(band_path(v2_copy, pair, "VV"), dtype="int32")
    assert "int32 [120, 120]" in refused(v2_copy, pair, "units")


def test_a_compressed_band_reads_as_the_plain_one(v2_copy: Path, pair: Pair, rewrite):
    known = V2.read(v2_copy, pair)
    for band in known:
        rewrite(band_path(v2_copy, pair, band), compress="deflate", tiled=False)
    for band, pixels in V2.read(v2_copy, pair).items():
        np.testing.assert_array_equal(pixels, known[band])
