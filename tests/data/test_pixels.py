import numpy as np
import pytest

from fusmae.data.pixels import stack_bands
from fusmae.errors import PairError


@pytest.fixture
def items(inputs):
    return {item.name: item for item in inputs}


@pytest.fixture
def bands(pairs, read_pair):
    return read_pair(pairs[0])


def message(bands, item) -> str:
    with pytest.raises(PairError) as raised:
        stack_bands("p7", bands, item)
    return str(raised.value)


def test_bands_are_stacked_by_name_in_the_dtype_of_shards(bands, items):
    stacked = stack_bands("p7", bands, items["s2_10m"])
    assert stacked.dtype == np.uint16
    assert all(np.array_equal(stacked[at], bands[name]) for at, name in enumerate(("B02", "B03", "B04")))
    assert stack_bands("p7", bands, items["s1_10m"]).dtype == np.float32


def test_other_number_types_of_the_same_values_are_accepted(bands, items):
    wanted = stack_bands("p7", bands, items["s2_20m"])
    for dtype in (np.int32, np.float32, np.int64):
        assert np.array_equal(stack_bands("p7", {"B05": bands["B05"].astype(dtype)}, items["s2_20m"]), wanted)


@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf])
def test_a_pixel_that_is_not_finite_names_pair_and_band(bands, items, value):
    bands["VH"][3, 4] = value
    assert "Pair p7, band VH: 1 of 576 pixels are NaN or infinite" in message(bands, items["s1_10m"])


def test_a_missing_band_names_pair_and_band(bands, items):
    del bands["B03"]
    assert "Pair p7 has no band B03" in message(bands, items["s2_10m"])


@pytest.mark.parametrize("shape", [(24, 24), (12, 11), (1, 12, 12), (144,)])
def test_a_wrong_size_names_pair_band_got_and_expected(bands, items, shape):
    text = message({**bands, "B05": np.ones(shape, np.uint16)}, items["s2_20m"])
    assert "Pair p7, band B05: wrong size" in text
    assert f"{shape} px" in text
    assert "(12, 12) px at 20 m" in text


def test_linear_power_is_refused_and_never_converted(bands, items):
    bands["VV"] = 10 ** (bands["VV"] / 10)
    text = message(bands, items["s1_10m"])
    assert "Pair p7, band VV: looks like linear power or amplitude, not dB" in text
    assert "log10" in text


def test_bright_pixels_above_0_db_are_accepted(bands, items):
    bands["VV"][0, 0] = 5.5
    assert stack_bands("p7", bands, items["s1_10m"])[0, 0, 0] == 5.5


@pytest.mark.parametrize(
    "made",
    [lambda dn: dn / 10_000, lambda dn: dn + 0.5, lambda dn: dn.astype(int) - 3000, lambda dn: dn.astype(int) + 65_000],
    ids=["reflectance", "fractions", "negative", "beyond 16 bit"],
)
def test_s2_that_is_no_digital_numbers_names_pair_and_band(bands, items, made):
    bands["B04"] = made(bands["B04"])
    assert "Pair p7, band B04: not digital numbers" in message(bands, items["s2_10m"])
