"""The 1000 of baseline 04.00 is told by floors of several bands and by products' names."""

import numpy as np
import pytest

from fusmae.rasters.s2_offset import adds_offset, dark_level, is_overshot_water, judge_floors, named_baseline

# Floors as real products have them: B01 to B8A, B09, B11, B12; with B10 where it is L1C.
CROPLAND = [449, 535, 712, 527, 916, 1764, 2046, 1842, 2048, 2342, 1211, 797]
CLOUDY_L1C = [1450, 1164, 1039, 802, 965, 1698, 2020, 1799, 2150, 250, 8, 1172, 572]
DESERT_L1C = [1935, 1962, 2636, 4434, 4721, 5035, 5348, 5096, 5544, 1958, 27, 6282, 5363]
SEA = [300, 250, 150, 80, 80, 60, 60, 55, 40, 30, 20, 15]
OVERSHOT_SEA = [1380, 1310, 1160, 1010, 757, 762, 762, 757, 770, 765, 750, 761]
SAND = [1200, 1500, 2100, 2900, 3200, 3400, 3500, 3600, 3700, 3600, 4900, 4500]


@pytest.mark.parametrize("floors", [CROPLAND, CLOUDY_L1C, DESERT_L1C, SEA])
def test_dark_bands_tell_that_nothing_was_added(floors):
    assert judge_floors(floors) == -1


@pytest.mark.parametrize("floors", [CROPLAND, CLOUDY_L1C, DESERT_L1C, SEA])
def test_the_same_ground_with_the_offset_tells_it(floors):
    assert judge_floors(np.add(floors, 1000)) == 1


def test_water_below_1000_in_all_long_waves_holds_the_offset():
    assert judge_floors(OVERSHOT_SEA) == 1
    assert is_overshot_water(OVERSHOT_SEA)
    assert not is_overshot_water(np.add(CROPLAND, 1000))


def test_one_band_that_correction_made_darker_does_not_count():
    floors = np.add(CROPLAND, 1000)
    floors[0] = 400
    assert judge_floors(floors) == 1


def test_what_lies_between_tells_nothing():
    assert judge_floors([650, 700, 900, 1100, 1300, 1500, 1700, 1800, 1900, 2000, 1600, 1000]) == 0
    assert judge_floors([np.nan] * 12) == 0


def test_sand_looks_as_with_the_offset_and_its_level_is_known():
    assert judge_floors(SAND) == 1
    assert dark_level(SAND) == 1500


@pytest.mark.parametrize("number", [1, 2, 3])
def test_few_bands_are_judged_by_the_darkest(number):
    assert judge_floors(SEA[-number:]) == -1
    assert judge_floors(np.add(SEA[-number:], 1000)) == 1


def test_many_tiles_are_judged_at_once():
    assert judge_floors([SEA, OVERSHOT_SEA, [np.nan] * 12]).tolist() == [-1, 1, 0]


@pytest.mark.parametrize(
    ("name", "baseline"),
    [
        ("S2A_MSIL2A_20240607T101031_N0510_R022_T33TWL_20240607T123456.SAFE", 510),
        ("S2B_MSIL1C_20200607T101031_N0209_R022_T33TWL_20200607T123456", 209),
        ("S2A_MSIL2A_20170613T101031_N9999_R022_T33UUP_26_57", None),
        ("Copernicus_DSM_10_N0450_E0120", None),
        ("T33TWL_20240607T101031_B02.jp2", None),
    ],
)
def test_products_names_tell_their_baseline(name, baseline):
    found = named_baseline(["in", name])
    assert (found and found[0]) == baseline
    assert not found or found[1] == name


def test_the_offset_came_with_baseline_0400():
    assert [adds_offset(baseline) for baseline in (214, 301, 400, 510)] == [False, False, True, True]
