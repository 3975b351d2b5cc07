"""Pixels in other units are refused with the option that mends them, and right ones are not."""

import re
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from fusmae.errors import InputError
from fusmae.inference.scene.bands import BandFile
from fusmae.inference.scene.checks import check_pixels
from fusmae.inference.scene.grid import lay_grid
from fusmae.inference.scene.reader import SceneReader
from fusmae.inference.scene.s2_checks import check_product
from fusmae.inference.scene.sample import SampledTile
from fusmae.inference.scene.scene import Reading, Scene, open_scenes
from tests.inference.conftest import GSD_M, band, write_raster


def check(model, paths, **readings):
    scenes = open_scenes(model.session.inputs, paths, readings)
    with SceneReader(scenes, model.session.inputs, lay_grid(scenes, model.session.inputs, None)) as reader:
        return check_pixels(reader, scenes)


def s1_of(tmp_path, change, names=("VV", "VH")):
    pixels = np.stack([band("VV", 720, 960), band("VH", 720, 960)])
    return {"s1": [write_raster(tmp_path / "s1.tif", change(pixels), names=names)]}


def s2_of(tmp_path, change):
    for name in ("B02", "B03", "B05"):
        pixels = change(band(name, 720, 960)[None])
        write_raster(tmp_path / "s2" / f"{name}.tif", pixels, gsd_m=GSD_M[name])
    return {"s2": [tmp_path / "s2"]}


def test_right_pixels_pass(model, scenes):
    check(model, scenes.paths)


def advised(error, option):
    """What the advice would give to an option."""
    return re.search(rf"{option}(\S+)", str(error.value))[1].rstrip(",;")


GROUND = {
    "calm water": (-22, -28, 0.5),
    "desert": (-17, -26, 0.5),
    "fields": (-11, -18, 1),
    "forest": (-8, -14, 0.7),
    "city": (-2, -9, 2.5),
}


def ground_of(tmp_path, kind, units, name="s1.tif"):
    """An S1 scene over one kind of ground in some units."""
    vv, vh, contrast = GROUND[kind]
    noise = [(band(name, 720, 960) - level) * contrast for name, level in (("VV", -11), ("VH", -18))]
    decibels = np.stack([vv + noise[0], vh + noise[1]]).astype(np.float32)
    pixels = decibels if units == "dB" else (10 ** (decibels / (10 if units == "power" else 20))).astype(np.float32)
    return {"s1": [write_raster(tmp_path / name, pixels, names=("VV", "VH"))]}


@pytest.mark.parametrize("ground", GROUND)
@pytest.mark.parametrize("units", ["dB", "power", "amplitude"])
def test_s1_in_its_own_units_passes_over_any_ground(tmp_path, model, ground, units):
    check(model, ground_of(tmp_path, ground, units), s1=Reading(units=units))


@pytest.mark.parametrize("ground", GROUND)
@pytest.mark.parametrize("units", ["power", "amplitude"])
def test_linear_s1_is_refused_with_no_option_that_would_be_silently_wrong(tmp_path, model, ground, units):
    paths, other = ground_of(tmp_path, ground, units), {"power": "amplitude", "amplitude": "power"}[units]
    with pytest.raises(InputError, match="not dB") as error:
        check(model, paths)
    if "find out which it is" in str(error.value):
        assert f"--units s1={other}" in str(error.value)
    else:
        assert advised(error, "--units s1=") == units
        with pytest.raises(InputError, match=rf"(?s)looks like {units}, not {other}.*--units s1={units} converts it"):
            check(model, paths, s1=Reading(units=other))


@pytest.mark.parametrize("units", ["power", "amplitude"])
@pytest.mark.parametrize("ground", ["forest", "desert"])
def test_the_products_name_tells_what_levels_can_not(tmp_path, model, ground, units):
    paths = ground_of(tmp_path, ground, units, f"S1A_RTC10_G_g{units[0]}uned_1234.tif")
    with pytest.raises(InputError, match=rf"convert with --units s1={units}, as the files' names or tags say"):
        check(model, paths)
    assert check(model, paths, s1=Reading(units=units)) == []
    other = {"power": "amplitude", "amplitude": "power"}[units]
    with pytest.raises(InputError, match=rf"--units s1={units} converts it"):
        check(model, paths, s1=Reading(units=other))


def test_levels_that_fit_both_are_taken_as_is_said_with_a_warning(tmp_path, model):
    paths = ground_of(tmp_path, "forest", "power")
    assert ["fit power and amplitude" in warning for warning in check(model, paths, s1=Reading(units="power"))] == [
        True
    ]


def test_decibels_said_to_be_linear_are_refused(tmp_path, model):
    for units in ("power", "amplitude"):
        with pytest.raises(InputError, match=rf"(?s)no linear {units}.*leave out --units s1={units}"):
            check(model, ground_of(tmp_path, "fields", "dB"), s1=Reading(units=units))


def test_a_few_negative_pixels_of_power_are_no_reason_to_refuse(tmp_path, model):
    def change(pixels):
        power = 10 ** (pixels / 10)
        power[:, ::20, ::10] = -1e-4
        return power

    assert check(model, s1_of(tmp_path, change), s1=Reading(units="power")) == []


def test_one_band_in_decibels_and_one_linear_are_refused(tmp_path, model):
    def change(pixels):
        pixels[1] = 10 ** (pixels[1] / 10)
        return pixels

    with pytest.raises(InputError, match="mixed: VH is linear, the rest in dB"):
        check(model, s1_of(tmp_path, change))


def test_decibels_of_amplitude_with_the_factor_of_power_are_warned_of(tmp_path, model):
    assert "half of what ground has" in check(model, s1_of(tmp_path, lambda pixels: pixels / 2))[0]


@pytest.mark.parametrize("kind", [np.float32, np.int16])
def test_decibels_times_100_are_refused_for_what_they_are(tmp_path, model, kind):
    paths = s1_of(tmp_path, lambda pixels: (pixels * 100).astype(kind))
    with pytest.raises(InputError, match=r"(?s)no backscatter in dB.*divide it by 100"):
        check(model, paths)


@pytest.mark.parametrize("units", ["dB", "power", "amplitude"])
@pytest.mark.parametrize(
    "change",
    [
        lambda pixels: (300 + 10 * np.abs(pixels)).astype(np.float32),
        lambda pixels: (300 + 10 * np.abs(pixels)).astype(np.uint16),
        lambda pixels: ((300 + 10 * np.abs(pixels)) ** 2).astype(np.float32),
    ],
    ids=["amplitude", "whole amplitude", "intensity"],
)
def test_uncalibrated_numbers_are_refused_as_any_units(tmp_path, model, change, units):
    with pytest.raises(InputError, match="calibrate it to sigma0") as error:
        check(model, s1_of(tmp_path, change), s1=Reading(units=units))
    assert not any(text in str(error.value) for text in ("converts it", "convert with"))


def test_swapped_polarisations_are_refused_unless_named(tmp_path, model):
    paths = s1_of(tmp_path, lambda pixels: pixels[::-1])
    with pytest.raises(InputError, match=r"(?s)look swapped.*--bands s1=VH,VV"):
        check(model, paths)
    assert "overrules what the files say" in check(model, paths, s1=Reading(bands=("VH", "VV")))[0]


def test_the_advice_for_swapped_bands_is_in_the_order_of_the_files(tmp_path, model):
    """Files are read by name, VH first: there `VH,VV` would change nothing."""
    pixels = {"VV": band("VH", 720, 960), "VH": band("VV", 720, 960), "angle": band("VV", 720, 960)}
    for name, values in pixels.items():
        write_raster(tmp_path / "s1" / f"{name}.tif", values[None])
    with pytest.raises(InputError, match="look swapped") as error:
        check(model, {"s1": [tmp_path / "s1"]})
    names = tuple(advised(error, "--bands s1=").split(","))
    assert names == ("VV", "VH", "other")
    check(model, {"s1": [tmp_path / "s1"]}, s1=Reading(bands=names))


def test_the_offset_of_baseline_0400_is_refused_unless_it_is_said(tmp_path, model):
    paths = s2_of(tmp_path, lambda pixels: pixels + np.uint16(1000))
    with pytest.raises(InputError, match=r"(?s)offset of 1000.*--offset s2=1000 takes it off.*--offset s2=0"):
        check(model, paths)
    assert check(model, paths, s2=Reading(offset=1000)) == []
    assert "as if it held an offset" in check(model, paths, s2=Reading(offset=0))[0]


def test_an_offset_that_is_not_there_is_refused(model, scenes):
    with pytest.raises(InputError, match=r"(?s)does not hold an offset of 1000.*leave out --offset"):
        check(model, scenes.paths, s2=Reading(offset=1000))
    assert check(model, scenes.paths) == []


LEVELS_DN = {"B02": 300, "B03": 500, "B04": 350, "B08": 2300, "B05": 800, "B8A": 2500, "B11": 1500, "B12": 800}


def tiles(*covers):
    """Tiles of one cover each: `field`, `sea`, `sand`, `cloud` or `overshot sea`; `+1000` after a name adds it."""
    random = np.random.default_rng(0)
    found = []
    for number, cover in enumerate(covers):
        kind, _, offset = cover.partition("+")
        if kind == "field":
            bands = {name: level * random.uniform(0.3, 1.7, 900) for name, level in LEVELS_DN.items()}
        elif kind == "sand":
            bands = {name: 1500 + level * random.uniform(0.9, 1.1, 900) for name, level in LEVELS_DN.items()}
        else:
            level = {"sea": 40, "cloud": 4000, "overshot sea": -150}[kind]
            bands = {
                name: level + random.normal(0, 30, 900) + (300 if name in ("B02", "B03", "B04") else 0)
                for name in LEVELS_DN
            }
        added = {name: np.maximum(pixels + int(offset or 0), 1).astype(np.float32) for name, pixels in bands.items()}
        found.append(SampledTile(1200.0 * number, 0.0, added))
    return found


def scene_named(*names, offset=None, bands=LEVELS_DN):
    """A scene without pixels whose files have these names."""
    files = {band: BandFile(Path(*names, f"{band}.tif"), 1, 10) for band in bands}
    return Scene("s2", files, (), frozenset(bands), (), Reading(offset=offset), None, ())


N0510 = "S2A_MSIL2A_20240607T101031_N0510_R022_T33TWL_20240607T123456"
N0214 = N0510.replace("N0510", "N0214")


@pytest.mark.parametrize(
    "covers",
    [
        ["field"] * 9,
        ["sea"] * 9,
        ["field"] * 4 + ["sea"] * 5,
        ["sand"] * 6 + ["field"] * 3,
        ["sand"] * 6 + ["sea"] * 3,
        ["cloud"] * 6 + ["field"] * 3,
    ],
)
@pytest.mark.parametrize("name", ["scene", N0214, N0510])
def test_scenes_without_the_offset_pass_whatever_the_name_and_none_is_taken_off(covers, name):
    assert check_product("s2", tiles(*covers), scene_named(name)) == []
    with pytest.raises(InputError, match=r"(?s)does not hold an offset of 1000.*leave out --offset"):
        check_product("s2", tiles(*covers), scene_named(name, offset=1000))


@pytest.mark.parametrize(
    "covers",
    [
        ["field+1000"] * 9,
        ["sea+1000"] * 9,
        ["overshot sea+1000"] * 9,
        ["field+1000"] * 4 + ["overshot sea+1000"] * 5,
        ["field+1000"] + ["overshot sea+1000"] * 8,
        ["cloud+1000"] * 3 + ["overshot sea+1000"] * 3 + ["field+1000"] * 3,
    ],
)
@pytest.mark.parametrize("name", ["scene", N0510])
def test_scenes_with_the_offset_are_refused_without_the_option_and_pass_with_it(covers, name):
    with pytest.raises(InputError, match=r"(?s)the offset of 1000.*--offset s2=1000 takes it off"):
        check_product("s2", tiles(*covers), scene_named(name))
    assert check_product("s2", tiles(*covers), scene_named(name, offset=1000)) == []


def test_snow_and_cloud_alone_are_warned_of_with_both_options():
    (warning,) = check_product("s2", tiles(*["cloud"] * 9), scene_named("scene"))
    assert "can't be known" in warning
    assert "--offset s2=1000" in warning
    assert "--offset s2=0" in warning
    (warning,) = check_product("s2", tiles(*["cloud"] * 9), scene_named("scene", offset=1000))
    assert "can't be known" in warning
    assert check_product("s2", tiles(*["cloud"] * 9), scene_named("scene", offset=0)) == []


def test_the_baseline_decides_where_pixels_can_not():
    for cover in ("sand", "cloud"):
        assert check_product("s2", tiles(*[cover] * 9), scene_named(N0214)) == []
        with pytest.raises(InputError, match=r"(?s)N0510.*--offset s2=1000 takes it off"):
            check_product("s2", tiles(*[cover] * 9), scene_named(N0510))
        assert check_product("s2", tiles(*[cover] * 9), scene_named(N0510, offset=1000)) == []


@pytest.mark.parametrize(
    "covers",
    [
        ["field"] * 5 + ["field+1000"] * 5,
        ["sea"] * 5 + ["field+1000"] * 5,
        ["field"] * 5 + ["overshot sea+1000"] * 5,
        ["field"] * 7 + ["field+1000"] * 2,
        ["field", "sea", "sea", "field+1000", "overshot sea+1000"],
    ],
)
@pytest.mark.parametrize("offset", [None, 1000])
def test_a_scene_of_which_a_part_holds_the_offset_is_refused_with_where(covers, offset):
    with pytest.raises(InputError, match=r"(?s)A part of the s2 scene holds the offset of 1000") as error:
        check_product("s2", tiles(*covers), scene_named("scene", offset=offset))
    number = sum("+" in cover for cover in covers)
    assert f"{number} of {len(covers)} tiles as with the offset, their upper left corners from" in str(error.value)
    assert check_product("s2", tiles(*covers), scene_named("scene", offset=0))


@pytest.mark.parametrize("is_upper", [False, True])
def test_half_a_scene_with_the_offset_is_refused(tmp_path, model, is_upper):
    """Fields with shadows in every tile, and two products side by side or one above the other."""
    random = np.random.default_rng(0)
    for name in ("B02", "B03", "B05"):
        pixels = random.uniform(100, 2000, (1, 1200 // GSD_M[name], 1200 // GSD_M[name])).astype(np.uint16)
        side = pixels.shape[-1] // 2
        pixels[(slice(None), slice(side)) if is_upper else (..., slice(side, None))] += np.uint16(1000)
        write_raster(tmp_path / "s2" / f"{name}.tif", pixels, gsd_m=GSD_M[name])
    for offset in (None, 1000):
        with pytest.raises(InputError, match=r"A part of the s2 scene holds the offset"):
            check(model, {"s2": [tmp_path / "s2"]}, s2=Reading(offset=offset))


def test_light_that_changes_over_a_scene_is_no_offset_in_a_part_of_it(tmp_path, model):
    """From nearly black to 1200 in all bands alike, by and by."""
    for name in ("B02", "B03", "B05"):
        pixels = band(name, 2400, 1800)
        rows = np.linspace(-200, 1400, pixels.shape[0])[:, None]
        changed = np.clip(pixels * 0.1 + rows, 1, None).astype(np.uint16)
        write_raster(tmp_path / "s2" / f"{name}.tif", changed[None], gsd_m=GSD_M[name])
    assert check(model, {"s2": [tmp_path / "s2"]}) == []


def test_a_product_before_atmospheric_correction_is_warned_of():
    l1c = N0214.replace("L2A", "L1C")
    (warning,) = check_product("s2", tiles(*["field"] * 9), scene_named(l1c))
    assert "level L1C" in warning
    scene = replace(scene_named("scene"), names=frozenset([*LEVELS_DN, "B10"]))
    assert "band B10" in check_product("s2", tiles(*["field"] * 9), scene)[0]
    of_l1c = scene_named(l1c, bands=[*LEVELS_DN, "B10"])
    assert check_product("s2", tiles(*["field"] * 9), of_l1c) == []


@pytest.mark.parametrize(
    ("change", "named"),
    [
        (lambda pixels: (pixels / 10_000).astype(np.float32), r"(?s)reflectance from 0 to 1.*d\.scales = \(10000,\)"),
        (lambda pixels: (pixels // 8).astype(np.uint8), "8-bit picture"),
    ],
)
def test_other_scales_of_s2_are_refused(tmp_path, model, change, named):
    with pytest.raises(InputError, match=named):
        check(model, s2_of(tmp_path, change))


@pytest.mark.parametrize("value", [-9999.0, -32768.0, -3.4028235e38])
def test_nodata_of_s1_that_the_file_does_not_state_is_refused_until_it_does(tmp_path, model, value):
    def change(pixels):
        pixels[:, :22] = value
        return pixels

    paths = s1_of(tmp_path, change)
    with pytest.raises(
        InputError, match=r"(?s)no measurements.*from -80 to 40 dB.*rio edit-info FILE --nodata"
    ) as error:
        check(model, paths)
    number = re.search(r"most often (\S+)", str(error.value))[1]
    rio = Path(sys.executable).with_name("rio")
    subprocess.run([rio, "edit-info", paths["s1"][0], "--nodata", number], check=True)
    check(model, paths)


@pytest.mark.parametrize(("value", "kind"), [(65535, np.uint16), (-9999, np.int16)])
def test_nodata_of_s2_that_the_files_do_not_state_is_refused(tmp_path, model, value, kind):
    def change(pixels, offset=0):
        pixels = (pixels + offset).astype(kind)
        pixels[:, : pixels.shape[1] // 3] = value
        return pixels

    with pytest.raises(InputError, match=rf"(?s)s2 scene has pixels that are no measurements.*most often {value}"):
        check(model, s2_of(tmp_path, change))
    with pytest.raises(InputError, match=r"(?s)rio edit-info FILE --nodata"):
        check(model, s2_of(tmp_path, lambda pixels: change(pixels, 1000)), s2=Reading(offset=1000))


def test_a_few_pixels_that_are_no_measurements_are_let_pass(tmp_path, model):
    def change(pixels):
        pixels[:, 5, 5:8] = -120
        return pixels

    check(model, s1_of(tmp_path, change))


def test_a_scene_that_is_mostly_empty_is_judged_by_what_is_there(tmp_path, model):
    def keep_a_corner(pixels):
        power = 10 ** (pixels / 10)
        power[:, 12:] = power[:, :, 12:] = np.nan
        return power

    with pytest.raises(InputError, match="linear power or amplitude"):
        check(model, s1_of(tmp_path, keep_a_corner))
