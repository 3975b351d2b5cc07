from dataclasses import replace
from datetime import timedelta

import numpy as np
import pytest

from fusmae.sources.shared.source import Facts

DN_BANDS = ("B01", "B02", "B03", "B04", "B05")


def _raised(bands):
    return {band: bands[band] + np.uint16(1000) for band in DN_BANDS}


@pytest.fixture
def acquisitions(pairs):
    """The tiny dataset as two acquisitions of 14 pairs."""
    first = pairs[0].date
    return [replace(pair, date=first + timedelta(days=number // 14)) for number, pair in enumerate(pairs)]


def test_dark_pixels_tell_that_nothing_was_added(ask, acquisitions):
    check = ask("offset", sharded=acquisitions)
    assert (check.status, check.got) == (
        "passed",
        "28 pairs hold no offset (by the dark floor of 2 acquisitions)",
    )


def test_an_offset_that_nobody_states_blocks(ask, acquisitions, changed):
    check = ask("offset", sharded=acquisitions, read=changed(_raised))
    assert (check.status, check.found) == ("blocks", 28)
    assert check.got == "28 pairs hold an offset of about 1000 (by the dark floor of 2 acquisitions)"


def test_an_offset_that_is_stated_passes(ask, acquisitions, changed):
    assert ask("offset", sharded=acquisitions, read=changed(_raised), facts=Facts(s2_offset=1000)).status == "passed"


def test_an_offset_that_is_stated_but_not_there_blocks(ask, acquisitions):
    check = ask("offset", sharded=acquisitions, facts=Facts(s2_offset=1000))
    assert (check.status, check.found) == ("blocks", 28)
    assert check.expected == "an offset of 1,000, as the dataset states"


def test_acquisitions_with_and_without_are_named_a_mixture(ask, acquisitions, changed):
    late = acquisitions[-1].date
    check = ask("offset", sharded=acquisitions, read=changed(_raised, only=lambda pair: pair.date == late))
    assert (check.status, check.found) == ("blocks", 14)
    assert "14 pairs hold an offset of about 1000; 14 others hold no offset: the dataset is mixed" in check.got


def test_nodata_does_not_hide_an_offset(ask, acquisitions, changed):
    def raised_with_nodata(bands):
        raised = _raised(bands)
        for band in raised.values():
            band[0] = 0
        return raised

    assert ask("offset", sharded=acquisitions, read=changed(raised_with_nodata)).status == "blocks"


def test_one_bright_pair_is_no_offset(ask, acquisitions, changed):
    check = ask("offset", sharded=acquisitions, read=changed(_raised, only=lambda pair: pair.key == "train03"))
    assert check.status == "passed"


def test_one_bright_pair_alone_on_its_date_is_no_offset(ask, changed):
    check = ask("offset", read=changed(_raised, only=lambda pair: pair.key == "train03"))
    assert check.status == "passed"
    assert "by the dark floor of small acquisitions together" in check.got
    assert "1 other can't be told" in check.got


def test_a_cloudy_acquisition_is_not_judged(ask, acquisitions, changed):
    late = acquisitions[-1].date
    cloudy = [replace(pair, is_cloudy=pair.date == late) for pair in acquisitions]
    check = ask("offset", sharded=cloudy, read=changed(_raised, only=lambda pair: pair.date == late))
    assert check.status == "passed"
    assert "14 others can't be told: cloudy" in check.got


def test_few_pairs_are_too_few_to_tell(ask, pairs, changed):
    few = [pairs[0], pairs[1], pairs[-1]]
    check = ask("offset", sharded=few, read=changed(_raised))
    assert (check.status, check.got) == ("skipped", "too few pairs to tell")


def _named(pairs, baseline, count):
    return [
        replace(pair, key=f"S2A_N{baseline}_{pair.key}") if number < count else pair
        for number, pair in enumerate(pairs)
    ]


def test_the_name_of_a_baseline_counts_where_the_floor_agrees(ask, pairs, changed):
    few = _named([pairs[0], pairs[1], pairs[-1]], "0400", 1)
    check = ask("offset", sharded=few, read=changed(_raised))
    assert (check.status, check.examples) == ("blocks", (few[0].key,))
    assert "(by the baseline in product names)" in check.got


def test_the_name_of_a_baseline_does_not_count_where_the_offset_was_taken_off(ask, pairs):
    assert ask("offset", sharded=_named([pairs[0], pairs[-1]], "0510", 2)).status == "skipped"


def test_baseline_9999_says_nothing(ask, pairs, changed):
    few = _named([pairs[0], pairs[-1]], "9999", 2)
    assert ask("offset", sharded=few, read=changed(_raised)).status == "skipped"


def test_a_mixture_of_single_pairs_is_found(ask, changed):
    check = ask("offset", read=changed(_raised, only=lambda pair: pair.split == "train"))
    assert (check.status, check.found) == ("blocks", 17)
    assert "the dataset is mixed" in check.got


@pytest.fixture
def one_date(pairs):
    """A hundred pairs that share a date, as where the source knows none."""
    return [replace(pairs[0], key=f"train{number:03d}", place=f"place{number}") for number in range(100)]


@pytest.mark.parametrize("count", [11, 20, 40, 60, 90, 94])
def test_a_mixture_on_one_date_is_found(ask, changed, one_date, count):
    raised = {pair.key for pair in one_date[:count]}
    check = ask("offset", sharded=one_date, read=changed(_raised, only=lambda pair: pair.key in raised))
    assert (check.status, check.found) == ("blocks", count)
    assert f"{100 - count} others hold no offset: the dataset is mixed" in check.got


@pytest.mark.parametrize("count", [20, 60])
def test_a_mixture_blocks_where_an_offset_is_stated_too(ask, changed, one_date, count):
    raised = {pair.key for pair in one_date[:count]}
    read = changed(_raised, only=lambda pair: pair.key in raised)
    check = ask("offset", sharded=one_date, read=read, facts=Facts(s2_offset=1000))
    assert (check.status, check.found) == ("blocks", 100 - count)


def test_some_bright_pairs_may_be_cloud_and_are_not_called_clear(ask, changed, one_date):
    bright = {pair.key for pair in one_date[:10]}
    check = ask("offset", sharded=one_date, read=changed(_raised, only=lambda pair: pair.key in bright))
    assert check.status == "passed"
    assert check.got.startswith("90 pairs hold no offset; 10 others can't be told")


def _by_dates(pairs, size):
    first = pairs[0].date
    return [replace(pair, date=first + timedelta(days=number // size)) for number, pair in enumerate(pairs)]


@pytest.mark.parametrize(("bright", "status"), [(1, "passed"), (2, "passed"), (3, "blocks")])
def test_a_cloud_over_a_tile_and_its_neighbour_is_no_offset(ask, changed, one_date, bright, status):
    dates = _by_dates(one_date[:24], 12)
    keys = {pair.key for pair in dates[:bright]}
    check = ask("offset", sharded=dates, read=changed(_raised, only=lambda pair: pair.key in keys))
    assert check.status == status


def test_a_mixture_of_which_each_date_has_a_little_is_found(ask, changed, one_date):
    dates = _by_dates(one_date[:40], 8)
    keys = {pair.key for number, pair in enumerate(dates) if number % 8 < 2}
    check = ask("offset", sharded=dates, read=changed(_raised, only=lambda pair: pair.key in keys))
    assert (check.status, check.found) == ("blocks", 10)
    assert "the dark floor of all pairs together" in check.got


def test_a_mixture_of_single_dates_is_found_from_a_tenth_on(ask, changed, pairs):
    keys = {pair.key for pair in pairs[:4]}
    check = ask("offset", read=changed(_raised, only=lambda pair: pair.key in keys))
    assert (check.status, check.found) == ("blocks", 4)


def test_names_tell_of_a_few_pairs_on_a_date_of_many(ask, changed, one_date):
    named = _named(one_date, "0400", 2)
    check = ask("offset", sharded=named, read=changed(_raised, only=lambda pair: "_N0400_" in pair.key))
    assert (check.status, check.found) == ("blocks", 2)
    assert "the baseline in product names" in check.got


def _sea(bands):
    """A sea that atmospheric correction made negative, in products with the offset."""
    random = np.random.default_rng(0)
    return {
        band: (850 + 300 * (band in ("B01", "B02")) + random.normal(0, 20, bands[band].shape)).astype(np.uint16)
        for band in DN_BANDS
    }


def test_water_below_1000_holds_the_offset_all_the_same(ask, acquisitions, changed):
    check = ask("offset", sharded=acquisitions, read=changed(_sea), facts=Facts(s2_offset=1000))
    assert (check.status, check.got) == (
        "passed",
        "28 pairs hold an offset of about 1000 (by the dark floor of 2 acquisitions)",
    )
    assert ask("offset", sharded=acquisitions, read=changed(_sea)).status == "blocks"
