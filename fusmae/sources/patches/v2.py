"""The tables of BigEarthNet v2 (reBEN): its pairs, their splits and their classes."""

import sys
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from fusmae.data.index import SPLITS, Pair
from fusmae.errors import SourceError
from fusmae.sources.patches.agreement import check_agreement
from fusmae.sources.patches.names import parse_patch_name
from fusmae.sources.patches.nomenclature import CLASSES
from fusmae.sources.patches.places import centres, ground_cell
from fusmae.sources.shared.columns import Columns

if TYPE_CHECKING:
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
    FLAGGED_TABLE: f"download this table anew from {TABLES_PAGE}, then `dvc repro -f -s fetch`",
}
_COLUMNS = ("patch_id", "labels", "split", "s1_name")
# Default values of columns that a table shortened by other programs may lack.
_OPTIONAL_COLUMNS: dict[str, str | bool] = {"country": "", _SNOW: False, _CLOUD: False}


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
    keys = rows["patch_id"].to_list()
    patches = [parse_patch_name(key) for key in keys]
    splits = {split: split for split in SPLITS}
    return [
        Pair(
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
        for key, patch, (lon, lat), classes, s1_name, split, country, is_snowy, is_cloudy in zip(
            keys,
            patches,
            centres(patches),
            *(rows[column].to_list() for column in ("labels", "s1_name", "split", "country", _SNOW, _CLOUD)),
            strict=True,
        )
    ]


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
            f"{len(twice):,} patches stand in both tables, {TABLE} and {FLAGGED_TABLE}.",
            got=", ".join(twice[:3]) + (" …" if len(twice) > 3 else ""),
            expected="each in one of them",
            hint=_RESTORE[FLAGGED_TABLE],
        )
    known = sorted(rows["country"].unique())
    unknown = sorted(set(countries) - set(known))
    if unknown:
        raise SourceError(
            f"BigEarthNet has no country {', '.join(unknown)}.",
            got=list(countries),
            expected=f"some of {', '.join(filter(None, known)) or 'none, for the table has no countries'}",
            hint="mend data.source.countries in params.yaml; [] takes all",
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
    check_agreement(columns)
    texts: dict[str, Any] = {
        name: columns.text(name).to_pandas()
        for name in ("patch_id", "split", "s1_name", "country")
        if name in columns.names
    }
    flags = {name: columns.flags(name) for name in (_SNOW, _CLOUD) if name in columns.names}
    return pd.DataFrame({**_OPTIONAL_COLUMNS, **texts, **flags, "labels": labels}, index=labels.index)
