import math
from dataclasses import replace

import pytest


@pytest.fixture
def positioned(pairs):
    """Splits on parallels half a degree apart, pairs a tenth of a degree apart on each."""
    rows = {"train": 48.0, "validation": 48.5, "test": 49.0}
    return [replace(pair, lon=10 + int(pair.key[-2:]) / 10, lat=rows[pair.split]) for pair in pairs]


def test_places_in_one_split_each_pass(ask):
    check = ask("places")
    assert (check.status, check.got) == ("passed", "28 places, each in one split")


def test_a_place_in_two_splits_blocks(ask, pairs):
    leaking = [*pairs[:-1], replace(pairs[-1], place=pairs[0].place)]
    check = ask("places", sharded=leaking)
    assert (check.status, check.examples) == ("blocks", (pairs[0].place,))
    assert check.got == "1 place with 2 pairs in more than one split"


def test_splits_that_lie_apart_pass(ask, positioned):
    check = ask("neighbours", sharded=positioned)
    assert (check.status, check.found) == ("passed", 0)


def _north_of(pair, km, split):
    return replace(
        pair, key=f"{split}-near", place=f"near-{split}", split=split, lat=pair.lat - math.degrees(km / 6371.0)
    )


@pytest.mark.parametrize(
    ("km", "shares"),
    [
        (1.2, "14.3% within 1.2 km, 14.3% within 2.4 km, 14.3% within 10 km"),
        (2.0, "0.0% within 1.2 km, 14.3% within 2.4 km, 14.3% within 10 km"),
        (9.0, "0.0% within 1.2 km, 0.0% within 2.4 km, 14.3% within 10 km"),
    ],
)
def test_a_test_pair_beside_a_training_pair_warns(diagnose, positioned, km, shares):
    diagnosis = diagnose(sharded=[*positioned, _north_of(positioned[0], km, "test")])
    check = next(check for check in diagnosis.checks if check.name == "neighbours")
    assert (check.status, check.found, check.examples) == ("warns", 1, ("test-near",))
    assert f"test pairs with a training pair: {shares}" in check.got
    assert not diagnosis.blocks


def test_unknown_positions_are_said(ask, positioned, pairs):
    check = ask("neighbours")
    assert (check.status, check.got) == ("skipped", "positions unknown")
    assert "; positions of 1 pair unknown" in ask("neighbours", sharded=[pairs[0], *positioned[1:]]).got
