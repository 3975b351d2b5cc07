"""What v2's table states twice: each contradiction is refused with how many rows it concerns and the first of them."""

from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from fusmae.errors import SourceError
from fusmae.sources.patches import v2
from fusmae.sources.patches.facts import V2_COUNTRIES_OF_TILE

DAYS = ("20170613", "20170702", "20180506")


@pytest.fixture
def table() -> pd.DataFrame:
    """Twelve sound rows: two places of Austria and two of Finland on three dates."""
    rows = []
    for tile, country, position in (
        ("33UUP", "Austria", (26, 57)),
        ("33UUP", "Austria", (3, 7)),
        ("35VNL", "Finland", (9, 40)),
        ("35VNL", "Finland", (90, 0)),
    ):
        column, row = position
        for day in DAYS:
            rows.append(
                {
                    "patch_id": f"S2A_MSIL2A_{day}T093031_N9999_R022_T{tile}_{column:02d}_{row:02d}",
                    "labels": ["Pastures"],
                    "split": ("train", "validation", "test")[column % 3],
                    "country": country,
                    "s1_name": f"S1B_IW_GRDH_1SDV_{day}T165809_{tile}_{column}_{row}",
                    "s2v1_name": f"S2A_MSIL2A_{day}T93030_{column}_{row}",
                    "contains_seasonal_snow": False,
                    "contains_cloud_or_shadow": False,
                }
            )
    return pd.DataFrame(rows)


def read(table: pd.DataFrame, folder: Path) -> pd.DataFrame:
    table.to_parquet(folder / v2.TABLE)
    return v2.table_rows(folder / v2.TABLE)


def refused(table: pd.DataFrame, folder: Path) -> str:
    with pytest.raises(SourceError) as caught:
        read(table, folder)
    return str(caught.value)


def test_a_sound_table_is_read(table, tmp_path):
    rows = read(table, tmp_path)
    assert rows["patch_id"].to_list() == table["patch_id"].to_list()
    assert set(rows["labels"]) == {("Pastures",)}


def test_columns_that_a_table_lacks_are_not_asked_for(table, tmp_path):
    rows = read(table[["patch_id", "labels", "split", "s1_name"]], tmp_path)
    assert set(rows["country"]) == {""}
    assert not rows["contains_seasonal_snow"].any()


@pytest.mark.parametrize("column", ["s1_name", "s2v1_name"])
def test_permuted_names_are_counted_and_named(table, tmp_path, column):
    what = {"s1_name": "an s1_name of another place", "s2v1_name": "an s2v1_name of another patch"}[column]
    said = refused(table.assign(**{column: np.roll(table[column], 3)}), tmp_path)
    assert f"12 of 12 rows have {what}" in said
    assert said.count("S2A_MSIL2A") >= 3


def test_s1_names_of_another_date_of_the_same_place_are_refused(table, tmp_path):
    names = table["s1_name"].to_list()
    names[0], names[1] = names[1], names[0]
    said = refused(table.assign(s1_name=names), tmp_path)
    assert "2 of 12 rows have an s1_name of another date" in said
    assert "within 7 days" in said


@pytest.mark.parametrize("empty", ["", " ", None])
@pytest.mark.parametrize("column", ["patch_id", "s1_name", "split", "country", "s2v1_name"])
def test_empty_cells_are_counted_with_the_first_patches(table, tmp_path, column, empty):
    cells = table[column].astype(object)
    cells.iloc[[1, 4, 5, 7]] = empty
    said = refused(table.assign(**{column: cells}), tmp_path)
    assert f"4 of 12 rows have no {column}" in said
    assert ("row 2, row 5, row 6" if column == "patch_id" else table["patch_id"][4]) in said
    assert "dvc repro -f -s fetch" in said


def test_emptied_labels_are_refused_and_never_negatives(table, tmp_path):
    said = refused(table.assign(labels=[[]] * 5 + [["Pastures"]] * 7), tmp_path)
    assert "5 of 12 rows have no labels" in said
    assert table["patch_id"][0] in said


@pytest.mark.parametrize(
    ("column", "cell", "what"),
    [
        ("patch_id", "S2A_MSIL2A_20170613_T33UUP_26_57", "a name in patch_id of another form"),
        ("patch_id", "S1B_IW_GRDH_1SDV_20170613T165809_33UUP_26_57", "a name in patch_id of another form"),
        ("patch_id", "S2A_MSIL2A_20171399T093031_N9999_R022_T33UUP_26_57", "a name in patch_id of another form"),
        ("s1_name", "S1B_IW_GRDH_1SDV_20170613T165809_33UUP_26", "a name in s1_name of another form"),
        ("split", "Train", "a split that v2 does not know"),
        ("country", "Finnland", "a country where their tile does not lie"),
        ("labels", ["Pasture"], "labels that are no classes ('Pasture')"),
    ],
)
def test_misspelt_cells_are_counted_with_the_first_patches(table, tmp_path, column, cell, what):
    cells = table[column].astype(object).to_list()
    cells[3] = cells[8] = cell
    said = refused(table.assign(**{column: cells}), tmp_path)
    assert f"2 of 12 rows have {what}" in said


@pytest.mark.parametrize("column", ["patch_id", "s1_name"])
def test_doubled_names_are_counted(table, tmp_path, column):
    said = refused(pd.concat([table, table.head(2).assign()]), tmp_path)
    assert "4 of 14 rows have a name in patch_id that other rows have too" in said
    cells = table["s1_name"].to_list()
    cells[1] = cells[0]
    if column == "s1_name":
        assert "2 of 12 rows have a name in s1_name that other" in refused(table.assign(s1_name=cells), tmp_path)


def test_a_patch_in_both_tables_is_refused(table, tmp_path):
    table.to_parquet(tmp_path / v2.TABLE)
    table.head(2).assign(contains_seasonal_snow=True).to_parquet(tmp_path / v2.FLAGGED_TABLE)
    with pytest.raises(SourceError, match=rf"2 patches occur in both tables(.|\n)*{table['patch_id'][0]}"):
        v2.table_pairs(tmp_path, [], snow_and_clouds=True)


def test_countries_permuted_among_tiles_are_refused_with_where_the_tile_lies(table, tmp_path):
    said = refused(table.assign(country=table["country"].to_list()[::-1]), tmp_path)
    assert "12 of 12 rows have a country where their tile does not lie" in said
    assert "Austria, Finland" in said


def test_the_official_table_contradicts_itself_nowhere(shared_bigearthnet: Path):
    for name in (v2.TABLE, v2.FLAGGED_TABLE):
        assert len(v2.table_rows(shared_bigearthnet / name)) in (480_038, 69_450)


def test_tiles_and_countries_are_those_of_the_official_tables(shared_bigearthnet: Path):
    tables = [
        pd.read_parquet(shared_bigearthnet / name, columns=["patch_id", "country"])
        for name in (v2.TABLE, v2.FLAGGED_TABLE)
    ]
    both = pd.concat(tables).assign(tile=lambda rows: rows["patch_id"].str.split("_").str[5].str[1:])
    official = both.groupby("tile")["country"].agg(lambda found: tuple(sorted(set(found))))
    assert official.to_dict() == V2_COUNTRIES_OF_TILE


@pytest.mark.parametrize("count", [4800])
def test_damage_in_the_official_table_is_found_from_the_table_alone(shared_bigearthnet: Path, tmp_path: Path, count):
    table = pd.read_parquet(shared_bigearthnet / v2.TABLE).sample(20_000, random_state=0).reset_index(drop=True)
    labels = [[] if row < count else found for row, found in enumerate(table["labels"])]
    assert f"{count:,} of 20,000 rows have no labels" in refused(table.assign(labels=labels), tmp_path)
    shuffled = table["s1_name"].sample(frac=1, random_state=1).to_list()
    assert "rows have an s1_name of another place" in refused(table.assign(s1_name=shuffled), tmp_path)
