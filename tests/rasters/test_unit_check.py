import numpy as np
import pytest

from fusmae.rasters.unit_check import EMPTY, OTHER_LEVEL, judge
from fusmae.units import UNITS

DB, DN = UNITS["dB"], UNITS["DN"]
LINEAR, REFLECTANCE, PICTURE = DB.lookalikes[0].name, DN.lookalikes[0].name, DN.lookalikes[1].name


def tile(value, *others, size=1000):
    """A band of one value, in which each of `others`, as (value, share), takes its share of the pixels."""
    band, start = np.full(size, value, np.float32), 0
    for other, share in others:
        stop = start + round(share * size)
        band[start:stop], start = other, stop
    return band


@pytest.mark.parametrize(
    ("bands", "wanted"),
    [
        ([tile(-12), tile(-19)], ""),
        # Power has a few negative pixels after noise was subtracted; the roofs of a city are above 0 dB.
        ([tile(0.1, (-0.001, 0.05))], LINEAR),
        ([tile(0.1, (-0.001, 0.051))], ""),
        ([tile(3, (-8, 0.06))], ""),
        ([tile(-12), tile(0.02)], LINEAR),
        # 0 is nodata and says nothing, however much there is of it.
        ([tile(0, (-12, 0.1))], ""),
        ([tile(0, (0.02, 0.1))], LINEAR),
        ([tile(-12), tile(0)], EMPTY),
        ([tile(-40)], ""),
        ([tile(-40.01)], OTHER_LEVEL),
        ([tile(5, (-30, 0.2))], ""),
        ([tile(5.01, (-30, 0.2))], OTHER_LEVEL),
        ([tile(-1200)], OTHER_LEVEL),
    ],
)
def test_backscatter_is_told_from_other_units(bands, wanted):
    assert judge(bands, DB) == wanted


@pytest.mark.parametrize(
    ("bands", "wanted"),
    [
        ([tile(400), tile(2000, size=250)], ""),
        ([tile(0.02), tile(0.4)], REFLECTANCE),
        # Snow and glint are above 1: 16 bits of digital numbers express up to 6.5535.
        ([tile(0.9, (2.8, 0.1)), tile(0.4)], REFLECTANCE),
        ([tile(0.9, (6.5535, 0.1))], REFLECTANCE),
        ([tile(0.9, (6.56, 0.1))], PICTURE),
        ([tile(30), tile(255)], PICTURE),
        ([tile(30), tile(256)], ""),
        # Atmospheric correction clips whole bands over dark water, and a swath's edge has only such pixels.
        ([tile(1), tile(300)], ""),
        ([tile(1), tile(1, (0, 0.5))], EMPTY),
        ([tile(0)], EMPTY),
        ([tile(30_000)], ""),
        ([tile(30_001)], OTHER_LEVEL),
        ([tile(-2000)], OTHER_LEVEL),
    ],
)
def test_digital_numbers_are_told_from_other_units(bands, wanted):
    assert judge(bands, DN) == wanted
