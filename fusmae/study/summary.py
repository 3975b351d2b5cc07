"""A study's cells put together, if they can be compared: one line for each way of using a variant, over its seeds."""

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np
from numpy.typing import NDArray

from fusmae.config.task import Kind
from fusmae.errors import StudyError
from fusmae.evaluation.resampling import over_seeds, why_no_interval
from fusmae.evaluation.scorers import LABELS
from fusmae.study.results import FOCUS, HEADLINE, Found, Row

_PROTOCOLS = ("knn", "probe", "finetune", "segment")
_SCORE_NAMES = {**LABELS, FOCUS: "macro AP in focus"}
# Decimal places of the draws in the report page; all intervals are computed from rounded draws, so that they agree.
DIGITS = 5
_SEED = 0
# The bootstrap interval of a mean of n values is too narrow by the factor sqrt((n - 1) / n).
_FEW_SEEDS = 5
_HINT = "measure the cells named anew, on the study's data and with its parameters: make study"


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
    per_class: Mapping[str, float]  # AP, recall or IoU of each class, as the mean over seeds
    draws: NDArray[np.float64]  # headline scores `[draws]` on the study's resamples of places and seeds
    low: float  # lower end of the headline score's 95 % interval
    high: float  # upper end of that interval

    @property
    def use(self) -> "Use":
        """Protocol and share of labels."""
        return self.protocol, self.share

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
        return tuple(sorted({line.use for line in self.lines}, key=_order_of_use))

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
    _check_comparable(cells, reference)
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


def _check_comparable(cells: Sequence[Found], reference: str) -> None:
    """Refuse cells whose numbers mean different things."""
    names = [found.cell.name for found in cells]
    if reference not in {found.cell.variant for found in cells}:
        got = ", ".join(sorted(names)) or "no cells"
        raise StudyError(f"The study has no cell of {reference}.", got=got, hint="make study")
    if repeated := _repeated(names):
        raise StudyError("A variant and seed are there more than once.", got=repeated, expected="one cell each")
    _same(cells, "lists of classes", lambda found: tuple(found.cell.classes))
    _same(cells, "values", lambda found: found.cell.value)
    _same(cells, "lists of map classes", lambda found: tuple(found.cell.map_classes))
    _same(cells, "test labels", lambda found: (found.labels.shape, found.labels.tobytes()))
    for found in cells:
        _check_rows(found)
    filled = [found for found in cells if found.cell.rows]
    _same(filled, "numbers of draws", lambda found: len(found.cell.rows[0].draws))
    _same(
        cells,
        "numbers of draws of classes in focus",
        lambda found: {len(row.focus_draws) for row in found.cell.rows if row.kind == "multilabel"},
    )
    # A chart and a column show one score.
    kinds: dict[str, dict[str, str]] = {}
    for found in cells:
        for row in found.cell.rows:
            kinds.setdefault(row.protocol, {})[row.kind] = found.cell.name
    for protocol, cells_by_kind in sorted(kinds.items()):
        if len(cells_by_kind) > 1:
            got = ", ".join(f"{kind} in {name}" for kind, name in cells_by_kind.items())
            summary = f"The protocol {protocol} predicts different kinds."
            raise StudyError(summary, got=got, expected="one kind", hint=_HINT)


def _check_rows(found: Found) -> None:
    rows, cell = found.cell.rows, found.cell.name
    if repeated := _repeated([row.name for row in rows]):
        raise StudyError(f"{cell} has rows more than once.", got=repeated, expected="one each")
    for row in rows:
        if len(row.draws) != len(rows[0].draws) or not row.draws:
            got, expected = f"{len(row.draws)} in {row.name}", f"{len(rows[0].draws)}, as in {rows[0].name}, at least 1"
            raise StudyError(f"Rows of {cell} differ in draws.", got=got, expected=expected, hint=_HINT)
        if not np.isfinite([*row.draws, row.scores.get(HEADLINE[row.kind], np.nan)]).all():
            raise StudyError(f"{cell}: {row.name} has no finite {HEADLINE[row.kind]} or draws.", hint=_HINT)


def _repeated(names: Sequence[str]) -> str:
    return ", ".join(sorted({name for name in names if names.count(name) > 1}))


def _same(cells: Sequence[Found], what: str, value: Callable[[Found], Any]) -> None:
    """Refuse cells whose `value` differs from that of the first cell."""
    if others := [found.cell.name for found in cells if value(found) != value(cells[0])]:
        got, expected = ", ".join(others), f"the same as {cells[0].cell.name}"
        raise StudyError(f"Cells of the study have different {what}.", got=got, expected=expected, hint=_HINT)


def caveats(cells: Sequence[Found]) -> list[str]:
    """Sentences that a reader must know before the numbers."""
    found, seeds = [], {cell.cell.variant: set[int]() for cell in cells}
    for cell in cells:
        seeds[cell.cell.variant].add(cell.cell.seed)
    if (places := _num_places(cells)) is not None and (why := why_no_interval(places)):
        found.append(f"{why.capitalize()}: no interval below shows a difference.")
    if single := [name for name, of_variant in seeds.items() if len(of_variant) == 1]:
        found.append(f"One seed only of {', '.join(single)}: its intervals know nothing of how training varies.")
    if 1 < (fewest := min(map(len, seeds.values()))) < _FEW_SEEDS:
        found.append(
            f"With {fewest} seeds the intervals are a little too narrow: so few tell little of how training varies."
        )
    if len({frozenset(of_variant) for of_variant in seeds.values()}) > 1:
        listed = "; ".join(f"{name} {', '.join(map(str, sorted(of_variant)))}" for name, of_variant in seeds.items())
        found.append(f"The variants were not run with the same seeds ({listed}): these can’t be paired.")
    for key, what in (("data", "data"), ("commit", "commits")):
        if len({str(cell.cell.origin.get(key)) for cell in cells}) > 1:
            found.append(f"The cells come from different {what}: see the last table.")
    if dirty := [cell.cell.name for cell in cells if cell.cell.origin.get("is_dirty")]:
        found.append(f"The code had changes that no commit holds when these were measured: {', '.join(dirty)}.")
    return found


def drawn_places(cells: Sequence[Found]) -> str:
    """Text for what intervals are drawn from: `40 test places`, without the number where an older cell lacks it."""
    places = _num_places(cells)
    return "test places" if places is None else f"{places} test places"


def _num_places(cells: Sequence[Found]) -> int | None:
    return min((cell.cell.origin["test_places"] for cell in cells if "test_places" in cell.cell.origin), default=None)
