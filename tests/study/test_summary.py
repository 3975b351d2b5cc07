from dataclasses import replace

import numpy as np
import pytest

from fusmae.errors import StudyError
from fusmae.evaluation.resampling import over_seeds
from fusmae.study.summary import caveats, summarise


def _changed(found, **values):
    return replace(found, cell=replace(found.cell, **values))


def test_line_is_the_mean_over_seeds_with_the_deviation_of_a_sample(cells):
    line = summarise(cells, "fusmae").line("fusmae", ("probe", 0.1))
    scores = [row.scores["macro_ap"] for found in cells[:2] for row in found.cell.rows if row.name == "probe/0.1/s1+s2"]
    assert line.headline.mean == pytest.approx(np.mean(scores))
    assert line.headline.std == pytest.approx(abs(scores[0] - scores[1]) / np.sqrt(2))


def test_interval_is_of_draws_over_places_and_seeds(cells):
    line = summarise(cells, "fusmae").line("fusmae", ("probe", 0.1))
    draws = [row.draws for found in cells[:2] for row in found.cell.rows if row.name == "probe/0.1/s1+s2"]
    np.testing.assert_allclose(line.draws, over_seeds(np.array(draws), 0), atol=5e-6)
    assert (line.low, line.high) == tuple(np.percentile(line.draws, (2.5, 97.5)))


def test_one_seed_has_no_deviation(cells):
    study = summarise(cells[::2], "fusmae")
    assert study.line("fusmae", ("probe", 0.1)).headline.std is None


def test_order_of_seeds_given_changes_no_line(cells):
    one, other = summarise(cells, "fusmae"), summarise(cells[::-1], "fusmae")
    for use in one.uses:
        np.testing.assert_array_equal(one.line("joint", use).draws, other.line("joint", use).draws)


def test_reference_comes_first_wherever_its_cells_stand(cells):
    assert summarise(cells, "joint").variants[0] == "joint"


def test_variant_of_one_modality_stands_for_its_own_condition(cells):
    alone = [
        _changed(found, rows=[row for row in found.cell.rows if row.condition == "s1"])
        if found.cell.variant == "s1-only"
        else found
        for found in cells
    ]
    study = summarise(alone, "fusmae")
    assert study.own_condition("s1-only") == "s1"
    assert study.line("s1-only", ("probe", 0.1)).condition == "s1"
    assert study.own_condition("fusmae") == "s1+s2"


@pytest.mark.parametrize(
    ("spoil", "said"),
    [
        (lambda found: _changed(found, classes=["water", "forest"]), "lists of classes"),
        (lambda found: replace(found, labels=1 - found.labels), "test labels"),
        (
            lambda found: _changed(found, rows=[replace(row, draws=row.draws[:-1]) for row in found.cell.rows]),
            "numbers of draws",
        ),
    ],
)
def test_cells_that_differ_are_refused_by_name(cells, spoil, said):
    with pytest.raises(StudyError, match=said) as error:
        summarise([*cells[:-1], spoil(cells[-1])], "fusmae")
    assert "s2-only-1" in str(error.value)


def test_variant_and_seed_that_come_twice_are_refused_by_name(cells):
    with pytest.raises(StudyError, match="more than once") as error:
        summarise([*cells, cells[2]], "fusmae")
    assert "random-0" in str(error.value)


def test_row_with_fewer_draws_than_its_neighbours_is_refused(cells):
    rows = list(cells[0].cell.rows)
    rows[3] = replace(rows[3], draws=rows[3].draws[:5])
    with pytest.raises(StudyError, match="fusmae-0 differ in draws"):
        summarise([_changed(cells[0], rows=rows), *cells[1:]], "fusmae")


def test_score_that_is_no_number_is_refused(cells):
    rows = [replace(row, scores={**row.scores, "macro_ap": float("nan")}) for row in cells[0].cell.rows]
    with pytest.raises(StudyError, match="fusmae-0"):
        summarise([_changed(cells[0], rows=rows), *cells[1:]], "fusmae")


def test_protocol_with_two_kinds_is_refused(cells):
    rows = [
        replace(row, kind="multiclass", scores={"accuracy": 0.5}) if row.protocol == "knn" else row
        for row in cells[0].cell.rows
    ]
    with pytest.raises(StudyError, match="knn predicts different kinds"):
        summarise([_changed(cells[0], rows=rows), *cells[1:]], "fusmae")


def test_study_without_its_reference_is_refused(cells):
    with pytest.raises(StudyError, match="no cell of fusmae"):
        summarise(cells[2:], "fusmae")


def test_caveats_name_single_seeds_unequal_seeds_other_data_and_changed_code(cells):
    other = _changed(cells[-1], origin={**cells[-1].cell.origin, "data": "another"})
    said = " ".join(caveats([cells[0], *cells[2:-1], other]))
    for words in ("One seed only of fusmae:", "not run with the same seeds", "different data", "joint-0, joint-1"):
        assert words in said


def test_nothing_is_said_of_even_clean_cells_with_five_seeds(cells):
    clean = _changed(cells[0], origin={**cells[0].cell.origin, "is_dirty": False})
    assert caveats([_changed(clean, seed=seed) for seed in range(5)]) == []
