import numpy as np
import pytest
import torch
import torch.nn.functional as F

from fusmae.modalities import BandGroup, BandStatistics, Modality, Statistics, by_modality, modality_inputs
from tests.sections import preprocess_of

MODALITIES = {
    "s1": Modality(units="dB", groups=(BandGroup(gsd_m=10, bands=("VV", "VH")),)),
    "s2": Modality(
        units="DN", groups=(BandGroup(gsd_m=10, bands=("B02", "B08")), BandGroup(gsd_m=20, bands=("B05", "B8A", "B11")))
    ),
}
INPUTS = modality_inputs(MODALITIES, tile_m=160)
STATISTICS: Statistics = {
    "s1": {"VV": BandStatistics(mean=-11.0, std=4.0), "VH": BandStatistics(mean=-18.0, std=5.0)},
    "s2": {
        band: BandStatistics(mean=300.0 * (index + 1), std=100.0 * (index + 2))
        for index, band in enumerate(MODALITIES["s2"].bands)
    },
}


def _pixels() -> dict[str, torch.Tensor]:
    s2 = {
        f"s2_{gsd}m": torch.randint(0, 10_000, (3, bands, side, side), dtype=torch.int16)
        for gsd, bands, side in ((10, 2, 16), (20, 3, 8))
    }
    return {"s1_10m": torch.randn(3, 2, 16, 16) * 5 - 12} | s2


def test_each_band_is_standardised_once_then_upsampled() -> None:
    pixels = _pixels()
    tiles = preprocess_of(INPUTS, STATISTICS)(pixels)
    assert list(tiles) == ["s1", "s2"]
    channel = 0
    for name in ("s2_10m", "s2_20m"):
        for array in pixels[name].numpy().swapaxes(0, 1):
            moments = STATISTICS["s2"][MODALITIES["s2"].bands[channel]]
            standard = torch.from_numpy((array.astype(np.float32) - moments.mean) / moments.std)[:, None].float()
            expected = F.interpolate(standard, size=(16, 16), mode="bilinear", align_corners=False)
            torch.testing.assert_close(tiles["s2"][:, channel : channel + 1], expected, atol=1e-5, rtol=0)
            channel += 1
    assert channel == 5


def test_tiles_are_float32_on_the_finest_grid_whatever_comes_in() -> None:
    tiles = preprocess_of(INPUTS, STATISTICS)(_pixels())
    assert {name: tile.shape for name, tile in tiles.items()} == {"s1": (3, 2, 16, 16), "s2": (3, 5, 16, 16)}
    assert {tile.dtype for tile in tiles.values()} == {torch.float32}
    doubles = preprocess_of(INPUTS, STATISTICS)({name: array.double() for name, array in _pixels().items()})
    assert {tile.dtype for tile in doubles.values()} == {torch.float32}


def test_finest_grid_is_that_of_all_inputs_even_if_its_modality_is_absent() -> None:
    coarse = {
        "s1": Modality(units="dB", groups=(BandGroup(gsd_m=20, bands=("VV", "VH")),)),
        "s2": MODALITIES["s2"],
    }
    tiles = preprocess_of(modality_inputs(coarse, tile_m=160), STATISTICS)({"s1_20m": torch.zeros(1, 2, 8, 8)})
    assert tiles["s1"].shape == (1, 2, 16, 16)


def test_mean_becomes_zero_and_mean_plus_std_becomes_one() -> None:
    pixels = torch.tensor([-11.0, -13.0])[None, :, None, None].expand(1, 2, 16, 16)
    tile = preprocess_of(INPUTS, STATISTICS)({"s1_10m": pixels})["s1"]
    assert tile[:, 0].abs().max() < 1e-6
    assert (tile[:, 1] - 1).abs().max() < 1e-6


def test_modality_without_arrays_is_left_out() -> None:
    assert list(preprocess_of(INPUTS, STATISTICS)({"s1_10m": _pixels()["s1_10m"]})) == ["s1"]


@pytest.mark.parametrize(
    ("pixels", "message"),
    [
        ({"s2_10m": torch.zeros(1, 2, 16, 16)}, "lacks .*s2_20m"),
        ({"s2_60m": torch.zeros(1, 2, 16, 16)}, "unknown arrays"),
        ({"s1_10m": torch.zeros(1, 2, 8, 8)}, "s1_10m has shape"),
    ],
)
def test_arrays_that_do_not_fit_are_refused(pixels: dict[str, torch.Tensor], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        preprocess_of(INPUTS, STATISTICS)(pixels)


def test_statistics_are_no_weights() -> None:
    assert preprocess_of(INPUTS, STATISTICS).state_dict() == {}


def test_a_stack_has_the_bands_of_every_modality_in_order() -> None:
    pixels = _pixels()
    apart = preprocess_of(INPUTS, STATISTICS)(pixels)
    stacked = preprocess_of(INPUTS, STATISTICS, is_stacked=True)
    # Their order is that of the inputs, not that in which pixels are given.
    for given in (pixels, dict(reversed(pixels.items()))):
        tiles = stacked(given)
        assert list(tiles) == ["s1+s2"]
        assert torch.equal(tiles["s1+s2"], torch.cat([apart["s1"], apart["s2"]], dim=1))


@pytest.mark.parametrize(("absent", "zeros"), [("s1", slice(0, 2)), ("s2", slice(2, 7))])
def test_a_modality_missing_from_a_stack_stands_there_as_zeros(absent: str, zeros: slice) -> None:
    pixels = _pixels()
    stacked = preprocess_of(INPUTS, STATISTICS, is_stacked=True)
    whole = stacked(pixels)["s1+s2"]
    found = stacked({name: array for name, array in pixels.items() if not name.startswith(absent)})["s1+s2"]
    assert found.shape == whole.shape == (3, 7, 16, 16)
    assert (found[:, zeros] == 0).all()
    assert (whole[:, zeros] != 0).any()
    whole[:, zeros] = 0
    assert torch.equal(found, whole)


def test_zeros_of_a_stack_are_each_bands_mean() -> None:
    means = torch.tensor([band.mean for band in STATISTICS["s1"].values()])[None, :, None, None].expand(3, -1, 16, 16)
    pixels, stacked = _pixels(), preprocess_of(INPUTS, STATISTICS, is_stacked=True)
    without = {name: array for name, array in pixels.items() if name != "s1_10m"}
    torch.testing.assert_close(stacked(without), stacked(pixels | {"s1_10m": means}), atol=1e-6, rtol=0)


def test_a_part_of_a_modality_is_refused_in_a_stack_too() -> None:
    pixels = _pixels()
    del pixels["s2_20m"]
    with pytest.raises(ValueError, match=r"lacks .*s2_20m"):
        preprocess_of(INPUTS, STATISTICS, is_stacked=True)(pixels)


def test_bands_of_an_array_that_is_missing_are_zeros_where_a_tile_may_lack_it() -> None:
    preprocess = preprocess_of(INPUTS, STATISTICS, may_lack_groups=True)
    pixels = _pixels()
    whole = preprocess(pixels)
    several = next(items for items in by_modality(INPUTS).values() if len(items) > 1)
    start = 0
    for item in several:
        tile = preprocess({name: array for name, array in pixels.items() if name != item.name})[item.modality]
        kept = torch.ones(tile.shape[1], dtype=torch.bool)
        kept[start : start + len(item.bands)] = False
        assert not tile[:, ~kept].any()
        assert torch.equal(tile[:, kept], whole[item.modality][:, kept])
        start += len(item.bands)


@pytest.mark.parametrize("is_stacked", [False, True])
def test_hidden_arrays_are_those_that_are_missing_even_where_they_are_nan(is_stacked: bool) -> None:
    preprocess = preprocess_of(INPUTS, STATISTICS, is_stacked=is_stacked, may_lack_groups=True)
    pixels = _pixels()
    hidden = next(items for items in by_modality(INPUTS).values() if len(items) > 1)[-1].name
    expected = preprocess({name: array for name, array in pixels.items() if name != hidden})
    present = torch.tensor([[item.name != hidden for item in INPUTS]])
    broken = pixels | {hidden: torch.full(pixels[hidden].shape, torch.nan)}
    found = preprocess.hide(preprocess(broken), present)
    assert found.keys() == expected.keys()
    for name, tile in expected.items():
        assert torch.equal(found[name], tile)
