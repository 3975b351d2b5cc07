import math
import warnings
from datetime import UTC, datetime

import numpy as np
import pytest
from sklearn.metrics import average_precision_score

from fusmae.config.task import Task
from fusmae.data.index import Pair, write_index
from fusmae.errors import SourceError
from fusmae.evaluation.metrics import average_precision_draws, average_precisions
from fusmae.evaluation.resampling import (
    difference,
    fewest_places,
    independent_places,
    over_seeds,
    place_resamples,
    read_places,
    score_intervals,
    why_no_interval,
)
from fusmae.evaluation.scorers import MultilabelScorer

NUM_PAIRS, NUM_CLASSES, DRAWS = 60, 4, 12
PLACES = [f"place {number % 17}" for number in range(NUM_PAIRS)]
WHOLE = np.ones((1, NUM_PAIRS), np.int32)


@pytest.fixture
def labels() -> np.ndarray:
    """The last class has a single pair, so that most draws have none of it, or several."""
    made = (np.random.default_rng(0).random((NUM_PAIRS, NUM_CLASSES)) < [0.5, 0.3, 0.1, 0]).astype(np.uint8)
    made[7, 3] = 1
    return made


@pytest.fixture
def probabilities(labels) -> np.ndarray:
    """With ties."""
    return (np.random.default_rng(1).random(labels.shape) * 0.7 + 0.3 * labels).round(1).astype(np.float32)


@pytest.fixture
def weights() -> np.ndarray:
    return place_resamples(PLACES, DRAWS, 0)


def macro_draws(labels, probabilities, weights):
    return average_precision_draws(labels, probabilities, weights)["macro_ap"]


def test_places_are_drawn_whole_and_as_many_as_there_are(weights):
    assert weights.shape == (DRAWS, NUM_PAIRS)
    for place in range(17):
        of_place = weights[:, place::17]
        assert (of_place == of_place[:, :1]).all()
    assert (weights[:, :17].sum(axis=1) == 17).all()


def test_a_place_is_drawn_once_on_average_as_if_by_chance():
    first = place_resamples([str(number) for number in range(50)], 400, 0)
    assert first.mean() == 1
    assert first.var() == pytest.approx(1 - 1 / 50, abs=0.03)
    np.testing.assert_allclose(first.mean(axis=0), 1, atol=0.25)


def test_resamples_are_seeded_and_more_of_them_leave_the_first_alone(weights):
    np.testing.assert_array_equal(place_resamples(PLACES, 2 * DRAWS, 0)[:DRAWS], weights)
    assert not np.array_equal(place_resamples(PLACES, DRAWS, 1), weights)


def test_macro_ap_of_the_whole_set_is_scikit_learns(labels, probabilities):
    (found,) = macro_draws(labels, probabilities, WHOLE)
    assert found == pytest.approx(average_precision_score(labels, probabilities, average="macro"), abs=1e-6)
    assert found == pytest.approx(average_precisions(labels, probabilities)[1], abs=1e-6)


def test_macro_ap_of_a_draw_is_that_of_the_repeated_rows_over_the_classes_they_have(labels, probabilities, weights):
    expected = []
    for row in weights:
        pairs = np.repeat(np.arange(NUM_PAIRS), row)
        present = labels[pairs].any(axis=0)
        expected.append(average_precision_score(labels[pairs][:, present], probabilities[pairs][:, present]))
    np.testing.assert_allclose(macro_draws(labels, probabilities, weights), expected, atol=1e-6)
    lacking = [not (labels[:, 3] @ row) for row in weights]
    assert any(lacking)
    assert not all(lacking)


def test_macro_ap_of_a_draw_is_scikit_learns_with_weights(labels, probabilities, weights):
    found = macro_draws(labels[:, :2], probabilities[:, :2], weights)
    expected = [average_precision_score(labels[:, :2], probabilities[:, :2], sample_weight=row) for row in weights]
    np.testing.assert_allclose(found, expected, atol=1e-6)


def test_half_precision_probabilities_are_scored_as_they_are(labels, probabilities, weights):
    half = probabilities.astype(np.float16)
    np.testing.assert_array_equal(
        macro_draws(labels, half, weights),
        macro_draws(labels, half.astype(np.float32), weights),
    )


def test_a_draw_without_any_label_scores_nothing(labels, probabilities):
    assert macro_draws(np.zeros_like(labels), probabilities, WHOLE).tolist() == [0.0]


def test_a_row_does_not_differ_from_itself(labels, probabilities, weights):
    one, again = (macro_draws(labels, probabilities, weights) for _ in range(2))
    assert difference(one, again) == (0, 0)


def test_a_difference_is_first_minus_second_with_its_percentiles():
    apart = np.arange(-20, 81) / 100
    assert difference(0.5 + apart, np.full(101, 0.5), confidence=0.9) == pytest.approx((-0.15, 0.75))


def test_pairing_narrows_the_interval(labels, probabilities):
    weights = place_resamples(PLACES, 100, 0)
    draws = macro_draws(labels, probabilities, weights)
    others = macro_draws(labels, probabilities, place_resamples(PLACES, 100, 1))
    paired, unpaired = (np.diff(difference(draws + 0.01, other)) for other in (draws, others))
    assert paired < 1e-9
    assert unpaired > 0.05


def test_one_seed_is_left_as_it_is():
    draws = np.random.default_rng(0).random((1, 9))
    np.testing.assert_array_equal(over_seeds(draws, 0), draws[0])


def test_seeds_are_drawn_with_replacement_within_each_resample():
    draws = np.array([[0.0], [1.0], [2.0]]) + np.arange(300) * 10
    found = over_seeds(draws, 0) - np.arange(300) * 10
    np.testing.assert_allclose(found * 3, (found * 3).round(), atol=1e-9)
    assert (found.min(), found.max()) == pytest.approx((0, 2))
    # The spread of a mean of three that are drawn from three with variance 2/3.
    assert found.var() == pytest.approx(2 / 9, rel=0.2)


def test_rows_have_the_same_seeds_in_a_draw():
    one = np.random.default_rng(0).random((3, 50))
    assert np.ptp(over_seeds(one + 0.25, 7) - over_seeds(one, 7)) < 1e-12
    assert not np.array_equal(over_seeds(one, 7), over_seeds(one, 8))


def pair(key, place, day=1, lon=None, lat=None) -> Pair:
    return Pair(key, {"s1": key}, (), "test", place, datetime(2017, 6, day, tzinfo=UTC), lon=lon, lat=lat)


def test_pairs_of_one_place_or_one_acquisition_are_drawn_together():
    pairs = [
        pair("a", "cell 1", day=1, lon=10.1, lat=48.1),
        pair("b", "cell 2", day=1, lon=10.2, lat=48.0),  # the acquisition of a
        pair("c", "cell 2", day=9, lon=10.2, lat=48.0),  # the place of b
        pair("d", "cell 3", day=9, lon=20.0, lat=48.0),  # the date of c, elsewhere
        pair("e", "cell 4", day=9),
        pair("f", "cell 4", day=5),
    ]
    assert independent_places(pairs) == ["cell 1", "cell 1", "cell 1", "cell 3", "cell 4", "cell 4"]
    assert independent_places(pairs[::-1]) == ["cell 4", "cell 4", "cell 3", "cell 1", "cell 1", "cell 1"]
    assert independent_places([]) == []


def test_places_are_read_from_the_index_in_the_split_s_order(tmp_path):
    index = tmp_path / "index.parquet"
    write_index([pair("a", "lake"), pair("b", "hill"), pair("c", "lake")], index)
    assert read_places(index, ["c", "b", "a"]) == ["lake", "hill", "lake"]
    with pytest.raises(SourceError, match="lacks 2 pairs of the shards") as error:
        read_places(index, ["x", "a", "y"])
    assert "dvc repro shard" in str(error.value)


@pytest.mark.parametrize(("confidence", "needed"), [(0.95, 6), (0.9, 5), (0.75, 3), (0.99, 8)])
def test_places_that_all_agree_show_a_difference_only_where_there_are_enough_of_them(confidence, needed):
    assert fewest_places(confidence) == needed
    assert 2 * 0.5**needed <= 1 - confidence + 1e-12 < 2 * 0.5 ** (needed - 1) + 1e-12
    assert why_no_interval(needed, confidence) == ""
    assert why_no_interval(1, confidence) == f"1 place is too few for a {confidence:.0%} interval, which needs {needed}"


def intervals(labels, probabilities, places, draws=200, seed=0):
    scorer = MultilabelScorer(Task(classes=tuple("abcd")), labels)
    return score_intervals(scorer, probabilities, places, place_resamples(places, draws, seed))


def width(interval):
    return interval[1] - interval[0]


def test_an_interval_is_that_of_the_percentiles_of_resampled_places(labels, probabilities):
    found = intervals(labels, probabilities, PLACES, draws=60)
    random = np.random.default_rng(5)
    members = [np.flatnonzero(np.array(PLACES) == place) for place in set(PLACES)]
    draws = []
    for _ in range(400):
        rows = np.concatenate([members[at] for at in random.integers(17, size=17)])
        draws.append(average_precisions(labels[rows], probabilities[rows]))
    for at, name in enumerate(("micro_ap", "macro_ap")):
        assert found[name] == pytest.approx(np.percentile(np.array(draws)[:, at], [2.5, 97.5]), abs=0.05)


def test_micro_ap_of_a_draw_counts_what_is_predicted_for_absent_classes(labels, probabilities, weights):
    rows = [np.repeat(np.arange(NUM_PAIRS), row) for row in weights]
    expected = [average_precisions(labels[pairs], probabilities[pairs]) for pairs in rows]
    found = average_precision_draws(labels, probabilities, weights)
    np.testing.assert_allclose(np.stack([found["micro_ap"], found["macro_ap"]], axis=1), expected, atol=1e-6)


def test_a_place_s_pair_repeated_adds_no_evidence_so_intervals_stay_as_wide(labels, probabilities):
    places = [f"place {number}" for number in range(20)]
    once = intervals(labels[:20], probabilities[:20], places)
    often = intervals(np.tile(labels[:20], (8, 1)), np.tile(probabilities[:20], (8, 1)), places * 8)
    assert often == pytest.approx(once)
    # Were these 160 places, the interval would be narrower by the root of 8.
    apart = [f"place {number}" for number in range(160)]
    narrow = intervals(np.tile(labels[:20], (8, 1)), np.tile(probabilities[:20], (8, 1)), apart)
    assert width(narrow["micro_ap"]) < width(often["micro_ap"]) / 2


def test_more_places_narrow_an_interval(labels, probabilities):
    many = np.tile(labels, (5, 1)), np.tile(probabilities, (5, 1)), [f"place {number}" for number in range(300)]
    few = intervals(labels, probabilities, [f"place {number}" for number in range(60)])
    assert width(intervals(*many)["micro_ap"]) < 0.7 * width(few["micro_ap"])


def test_an_interval_is_seeded_and_warns_of_nothing(labels, probabilities):
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        first, again, other = (intervals(labels, probabilities, PLACES, 30, seed) for seed in (0, 0, 1))
    assert first == again != other
    assert all(math.isfinite(end) for found in first.values() for end in found)


def test_too_few_places_and_no_draws_give_no_interval(labels, probabilities):
    five = [f"place {number % 5}" for number in range(NUM_PAIRS)]
    assert intervals(labels, probabilities, five) == {}
    assert intervals(labels, probabilities, PLACES, draws=0) == {}
