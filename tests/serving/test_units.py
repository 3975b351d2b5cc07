from contextlib import nullcontext

import numpy as np
import pytest

from fusmae.errors import InputError
from fusmae.modalities import BandGroup, Modality, modality_inputs
from fusmae.serving.arrays import check_units


def check(exported, change):
    return check_units(change(exported.pixels(2)), exported.inputs)


def filled(pixels, value):
    return pixels | {name: np.full_like(pixels[name], value) for name in ("s2_10m", "s2_20m")}


def second(array, value):
    array = array.astype(np.float32)
    array[1] = value
    return array


def in_part(array, value):
    """Some 4 % of a band of the second tile."""
    array = array.astype(np.float32)
    array[1, 0, :1] = value
    return array


@pytest.mark.parametrize(
    ("change", "wanted"),
    [
        (lambda p: p | {"s1_10m": second(p["s1_10m"], 0.02)}, "Tile 1, band VV looks like linear power or amplitude"),
        (lambda p: p | {"s1_10m": second(p["s1_10m"], -9999)}, "Tile 1, band VV is no backscatter in dB"),
        (lambda p: p | {"s2_10m": second(p["s2_10m"], -1)}, "Tile 1, s2 is no reflectance in digital numbers"),
        (lambda p: p | {"s2_10m": second(p["s2_10m"], 70_000)}, "Tile 1, s2 is no reflectance in digital numbers"),
        (lambda p: p | {"s1_10m": in_part(p["s1_10m"], -9999)}, "Tile 1, band VV has pixels that are no measurements"),
        (lambda p: p | {"s1_10m": in_part(p["s1_10m"], 100)}, "Tile 1, band VV has pixels that are no measurements"),
        (lambda p: p | {"s2_10m": in_part(p["s2_10m"], 65535)}, "Tile 1, s2 has pixels that are no measurements"),
        (lambda p: p | {"s2_10m": in_part(p["s2_10m"], -9999)}, "Tile 1, s2 has pixels that are no measurements"),
        (lambda p: filled(p, 0), "Tile 0, s2 has no data"),
        (lambda p: filled(p, 1), "Tile 0, s2 has no data"),
    ],
)
def test_other_units_are_refused(exported, change, wanted):
    with pytest.raises(InputError, match=wanted):
        check(exported, change)


@pytest.mark.parametrize(
    ("change", "wanted"),
    [
        (lambda p: filled(p, 50), "tile 1: S2 looks like an 8-bit picture, not digital numbers, or is very dark"),
        (lambda p: p | {n: p[n] + 1000 for n in ("s2_10m", "s2_20m")}, "tile 1: no S2 band has dark pixels"),
        (lambda p: p | {"s2_10m": p["s2_10m"] * 0}, "of S2 is 0, which is nodata"),
        (lambda p: p | {"s1_10m": p["s1_10m"] + [[[[0]], [[9]]]]}, "dB above VV: over calm water"),
    ],
)
def test_what_one_tile_cannot_prove_is_a_warning(exported, change, wanted):
    assert any(wanted in warning for warning in check(exported, change))


@pytest.mark.parametrize(("value", "is_refused"), [(-300, False), (-301, True), (300, False), (301, True)])
def test_one_pixel_beyond_the_limits_of_its_unit_is_refused(value, is_refused):
    (item,) = modality_inputs({"s1": Modality(units="dB", groups=(BandGroup(gsd_m=10, bands=("VV",)),))}, 1200)
    tile = np.full((1, 1, 120, 120), -12, np.float32)
    tile[0, 0, 3, 4] = value
    with pytest.raises(InputError, match="Tile 0, s1 has no dB") if is_refused else nullcontext():
        check_units({item.name: tile}, [item])


def test_good_tiles_have_no_warning(exported):
    assert check(exported, lambda pixels: pixels) == []
    assert check(exported, lambda pixels: {"s1_10m": pixels["s1_10m"]}) == []


def test_a_dark_lake_and_a_bright_city_are_no_other_unit(exported):
    pixels = exported.pixels(1)
    pixels["s1_10m"] = np.full_like(pixels["s1_10m"], -32)
    assert check_units(pixels, exported.inputs) == []
    city = pixels["s1_10m"].copy()
    city[..., :12] = 8
    assert check_units(pixels | {"s1_10m": city - 10}, exported.inputs) == []


@pytest.mark.parametrize(
    ("levels_db", "factor", "advice"),
    [
        ((-11, -18), 10, "convert with 10 * log10(power)"),
        ((-11, -18), 20, "convert with 20 * log10(amplitude)"),
        ((-8, -14), 10, "find out which it is, then convert with 10 * log10(power) or 20 * log10(amplitude)"),
        ((-17, -26), 20, "find out which it is, then convert with 10 * log10(power) or 20 * log10(amplitude)"),
    ],
)
def test_a_linear_tile_is_refused_with_the_formula_that_its_levels_allow(exported, levels_db, factor, advice):
    noise = np.random.default_rng(0).normal(0, 2.5, exported.pixels(1)["s1_10m"].shape)
    decibels = np.array(levels_db)[:, None, None] + noise
    with pytest.raises(InputError) as error:
        check_units({"s1_10m": 10 ** (decibels / factor)}, exported.inputs)
    assert advice in str(error.value)


def test_an_uncalibrated_tile_is_not_converted(exported):
    with pytest.raises(InputError, match="calibrate it to sigma0"):
        check(exported, lambda p: p | {"s1_10m": np.abs(p["s1_10m"]) * 20})


def test_water_with_the_offset_is_warned_of_where_correction_made_it_less_than_1000(exported):
    pixels = exported.pixels(1)
    raised = {name: np.full_like(pixels[name], 1040) for name in ("s2_10m", "s2_20m")}
    for array in raised.values():
        array[..., ::7] = 960
    assert any("no S2 band has dark pixels" in warning for warning in check_units(pixels | raised, exported.inputs))
