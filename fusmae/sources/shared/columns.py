"""Columns of a parquet table that another program may have rewritten.

Each column is converted to the type that it should have. Where that fails, the table is refused with an error that
names the column, the number of rows concerned and the first of them.
"""

import re
from collections.abc import Sequence
from itertools import compress
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
from numpy.typing import NDArray

from fusmae.errors import SourceError, first_three

_FLAGS = {"true": True, "false": False, "1": True, "0": False, "1.0": True, "0.0": False}
# Arrow's names of the types.
_TEXTS = ("string", "large_string", "string_view", "binary", "large_binary")
_NUMBERS = ("integer", "floating")
_LISTS = ("list", "large_list", "fixed_size_list", "list_view", "large_list_view")
# What can stand between names where a list became text: JSON, Python's and NumPy's notation, or a separator.
_BETWEEN_NAMES = re.compile(r"""[\s,;|\[\](){}'"]*""")


class Columns:
    """The columns of a parquet file.

    Errors name rows by the column `key` and end with `hint`. Methods raise a SourceError where cells can't be used.
    """

    def __init__(self, path: Path, key: str, hint: str) -> None:
        if not path.exists():
            raise SourceError(f"There is no table {path}.", hint=hint)
        try:
            self._table: pa.Table = pq.read_table(path)
        except (OSError, ValueError) as error:  # pyarrow's own errors are of these kinds
            raise SourceError(f"The table {path} cannot be read: {error}", hint=hint) from error
        self._path, self._key, self._hint = path, key, hint
        self.names: tuple[str, ...] = tuple(self._table.column_names)

    def __len__(self) -> int:
        return int(self._table.num_rows)

    def text(self, name: str) -> pa.StringArray:
        """Return a column of text; empty cells are refused."""
        texts = self._as_text(name, self._column(name))
        blank = pc.fill_null(pc.equal(pc.utf8_trim_whitespace(texts), ""), fill_value=True)
        self.refuse(blank, f"no {name}", expected="every cell filled, as in the authors' table")
        return texts

    def flags(self, name: str) -> NDArray[np.bool_]:
        """Return a column of true and false, `[N]`; 0 and 1 count as such, and the words in upper or lower case."""
        cells = self._column(name)
        self.refuse(pc.is_null(cells), f"no {name}", expected="true or false in every cell")
        if not pa.types.is_boolean(cells.type):
            words = pc.utf8_lower(pc.utf8_trim_whitespace(self._as_text(name, cells, allow_numbers=True)))
            is_known = pc.is_in(words, value_set=pa.array(_FLAGS))
            self.refuse(pc.invert(is_known), f"another {name}", got=cells, expected="true or false")
            cells = pc.is_in(words, value_set=pa.array([word for word, flag in _FLAGS.items() if flag]))
        return np.asarray(cells.to_numpy(zero_copy_only=False), np.bool_)

    def names_of(self, name: str, classes: Sequence[str]) -> list[tuple[str, ...]]:
        """Return a column of lists of class names: per row its names, in the order of `classes`.

        Lists that became text are split by searching for the names themselves, because names contain commas. JSON,
        Python's and NumPy's notation are read, and names separated by commas, semicolons or bars. Rows without a name
        are refused.
        """
        cells = self._column(name)
        if not _is_one_of(cells.type, _LISTS):
            cells = self._split(name, cells, classes)
        lengths = pc.fill_null(pc.list_value_length(cells), 0).to_numpy(zero_copy_only=False)
        values = self._as_text(name, pc.list_flatten(cells))
        codes = pc.fill_null(pc.index_in(values, value_set=pa.array(classes, pa.string())), -1)
        columns, rows = codes.to_numpy(zero_copy_only=False), np.repeat(np.arange(len(self)), lengths)
        is_unknown = columns < 0
        unknown = sorted({str(value) for value in values.filter(pa.array(is_unknown)).to_pylist()})
        wrong = np.bincount(rows[is_unknown], minlength=len(self)) > 0
        shown = first_three([repr(value) for value in unknown])
        self.refuse(wrong, f"{name} that are no classes ({shown})", expected=list(classes))
        present = np.zeros((len(self), len(classes)), np.bool_)
        present[rows, columns] = True
        self.refuse(~present.any(axis=1), f"no {name}", expected="one class or more in every row")
        # Rows with the same set of names share one tuple.
        packed, of_row = np.unique(np.packbits(present, axis=1), axis=0, return_inverse=True)
        sets = [tuple(compress(classes, bits)) for bits in np.unpackbits(packed, axis=1, count=len(classes))]
        return [sets[number] for number in of_row.ravel().tolist()]

    def refuse(self, wrong: Any, what: str, *, expected: object, got: Any = None) -> None:
        """Raise an error that counts and names the rows that are wrong, if any are.

        Args:
            wrong: flags `[N]`, true where a row is wrong.
            what: end of the sentence "rows have …".
            expected: description of a right value.
            got: values of the rows, `[N]`; None where `what` describes them already.
        """
        rows = np.flatnonzero(np.asarray(wrong, np.bool_))
        if not len(rows):
            return
        raise SourceError(
            f"{self._path}: {len(rows):,} of {len(self):,} rows have {what}.",
            # One row more than are shown: it tells that there are more.
            got=first_three([self._described(int(row), got) for row in rows[:4]]),
            expected=expected,
            hint=self._hint,
        )

    def _described(self, row: int, got: Any) -> str:
        key = self._table[self._key][row].as_py() if self._key in self.names else None
        name = key if isinstance(key, str) and key.strip() else f"row {row + 1:,}"
        return name if got is None else f"{name} with {got[row].as_py()!r}"

    def _column(self, name: str) -> pa.Array:
        return _plain(self._table[name].combine_chunks())

    def _as_text(self, name: str, cells: pa.Array, *, allow_numbers: bool = False) -> pa.StringArray:
        """Convert cells, or the values of lists, to text; missing values stay missing."""
        cells = _plain(cells)
        is_text = _is_one_of(cells.type, _TEXTS) or (allow_numbers and _is_one_of(cells.type, _NUMBERS))
        try:
            if is_text or pa.types.is_null(cells.type):
                return pc.cast(cells, pa.string())
            reason = f"{cells.type}"
        except pa.ArrowInvalid as error:  # bytes that are not UTF-8 text
            reason = str(error)
        raise SourceError(
            f"{self._path}: the column {name} is of another type, in all of {len(self):,} rows.",
            got=f"{reason}, such as {cells[0].as_py()!r}" if len(cells) else reason,
            expected="text",
            hint=self._hint,
        )

    def _split(self, name: str, cells: pa.Array, classes: Sequence[str]) -> pa.ListArray:
        """Split lists that became text; a text with anything but names and separators is an unknown name."""
        # Half a million rows share a few thousand different texts: each text is split once.
        encoded = pc.fill_null(self._as_text(name, cells), "").dictionary_encode()
        pattern = re.compile("|".join(re.escape(one) for one in sorted(classes, key=len, reverse=True)))
        lists = [
            pattern.findall(text) if _BETWEEN_NAMES.fullmatch(pattern.sub("", text)) else [text]
            for text in encoded.dictionary.to_pylist()
        ]
        return pa.array(lists, pa.list_(pa.string())).take(encoded.indices)


def _plain(cells: pa.Array) -> pa.Array:
    """Replace dictionary-encoded cells (categories, factors) by the values that they stand for."""
    return cells.dictionary_decode() if pa.types.is_dictionary(cells.type) else cells


def _is_one_of(kind: pa.DataType, names: Sequence[str]) -> bool:
    return any(getattr(pa.types, f"is_{name}")(kind) for name in names)
