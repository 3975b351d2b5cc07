"""The tables of BigEarthNet v2 (reBEN): its pairs, their splits and their classes."""

import sys
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from fusmae.data.index import SPLITS, Pair
from fusmae.errors import SourceError
from fusmae.sources.patches.facts import V2_COUNTRIES_OF_TILE
from fusmae.sources.patches.nomenclature import CLASSES
from fusmae.sources.patches.places import MAX_BETWEEN_SIDES, centres, ground_cell, parse_patch_name
from fusmae.sources.shared.columns import Columns

if TYPE_CHECKING:
    import pyarrow as pa
    from pandas import DataFrame

TABLE = "metadata.parquet"
"""Table of the pairs without snow, cloud or cloud shadow."""

FLAGGED_TABLE = "metadata_for_patches_with_snow_cloud_or_shadow.parquet"
"""Table of the pairs with seasonal snow, cloud or cloud shadow, called flagged pairs."""

TABLES_PAGE = "https://doi.org/10.5281/zenodo.10891137"
"""Address where the dataset's authors publish both tables."""

FOLDERS = {"s1": "BigEarthNet-S1", "s2": "BigEarthNet-S2"}
"""Folder of each modality in the raw data."""

MAPS_FOLDER = "Reference_Maps"
"""Folder of the land-cover maps, which are named after the S2 patch."""

_SNOW, _CLOUD = "contains_seasonal_snow", "contains_cloud_or_shadow"
_RESTORE = {
    TABLE: "remove this table, then `dvc repro -f -s fetch`",
    FLAGGED_TABLE: f"download this table again from {TABLES_PAGE}, then `dvc repro -f -s fetch`",
}
_PART = 20_000
_COLUMNS = ("patch_id", "labels", "split", "s1_name")
# Default values of columns that a table shortened by other programs may lack.
_OPTIONAL_COLUMNS: dict[str, str | bool] = {"country": "", _SNOW: False, _CLOUD: False}

_MAX_BETWEEN_VERSIONS_S = 10
"""Maximum time between the names of a patch in v1 and v2, in seconds; in the authors' tables it is 8 s at most."""

_POSITION = r"_(?P<column>\d+)_(?P<row>\d+)$"
_PATTERNS = {
    "patch_id": r"^(?P<satellite>S2[AB])_MSIL2A_(?P<day>\d{8})T(?P<time>\d{6})_N\d{4}_R\d{3}_T(?P<tile>\d{2}[A-Z]{3})"
    + _POSITION,
    "s1_name": r"^S1[AB]_IW_GRDH_1SDV_(?P<day>\d{8})T(?P<time>\d{6})_(?P<tile>\d{2}[A-Z]{3})" + _POSITION,
    "s2v1_name": r"^(?P<satellite>S2[AB])_MSIL2A_(?P<day>\d{8})T(?P<time>\d{5,6})" + _POSITION,
}
_EXAMPLES = {
    "patch_id": "like S2A_MSIL2A_20170613T101031_N9999_R022_T33UUP_26_57",
    "s1_name": "like S1B_IW_GRDH_1SDV_20170612T165809_33UUP_26_57",
    "s2v1_name": "like S2A_MSIL2A_20170613T101031_26_57",
}


def table_pairs(raw: Path, countries: Sequence[str], *, snow_and_clouds: bool) -> list[Pair]:
    """Return the pairs of the chosen countries in the order of their keys, with the official splits.

    The official splits share no ground cell, so a place is one cell here, and every split is kept unchanged.

    Args:
        raw: folder of the raw data.
        countries: names of countries as the table spells them; empty for all.
        snow_and_clouds: whether to take the flagged pairs too.

    Raises:
        SourceError: a table is absent, damaged or truncated, or lacks a country.
    """
    rows = chosen_rows(raw, countries, snow_and_clouds=snow_and_clouds)
    # In parts, so that what is needed on the way to half a million pairs takes little memory.
    return [pair for at in range(0, len(rows), _PART) for pair in _pairs_of(rows[at : at + _PART])]


def _pairs_of(rows: "DataFrame") -> Iterator[Pair]:
    keys = rows["patch_id"].to_list()
    patches = [parse_patch_name(key) for key in keys]
    splits = {split: split for split in SPLITS}
    columns = (rows[column].to_list() for column in ("labels", "s1_name", "split", "country", _SNOW, _CLOUD))
    for key, patch, (lon, lat), classes, s1_name, split, country, is_snowy, is_cloudy in zip(
        keys, patches, centres(patches), *columns, strict=True
    ):
        yield Pair(
            key=key,
            files={"s1": patch_folder("s1", s1_name), "s2": patch_folder("s2", key)},
            labels=classes,
            split=splits[split],
            place=ground_cell(patch),
            date=patch.date,
            country=sys.intern(country),
            is_snowy=is_snowy,
            is_cloudy=is_cloudy,
            lon=lon,
            lat=lat,
        )


def patch_folder(modality: str, name: str) -> str:
    """Return a patch's folder in v2, relative to the raw data: scenes are folders; names of S1 scenes lack the tile."""
    scene = name.rsplit("_", 3 if modality == "s1" else 2)[0]
    return f"{FOLDERS[modality]}/{scene}/{name}"


def patch_names(raw: Path, countries: Sequence[str], *, snow_and_clouds: bool) -> set[str]:
    """Return the names of the S1 and S2 patches of the pairs that `table_pairs` returns."""
    rows = chosen_rows(raw, countries, snow_and_clouds=snow_and_clouds)
    return {*rows["patch_id"], *rows["s1_name"]}


def flagged_table(raw: Path) -> Path:
    """Return the path of the table of flagged pairs.

    Raises:
        SourceError: the table is absent; unlike the other files, the user must download it.
    """
    path = raw / FLAGGED_TABLE
    if not path.exists():
        raise SourceError(
            f"There is no table {path}, which lists the pairs with snow, cloud or cloud shadow.",
            hint=f"download it from {TABLES_PAGE} and put it there, "
            "or set data.source.snow_and_clouds to false in params.yaml",
        )
    return path


def chosen_rows(raw: Path, countries: Sequence[str], *, snow_and_clouds: bool) -> "DataFrame":
    """Return the rows of `table_pairs`, with the same arguments and errors; all rows of the tables are checked."""
    import pandas as pd

    tables = [table_rows(raw / TABLE)]
    if snow_and_clouds:
        tables.append(table_rows(flagged_table(raw)))
    rows = pd.concat(tables, ignore_index=True)
    twice = rows["patch_id"][rows["patch_id"].duplicated()].to_list()
    if twice:
        raise SourceError(
            f"{len(twice):,} patches occur in both tables, {TABLE} and {FLAGGED_TABLE}.",
            got=", ".join(twice[:3]) + (" …" if len(twice) > 3 else ""),
            expected="each in one of them",
            hint=_RESTORE[FLAGGED_TABLE],
        )
    existing = sorted(rows["country"].unique())
    unknown = sorted(set(countries) - set(existing))
    if unknown:
        raise SourceError(
            f"BigEarthNet has no country {', '.join(unknown)}.",
            got=list(countries),
            expected=f"some of {', '.join(filter(None, existing)) or 'none, because the table has no countries'}",
            hint="correct data.source.countries in params.yaml; [] takes all",
        )
    if countries:
        rows = rows[rows["country"].isin(countries)]
    if not snow_and_clouds:
        rows = rows[~(rows[_SNOW] | rows[_CLOUD])]
    return rows.sort_values("patch_id")


def table_rows(path: Path) -> "DataFrame":
    """Return the rows of one of v2's tables, written by any program: names, classes in the order of `CLASSES`, flags.

    Raises:
        SourceError: the table is absent, damaged, of another dataset, or its columns contradict one another; the error
            counts the rows and names the first.
    """
    import pandas as pd

    columns = Columns(path, "patch_id", _RESTORE[path.name])
    missing = [column for column in _COLUMNS if column not in columns.names]
    if missing:
        raise SourceError(
            f"{path} is not BigEarthNet v2's table.",
            got=f"columns {', '.join(columns.names)}",
            expected=f"{', '.join(missing)} too",
            hint=_RESTORE[path.name],
        )
    splits = columns.text("split")
    columns.refuse(
        ~np.isin(splits.to_numpy(zero_copy_only=False), SPLITS),
        "a split that v2 does not know",
        got=splits,
        expected=", ".join(SPLITS),
    )
    labels = pd.Series(columns.names_of("labels", CLASSES), dtype=object)
    _check_agreement(columns)
    texts: dict[str, Any] = {
        name: columns.text(name).to_pandas()
        for name in ("patch_id", "split", "s1_name", "country")
        if name in columns.names
    }
    flags = {name: columns.flags(name) for name in (_SNOW, _CLOUD) if name in columns.names}
    return pd.DataFrame({**_OPTIONAL_COLUMNS, **texts, **flags, "labels": labels}, index=labels.index)


def _check_agreement(columns: Columns) -> None:
    """Refuse a table whose columns contradict one another; optional columns that it lacks are not checked.

    Raises:
        SourceError: names can't be parsed, occur twice or are of another place or date, or a country does not match
            the tile.
    """
    names = {name: columns.text(name) for name in _PATTERNS if name in columns.names}
    parts = {name: _parts(columns, name, text) for name, text in names.items()}
    for name in ("patch_id", "s1_name"):
        columns.refuse(
            _repeated(names[name]), f"a name in {name} that other rows have too", got=names[name], expected="once"
        )
    s2, s1 = parts["patch_id"], parts["s1_name"]
    columns.refuse(
        _differ(s2, s1, "tile", "column", "row"),
        "an s1_name of another place",
        got=names["s1_name"],
        expected="the tile, column and row of the patch_id",
    )
    columns.refuse(
        np.abs(s2["seconds"] - s1["seconds"]) > MAX_BETWEEN_SIDES.total_seconds(),
        "an s1_name of another date",
        got=names["s1_name"],
        expected=f"within {MAX_BETWEEN_SIDES.days} days of the patch_id",
    )
    if "s2v1_name" in names:
        first = parts["s2v1_name"]
        is_later = np.abs(s2["seconds"] - first["seconds"]) > _MAX_BETWEEN_VERSIONS_S
        columns.refuse(
            _differ(s2, first, "satellite", "column", "row") | is_later,
            "an s2v1_name of another patch",
            got=names["s2v1_name"],
            expected="the satellite, date, column and row of the patch_id",
        )
    if "country" in columns.names:
        _check_countries(columns, s2["tile"])


def _repeated(texts: "pa.StringArray") -> NDArray[np.bool_]:
    """Return where a text occurs in another row too, `[N]`."""
    codes = np.asarray(texts.dictionary_encode().indices.to_numpy(zero_copy_only=False), np.int64)
    return np.asarray(np.bincount(codes)[codes] > 1, np.bool_)


def _parts(columns: Columns, name: str, texts: "pa.StringArray") -> dict[str, NDArray[Any]]:
    """Parse each name into parts, `[N]` by part: texts for `satellite` and `tile`, numbers for the others."""
    import pyarrow as pa
    import pyarrow.compute as pc

    parsed = pc.extract_regex(texts, pattern=_PATTERNS[name])
    cells = {field.name: pc.struct_field(parsed, field.name) for field in parsed.type}
    days = pc.strptime(cells.pop("day"), format="%Y%m%d", unit="s", error_is_null=True)
    columns.refuse(pc.is_null(days), f"a name in {name} of another form", got=texts, expected=_EXAMPLES[name])
    words = {part: cells.pop(part).to_numpy(zero_copy_only=False) for part in ("satellite", "tile") if part in cells}
    numbers = {part: _numbers(pc.cast(text, pa.int64())) for part, text in cells.items()}
    # Version 1 omits leading zeros and has a second 61, so hours, minutes and seconds are added up instead of parsed.
    clock = numbers.pop("time")
    seconds = clock // 10_000 * 3600 + clock // 100 % 100 * 60 + clock % 100
    return {**words, **numbers, "seconds": _numbers(pc.cast(days, pa.int64())) + seconds}


def _numbers(cells: "pa.Array") -> NDArray[np.int64]:
    return np.asarray(cells.to_numpy(zero_copy_only=False), np.int64)


def _differ(
    one: dict[str, NDArray[Any]],
    other: dict[str, NDArray[Any]],
    *parts: str,
) -> NDArray[np.bool_]:
    return np.asarray(np.any([one[part] != other[part] for part in parts], axis=0), np.bool_)


def _check_countries(columns: Columns, tiles: NDArray[Any]) -> None:
    import pyarrow as pa

    countries = columns.text("country")
    tile, country = (texts.dictionary_encode() for texts in (pa.array(tiles, pa.string()), countries))
    names = country.dictionary.to_pylist()
    # Any country is accepted for a tile that the authors' tables don't have.
    is_right = np.array(
        [[name in V2_COUNTRIES_OF_TILE.get(one, (name,)) for name in names] for one in tile.dictionary.to_pylist()],
        np.bool_,
    )
    wrong = ~is_right.reshape(len(tile.dictionary), len(names))[_numbers(tile.indices), _numbers(country.indices)]
    lies_in = sorted({" or ".join(V2_COUNTRIES_OF_TILE[one]) for one in set(tiles[wrong].tolist())})
    columns.refuse(wrong, "a country where their tile does not lie", got=countries, expected=", ".join(lies_in[:3]))
