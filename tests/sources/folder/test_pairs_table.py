import unicodedata
from datetime import UTC, datetime
from pathlib import Path

import pytest

from fusmae.config.task import Task
from fusmae.errors import SourceError
from fusmae.sources.folder.pairs_table import PairRow, read_pairs_table

CLASSES = ("water", "land", "Gewässer")
TABLE = "key,labels,split,place,date,country\na,water,train,north,2017-06-13,Finland\nb,water;land,test,,,\n"


def read(folder: Path, table: str | bytes) -> list[PairRow]:
    data = table if isinstance(table, bytes) else table.encode()
    (folder / "pairs.csv").write_bytes(data)
    return read_pairs_table(folder / "pairs.csv", Task(classes=CLASSES))


def refused(folder: Path, table: str | bytes) -> str:
    with pytest.raises(SourceError) as caught:
        read(folder, table)
    return str(caught.value)


def resaved(delimiter: str, ends: str, *, quoted: bool, is_wide: bool = False) -> str:
    """The table as a spreadsheet writes it: other delimiters, quotes, filled up rows, empty last lines."""
    lines = []
    for line in TABLE.splitlines():
        cells = [f'"{cell}"' if quoted or delimiter in cell else cell for cell in line.split(",")]
        lines.append(delimiter.join([*cells, "", ""] if is_wide else cells))
    width = len(TABLE.splitlines()[0].split(","))
    return ends.join([*lines, delimiter * (width - 1), "", ""])


@pytest.mark.parametrize("delimiter", [",", ";", "\t"])
@pytest.mark.parametrize("ends", ["\n", "\r\n", "\r"])
@pytest.mark.parametrize("shape", [{"quoted": False}, {"quoted": True}, {"quoted": False, "is_wide": True}])
@pytest.mark.parametrize("mark", ["", "\ufeff"])
def test_a_table_as_spreadsheets_save_it_says_the_same(tmp_path, delimiter, ends, shape, mark):
    assert read(tmp_path, mark + resaved(delimiter, ends, **shape)) == read(tmp_path, TABLE)


def test_spaces_around_cells_don_t_matter(tmp_path):
    assert read(tmp_path, 'key, labels ,place\n a , "water;land", "x, y" \n')[0].place == "x, y"


def test_labels_with_semicolons_in_a_table_of_semicolons_need_quotes(tmp_path):
    said = refused(tmp_path, "key;labels;split\na;water;land;train\n")
    assert "line 2: the row can't be used" in said
    assert "3 cells; a cell with ';' in it in quotes" in said


@pytest.mark.parametrize("date", ["07.06.2020", "6/7/2020", "43989", "2020", "7-Jun-20", "2020-06-31"])
def test_dates_that_mean_two_days_or_none_are_refused_with_lines_and_count(tmp_path, date):
    rows = "".join(f"p{number},water,{date}\n" for number in range(6))
    said = refused(tmp_path, f"key,labels,date\na,water,2020-06-07\n{rows}")
    assert "pairs.csv, lines 3, 4, 5 and 3 more: the date can't be used" in said
    assert f"{date!r}" in said
    assert "like 2017-06-13" in said


@pytest.mark.parametrize(
    ("date", "expected"),
    [
        ("2020-06-07", datetime(2020, 6, 7, tzinfo=UTC)),
        ("2020-06-07 00:00:00", datetime(2020, 6, 7, tzinfo=UTC)),
        ("2020-06-07T10:31:02Z", datetime(2020, 6, 7, 10, 31, 2, tzinfo=UTC)),
        ("2020-06-07T10:31:02+02:00", datetime(2020, 6, 7, 8, 31, 2, tzinfo=UTC)),
        ("", datetime(1970, 1, 1, tzinfo=UTC)),
    ],
)
def test_dates_are_utc(tmp_path, date, expected):
    (row,) = read(tmp_path, f"key,labels,date\na,water,{date}\n")
    assert (row.date, row.date.tzinfo) == (expected, UTC)


@pytest.mark.parametrize("split", ["Train", "1.0", "val", "0"])
def test_splits_are_never_guessed(tmp_path, split):
    assert "line 2: the split can't be used" in refused(tmp_path, f"key,labels,split\na,water,{split}\n")


@pytest.mark.parametrize("labels", ["['water', 'land']", '"[""water""]"', "water/land", "Water"])
def test_labels_in_another_notation_are_refused(tmp_path, labels):
    assert "line 2: the labels can't be used" in refused(tmp_path, f'key,labels\na,"{labels.strip(chr(34))}"\n')


def test_a_class_that_stands_twice_in_a_cell_is_one(tmp_path):
    assert read(tmp_path, "key,labels\na,water;water\n")[0].labels == ("water",)


def test_every_name_is_composed(tmp_path):
    table = "key,labels,place,country\nZürich,Gewässer,Genève,Österreich\n"
    (row,) = read(tmp_path, unicodedata.normalize("NFD", table))
    assert (row.key, row.labels, row.place, row.country) == ("Zürich", ("Gewässer",), "Genève", "Österreich")


@pytest.mark.parametrize("hidden", ["\u200b", "\u00ad", "\ufeff", "\x1a"])
def test_a_character_that_can_t_be_seen_is_refused_with_its_line(tmp_path, hidden):
    said = refused(tmp_path, f"key,labels,place\na,water,north\nb,water,nor{hidden}th\n")
    assert "line 3: the row can't be used" in said
    assert f"U+{ord(hidden):04X}" in said


def test_a_table_that_is_not_utf8_is_refused_with_its_command(tmp_path):
    said = refused(tmp_path, "key,labels,country\na,water,Österreich\n".encode("cp1252"))
    assert "pairs.csv, line 2: not UTF-8" in said
    assert "'Österreich' in WINDOWS-1252" in said


def test_an_empty_line_at_the_top_is_no_header(tmp_path):
    assert [row.key for row in read(tmp_path, "\n\nkey,labels\na,water\n")] == ["a"]
