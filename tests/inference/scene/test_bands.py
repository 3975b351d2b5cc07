"""Bands are found by what they are called, wherever that is written."""

import re
import shlex
from pathlib import Path

import numpy as np
import pytest
import rasterio

from fusmae.errors import InputError
from fusmae.inference.scene.bands import UNNEEDED, find_bands
from tests.inference.conftest import write_raster

WANTED = {"B02": 10, "B8A": 20}
SHARED = Path(__file__).parents[3].parent / "shared" / "data"


def ones(count=1, side=12):
    return np.ones((count, side, side), np.uint16)


def places(found):
    return {name: (band.path.name, band.index) for name, band in found.bands.items()}


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
    assert [band.path.parent.name for band in found.bands.values()] == ["R10m", "R20m"]


def test_quality_masks_of_a_product_are_no_bands(tmp_path):
    for name in ("B02", "B8A"):
        write_raster(tmp_path / "IMG_DATA" / f"T_{name}.tif", ones())
        write_raster(tmp_path / "QI_DATA" / f"MSK_DETFOO_{name}.tif", ones())
    found = find_bands("s2", [tmp_path], WANTED)
    assert {band.path.parent.name for band in found.bands.values()} == {"IMG_DATA"}


def test_given_names_overrule_the_files(tmp_path):
    path = write_raster(tmp_path / "a.tif", ones(3), names=("B02", "B03", "B8A"))
    assert places(find_bands("s2", [path], WANTED, ("B8A", "x", "B2"))) == {"B02": ("a.tif", 3), "B8A": ("a.tif", 1)}


def test_another_number_of_given_names_is_refused(tmp_path):
    path = write_raster(tmp_path / "a.tif", ones(3))
    with pytest.raises(InputError, match=r"(?s)2 names: B02, B8A.*3 names, one per band.*--bands 's2=\?,\?,\?'"):
        find_bands("s2", [path], WANTED, ("B02", "B8A"))


def advice(error):
    """What the advice would have a shell give this program."""
    return tuple(
        shlex.split(re.search(r"--bands (\S+)", str(error.value))[1].rstrip(","))[0].partition("=")[2].split(",")
    )


def test_missing_bands_are_named_with_a_blank_for_each_band_without_a_name(tmp_path):
    path = write_raster(tmp_path / "a.tif", ones(3), names=("", "B02", ""))
    with pytest.raises(InputError, match=r"(?s)lacks band B8A.*a\.tif\[1\] \?, a\.tif\[2\] B02") as error:
        find_bands("s2", [path], WANTED)
    assert advice(error) == ("?", "B02", "?")
    with pytest.raises(InputError, match=r"(?s)--bands s2 has blanks.*no name at 1, 3 of \?, B02, \?"):
        find_bands("s2", [path], WANTED, advice(error))
    assert places(find_bands("s2", [path], WANTED, ("B8A", "B02", UNNEEDED)))["B8A"] == ("a.tif", 1)


def test_bands_that_are_not_there_are_not_asked_to_be_named(tmp_path):
    path = write_raster(tmp_path / "a.tif", ones(2), names=("B02", "B03"))
    with pytest.raises(InputError, match=r"(?s)lacks band B8A.*bring the missing ones") as error:
        find_bands("s2", [path], WANTED)
    assert "--bands" not in str(error.value)


KEYS = {"B02": "blue", "B04": "red", "B05": "rededge1", "B08": "nir", "B8A": "nir08", "B11": "swir16", "B12": "swir22"}


def test_asset_keys_of_stac_are_known_in_files_and_descriptions(tmp_path):
    wanted = dict.fromkeys(KEYS, 10)
    for key in KEYS.values():
        write_raster(tmp_path / "files" / f"{key}.tif", ones())
    found = find_bands("s2", [tmp_path / "files"], wanted).bands
    assert {name: band.path.stem for name, band in found.items()} == KEYS
    path = write_raster(tmp_path / "a.tif", ones(len(KEYS)), names=tuple(KEYS.values()))
    assert [band.index for band in find_bands("s2", [path], wanted).bands.values()] == list(range(1, len(KEYS) + 1))


def test_a_key_that_may_be_several_bands_is_shown_with_them(tmp_path):
    for name in ("blue", "rededge"):
        write_raster(tmp_path / f"{name}.tif", ones())
    with pytest.raises(InputError, match=r"(?s)lacks band B05.*rededge\.tif\[1\] B05/B06/B07") as error:
        find_bands("s2", [tmp_path], {"B02": 10, "B05": 20})
    assert advice(error) == ("B02", "?")
    assert places(find_bands("s2", [tmp_path], {"B02": 10, "B05": 20}, ("B02", "B05")))["B05"] == ("rededge.tif", 1)


def test_names_that_overrule_the_files_are_kept_for_a_warning(tmp_path):
    path = write_raster(tmp_path / "a.tif", ones(2), names=("blue", "B8A"))
    assert find_bands("s2", [path], WANTED, ("B8A", "B02")).overruled == (
        "a.tif[1], B02, as B8A",
        "a.tif[2], B8A, as B02",
    )
    assert find_bands("s2", [path], WANTED, ("B02", "nir08")).overruled == ()


SNAP = ("Sigma0_VV", "Sigma0_VH", "Sigma0_VV_db", "Sigma0_VH_db")


@pytest.mark.parametrize(("units", "places_of_snap"), [("dB", [3, 4]), ("power", [1, 2])])
@pytest.mark.parametrize("stem", ["snap", "snap_linear_and_dB"])
def test_of_linear_bands_and_their_decibels_those_in_the_units_are_taken(tmp_path, units, places_of_snap, stem):
    path = write_raster(tmp_path / f"{stem}.tif", ones(4), names=SNAP)
    found = find_bands("s1", [path], {"VV": 10, "VH": 10}, units=units)
    assert [band.index for band in found.bands.values()] == places_of_snap
    assert found.order == (("VV", "VH", "other", "other") if units == "power" else ("other", "other", "VV", "VH"))


def test_a_band_twice_in_one_file_asks_which_to_use(tmp_path):
    path = write_raster(tmp_path / "a.tif", ones(3), names=("Sigma0_VV", "Gamma0_VV", "Sigma0_VH"))
    with pytest.raises(InputError, match=r"(?s)a\.tif holds band VV several times.*say which to use") as error:
        find_bands("s1", [path], {"VV": 10, "VH": 10})
    assert advice(error) == ("?", "?", "VH")
    found = find_bands("s1", [path], {"VV": 10, "VH": 10}, ("other", "VV", "VH"))
    assert places(found) == {"VV": ("a.tif", 2), "VH": ("a.tif", 3)}


def test_files_of_the_other_sensor_are_named_as_such(tmp_path):
    path = write_raster(tmp_path / "a.tif", ones(2), names=("VV", "VH"))
    with pytest.raises(InputError, match=r"(?s)The s2 scene looks like s1.*give it as --scene s1=PATH"):
        find_bands("s2", [path], WANTED)
    write_raster(tmp_path / "s2" / "B02.tif", ones())
    with pytest.raises(InputError, match=r"(?s)The s1 scene looks like s2.*give it as --scene s2=PATH"):
        find_bands("s1", [tmp_path / "s2"], {"VV": 10, "VH": 10})


def test_fewer_bands_than_are_missing_are_not_asked_to_be_named(tmp_path):
    path = write_raster(tmp_path / "a.tif", ones(2))
    with pytest.raises(InputError, match=r"(?s)lacks bands B02, B03, B04.*another sensor's file") as error:
        find_bands("s2", [path], dict.fromkeys(("B02", "B03", "B04"), 10))
    assert "--bands" not in str(error.value)


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
    assert [band.path.name for band in found.bands.values()] == ["B1.tif", "B2.tif", "B11.tif", "B8A.tif"]
