"""`pairs.csv`, the table of a user's own pairs: read as spreadsheets save it, or refused with the line numbers."""

import csv
import math
import re
from collections import defaultdict
from collections.abc import Callable, Collection, Sequence
from datetime import UTC, datetime
from io import StringIO
from pathlib import Path, PurePosixPath
from typing import NamedTuple

from fusmae.config.task import Task, Value
from fusmae.data.index import SPLITS
from fusmae.errors import SourceError
from fusmae.runs.utf8 import composed, read_utf8

TABLE = "pairs.csv"
LAYOUT_HINT = "docs/folder.md shows the layout; then `fusmae update`"

_COLUMNS = ("key", "labels", "value", "split", "place", "date", "country")
_DELIMITERS = (",", ";", "\t")
_UNKNOWN_DATE = datetime(1970, 1, 1, tzinfo=UTC)
_DATE_FORM = "like 2017-06-13 or 2017-06-13T10:10:31; in a spreadsheet give the column the format YYYY-MM-DD"
_MAX_LINES = 3
# Control characters and spaces of zero width: two different names would look the same.
_INVISIBLE = re.compile("[\x00-\x08\x0b\x0c\x0e-\x1f\x7f\N{SOFT HYPHEN}\N{ZERO WIDTH SPACE}\N{WORD JOINER}\ufeff]")


class PairRow(NamedTuple):
    """One pair, as the table states it; every text is in Unicode's composed form (NFC)."""

    key: str  # key of the pair
    labels: tuple[str, ...]  # class names, each once; empty in a regression
    split: str  # one of `SPLITS`, or "" where none is stated
    place: str  # name of the place, or "" where none is stated
    date: datetime  # time of the S2 acquisition (UTC); 1970-01-01 where none is stated
    country: str  # name of the country, or "" where none is stated
    value: float | None = None  # number of a regression per tile; None where none is stated


def read_pairs_table(path: Path, task: Task) -> list[PairRow]:
    """Read the rows of the table; its labels must be those of the task, whose classes are in composed form (NFC).

    A column that this kind has no use for, such as `labels` in a regression, is not read. Cells are separated by a
    comma, a semicolon or a tab, whichever separates the column names in the first line.

    Raises:
        SourceError: the table is absent, not UTF-8 or not such a table, or a cell can't be used; the error names the
            lines.
    """
    if not path.is_file():
        expected = "pairs.csv, and a folder per modality: s1/<key>.tif, s2/<key>.tif"
        raise SourceError(f"There is no table {path}.", expected=expected, hint=LAYOUT_HINT)
    rows = _rows(path, task)
    checks: dict[str, tuple[Callable[[str], bool], str]] = {
        "key": (_is_file_name, "a file name without its ending"),
        **_checks_of_labels(task, rows),
        "split": (lambda cell: cell in ("", *SPLITS), ", ".join(SPLITS)),
        "date": (lambda cell: _date(cell) is not None, _DATE_FORM),
    }
    for column, (is_right, expected) in checks.items():
        if wrong := [(line, row[column]) for line, row in rows if column in row and not is_right(row[column])]:
            raise _bad_cells(column, [line for line, _ in wrong], repr(wrong[0][1]), expected)
    _refuse_doubles(rows)
    return [
        PairRow(
            key=row["key"],
            labels=_labels(row.get("labels", "")) if task.classes else (),
            split=row.get("split", ""),
            place=row.get("place", ""),
            date=_date(row.get("date", "")) or _UNKNOWN_DATE,
            country=row.get("country", ""),
            value=_number(row.get("value", "")) if task.value is not None else None,
        )
        for _, row in rows
    ]


def _checks_of_labels(
    task: Task, rows: Collection[tuple[int, dict[str, str]]]
) -> dict[str, tuple[Callable[[str], bool], str]]:
    """The check of each column with labels of this kind, and what it expects."""
    if task.value is not None:
        value, has_some = task.value, any(row.get("value") for _, row in rows)
        limits = f"a number, {value.range}" if value.min is not None or value.max is not None else "a number"
        expected = f"{limits}, with a point for decimals ({value.title}); in each row, or in none"
        return {"value": (lambda cell: _is_possible(cell, value) if cell else not has_some, expected)}
    classes, names = set(task.classes), f"{list(task.classes)}, as in `data.source.classes`"
    if task.kind != "multiclass":
        return {"labels": (lambda cell: set(_labels(cell)) <= classes, f"some of {names}, with ; or | between them")}
    has_some = any(_labels(row["labels"]) for _, row in rows)
    return {
        "labels": (
            lambda cell: set(_labels(cell)) <= classes and len(_labels(cell)) == has_some,
            f"one of {names}, since data.kind is multiclass; in each row, or in none",
        )
    }


def _rows(path: Path, task: Task) -> list[tuple[int, dict[str, str]]]:
    """Return the cells by column of each row that is not empty, with the number of the row's last line."""
    text = composed(read_utf8(path))
    if found := _INVISIBLE.search(text):
        line = len(re.split("\r\n|\r|\n", text[: found.start()]))
        expected = "letters that can be seen: two names must not differ in one that can't"
        raise _bad_cells("row", [line], f"U+{ord(found[0]):04X}, which can't be seen", expected)
    columns, delimiter = _columns(path, next(iter(text.lstrip().splitlines()), ""), task)
    reader = csv.reader(StringIO(text, newline=""), delimiter=delimiter, skipinitialspace=True)
    try:
        lines = [(reader.line_num, [cell.strip() for cell in row]) for row in reader]
    except csv.Error as error:
        raise SourceError(f"{path}, line {reader.line_num}: no CSV: {error}.", hint=LAYOUT_HINT) from error
    _, *lines = [(number, row) for number, row in lines if any(row)]
    for _, row in lines:
        while len(row) > len(columns) and not row[-1]:  # spreadsheets append empty cells
            row.pop()
    if wrong := [(number, row) for number, row in lines if len(row) != len(columns)]:
        expected = f"{len(columns)} cells; a cell with {delimiter!r} in it in quotes"
        raise _bad_cells("row", [number for number, _ in wrong], delimiter.join(wrong[0][1]), expected)
    return [(number, dict(zip(columns, row, strict=True))) for number, row in lines]


def _columns(path: Path, header: str, task: Task) -> tuple[list[str], str]:
    """Return the names of the columns, and the separator of cells."""
    # Maps have the labels of dense kinds; what a column states beside them is compared with them.
    column = "value" if task.value is not None else "labels"
    needed = ["key", *([] if task.is_dense else [column])]
    others = [name for name in _COLUMNS if name not in needed and name not in ({"labels", "value"} - {column})]
    for delimiter in _DELIMITERS:
        names = [name.strip() for name in next(csv.reader([header], delimiter=delimiter, skipinitialspace=True), [])]
        while names and not names[-1]:
            names.pop()
        if set(needed) <= set(names) <= set(_COLUMNS) and len(set(names)) == len(names):
            return names, delimiter
    raise SourceError(
        f"{path} has other columns.",
        got=header,
        expected=f"{', '.join(needed)} and, if you like, {', '.join(others)}, each once, in the first line",
        hint=LAYOUT_HINT,
    )


def _labels(cell: str) -> tuple[str, ...]:
    return tuple(dict.fromkeys(filter(None, re.split(r"\s*[;|]\s*", cell))))


def _number(cell: str) -> float | None:
    """Return a cell's number; None where it is none."""
    try:
        number = float(cell)
    except ValueError:
        return None
    return number if math.isfinite(number) else None


def _is_possible(cell: str, value: Value) -> bool:
    number = _number(cell)
    low, high = (-math.inf if value.min is None else value.min), (math.inf if value.max is None else value.max)
    return number is not None and low <= number <= high


def _is_file_name(key: str) -> bool:
    path = PurePosixPath(key)
    return bool(key) and not path.is_absolute() and ".." not in path.parts


def _date(cell: str) -> datetime | None:
    """Return a cell's date in UTC; None where it is ambiguous, like 6/7/2020, or not a date."""
    if not cell:
        return _UNKNOWN_DATE
    try:
        date = datetime.fromisoformat(cell)
    except ValueError:
        return None
    return date.replace(tzinfo=UTC) if date.tzinfo is None else date.astimezone(UTC)


def _refuse_doubles(rows: Collection[tuple[int, dict[str, str]]]) -> None:
    lines: dict[str, list[int]] = defaultdict(list)
    for line, row in rows:
        lines[row["key"]].append(line)
    if doubles := {key: found for key, found in lines.items() if len(found) > 1}:
        key, found = next(iter(doubles.items()))
        more = f"; so do {len(doubles) - 1:,} other keys" if len(doubles) > 1 else ""
        raise _bad_cells("key", found, f"{key!r}, which stands there more than once{more}", "each key once")


def _bad_cells(column: str, lines: Sequence[int], got: str, expected: str) -> SourceError:
    """Return the error about cells, or a "row", that can't be used; `got` is the first of them."""
    more = len(lines) - _MAX_LINES
    listed = ", ".join(f"{line:,}" for line in lines[:_MAX_LINES]) + (f" and {more:,} more" if more > 0 else "")
    problem = f"{TABLE}, line{'s' if len(lines) > 1 else ''} {listed}: the {column} can't be used."
    return SourceError(problem, got=got, expected=expected, hint=LAYOUT_HINT)
