import numpy as np
import pytest

from fusmae.errors import InputError
from fusmae.serving.units import check_units


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
        (lambda p: p | {"s1_10m": second(p["s1_10m"], 0.02)}, "Tile 1, band VV looks like linear power"),
        (lambda p: p | {"s1_10m": second(p["s1_10m"], -9999)}, "Tile 1, band VV is no backscatter in dB"),
        (lambda p: p | {"s2_10m": second(p["s2_10m"], -1)}, "Tile 1 has no digital numbers"),
        (lambda p: p | {"s2_10m": second(p["s2_10m"], 70_000)}, "Tile 1 has no digital numbers"),
        (lambda p: p | {"s1_10m": in_part(p["s1_10m"], -9999)}, "Tile 1, band VV has pixels that are no measurements"),
        (lambda p: p | {"s1_10m": in_part(p["s1_10m"], 100)}, "Tile 1, band VV has pixels that are no measurements"),
        (lambda p: p | {"s2_10m": in_part(p["s2_10m"], 65535)}, "Tile 1 has pixels that are no measurements"),
        (lambda p: p | {"s2_10m": in_part(p["s2_10m"], -9999)}, "Tile 1 has no digital numbers"),
        (lambda p: filled(p, 0), "Tile 0 looks like reflectance, not digital numbers, or is empty"),
    ],
)
def test_other_units_are_refused(exported, change, wanted):
    with pytest.raises(InputError, match=wanted):
        check(exported, change)


@pytest.mark.parametrize(
    ("change", "wanted"),
    [
        (lambda p: filled(p, 5), "tile 1: S2 is at most 5: it may be an 8-bit picture"),
        (lambda p: p | {n: p[n] + 1000 for n in ("s2_10m", "s2_20m")}, "tile 1: no S2 pixel is below 900"),
        (lambda p: p | {"s2_10m": p["s2_10m"] * 0}, "of S2 is 0, which is nodata"),
        (lambda p: p | {"s1_10m": p["s1_10m"] + [[[[0]], [[9]]]]}, "dB above VV: over calm water"),
    ],
)
def test_what_one_tile_cannot_prove_is_a_warning(exported, change, wanted):
    assert any(wanted in warning for warning in check(exported, change))


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
