"""Which training rows have labels, when only a share of them is to be used: nested, stratified, without replacement."""

from collections.abc import Container
from typing import Any

import numpy as np
from numpy.typing import NDArray

from fusmae.data.randomness import Purpose, generator

_CANDIDATES = 4


def label_subset(labels: NDArray[Any], share: float, seed: int) -> NDArray[np.int64]:
    """Draw the rows whose labels are used.

    There is one order of all rows, and a subset is its beginning: so a smaller share lies within a bigger one. The
    class of which the smallest part has been drawn gives the next row, as in iterative stratification (Sechidis et al.
    2011, "On the stratification of multi-label data"): so a rare class comes first, and every beginning is stratified.
    Of some rows of that class it is the one whose other classes are the least drawn.

    Args:
        labels: `[N, K]` 0 or 1; one-hot where there is one class a row.
        share: of the rows, above 0 and up to 1.
        seed: another one, another order.

    Returns:
        round(share · N) positions, at least one, in ascending order.
    """
    count = max(1, round(share * len(labels)))
    if count >= len(labels):
        return np.arange(len(labels))
    return np.sort(_first_rows(labels > 0, count, seed))


def _first_rows(labels: NDArray[np.bool_], count: int, seed: int) -> NDArray[np.int64]:
    """The first `count` rows of the order."""
    # Rows without any label are a class of their own, else they would never be drawn.
    classes = np.column_stack([labels, ~labels.any(axis=1)])
    shuffled = generator(seed, Purpose.LABEL_SUBSET, 0).permutation(len(classes))
    waiting = [shuffled[column[shuffled]].tolist() for column in classes.T]
    sizes = classes.sum(axis=0)
    # Plain lists: an array of twenty numbers is slower.
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
        # Its other classes must not run ahead: rows of many classes would be drawn too often.
        best = min(range(len(candidates)), key=lambda at: max(parts[column] for column in columns[at]))
        drawn[candidates.pop(best)] = None
        waiting[behind].extend(reversed(candidates))
        for column in columns[best]:
            parts[column] += 1 / sizes[column]
    return np.fromiter(drawn, dtype=np.int64)


def _next(waiting: list[int], drawn: Container[int]) -> list[int]:
    """Take the next rows that are not drawn yet from the end of those that wait."""
    rows: list[int] = []
    while waiting and len(rows) < _CANDIDATES:
        row = waiting.pop()
        if row not in drawn:
            rows.append(row)
    return rows
