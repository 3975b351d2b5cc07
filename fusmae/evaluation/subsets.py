"""Subsets of training rows whose labels are used: nested, stratified and drawn without replacement."""

from collections.abc import Container
from typing import Any

import numpy as np
from numpy.typing import NDArray

from fusmae.data.randomness import Purpose, generator

_CANDIDATES = 4
_NUM_STRATA = 5


def value_strata(values: NDArray[Any]) -> NDArray[np.uint8]:
    """Labels `[N, 5]` for `label_subset` of values `[N]`: the fifth of all values in which each one lies."""
    inner = np.quantile(values, np.linspace(0, 1, _NUM_STRATA + 1)[1:-1])
    return np.eye(_NUM_STRATA, dtype=np.uint8)[np.searchsorted(inner, values)]


def label_subset(labels: NDArray[Any], share: float, seed: int) -> NDArray[np.int64]:
    """Positions of round(`share` · N) rows, at least one, whose labels `[N, K]` are used; in ascending order.

    All rows are put in one order, and a subset is the beginning of it, so a smaller subset lies within a larger one.
    The next row always comes from the class of which the smallest part has been drawn, as in iterative stratification
    (Sechidis et al. 2011, "On the stratification of multi-label data"). So rare classes come first, and every
    beginning is stratified. Among a few rows of that class, the one whose other classes are the least drawn is taken.
    """
    count = max(1, round(share * len(labels)))
    if count >= len(labels):
        return np.arange(len(labels))
    return np.sort(_first_rows(labels > 0, count, seed))


def _first_rows(labels: NDArray[np.bool_], count: int, seed: int) -> NDArray[np.int64]:
    """The first `count` rows of the order."""
    # Rows without any label form a class of their own, or they would never be drawn.
    classes = np.column_stack([labels, ~labels.any(axis=1)])
    shuffled = generator(seed, Purpose.LABEL_SUBSET, 0).permutation(len(classes))
    waiting = [shuffled[column[shuffled]].tolist() for column in classes.T]
    sizes = classes.sum(axis=0)
    # Plain lists, because NumPy is slower for arrays of about twenty numbers.
    parts = [0.0 if size else np.inf for size in sizes]
    rarest_first = np.argsort(sizes, kind="stable").tolist()
    drawn: dict[int, None] = {}
    while len(drawn) < count:
        behind = min(rarest_first, key=parts.__getitem__)
        candidates = _next(waiting[behind], drawn)
        if not candidates:
            parts[behind] = np.inf
            continue
        columns = [np.flatnonzero(classes[row]).tolist() for row in candidates]
        # Rows whose other classes are less drawn come first, or rows with many classes would be drawn too often.
        best = min(range(len(candidates)), key=lambda at: max(parts[column] for column in columns[at]))
        drawn[candidates.pop(best)] = None
        waiting[behind].extend(reversed(candidates))
        for column in columns[best]:
            parts[column] += 1 / sizes[column]
    return np.fromiter(drawn, dtype=np.int64)


def _next(waiting: list[int], drawn: Container[int]) -> list[int]:
    """Pop the next few rows that are not drawn yet from the end of `waiting`."""
    rows: list[int] = []
    while waiting and len(rows) < _CANDIDATES:
        row = waiting.pop()
        if row not in drawn:
            rows.append(row)
    return rows
