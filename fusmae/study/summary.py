"""A study's cells put together: one line for each way of using a variant, over its seeds."""

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property

import numpy as np
from numpy.typing import NDArray

from fusmae.evaluation.resampling import over_seeds
from fusmae.study.comparable import check_comparable
from fusmae.study.results import FOCUS, HEADLINE, Found, Kind, Row

_PROTOCOLS = ("knn", "probe", "finetune", "segment")
_SCORE_NAMES = {
    "macro_ap": "macro AP",
    "micro_ap": "micro AP",
    "macro_f1": "macro F1",
    "micro_f1": "micro F1",
    "miou": "mean IoU",
    FOCUS: "macro AP in focus",
}
# Decimal places of the draws in the report page; all intervals are computed from rounded draws, so that they agree.
DIGITS = 5
_SEED = 0


@dataclass(frozen=True)
class Spread:
    """Mean and standard deviation over seeds; the deviation is None for one seed."""

    mean: float
    std: float | None


@dataclass(frozen=True, eq=False)
class SummaryRow:
    """One way of using one variant, over its seeds."""

    variant: str  # name of the variant
    protocol: str  # name of the protocol; see `Row`, also for `share`, `condition` and `kind`
    share: float  # share of the training labels
    condition: str  # input of the encoder
    kind: Kind  # kind of prediction
    seeds: tuple[int, ...]  # random seeds of the measured cells
    scores: Mapping[str, Spread]  # mean and deviation of each score, by name
    per_class: Mapping[str, float]  # AP or IoU of each class, as the mean over seeds
    draws: NDArray[np.float64]  # headline scores `[draws]` on the study's resamples of places and seeds
    low: float  # lower end of the headline score's 95 % interval
    high: float  # upper end of that interval

    @property
    def headline(self) -> Spread:
        """The score by which the line is compared."""
        return self.scores[HEADLINE[self.kind]]

    @property
    def metric(self) -> str:
        """The headline score's name, for people."""
        return score_name(HEADLINE[self.kind])

    @property
    def label(self) -> str:
        """The line's name for people, such as `fusmae · probe · 10 % · s1+s2`."""
        return " · ".join((self.variant, self.protocol, percent(self.share), self.condition))


Use = tuple[str, float]
"""A protocol and a share of labels."""


@dataclass(frozen=True)
class Study:
    """Cells that can be compared."""

    cells: Sequence[Found]  # cells, sorted by variant (the reference first) and seed
    reference: str  # name of the variant that others are compared with
    lines: Sequence[SummaryRow]  # lines, in the order of variant, protocol, share, condition

    @cached_property
    def variants(self) -> tuple[str, ...]:
        """Names of the variants, the reference first."""
        return tuple(dict.fromkeys(found.cell.variant for found in self.cells))

    @cached_property
    def uses(self) -> tuple[Use, ...]:
        """Every protocol and share, sorted."""
        return tuple(sorted({(line.protocol, line.share) for line in self.lines}, key=_order_of_use))

    @cached_property
    def every_modality(self) -> str:
        """The condition with all modalities, none of them clouded, such as `s1+s2`."""
        clear = sorted({line.condition for line in self.lines if "clouded" not in line.condition})
        return max(clear, key=lambda name: name.count("+"), default="")

    @cached_property
    def conditions(self) -> tuple[str, ...]:
        """Every condition; the one with all modalities unclouded comes first."""
        found = {line.condition for line in self.lines}
        return tuple(sorted(found, key=lambda name: (name != self.every_modality, len(name), name)))

    def own_condition(self, variant: str) -> str:
        """All modalities, or the one that a variant for a single modality takes."""
        of_variant = [line.condition for line in self.lines if line.variant == variant]
        return self.every_modality if self.every_modality in of_variant or not of_variant else of_variant[0]

    def line(self, variant: str, use: Use, condition: str | None = None) -> SummaryRow | None:
        """The line of a use, under the variant's own condition unless another is given; None where it is absent."""
        return self._by_key.get((variant, *use, condition or self.own_condition(variant)))

    def of(self, variant: str) -> list[Found]:
        """A variant's cells by seed."""
        return [found for found in self.cells if found.cell.variant == variant]

    @cached_property
    def largest_uses(self) -> tuple[Use, ...]:
        """Each protocol with its largest share."""
        return tuple(dict(self.uses).items())

    @cached_property
    def _by_key(self) -> Mapping[tuple[str, str, float, str], SummaryRow]:
        return {(line.variant, line.protocol, line.share, line.condition): line for line in self.lines}


def summarise(cells: Sequence[Found], reference: str) -> Study:
    """Put a study's cells together; at least one of them is of the variant `reference`.

    Raises:
        StudyError: the cells can't be compared; names them.
    """
    check_comparable(cells, reference)
    order = {name: at for at, name in enumerate(dict.fromkeys(found.cell.variant for found in cells))}
    ordered = sorted(
        cells, key=lambda found: (found.cell.variant != reference, order[found.cell.variant], found.cell.seed)
    )
    return Study(ordered, reference, _lines(ordered, lambda row: row))


def in_focus(study: Study) -> Study:
    """The same cells scored on the classes in focus alone; without lines where there are none."""
    return Study(study.cells, study.reference, _lines(study.cells, lambda row: row.in_focus))


def _lines(cells: Sequence[Found], scored: Callable[[Row], Row | None]) -> list[SummaryRow]:
    grouped: dict[tuple[str, str], list[tuple[int, Row]]] = {}
    for found in cells:
        for row in filter(None, map(scored, found.cell.rows)):
            grouped.setdefault((found.cell.variant, row.name), []).append((found.cell.seed, row))
    return [_line(variant, rows) for (variant, _), rows in grouped.items()]


def spread(values: Iterable[float]) -> Spread:
    """Mean and standard deviation (of a sample) over seeds."""
    array = np.array(list(values), np.float64)
    return Spread(float(array.mean()), float(array.std(ddof=1)) if len(array) > 1 else None)


def spreads(tables: Sequence[Mapping[str, float]]) -> dict[str, Spread]:
    """Mean and deviation over seeds of every number in the tables, which are one per seed."""
    names = dict.fromkeys(name for table in tables for name in table)
    return {name: spread(table[name] for table in tables if name in table) for name in names}


def percent(share: float) -> str:
    """A share as text, such as `10 %`."""
    return f"{100 * share:g} %"


def score_name(name: str) -> str:
    """A score's name, for people."""
    return _SCORE_NAMES.get(name, name)


def _line(variant: str, rows: Sequence[tuple[int, Row]]) -> SummaryRow:
    (_, first), *_ = rows
    draws = np.round(over_seeds(np.array([row.draws for _, row in rows], np.float64), _SEED), DIGITS)
    low, high = np.percentile(draws, (2.5, 97.5))
    return SummaryRow(
        variant,
        first.protocol,
        first.share,
        first.condition,
        first.kind,
        tuple(seed for seed, _ in rows),
        spreads([row.scores for _, row in rows]),
        {name: found.mean for name, found in spreads([row.per_class for _, row in rows]).items()},
        draws,
        float(low),
        float(high),
    )


def _order_of_use(use: Use) -> tuple[int, str, float]:
    protocol, share = use
    known = _PROTOCOLS.index(protocol) if protocol in _PROTOCOLS else len(_PROTOCOLS)
    return known, protocol, share
