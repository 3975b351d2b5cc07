"""Bands are found by what they are called, wherever that is written."""

from pathlib import Path

import numpy as np
import pytest
import rasterio

from fusmae.errors import InputError
from fusmae.inference.bands import find_bands

from .conftest import write_raster

WANTED = {"B02": 10, "B8A": 20}
SHARED = Path(__file__).parents[2].parent / "shared" / "data"


def ones(count=1, side=12):
    return np.ones((count, side, side), np.uint16)


def places(found):
    return {name: (band.path.name, band.index) for name, band in found.items()}


def test_descriptions_name_bands_in_any_order(tmp_path):
    path = write_raster(tmp_path / "a.tif", ones(3), names=("B8A (narrow)", "SCL", "b2"))
    assert places(find_bands("s2", [path], WANTED)) == {"B02": ("a.tif", 3), "B8A": ("a.tif", 1)}


def test_tags_name_bands_without_a_description(tmp_path):
    path = write_raster(tmp_path / "a.tif", ones(2))
    with rasterio.open(path, "r+") as dataset:
        dataset.update_tags(1, name="B8A")
        dataset.update_tags(2, name="B02")
    assert places(find_bands("s2", [path], WANTED)) == {"B02": ("a.tif", 2), "B8A": ("a.tif", 1)}


def test_file_names_name_single_bands(tmp_path):
    for name in ("T33_B02_10m.tif", "T33_B8A_20m.tif", "T33_B12_20m.tif", "T33_TCI_10m.tif"):
        write_raster(tmp_path / name, ones())
    found = places(find_bands("s2", [tmp_path], WANTED))
    assert found == {"B02": ("T33_B02_10m.tif", 1), "B8A": ("T33_B8A_20m.tif", 1)}


def test_of_several_resolutions_the_models_own_is_taken(tmp_path):
    for gsd_m in (10, 20, 60):
        for name in ("B02", "B8A"):
            write_raster(tmp_path / f"R{gsd_m}m" / f"T_{name}_{gsd_m}m.tif", ones(), gsd_m=gsd_m)
    found = find_bands("s2", [tmp_path], WANTED)
    assert [band.path.parent.name for band in found.values()] == ["R10m", "R20m"]


def test_quality_masks_of_a_product_are_no_bands(tmp_path):
    for name in ("B02", "B8A"):
        write_raster(tmp_path / "IMG_DATA" / f"T_{name}.tif", ones())
        write_raster(tmp_path / "QI_DATA" / f"MSK_DETFOO_{name}.tif", ones())
    found = find_bands("s2", [tmp_path], WANTED)
    assert {band.path.parent.name for band in found.values()} == {"IMG_DATA"}


def test_given_names_overrule_the_files(tmp_path):
    path = write_raster(tmp_path / "a.tif", ones(3), names=("B02", "B03", "B8A"))
    assert places(find_bands("s2", [path], WANTED, ("B8A", "x", "B2"))) == {"B02": ("a.tif", 3), "B8A": ("a.tif", 1)}


def test_another_number_of_given_names_is_refused(tmp_path):
    path = write_raster(tmp_path / "a.tif", ones(3))
    with pytest.raises(InputError, match=r"(?s)2 names: B02, B8A.*3 names, one a band"):
        find_bands("s2", [path], WANTED, ("B02", "B8A"))


def test_missing_bands_are_named_with_the_option_that_names_bands(tmp_path):
    path = write_raster(tmp_path / "a.tif", ones(2))
    with pytest.raises(InputError, match=r"(?s)lacks bands B02, B8A.*--s2-bands B02,B8A"):
        find_bands("s2", [path], WANTED)
    with rasterio.open(path, "r+") as dataset:
        dataset.descriptions = ("B02", "B03")
    with pytest.raises(InputError, match="lacks band B8A"):
        find_bands("s2", [path], WANTED)


def test_two_scenes_at_once_are_refused(tmp_path):
    for date in ("20200101", "20200601"):
        for name in ("B02", "B8A"):
            write_raster(tmp_path / f"{date}_{name}.tif", ones())
    with pytest.raises(InputError, match=r"(?s)Several files hold band B02.*20200101_B02.*20200601_B02"):
        find_bands("s2", [tmp_path], WANTED)


def test_absent_and_foreign_files_are_named(tmp_path):
    with pytest.raises(InputError, match=r"no file .*none\.tif"):
        find_bands("s2", [tmp_path / "none.tif"], WANTED)
    (tmp_path / "text.tif").write_text("no raster")
    with pytest.raises(InputError, match=r"text\.tif can't be read"):
        find_bands("s2", [tmp_path / "text.tif"], WANTED)
    (tmp_path / "empty").mkdir()
    with pytest.raises(InputError, match="holds no raster"):
        find_bands("s2", [tmp_path / "empty"], WANTED)


def test_real_downloads_with_short_names_are_understood():
    folder = next((SHARED / "ssl4eo_s12" / "s2a").glob("*/*"), None)
    if folder is None:
        pytest.skip("needs ssl4eo_s12 in shared/data beside the checkout")
    found = find_bands("s2", [folder], {"B01": 60, "B02": 10, "B11": 20, "B8A": 20})
    assert [band.path.name for band in found.values()] == ["B1.tif", "B2.tif", "B11.tif", "B8A.tif"]
