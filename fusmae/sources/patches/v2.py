"""The tables of BigEarthNet v2 (reBEN): its pairs, their splits and their classes."""

import sys
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from fusmae.data.index import SPLITS, Pair
from fusmae.errors import SourceError, first_three
from fusmae.sources.patches.facts import V2_COUNTRIES_OF_TILE
from fusmae.sources.patches.nomenclature import CLASSES
from fusmae.sources.patches.places import MAX_BETWEEN_SIDES, centres, ground_cell, parse_patch_name
from fusmae.sources.shared.columns import Columns

TABLE = "metadata.parquet"
"""Table of the pairs without snow, cloud or cloud shadow."""

FLAGGED_TABLE = "metadata_for_patches_with_snow_cloud_or_shadow.parquet"
"""Table of the pairs with seasonal snow, cloud or cloud shadow, called flagged pairs."""

# The dataset's authors publish both tables there.
_TABLES_PAGE = "https://doi.org/10.5281/zenodo.10891137"

FOLDERS = {"s1": "BigEarthNet-S1", "s2": "BigEarthNet-S2"}
"""Folder of each modality in the raw data."""

MAPS_FOLDER = "Reference_Maps"
"""Folder of the land-cover maps, which are named after the S2 patch."""

_SNOW, _CLOUD = "contains_seasonal_snow", "contains_cloud_or_shadow"
_RESTORE = {
    TABLE: "remove this table, then `dvc repro -f -s fetch`",
    FLAGGED_TABLE: f"download this table from {_TABLES_PAGE}, then `dvc repro -f -s fetch`; "
    "or set data.source.snow_and_clouds to false in params.yaml",
}
_PART = 20_000
_COLUMNS = ("patch_id", "labels", "split", "s1_name")
# Default values of columns that a table shortened by other programs may lack.
_OPTIONAL_COLUMNS: dict[str, str | bool] = {"country": "", _SNOW: False, _CLOUD: False}

_MAX_BETWEEN_VERSIONS_S = 10
"""Maximum time between the names of a patch in v1 and v2, in seconds; in the authors' tables it is 8 s at most."""

# Form of the names in each column, and an example.
_POSITION = r"_(?P<column>\d+)_(?P<row>\d+)$"
_PATTERNS = {
    "patch_id": (
        r"^(?P<satellite>S2[AB])_MSIL2A_(?P<day>\d{8})T(?P<time>\d{6})_N\d{4}_R\d{3}_T(?P<tile>\d{2}[A-Z]{3})"
        + _POSITION,
        "like S2A_MSIL2A_20170613T101031_N9999_R022_T33UUP_26_57",
    ),
    "s1_name": (
        r"^S1[AB]_IW_GRDH_1SDV_(?P<day>\d{8})T(?P<time>\d{6})_(?P<tile>\d{2}[A-Z]{3})" + _POSITION,
        "like S1B_IW_GRDH_1SDV_20170612T165809_33UUP_26_57",
    ),
    "s2v1_name": (
        r"^(?P<satellite>S2[AB])_MSIL2A_(?P<day>\d{8})T(?P<time>\d{5,6})" + _POSITION,
        "like S2A_MSIL2A_20170613T101031_26_57",
    ),
}


def table_pairs(raw: Path, countries: Sequence[str], *, snow_and_clouds: bool) -> list[Pair]:
    """Return the pairs of the chosen countries in the order of their keys, with the official splits.

    The official splits share no ground cell, so a place is one cell here, and every split is kept unchanged.
    `countries` are names as the table spells them, or empty for all; `snow_and_clouds` adds the flagged pairs.

    Raises:
        SourceError: a table is absent, damaged or truncated, or lacks a country.
    """
    rows = chosen_rows(raw, countries, snow_and_clouds=snow_and_clouds)
    # In parts, so that what is needed on the way to half a million pairs takes little memory.
    return [pair for at in range(0, len(rows), _PART) for pair in pairs_of_rows(rows[at : at + _PART])]


def pairs_of_rows(rows: pd.DataFrame) -> Iterator[Pair]:
    """Yield the pairs of rows of `table_rows`, in their order."""
    patches = [parse_patch_name(key) for key in rows["patch_id"]]
    for row, patch, (lon, lat) in zip(rows.to_dict("records"), patches, centres(patches), strict=True):
        yield Pair(
            key=row["patch_id"],
            files={"s1": patch_folder("s1", row["s1_name"]), "s2": patch_folder("s2", row["patch_id"])},
            labels=row["labels"],
            split=SPLITS[SPLITS.index(row["split"])],  # one text for all rows
            place=ground_cell(patch),
            date=patch.date,
            country=sys.intern(row["country"]),
            is_snowy=row[_SNOW],
            is_cloudy=row[_CLOUD],
            lon=lon,
            lat=lat,
        )


def patch_folder(modality: str, name: str) -> str:
    """Return a patch's folder in v2, relative to the raw data: scenes are folders; names of S1 scenes lack the tile."""
    scene = name.rsplit("_", 3 if modality == "s1" else 2)[0]
    return f"{FOLDERS[modality]}/{scene}/{name}"


def chosen_rows(raw: Path, countries: Sequence[str], *, snow_and_clouds: bool) -> pd.DataFrame:
    """Return the rows of `table_pairs`, with the same arguments and errors; all rows of the tables are checked."""
    tables = [table_rows(raw / TABLE)]
    if snow_and_clouds:
        tables.append(table_rows(raw / FLAGGED_TABLE))
    rows = pd.concat(tables, ignore_index=True)
    twice = rows["patch_id"][rows["patch_id"].duplicated()].to_list()
    if twice:
        problem = f"{len(twice):,} patches occur in both tables, {TABLE} and {FLAGGED_TABLE}."
        hint = _RESTORE[FLAGGED_TABLE]
        raise SourceError(problem, got=first_three(twice), expected="each in one of them", hint=hint)
    existing = sorted(rows["country"].unique())
    unknown = sorted(set(countries) - set(existing))
    if unknown:
        expected = f"some of {', '.join(filter(None, existing)) or 'none, because the table has no countries'}"
        hint = "correct data.source.countries in params.yaml; [] takes all"
        problem = f"BigEarthNet has no country {', '.join(unknown)}."
        raise SourceError(problem, got=list(countries), expected=expected, hint=hint)
    if countries:
        rows = rows[rows["country"].isin(countries)]
    if not snow_and_clouds:
        rows = rows[~(rows[_SNOW] | rows[_CLOUD])]
    return rows.sort_values("patch_id")


def table_rows(path: Path) -> pd.DataFrame:
    """Return the rows of one of v2's tables, written by any program: names, classes in the order of `CLASSES`, flags.

    Raises:
        SourceError: the table is absent, damaged, of another dataset, or its columns contradict one another.
    """
    columns = Columns(path, "patch_id", _RESTORE[path.name])
    missing = [column for column in _COLUMNS if column not in columns.names]
    if missing:
        got, expected = f"columns {', '.join(columns.names)}", f"{', '.join(missing)} too"
        problem = f"{path} is not BigEarthNet v2's table."
        raise SourceError(problem, got=got, expected=expected, hint=_RESTORE[path.name])
    splits = columns.text("split")
    is_other = ~np.isin(splits.to_numpy(zero_copy_only=False), SPLITS)
    columns.refuse(is_other, "a split that v2 does not know", got=splits, expected=", ".join(SPLITS))
    labels = pd.Series(columns.names_of("labels", CLASSES), dtype=object)
    _check_agreement(columns)
    names = [name for name in ("patch_id", "split", "s1_name", "country") if name in columns.names]
    texts: dict[str, Any] = {name: columns.text(name).to_pandas() for name in names}
    flags = {name: columns.flags(name) for name in (_SNOW, _CLOUD) if name in columns.names}
    return pd.DataFrame({**_OPTIONAL_COLUMNS, **texts, **flags, "labels": labels}, index=labels.index)


def _check_agreement(columns: Columns) -> None:
    """Refuse a table whose columns contradict one another; optional columns that it lacks are not checked."""
    names = {name: columns.text(name) for name in _PATTERNS if name in columns.names}
    parts = {name: _parts(columns, name, texts) for name, texts in names.items()}

    def refuse(wrong: Any, what: str, name: str, expected: str) -> None:
        columns.refuse(wrong, what, got=names[name], expected=expected)

    def differ(name: str, *which: str) -> Any:
        return np.any([parts[name][part] != parts["patch_id"][part] for part in which], axis=0)

    def seconds_between(name: str) -> Any:
        return np.abs(parts[name]["seconds"] - parts["patch_id"]["seconds"])

    for name in ("patch_id", "s1_name"):
        is_repeated = names[name].to_pandas().duplicated(keep=False)
        refuse(is_repeated, f"a name in {name} that other rows have too", name, "once")
    is_elsewhere = differ("s1_name", "tile", "column", "row")
    refuse(is_elsewhere, "an s1_name of another place", "s1_name", "the tile, column and row of the patch_id")
    is_later = seconds_between("s1_name") > MAX_BETWEEN_SIDES.total_seconds()
    within = f"within {MAX_BETWEEN_SIDES.days} days of the patch_id"
    refuse(is_later, "an s1_name of another date", "s1_name", within)
    if "s2v1_name" in names:
        is_other = differ("s2v1_name", "satellite", "column", "row")
        is_other |= seconds_between("s2v1_name") > _MAX_BETWEEN_VERSIONS_S
        same = "the satellite, date, column and row of the patch_id"
        refuse(is_other, "an s2v1_name of another patch", "s2v1_name", same)
    if "country" in columns.names:
        _check_countries(columns, parts["patch_id"]["tile"])


def _parts(columns: Columns, name: str, texts: pa.StringArray) -> dict[str, NDArray[Any]]:
    """Parse each name into parts, `[N]` by part: texts for `satellite` and `tile`, numbers for the others."""
    pattern, example = _PATTERNS[name]
    parsed = pc.extract_regex(texts, pattern=pattern)
    cells = {field.name: pc.struct_field(parsed, field.name) for field in parsed.type}
    days = pc.strptime(cells.pop("day"), format="%Y%m%d", unit="s", error_is_null=True)
    columns.refuse(pc.is_null(days), f"a name in {name} of another form", got=texts, expected=example)
    words = {part: cells.pop(part).to_numpy(zero_copy_only=False) for part in ("satellite", "tile") if part in cells}
    numbers = {part: pc.cast(cell, pa.int64()).to_numpy() for part, cell in cells.items()}
    # Version 1 omits leading zeros and has a second 61, so hours, minutes and seconds are added up instead of parsed.
    clock = numbers.pop("time")
    seconds = clock // 10_000 * 3600 + clock // 100 % 100 * 60 + clock % 100
    return {**words, **numbers, "seconds": pc.cast(days, pa.int64()).to_numpy() + seconds}


def _check_countries(columns: Columns, tiles: NDArray[Any]) -> None:
    countries = columns.text("country")
    # Any country is accepted for a tile that the authors' tables don't have.
    stated = zip(tiles, countries.to_pylist(), strict=True)
    wrong = np.array([name not in V2_COUNTRIES_OF_TILE.get(tile, (name,)) for tile, name in stated], np.bool_)
    lies_in = sorted({" or ".join(V2_COUNTRIES_OF_TILE[tile]) for tile in tiles[wrong]})
    columns.refuse(wrong, "a country where their tile does not lie", got=countries, expected=", ".join(lies_in[:3]))
