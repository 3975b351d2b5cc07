import numpy as np
import pytest

from fusmae.data.storage import STEP_DB, STORED_DTYPES, to_physical, to_stored


def test_backscatter_comes_back_to_half_a_step():
    pixels = np.random.default_rng(0).uniform(-60, 30, 100_000).astype(np.float32)
    found = to_physical(to_stored(pixels, "dB"), "dB")
    assert found.dtype == np.float32
    assert np.abs(found.astype(np.float64) - pixels).max() <= STEP_DB / 2 + 1e-5


def test_digital_numbers_come_back_as_they_were():
    pixels = np.arange(65_536, dtype=np.uint16)
    assert np.array_equal(to_physical(to_stored(pixels, "DN"), "DN"), pixels)


@pytest.mark.parametrize("units", ["dB", "DN"])
def test_a_stored_pixel_has_two_bytes(units):
    assert to_stored(np.ones(3, np.float32), units).dtype == STORED_DTYPES[units]
    assert STORED_DTYPES[units].itemsize == 2


def test_storing_what_was_stored_changes_nothing():
    stored = np.arange(-30_000, 30_000, dtype=np.int16)
    assert np.array_equal(to_stored(to_physical(stored, "dB"), "dB"), stored)
