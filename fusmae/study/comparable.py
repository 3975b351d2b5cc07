"""Whether a study's cells can be compared with one another."""

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from fusmae.errors import StudyError
from fusmae.evaluation.resampling import why_no_interval
from fusmae.study.results import HEADLINE, Found

# The bootstrap interval of a mean of n values is too narrow by the factor sqrt((n - 1) / n).
_FEW_SEEDS = 5
_HINT = "measure the cells named anew, on the study's data and with its parameters: make study"


def check_comparable(cells: Sequence[Found], reference: str) -> None:
    """Refuse cells whose numbers mean different things.

    Raises:
        StudyError: cells don't fit together; names them.
    """
    if reference not in {found.cell.variant for found in cells}:
        got = ", ".join(sorted(map(_name, cells))) or "no cells"
        raise StudyError(f"The study has no cell of {reference}.", got=got, hint="make study")
    if repeated := _repeated([_name(found) for found in cells]):
        raise StudyError("A variant and seed are there more than once.", got=repeated, expected="one cell each")
    _same(cells, "lists of classes", lambda found: tuple(found.cell.classes))
    _same(cells, "lists of map classes", lambda found: tuple(found.cell.map_classes))
    _same(cells, "test labels", lambda found: (found.labels.shape, found.labels.tobytes()))
    for found in cells:
        _check_rows(found)
    filled = [found for found in cells if found.cell.rows]
    _same(filled, "numbers of draws", lambda found: len(found.cell.rows[0].draws))
    _same(cells, "numbers of draws of classes in focus", _focus_draws)
    for protocol in sorted({row.protocol for found in cells for row in found.cell.rows}):
        _check_kinds(cells, protocol)


def caveats(cells: Sequence[Found]) -> list[str]:
    """Sentences that a reader must know before the numbers."""
    found = []
    seeds = {cell.cell.variant: set[int]() for cell in cells}
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
    if dirty := [_name(cell) for cell in cells if cell.cell.origin.get("is_dirty")]:
        found.append(f"The code had changes that no commit holds when these were measured: {', '.join(dirty)}.")
    return found


def drawn_places(cells: Sequence[Found]) -> str:
    """Text for what intervals are drawn from: `40 test places`, without the number where an older cell lacks it."""
    places = _num_places(cells)
    return "test places" if places is None else f"{places} test places"


def _num_places(cells: Sequence[Found]) -> int | None:
    return min((cell.cell.origin["test_places"] for cell in cells if "test_places" in cell.cell.origin), default=None)


def _focus_draws(found: Found) -> set[int]:
    return {len(row.focus_draws) for row in found.cell.rows if row.kind == "multilabel"}


def _check_rows(found: Found) -> None:
    rows = found.cell.rows
    if repeated := _repeated([row.name for row in rows]):
        raise StudyError(f"{_name(found)} has rows more than once.", got=repeated, expected="one each")
    for row in rows:
        if len(row.draws) != len(rows[0].draws) or not row.draws:
            got, expected = f"{len(row.draws)} in {row.name}", f"{len(rows[0].draws)}, as in {rows[0].name}, at least 1"
            raise StudyError(f"Rows of {_name(found)} differ in draws.", got=got, expected=expected, hint=_HINT)
        if not np.isfinite([*row.draws, row.scores.get(HEADLINE[row.kind], np.nan)]).all():
            raise StudyError(f"{_name(found)}: {row.name} has no finite {HEADLINE[row.kind]} or draws.", hint=_HINT)


def _repeated(names: Sequence[str]) -> str:
    return ", ".join(sorted({name for name in names if names.count(name) > 1}))


def _check_kinds(cells: Sequence[Found], protocol: str) -> None:
    """Require one kind per protocol: a chart and a column show one score."""
    kinds = {row.kind: _name(found) for found in cells for row in found.cell.rows if row.protocol == protocol}
    if len(kinds) > 1:
        got = ", ".join(f"{kind} in {name}" for kind, name in kinds.items())
        raise StudyError(f"The protocol {protocol} predicts different kinds.", got=got, expected="one kind", hint=_HINT)


def _same(cells: Sequence[Found], what: str, value: Callable[[Found], Any]) -> None:
    """Refuse cells whose `value` differs from that of the first cell."""
    others = [_name(found) for found in cells if value(found) != value(cells[0])]
    if others:
        got, expected = ", ".join(others), f"the same as {_name(cells[0])}"
        raise StudyError(f"Cells of the study have different {what}.", got=got, expected=expected, hint=_HINT)


def _name(found: Found) -> str:
    return f"{found.cell.variant}-{found.cell.seed}"
