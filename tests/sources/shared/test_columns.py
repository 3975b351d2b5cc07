import re
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from fusmae.errors import SourceError
from fusmae.sources.shared.columns import Columns

CLASSES = ("Arable land", "Beaches, dunes, sands", "Pastures")
SETS = [
    ("Pastures", "Arable land"),
    ("Beaches, dunes, sands",),
    ("Arable land", "Beaches, dunes, sands"),
    ("Pastures",),
]
EXPECTED = [tuple(one for one in CLASSES if one in found) for found in SETS]
KEYS = ["p1", "p2", "p3", "p4"]


@pytest.fixture
def saved(tmp_path: Path) -> Callable[..., Columns]:
    """A table with four rows and these columns more."""

    def save(**columns) -> Columns:
        pq.write_table(pa.table({"key": pa.array(KEYS), **columns}), tmp_path / "table.parquet")
        return Columns(tmp_path / "table.parquet", "key", "the hint")

    return save


LISTS = {
    "list": pa.array(SETS, pa.list_(pa.string())),
    "large list of large text": pa.array(SETS, pa.large_list(pa.large_string())),
    "list of categories": pa.ListArray.from_arrays(
        pa.array([0, 2, 3, 5, 6]), pa.array([one for found in SETS for one in found]).dictionary_encode()
    ),
    "Python's notation": pa.array([str(list(found)) for found in SETS]),
    "tuples": pa.array([str(found) for found in SETS]),
    "NumPy's notation": pa.array([str(np.array(found, object)) for found in SETS]),
    "JSON": pa.array(["[" + ", ".join(f'"{one}"' for one in found) + "]" for found in SETS]),
    "semicolons": pa.array(["; ".join(found) for found in SETS]),
    "bars": pa.array(["|".join(found) for found in SETS], pa.large_string()),
    "commas": pa.array([", ".join(found) for found in SETS]),
    "categories": pa.array([";".join(found) for found in SETS]).dictionary_encode(),
    "bytes": pa.array([";".join(found).encode() for found in SETS]),
}


@pytest.mark.parametrize("form", LISTS)
def test_lists_of_names_are_read_in_every_form_in_which_tools_save_them(saved, form):
    assert saved(labels=LISTS[form]).names_of("labels", CLASSES) == EXPECTED


def test_lists_that_pandas_saved_as_csv_and_read_again_are_the_same(saved, tmp_path):
    path = tmp_path / "again.csv"
    pd.DataFrame({"labels": [np.array(found, object) for found in SETS]}).to_csv(path, index=False)
    assert saved(labels=pa.array(pd.read_csv(path)["labels"])).names_of("labels", CLASSES) == EXPECTED


@pytest.mark.parametrize(
    ("cells", "said"),
    [
        (
            pa.array([["Pastures"], ["Lava"], ["Lava", "Ash"], ["Pastures"]]),
            r"2 of 4 .*no classes \('Ash', 'Lava'\).\n.*p2, p3",
        ),
        (pa.array(["Pastures", "Lava", "Non-irrigated Arable land", "Pastures"]), r"2 of 4 .*no classes(.|\n)*p2, p3"),
        (pa.array([["Pastures"], [None], ["Pastures"], ["Pastures"]], pa.list_(pa.string())), r"1 of 4 .*\n.*p2"),
        (
            pa.array([["Pastures"], [], None, ["Pastures"]], pa.list_(pa.string())),
            r"2 of 4 rows have no labels.\n.*p2, p3",
        ),
        (pa.array(["Pastures", "", None, "[]"]), r"3 of 4 rows have no labels.\n.*p2, p3, p4"),
        (pa.nulls(4), r"4 of 4 rows have no labels.\n.*p1, p2, p3 …"),
        (pa.array([1, 2, 3, 4]), r"column labels is of another type, in all of 4 rows.\n.*int64, such as 1"),
        (pa.array([[1], [2], [3], [4]]), r"column labels is of another type"),
    ],
)
def test_other_lists_are_refused_with_column_count_and_keys(saved, cells, said):
    with pytest.raises(SourceError, match=said):
        saved(labels=cells).names_of("labels", CLASSES)


FLAGS = {
    "bool": pa.array([True, False, True, False]),
    "int": pa.array([1, 0, 1, 0], pa.int8()),
    "float": pa.array([1.0, 0.0, 1.0, 0.0]),
    "words": pa.array(["True", "False", "true", "FALSE"]),
    "R's words": pa.array(["TRUE", "FALSE", "TRUE", "FALSE"]).dictionary_encode(),
    "digits": pa.array(["1", "0", "1.0", "0.0"], pa.large_string()),
    "bytes": pa.array([b"1", b"0", b"1", b"0"]),
}


@pytest.mark.parametrize("form", FLAGS)
def test_flags_are_read_in_every_form_in_which_tools_save_them(saved, form):
    assert saved(flag=FLAGS[form]).flags("flag").tolist() == [True, False, True, False]


@pytest.mark.parametrize(
    ("cells", "said"),
    [
        (pa.array([1, 0, 2, 7]), r"2 of 4 rows have another flag.\n.*p3 with 2, p4 with 7\n.*true or false"),
        (pa.array(["yes", "no", "true", "false"]), r"2 of 4 rows have another flag.\n.*p1 with 'yes', p2 with 'no'"),
        (pa.array([True, None, True, False]), r"1 of 4 rows have no flag.\n.*p2"),
        (pa.array([0.5, 0.0, 1.0, 1.0]), r"1 of 4 rows have another flag.\n.*p1 with 0.5"),
    ],
)
def test_other_flags_are_refused(saved, cells, said):
    with pytest.raises(SourceError, match=said):
        saved(flag=cells).flags("flag")


@pytest.mark.parametrize(
    "kind", [pa.string(), pa.large_string(), pa.string_view(), pa.binary(), pa.dictionary(pa.int32(), pa.string())]
)
def test_text_is_read_in_every_type_of_text(saved, kind):
    cells = pa.array(KEYS).dictionary_encode() if pa.types.is_dictionary(kind) else pa.array(KEYS).cast(kind)
    assert saved(name=cells).text("name").to_pylist() == KEYS


@pytest.mark.parametrize(
    ("cells", "said"),
    [
        (pa.array(["a", "", " ", None]), r"3 of 4 rows have no name.\n.*p2, p3, p4"),
        (pa.nulls(4), r"4 of 4 rows have no name"),
        (pa.array([20170613] * 4), r"column name is of another type, in all of 4 rows.\n.*int64, such as 20170613"),
        (pa.array([b"\xd6"] * 4), r"column name is of another type(.|\n)*UTF8"),
    ],
)
def test_other_text_is_refused(saved, cells, said):
    with pytest.raises(SourceError, match=said) as caught:
        saved(name=cells).text("name")
    assert re.search(r"next: +the hint", str(caught.value))


def test_a_row_without_a_key_is_named_by_its_number(tmp_path):
    pq.write_table(pa.table({"key": ["a", None, ""]}), tmp_path / "table.parquet")
    with pytest.raises(SourceError, match=r"2 of 3 rows have no key.\n.*row 2, row 3"):
        Columns(tmp_path / "table.parquet", "key", "").text("key")
