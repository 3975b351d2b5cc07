"""The questions that a study answers, by paired differences."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Literal

from fusmae.evaluation.resampling import difference
from fusmae.study.summary import Study, SummaryRow, Use, in_focus

RANDOM, JOINT, SINGLES = "random", "joint", ("s1-only", "s2-only")
"""Names of variants with a role: random initialisation, joint tokens without cross-attention, one modality."""

Answer = Literal["yes", "no difference shown", "worse"]
ANSWERS: tuple[Answer, ...] = ("yes", "no difference shown", "worse")

_FUSED = "Does fusing both modalities beat the better single one?"
_CROSSED = "Is cross-attention at least as good as joint tokens?"


@dataclass(frozen=True)
class Comparison:
    """One line minus another, on the same resamples of test places and seeds.

    The difference is that of the mean headline scores; `low` and `high` are the ends of its 95 % interval.
    """

    one: SummaryRow
    other: SummaryRow
    difference: float
    low: float
    high: float

    @property
    def answer(self) -> Answer:
        """Whether `one` is better; an interval that contains zero shows no difference."""
        if self.low > 0:
            return "yes"
        return "worse" if self.high < 0 else "no difference shown"


@dataclass(frozen=True)
class Question:
    """A question, and its answers (comparisons) for every protocol and share that has one; `key` is for programs."""

    key: str
    text: str
    answers: Mapping[Use, Comparison]

    def where(self, answer: Answer) -> list[Use]:
        """The protocols and shares with this answer."""
        return [use for use, found in self.answers.items() if found.answer == answer]


def compare(one: SummaryRow, other: SummaryRow) -> Comparison:
    """One line minus another one of the same kind."""
    low, high = difference(one.draws, other.draws)
    return Comparison(one, other, one.headline.mean - other.headline.mean, low, high)


def verdict(study: Study, focus: str = "") -> list[Question]:
    """Every question that the study's variants can answer; `focus` says what the classes in focus have in common."""
    frozen = [use for use in study.uses if use[0] != "finetune"]
    tuned = [use for use in study.uses if use[0] == "finetune"]
    focused = in_focus(study)
    asked = [
        ("random_init", "Does pretraining beat random initialisation?", study, frozen, (RANDOM,)),
        ("from_scratch", "Does pretraining beat supervised training from scratch?", study, tuned, (RANDOM,)),
        ("better_single", _FUSED, study, study.uses, SINGLES),
        ("joint_tokens", _CROSSED, study, study.uses, (JOINT,)),
        ("better_single_in_focus", f"{_FUSED} ({focus})", focused, focused.uses, SINGLES),
        ("joint_tokens_in_focus", f"{_CROSSED} ({focus})", focused, focused.uses, (JOINT,)),
    ]
    questions = [Question(key, text, _answers(scored, uses, rivals)) for key, text, scored, uses, rivals in asked]
    return [question for question in questions if question.answers]


def _answers(study: Study, uses: Iterable[Use], rivals: Sequence[str]) -> dict[Use, Comparison]:
    """The reference with all modalities against the best of the other variants, each with all that it can take."""
    answers = {}
    for use in uses:
        own = study.line(study.reference, use, study.every_modality)
        others = [line for name in rivals if (line := study.line(name, use)) is not None]
        if own is not None and others:
            answers[use] = compare(own, max(others, key=lambda line: line.headline.mean))
    return answers
