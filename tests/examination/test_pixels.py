import numpy as np
import pytest

from fusmae.data.index import Pair
from fusmae.errors import PairError
from fusmae.modalities import BandStatistics
from fusmae.sources.shared.source import Facts

DN_BANDS = ("B01", "B02", "B03", "B04", "B05")


def _is(*keys: str):
    return lambda pair: pair.key in keys


@pytest.mark.parametrize("name", ["constant", "nodata", "units", "polarisation", "georeference"])
def test_sound_pixels_pass(ask, name):
    check = ask(name)
    assert (check.status, check.found) == ("passed", 0)


def test_a_band_with_one_value_blocks(ask, changed):
    read = changed(lambda bands: {"B05": np.full_like(bands["B05"], 700)}, only=_is("train01", "test02"))
    check = ask("constant", read=read)
    assert (check.status, check.found, check.examples) == ("blocks", 2, ("test02", "train01"))
    assert check.got == "2 pairs with a band of one value: B05 in 2"


def test_as_many_constant_bands_as_are_tolerated_pass(diagnose, changed):
    read = changed(lambda bands: {"B05": np.full_like(bands["B05"], 700)}, only=_is("train01", "test02"))
    diagnosis = diagnose(read=read, tolerated={"constant": 2})
    check = next(check for check in diagnosis.checks if check.name == "constant")
    assert (check.status, check.tolerated) == ("tolerated", 2)
    assert not diagnosis.blocks


def test_bands_that_are_clipped_over_dark_water_are_no_findings(ask, changed):
    def clip(bands):
        return {name: np.ones_like(bands[name]) for name in ("B05", "B01")}

    check = ask("constant", read=changed(clip, only=_is("train01", "test02")))
    assert (check.status, check.found) == ("passed", 0)
    assert check.got == (
        "2 pairs with a band clipped to 1 or less throughout, as dark water is, which is no finding: B05 in 2, B01 in 2"
    )


def test_clipped_bands_beside_others_of_one_value_are_told_apart(ask, changed):
    def flatten(bands):
        return {"B05": np.ones_like(bands["B05"]), "B01": np.full_like(bands["B01"], 2)}

    check = ask("constant", read=changed(flatten, only=_is("train01")))
    assert (check.status, check.examples) == ("blocks", ("train01",))
    assert check.got.startswith("1 pair with a band of one value: B01 in 1; 1 pair with a band clipped")


def test_a_clipped_pair_without_contrast_anywhere_blocks(ask, changed):
    def flatten(bands):
        return {name: np.ones_like(band) if name in DN_BANDS else band * 0 - 20 for name, band in bands.items()}

    check = ask("constant", read=changed(flatten, only=_is("train01")))
    assert (check.status, check.examples) == ("blocks", ("train01",))


def _left_part(bands, names, share, value=0):
    """Bands whose left part has one value."""
    found = {name: bands[name].copy() for name in names}
    for band in found.values():
        band[:, : round(band.shape[1] * share)] = value
    return found


@pytest.mark.parametrize("names", [DN_BANDS, ("VV", "VH")])
def test_a_pair_that_is_largely_nodata_blocks(ask, changed, names):
    check = ask("nodata", read=changed(lambda bands: _left_part(bands, names, 0.25), only=_is("train01")))
    assert (check.status, check.examples) == ("blocks", ("train01",))
    assert check.got == "1 pair with more than 10% nodata"


@pytest.mark.parametrize("names", [("B02",), ("B05",), ("B05", "B01"), DN_BANDS[:3], ("VV",)])
def test_dark_water_that_is_0_in_some_bands_is_no_nodata(ask, changed, names):
    check = ask("nodata", read=changed(lambda bands: _left_part(bands, names, 0.75)))
    assert (check.status, check.got) == ("passed", "at most 0.0% nodata in a pair")


def test_a_corner_of_nodata_passes(ask, changed):
    def cut(bands):
        found = {name: bands[name].copy() for name in DN_BANDS}
        for band in found.values():
            side = len(band) // 4
            band[:side, :side] = 0
        return found

    check = ask("nodata", read=changed(cut, only=_is("train01")))
    assert (check.status, check.got) == ("passed", "at most 6.2% nodata in a pair")


def test_pixels_of_1_in_all_bands_are_named(ask, changed):
    read = changed(lambda bands: _left_part(bands, DN_BANDS, 0.25, 1), only=_is("train01"))
    check = ask("nodata", read=read)
    assert (check.status, check.found) == ("passed", 0)
    assert "1 pair with pixels that are 1 in all bands of S2, as along the edge of a swath" in check.got
    assert "train01" in check.got


def test_a_pair_left_out_for_nan_fails_nodata(ask, changed):
    check = ask("nodata", read=changed(lambda bands: {"VH": bands["VH"] * np.nan}, only=_is("test00")))
    assert (check.status, check.examples) == ("blocks", ("test00",))
    assert "1 pair left out: Pair test00, band VH: 576 of 576 pixels are NaN or infinite" in check.got


def _reference(mean: float, std: float) -> Facts:
    return Facts(statistics={"s2": {band: BandStatistics(mean=mean, std=std) for band in DN_BANDS}})


@pytest.mark.parametrize("name", ["histograms", "typical"])
def test_bands_near_the_published_statistics_pass(ask, name):
    check = ask(name, facts=_reference(1600, 800))
    assert (check.status, check.got) == ("passed", "5 bands within these limits; no reference for VV, VH")


@pytest.mark.parametrize("name", ["histograms", "typical"])
def test_histograms_without_a_reference_are_skipped_in_words(ask, name):
    check = ask(name)
    assert (check.status, check.got) == ("skipped", "no reference is known")


def test_a_clear_scene_warns_but_does_not_block(diagnose):
    # As clear pairs of one real scene are: shifted by more than a standard deviation, or with 0.29 of it.
    published = {
        "B05": BandStatistics(mean=1600 - 1.1 * 808, std=808),
        "B01": BandStatistics(mean=1600, std=808 / 0.29),
    }
    diagnosis = diagnose(facts=Facts(statistics={"s2": published}))
    checks = {check.name: check for check in diagnosis.checks}
    assert (checks["histograms"].status, checks["histograms"].found) == ("passed", 0)
    assert (checks["typical"].status, checks["typical"].examples) == ("warns", ("B05", "B01"))
    assert not diagnosis.blocks


def test_snow_and_cloud_do_not_block(ask):
    check = ask("histograms", facts=_reference(300, 200))
    assert check.status == "passed"


def test_digital_numbers_in_a_tenth_of_their_unit_warn(ask, changed):
    read = changed(lambda bands: {band: (bands[band] // 10).astype(np.uint16) for band in DN_BANDS})
    check = ask("typical", read=read, facts=_reference(1600, 800))
    assert (check.status, check.found) == ("warns", 5)
    assert "B02 has mean 159.2 and standard deviation 80.5, published are 1,600.0 and 800.0" in check.got


def test_digital_numbers_that_are_normalised_already_block(ask, changed):
    read = changed(lambda bands: {band: (bands[band] // 100).astype(np.uint16) for band in DN_BANDS})
    check = ask("histograms", read=read, facts=_reference(1600, 800))
    assert (check.status, check.found) == ("blocks", 5)


def test_reflectance_that_was_rounded_is_refused_pair_by_pair(ask, changed):
    read = changed(
        lambda bands: {band: (bands[band] // 1000).astype(np.uint16) for band in DN_BANDS}, only=_is("test00")
    )
    check = ask("units", read=read)
    assert (check.status, check.examples) == ("blocks", ("test00",))
    assert "s2 looks like reflectance from 0 to 1, not digital numbers" in check.got


def _s1(mean: float, std: float) -> Facts:
    return Facts(statistics={"s1": {band: BandStatistics(mean=mean, std=std) for band in ("VV", "VH")}})


def test_backscatter_that_is_normalised_already_blocks(ask, changed):
    assert ask("histograms", facts=_s1(-14, 4)).passed
    read = changed(lambda bands: {band: (bands[band] + 14) / 4 for band in ("VV", "VH")})
    check = ask("histograms", read=read, facts=_s1(-14, 4))
    assert (check.status, check.examples) == ("blocks", ("VV", "VH"))


@pytest.mark.parametrize(("mean", "std"), [(-14 + 2.2 * 4, 4), (-14, 4 * 4.4), (-14, 4 / 4.4)])
def test_backscatter_far_from_what_is_published_blocks(ask, mean, std):
    assert ask("histograms", facts=_s1(mean, std)).status == "blocks"


def test_backscatter_of_another_region_does_not_block(ask):
    facts = _s1(-14 + 1.7 * 4, 4)
    assert ask("histograms", facts=facts).status == "passed"
    assert ask("typical", facts=facts).status == "warns"


def _power(bands):
    return {band: (10 ** (bands[band] / 10)).astype(np.float32) for band in ("VV", "VH")}


def test_some_pairs_in_linear_power_are_named_a_mixture(ask, changed):
    check = ask("units", read=changed(_power, only=_is("train00", "train01")))
    assert (check.status, check.found) == ("blocks", 2)
    assert check.got.startswith("2 pairs left out: Pair train00, band VV looks like linear power or amplitude, not dB")
    assert check.got.endswith("; the others are in the stated units")


def test_linear_power_with_a_negative_pixel_is_found_too(ask, changed):
    def nearly_power(bands):
        power = _power(bands)
        for band in power.values():
            band[0, 0] = -0.01
        return power

    check = ask("units", read=changed(nearly_power, only=_is("test01")))
    assert (check.status, check.examples) == ("blocks", ("test01",))


def test_backscatter_far_from_any_ground_blocks(ask, changed):
    check = ask("units", read=changed(lambda bands: {"VV": bands["VV"] * 10}, only=_is("test00")))
    assert (check.status, check.examples) == ("blocks", ("test00",))
    assert "band VV is no backscatter in dB" in check.got


def test_backscatter_cut_to_whole_numbers_blocks(ask, changed):
    check = ask("units", read=changed(lambda bands: {"VV": np.trunc(bands["VV"]), "VH": np.trunc(bands["VH"])}))
    assert (check.status, check.found) == ("blocks", 28)
    assert "28 pairs whose S1 is cut to whole numbers" in check.got


def test_pictures_of_8_bits_block(ask, changed):
    check = ask("units", read=changed(lambda bands: {band: bands[band] // 16 for band in DN_BANDS}))
    assert check.status == "blocks"
    assert check.got == "28 pairs whose S2 looks like an 8-bit picture, not digital numbers"


def _vh_above_vv(bands):
    return {"VV": bands["VV"] - 6}


def test_swapped_polarisations_block(ask, changed):
    check = ask("polarisation", read=changed(_vh_above_vv))
    assert (check.status, check.found) == ("blocks", 28)
    assert "in 28 of 28 pairs (100%): as if VV and VH were swapped" in check.got


@pytest.mark.parametrize(("count", "status"), [(5, "passed"), (6, "blocks"), (13, "blocks")])
def test_polarisations_that_are_swapped_in_some_pairs_block(ask, changed, pairs, count, status):
    check = ask("polarisation", read=changed(_vh_above_vv, only=_is(*(pair.key for pair in pairs[:count]))))
    assert (check.status, check.found) == (status, count if status == "blocks" else 0)


def test_vh_above_vv_over_some_water_passes(ask, changed):
    check = ask("polarisation", read=changed(_vh_above_vv, only=_is("train00", "train01")))
    assert check.status == "passed"
    assert "in 2 of 28 pairs" in check.got


@pytest.mark.parametrize("fault", ["georeference", "grid"])
def test_pairs_left_out_for_their_place_or_size_block_under_that_name(ask, read_pair, fault):
    def read(pair: Pair):
        if pair.key == "test01":
            raise PairError(fault, "Pair test01: its sides are 1,200 m apart.", got="x", expected="y")
        return read_pair(pair)

    check = ask(fault, read=read)
    assert f"data.tolerated.{fault}" in check.hint
    assert (check.status, check.examples) == ("blocks", ("test01",))
    assert check.got == "1 pair left out: Pair test01: its sides are 1,200 m apart."
