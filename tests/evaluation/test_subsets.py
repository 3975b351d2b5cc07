from itertools import pairwise
from pathlib import Path

import numpy as np
import pyarrow.parquet as pq
import pytest

from fusmae.evaluation.subsets import label_subset, value_strata

TABLE = Path(__file__).parents[3] / "shared" / "data" / "bigearthnet_v2" / "metadata.parquet"


@pytest.fixture(scope="module")
def labels() -> np.ndarray:
    """2000 rows of six classes, from every second row to every 250th; some rows have none."""
    return (np.random.default_rng(0).random((2000, 6)) < [0.5, 0.3, 0.1, 0.05, 0.01, 0.004]).astype(np.uint8)


@pytest.fixture(scope="module")
def bigearthnet() -> np.ndarray:
    """Labels of the real train split."""
    if not TABLE.exists():
        pytest.skip(f"the real BigEarthNet v2 table is not at {TABLE}")
    table = pq.read_table(TABLE, columns=["labels"], filters=[("split", "=", "train")])
    listed = table["labels"].combine_chunks()
    names = listed.flatten().dictionary_encode()
    labels = np.zeros((len(listed), len(names.dictionary)), np.uint8)
    labels[np.repeat(np.arange(len(listed)), listed.value_lengths()), names.indices] = 1
    return labels


def test_a_smaller_share_lies_within_a_bigger_one(labels):
    subsets = [set(label_subset(labels, share, 0).tolist()) for share in (0.001, 0.01, 0.1, 0.5, 1.0)]
    assert [len(subset) for subset in subsets] == [2, 20, 200, 1000, 2000]
    assert all(small < big for small, big in pairwise(subsets))


def test_rows_are_sorted_and_none_is_drawn_twice(labels):
    rows = label_subset(labels, 0.3, 0)
    assert (np.diff(rows) > 0).all()
    assert rows.dtype == np.int64


def test_the_whole_is_all_rows(labels):
    assert label_subset(labels, 1.0, 0).tolist() == list(range(len(labels)))
    # Drawn to the last but one, rows without a label included.
    assert len(label_subset(labels, 0.9995, 0)) == 1999


def test_there_is_always_a_row(labels):
    assert len(label_subset(labels[:5], 0.01, 0)) == 1


def test_every_class_keeps_its_share(labels):
    whole = labels.mean(axis=0)
    for seed in range(3):
        part = labels[label_subset(labels, 0.1, seed)].mean(axis=0)
        np.testing.assert_allclose(part, whole, atol=0.011)
        assert (labels[label_subset(labels, 0.1, seed)].sum(axis=1) == 0).mean() == pytest.approx(
            (labels.sum(axis=1) == 0).mean(), abs=0.03
        )


def test_as_many_rows_as_classes_hold_every_class(labels):
    for seed in range(5):
        assert labels[label_subset(labels, 6 / 2000, seed)].any(axis=0).all()


def test_another_seed_draws_other_rows(labels):
    first, again, other = (label_subset(labels, 0.1, seed).tolist() for seed in (0, 0, 1))
    assert first == again
    assert len(set(first) & set(other)) < 60


def test_classes_that_no_row_has_are_no_obstacle(labels):
    empty = np.column_stack([labels, np.zeros(len(labels), np.uint8)])
    assert label_subset(empty, 0.2, 0).tolist() == label_subset(labels, 0.2, 0).tolist()


def test_one_class_a_row_is_stratified_to_the_row():
    one_hot = np.eye(3, dtype=np.uint8)[np.repeat([0, 1, 2], [600, 300, 100])]
    assert one_hot[label_subset(one_hot, 0.1, 0)].sum(axis=0).tolist() == pytest.approx([60, 30, 10], abs=1)


@pytest.mark.parametrize(("share", "off"), [(0.01, 0.1), (0.1, 0.03)])
def test_real_label_subsets_are_stratified_and_have_the_rare_classes(bigearthnet, share, off):
    drawn = bigearthnet[label_subset(bigearthnet, share, 0)]
    assert len(drawn) == round(share * 237_871)
    np.testing.assert_allclose(drawn.mean(axis=0) / bigearthnet.mean(axis=0), 1, atol=off)
    assert drawn.sum(axis=0).min() >= int(670 * share)


def test_a_handful_of_real_rows_has_every_class_at_least_once(bigearthnet):
    assert bigearthnet[label_subset(bigearthnet, 24 / 237_871, 0)].any(axis=0).all()


def test_a_small_subset_of_values_has_low_and_high_ones():
    values = np.random.default_rng(0).gamma(2.0, 50.0, 200)
    strata = value_strata(values)
    assert strata.sum(axis=0).tolist() == [40] * 5
    order = strata.argmax(axis=1)
    assert all(values[order == low].max() <= values[order == low + 1].min() for low in range(4))
    assert sorted(order[label_subset(strata, 0.05, 1)].tolist()) == [0, 0, 1, 1, 2, 2, 3, 3, 4, 4]
