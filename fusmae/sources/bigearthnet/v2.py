"""The tables of BigEarthNet v2 (reBEN): which pairs there are, and what they show."""

import sys
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from fusmae.data.index import SPLITS, Pair
from fusmae.errors import SourceError
from fusmae.sources.bigearthnet.names import parse_patch_name
from fusmae.sources.bigearthnet.nomenclature import in_table_order
from fusmae.sources.bigearthnet.places import centres, ground_cell

if TYPE_CHECKING:
    from pandas import DataFrame

TABLE = "metadata.parquet"
"""The clear pairs."""

FLAGGED_TABLE = "metadata_for_patches_with_snow_cloud_or_shadow.parquet"
"""The pairs with seasonal snow, cloud or cloud shadow."""

TABLES_PAGE = "https://doi.org/10.5281/zenodo.10891137"
"""Where the dataset's authors publish both tables."""

FOLDERS = {"s1": "BigEarthNet-S1", "s2": "BigEarthNet-S2"}
"""Folder of each modality."""

MAPS_FOLDER = "Reference_Maps"
"""Folder of the land-cover maps, which are named after the s2 patch."""

_SNOW, _CLOUD = "contains_seasonal_snow", "contains_cloud_or_shadow"
_COLUMNS = ("patch_id", "labels", "split", "s1_name")
# A table cut by other tools may lack these; what it cannot say is not asked of it.
_OPTIONAL_COLUMNS: dict[str, str | bool] = {"country": "", _SNOW: False, _CLOUD: False}


def table_pairs(raw: Path, countries: Sequence[str], *, snow_and_clouds: bool) -> list[Pair]:
    """The pairs of the chosen countries in the order of their keys, with the official splits.

    The official splits share no ground cell, so a place is one cell here and every split is kept as it is.

    Args:
        raw: the raw folder.
        countries: as the table spells them; none for all.
        snow_and_clouds: take the flagged pairs too.

    Raises:
        SourceError: a table is absent, damaged or cut, or does not know a country.
    """
    rows = _chosen_rows(raw, countries, snow_and_clouds=snow_and_clouds)
    keys = rows["patch_id"].to_list()
    patches = [parse_patch_name(key) for key in keys]
    splits = {split: split for split in SPLITS}
    return [
        Pair(
            key=key,
            s1=patch_folder("s1", s1_name),
            s2=patch_folder("s2", key),
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
    """Where v2 keeps a patch, relative to the raw folder: scenes are folders, and S1 scenes lack the tile."""
    scene = name.rsplit("_", 3 if modality == "s1" else 2)[0]
    return f"{FOLDERS[modality]}/{scene}/{name}"


def patch_names(raw: Path, countries: Sequence[str], *, snow_and_clouds: bool) -> set[str]:
    """Names of both sides of the pairs that `table_pairs` gives."""
    rows = _chosen_rows(raw, countries, snow_and_clouds=snow_and_clouds)
    return {*rows["patch_id"], *rows["s1_name"]}


def flagged_table(raw: Path) -> Path:
    """Where the table of flagged pairs is.

    Raises:
        SourceError: it is not there; unlike the rest it has to be brought by hand.
    """
    path = raw / FLAGGED_TABLE
    if not path.exists():
        raise SourceError(
            f"There is no table {path}, which lists the pairs with snow, cloud or cloud shadow.",
            hint=f"download it from {TABLES_PAGE} and put it there, "
            "or set data.source.snow_and_clouds to false in params.yaml",
        )
    return path


def _chosen_rows(raw: Path, countries: Sequence[str], *, snow_and_clouds: bool) -> "DataFrame":
    import pandas as pd

    tables = [_table(raw / TABLE)]
    if snow_and_clouds:
        tables.append(_table(flagged_table(raw)))
    rows = pd.concat(tables, ignore_index=True)
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


def _table(path: Path) -> "DataFrame":
    import pandas as pd

    if not path.exists():
        raise SourceError(f"There is no table {path}.", hint="dvc repro -f -s fetch")
    try:
        table = pd.read_parquet(path)
    except (OSError, ValueError) as error:  # pyarrow's own errors are of these kinds
        raise SourceError(f"The table {path} cannot be read: {error}", hint="dvc repro -f -s fetch") from error
    missing = [column for column in _COLUMNS if column not in table]
    if missing:
        raise SourceError(
            f"{path} is not BigEarthNet v2's table.",
            got=f"columns {', '.join(table.columns)}",
            expected=f"{', '.join(missing)} too",
            hint="dvc repro -f -s fetch",
        )
    holes = table[[name for name in (*_COLUMNS, *_OPTIONAL_COLUMNS) if name in table]].isna()
    if holes.to_numpy().any():
        row, column = (int(found[0]) for found in holes.to_numpy().nonzero())
        raise SourceError(
            f"{path} has {int(holes.to_numpy().sum())} empty cells.",
            got=f"row {row} has no {holes.columns[column]}",
            expected="every cell filled, as in the authors' table",
            hint="dvc repro -f -s fetch",
        )
    unknown = sorted(set(table["split"].unique()) - set(SPLITS))
    if unknown:
        raise SourceError(f"{path} has splits that v2 does not know.", got=unknown, expected=list(SPLITS))
    # A few thousand sets of labels serve half a million pairs: each is sorted and kept once.
    sets: dict[tuple[str, ...], tuple[str, ...]] = {}
    labels = [sets.get(found) or sets.setdefault(found, in_table_order(found)) for found in map(tuple, table["labels"])]
    missing_columns = {name: value for name, value in _OPTIONAL_COLUMNS.items() if name not in table}
    table = table.assign(**missing_columns, labels=pd.Series(labels, index=table.index, dtype=object))
    return table[[*_COLUMNS, *_OPTIONAL_COLUMNS]]
