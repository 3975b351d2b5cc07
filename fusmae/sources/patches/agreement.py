"""Checks of what v2's table states twice: names contain satellite, date, tile and position; a tile has known countries.

Every rule holds for all 549,488 rows of the authors' tables. A table that breaks a rule was damaged or combined from
others. The pixels don't reveal that: both modalities of a pair are intact, but of two places.
"""

from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from fusmae.sources.patches.facts import V2_COUNTRIES_OF_TILE
from fusmae.sources.patches.names import MAX_BETWEEN_SIDES
from fusmae.sources.shared.columns import Columns

if TYPE_CHECKING:
    import pyarrow as pa

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


def check_agreement(columns: Columns) -> None:
    """Refuse a table whose columns contradict one another; optional columns that it lacks are not checked.

    Raises:
        SourceError: names can't be parsed, occur twice or are of another place or date, or a country does not match
            the tile.
    """
    names = {name: columns.text(name) for name in _PATTERNS if name in columns.names}
    parts = {name: _parts(columns, name, text) for name, text in names.items()}
    for name in ("patch_id", "s1_name"):
        columns.refuse(
            repeated(names[name]), f"a name in {name} that other rows have too", got=names[name], expected="once"
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


def repeated(texts: "pa.StringArray") -> NDArray[np.bool_]:
    """Return where a text occurs in another row too, `[N]`."""
    codes = np.asarray(texts.dictionary_encode().indices.to_numpy(zero_copy_only=False), np.int64)
    return np.asarray(np.bincount(codes)[codes] > 1, np.bool_)


def _parts(columns: Columns, name: str, texts: "pa.StringArray") -> dict[str, NDArray[Any]]:
    """Parse each name into parts, `[N]` by part: texts for `satellite` and `tile`, numbers for the others."""
    import pyarrow as pa
    import pyarrow.compute as pc

    found = pc.extract_regex(texts, pattern=_PATTERNS[name])
    cells = {field.name: pc.struct_field(found, field.name) for field in found.type}
    days = pc.strptime(cells.pop("day"), format="%Y%m%d", unit="s", error_is_null=True)
    columns.refuse(pc.is_null(days), f"a name in {name} that is no patch's", got=texts, expected=_EXAMPLES[name])
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
