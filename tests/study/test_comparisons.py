from dataclasses import replace

import numpy as np
import pytest

from benchmarks.study import OWN, differences
from fusmae.study.comparisons import compare, verdict
from fusmae.study.results import HEADLINE
from fusmae.study.summary import summarise


def _shifted(cells, variant, by):
    """Cells with every score and draw of a variant moved."""
    moved = []
    for found in cells:
        rows = found.cell.rows
        if found.cell.variant == variant:
            rows = [
                replace(
                    row,
                    scores={**row.scores, HEADLINE[row.kind]: row.headline + by},
                    draws=[draw + by for draw in row.draws],
                )
                for row in rows
            ]
        moved.append(replace(found, cell=replace(found.cell, rows=rows)))
    return moved


def _answers(cells, key):
    (question,) = [question for question in verdict(summarise(cells, "fusmae")) if question.key == key]
    return {found.answer for found in question.answers.values()}


def test_difference_is_paired(cells):
    study = summarise(cells, "fusmae")
    one, other = (study.line(name, ("probe", 0.1)) for name in ("fusmae", "joint"))
    found = compare(one, other)
    apart = one.draws - other.draws
    np.testing.assert_allclose((found.low, found.high), np.percentile(apart, (2.5, 97.5)))
    assert found.difference == one.headline.mean - other.headline.mean
    # The places that are hard for one are hard for the other: unpaired draws would be further apart.
    assert found.high - found.low < np.ptp(np.percentile(one.draws - np.roll(other.draws, 1), (2.5, 97.5)))


@pytest.mark.parametrize(("by", "answer"), [(-0.3, "yes"), (0.9, "worse")])
@pytest.mark.parametrize("key", ["random_init", "from_scratch"])
def test_answer_about_pretraining_follows_the_numbers_either_way(cells, key, by, answer):
    assert _answers(_shifted(cells, "random", by), key) == {answer}


@pytest.mark.parametrize(("by", "answer"), [(-0.3, "yes"), (0.3, "worse")])
def test_answer_about_joint_tokens_follows_the_numbers_either_way(cells, by, answer):
    assert _answers(_shifted(cells, "joint", by), "joint_tokens") == {answer}


def _focused(cells, variant, by):
    """Cells with a score in focus for every row, which is the headline; of a variant, moved."""
    moved = []
    for found in cells:
        extra = by if found.cell.variant == variant else 0.0
        rows = [
            replace(
                row,
                scores={**row.scores, "focus_ap": row.headline + extra},
                focus_draws=[draw + extra for draw in row.draws],
            )
            for row in found.cell.rows
        ]
        moved.append(replace(found, cell=replace(found.cell, rows=rows)))
    return moved


@pytest.mark.parametrize(("by", "answer"), [(-0.3, "yes"), (0.3, "worse")])
def test_classes_in_focus_are_asked_about_by_themselves(cells, by, answer):
    questions = {found.key: found for found in verdict(summarise(_focused(cells, "joint", by), "fusmae"), "the two")}
    asked = questions["joint_tokens_in_focus"]
    assert asked.text == "Is cross-attention at least as good as joint tokens? (the two)"
    assert {found.answer for found in asked.answers.values()} == {answer}
    assert set(asked.answers) == set(questions["joint_tokens"].answers)
    unmoved = {found.key: found for found in verdict(summarise(cells, "fusmae"))}
    for use, found in questions["joint_tokens"].answers.items():
        assert found.difference == unmoved["joint_tokens"].answers[use].difference
    assert "better_single_in_focus" in questions


def test_without_classes_in_focus_nothing_is_asked_about_them(cells):
    assert not [found.key for found in verdict(summarise(cells, "fusmae")) if "focus" in found.key]


def test_interval_with_zero_in_it_shows_no_difference(cells):
    study = summarise(cells, "fusmae")
    line = study.line("fusmae", ("probe", 0.1))
    noise = np.linspace(-0.01, 0.01, len(line.draws))
    assert compare(line, replace(line, draws=line.draws + noise)).answer == "no difference shown"


def test_fusion_is_compared_with_the_better_single_modality(cells):
    for better, worse in (("s1-only", "s2-only"), ("s2-only", "s1-only")):
        moved = _shifted(_shifted(cells, better, 0.5), worse, -0.5)
        (question,) = [found for found in verdict(summarise(moved, "fusmae")) if found.key == "better_single"]
        assert {found.other.variant for found in question.answers.values()} == {better}


def test_question_about_an_absent_variant_is_left_out(cells):
    study = summarise([found for found in cells if found.cell.variant != "joint"], "fusmae")
    assert [question.key for question in verdict(study)] == ["random_init", "from_scratch", "better_single"]


def test_every_protocol_and_share_is_answered(cells):
    study = summarise(cells, "fusmae")
    by_key = {question.key: list(question.answers) for question in verdict(study)}
    assert by_key["random_init"] == [("knn", 1.0), ("probe", 0.01), ("probe", 0.1), ("probe", 1.0)]
    assert by_key["from_scratch"] == [("finetune", 0.01), ("finetune", 0.1), ("finetune", 1.0)]
    assert by_key["joint_tokens"] == list(study.uses)


def _with_s1_alone(cells):
    """Cells whose variant of one sensor was measured with that one only."""
    return [
        replace(found, cell=replace(found.cell, rows=[row for row in found.cell.rows if row.condition == "s1"]))
        if found.cell.variant == "s1-only"
        else found
        for found in cells
    ]


def test_every_variant_is_compared_with_one_wherever_both_were_measured(cells):
    study = summarise(_with_s1_alone(_shifted(cells, "joint", 0.5)), "fusmae")
    found = differences(study, "fusmae")
    assert set(found) == set(study.variants) - {"fusmae"}
    assert set(found["joint"]) == {OWN, *study.conditions}
    assert set(found["joint"][OWN]) == set(study.uses)
    assert {comparison.answer for comparison in found["joint"][OWN].values()} == {"yes"}
    assert {comparison.answer for comparison in differences(study, "joint")["fusmae"][OWN].values()} == {"worse"}
    # What has one sensor is compared under that one, and with both of the other's where each has its own.
    assert "s1+s2" not in found["s1-only"]
    own, alone = (found["s1-only"][name][("probe", 0.1)] for name in (OWN, "s1"))
    assert (own.other.condition, alone.other.condition) == ("s1+s2", "s1")
    use = study.uses[0]
    assert found["joint"][OWN][use] == compare(study.line("joint", use), study.line("fusmae", use))
