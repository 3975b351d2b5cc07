from dataclasses import replace

import numpy as np
import pytest

from fusmae.data.records import to_physical, to_stored
from fusmae.units import UNITS

DB, DN = UNITS["dB"], UNITS["DN"]


def test_backscatter_comes_back_to_half_a_step():
    pixels = np.random.default_rng(0).uniform(-60, 30, 100_000).astype(np.float32)
    found = to_physical(to_stored(pixels, DB), DB)
    assert found.dtype == np.float32
    assert np.abs(found.astype(np.float64) - pixels).max() <= DB.step / 2 + 1e-5


def test_digital_numbers_come_back_as_they_were():
    pixels = np.arange(65_536, dtype=np.uint16)
    assert np.array_equal(to_physical(to_stored(pixels, DN), DN), pixels)


@pytest.mark.parametrize("units", ["dB", "DN"])
def test_a_stored_pixel_has_two_bytes(units):
    stored = to_stored(np.ones(3, np.float32), UNITS[units])
    assert (stored.dtype, stored.itemsize) == (UNITS[units].stored, 2)


@pytest.mark.parametrize("units", UNITS)
def test_what_a_unit_allows_can_be_stored(units):
    unit = UNITS[units]
    pixels = np.array(unit.limits, unit.dtype)
    found = to_physical(to_stored(pixels, unit), unit)
    assert found.dtype == unit.dtype
    np.testing.assert_allclose(found, pixels, atol=1e-3)


def test_a_unit_without_a_step_is_stored_as_it_is():
    metres = replace(DN, stored="float32", step=None)
    pixels = np.array([-3.25, 8848.86], np.float32)
    assert np.array_equal(to_physical(to_stored(pixels, metres), metres), pixels)


def test_storing_what_was_stored_changes_nothing():
    stored = np.arange(-30_000, 30_000, dtype=np.int16)
    assert np.array_equal(to_stored(to_physical(stored, DB), DB), stored)
