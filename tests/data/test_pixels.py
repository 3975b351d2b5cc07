import re

import numpy as np
import pytest

from fusmae.data.pixels import stack_bands
from fusmae.errors import PairError
from fusmae.modalities import BandGroup, Modality, modality_inputs


@pytest.fixture
def items(inputs):
    return {item.name: item for item in inputs}


@pytest.fixture
def bands(pairs, read_pair):
    return read_pair(pairs[0])


def stack(bands, item):
    return stack_bands("p7", bands, [item])[item.name]


def message(bands, item) -> str:
    with pytest.raises(PairError) as raised:
        stack(bands, item)
    return str(raised.value)


def test_bands_are_stacked_by_name_in_the_dtype_of_shards(bands, items):
    stacked = stack(bands, items["s2_10m"])
    assert stacked.dtype == np.uint16
    assert all(np.array_equal(stacked[at], bands[name]) for at, name in enumerate(("B02", "B03", "B04")))
    assert stack(bands, items["s1_10m"]).dtype == np.float32


def test_other_number_types_of_the_same_values_are_accepted(bands, items):
    wanted = stack(bands, items["s2_20m"])
    for dtype in (np.int32, np.float32, np.int64):
        assert np.array_equal(stack({"B05": bands["B05"].astype(dtype)}, items["s2_20m"]), wanted)


@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf])
def test_a_pixel_that_is_not_finite_names_pair_and_band(bands, items, value):
    bands["VH"][3, 4] = value
    assert "Pair p7, band VH: 1 of 576 pixels are NaN or infinite" in message(bands, items["s1_10m"])


def test_a_missing_band_names_pair_and_band_and_those_that_are_near(bands, items):
    bands["B3"] = bands.pop("B03")
    text = message(bands, items["s2_10m"])
    assert "Pair p7 has no band B03" in text
    assert "did you mean B3" in text


@pytest.mark.parametrize("shape", [(24, 24), (12, 11), (1, 12, 12), (144,)])
def test_a_wrong_size_names_pair_band_got_and_expected(bands, items, shape):
    text = message({**bands, "B05": np.ones(shape, np.uint16)}, items["s2_20m"])
    assert "Pair p7, band B05: wrong size" in text
    assert f"{shape} px" in text
    assert "(12, 12) px at 20 m" in text


def test_linear_power_is_refused_and_never_converted(bands, items):
    bands["VV"] = 10 ** (bands["VV"] / 10)
    text = message(bands, items["s1_10m"])
    assert "Pair p7, band VV looks like linear power or amplitude, not dB" in text
    assert "log10" in text


def test_bright_pixels_above_0_db_are_accepted(bands, items):
    bands["VV"][0, 0] = 5.5
    assert stack(bands, items["s1_10m"])[0, 0, 0] == 5.5


@pytest.mark.parametrize(
    "made",
    [
        lambda dn: dn / 10_000,
        lambda dn: dn + 0.5,
        lambda dn: np.where(dn > dn.min(), dn.astype(int), -1),
        lambda dn: np.where(dn > dn.min(), dn.astype(int), 65_536),
    ],
    ids=["reflectance in one band", "fractions", "negative", "beyond 16 bit"],
)
def test_s2_that_is_no_digital_numbers_names_pair_and_band(bands, items, made):
    bands["B04"] = made(bands["B04"])
    assert "Pair p7, band B04: not digital numbers" in message(bands, items["s2_10m"])


def test_reflectance_in_all_bands_is_refused_for_what_it_is(bands, inputs):
    for name in ("B02", "B03", "B04", "B05", "B01"):
        bands[name] = bands[name] / 10_000
    with pytest.raises(PairError, match=r"(?s)Pair p7, s2 looks like reflectance from 0 to 1.*multiply by 10,000"):
        stack_bands("p7", bands, inputs)


def test_a_band_of_backscatter_without_data_is_refused(bands, items):
    bands["VH"] = bands["VH"] * 0
    assert "Pair p7, band VH has no data" in message(bands, items["s1_10m"])


def test_a_tile_of_another_size_is_told_which_parameter_its_size_needs(bands, items):
    small = {name: band[:8, :8] for name, band in bands.items()}
    said = message(small, items["s1_10m"])
    (tile_m,) = re.findall(r"set data.tile_m to (\d+) in params.yaml", said)
    assert "cut this tile to 240 m" in said
    (item,) = modality_inputs(
        {"s1": Modality(units="dB", groups=(BandGroup(gsd_m=10, bands=("VV", "VH")),))}, int(tile_m)
    )
    assert stack(small, item).shape == (2, 8, 8)


def test_a_tile_that_is_not_square_is_told_to_be_cut(bands, items):
    said = message({name: band[:8] for name, band in bands.items()}, items["s1_10m"])
    assert "cut this tile to 240 m: tiles are square" in said
    assert "tile_m" not in said


def test_a_band_that_is_absent_is_told_where_it_is_asked_for(bands, items):
    del bands["B05"]
    text = message(bands, items["s2_20m"])
    assert "where no pair has B05, leave it out" in text
    assert "did you mean" not in text  # B04 is another band
