"""`maps/<key>.tif`, the maps of a user's own pairs: a class or a value for each pixel of 10 m."""

import shlex
from collections.abc import Mapping, Sequence

import numpy as np
from numpy.typing import NDArray

from fusmae.config.task import Value
from fusmae.data.pixels import NO_CLASS, require_possible_values
from fusmae.errors import PairError, first_three
from fusmae.modalities import MAP_GSD_M
from fusmae.rasters.geometry import is_turned
from fusmae.sources.shared.raster import Raster, is_same_ground

MAPS = "maps"
"""Name of the folder of maps, beside those of the modalities."""

_MOST_NAMED = 20
_MEND = "correct the map, then `fusmae update`"


def require_map_grid(key: str, found: Raster, ground: Raster, tile_m: int, *, nodata: float, resampling: str) -> None:
    """Refuse a map that does not have one band on the 10 m grid of its pair.

    Args:
        key: key of the pair.
        found: the map.
        ground: a raster that covers the pair's ground.
        tile_m: side of a tile in metres.
        nodata: number that the command in the error writes where the map has none, if the map states no nodata.
        resampling: resampling method of that command.

    Raises:
        PairError: the grid is another one; the error states the command that makes a map on this one.
    """
    side_px = tile_m // MAP_GSD_M
    count, height, width = found.pixels.shape
    if count != 1:
        raise PairError(
            "grid",
            f"Pair {key}: {found.path} has {count} bands.",
            expected="one, with the numbers of classes or the values",
            hint=f"`rio stack {found.path} --bidx 1 -o NEW.tif` takes the first, if it has them; then `fusmae update`",
        )
    if (height, width) == (side_px, side_px) and is_same_ground(found, ground) and not is_turned(found.transform):
        return
    fills = f" -dstnodata {nodata:g}" if found.nodata is None else ""
    sides = " ".join(f"{side:.10g}" for side in ground.bounds)
    epsg = ground.crs.to_epsg()
    crs = f"EPSG:{epsg}" if epsg else shlex.quote(ground.crs.to_wkt())
    raise PairError(
        "grid",
        f"Pair {key}: {found.path} is not on the 10 m grid of the pair.",
        got=f"{height} x {width} px, {found.ground}",
        expected=f"{side_px} x {side_px} px, {ground.ground}",
        hint=f"gdalwarp -t_srs {crs} -te {sides} -tr {MAP_GSD_M} {MAP_GSD_M} -r {resampling}{fills} {found.path} "
        "NEW.tif; put NEW.tif in its place, then `fusmae update`",
    )


def positions_of(key: str, found: Raster, classes: Mapping[int, str], ignored: Sequence[int]) -> NDArray[np.uint8]:
    """Return a map of class numbers as positions in `classes` `[h, w]`, `NO_CLASS` where there is none.

    Args:
        key: key of the pair.
        found: the map.
        classes: name of each class by its number, in the order of a label vector.
        ignored: numbers of pixels without a class, besides what the file states as nodata.

    Raises:
        PairError: a number is not whole or belongs to no class, or no pixel has a class.
    """
    numbers = found.pixels[0]
    is_empty = np.isin(numbers, ignored) | (np.False_ if found.nodata is None else found.nodata[0])
    positions = np.full(numbers.shape, NO_CLASS, np.uint8)
    for position, number in enumerate(classes):
        positions[(numbers == number) & ~is_empty] = position
    named = [f"{number} {name}" for number, name in classes.items()]
    more = " …" if len(named) > _MOST_NAMED else ""
    expected = f"{', '.join(named[:_MOST_NAMED])}{more}; {' or '.join([*map(str, ignored), 'nodata'])} for no class"
    is_strange = (positions == NO_CLASS) & ~is_empty
    if is_strange.any():
        strange, counts = np.unique(numbers[is_strange], return_counts=True)
        mend = "add the class to data.source.classes and its number to data.source.class_values, or the number to "
        mend += "data.source.ignore_values"
        if (strange != np.rint(strange)).any():
            mend = "maps of classes are resampled by the nearest pixel, such as with `gdalwarp -r near`"
        raise PairError(
            "labels",
            f"Pair {key}: {found.path} has numbers of no class.",
            got=first_three([f"{number:g} in {count:,} px" for number, count in zip(strange, counts, strict=True)]),
            expected=expected,
            hint=f"{mend}; or {_MEND}",
        )
    if is_empty.all():
        raise _empty(key, found, "class", expected)
    return positions


def values_of(key: str, found: Raster, value: Value) -> NDArray[np.float32]:
    """Return a map of values `[h, w]`, in the unit that scale and offset of its file lead to; NaN where it has none.

    Raises:
        PairError: a value is out of the limits of the quantity, or no pixel has one.
    """
    values: NDArray[np.float32] = found.pixels[0].astype(np.float32)
    if found.nodata is not None:
        values[found.nodata[0]] = np.nan
    has_value = np.isfinite(values)
    if not has_value.any():
        raise _empty(key, found, "value", "a number in some pixels")
    require_possible_values(f"Pair {key}: {found.path}", values[has_value], value)
    return values


def _empty(key: str, found: Raster, what: str, expected: str) -> PairError:
    numbers, counts = np.unique(found.pixels[0], return_counts=True)
    return PairError(
        "labels",
        f"Pair {key}: no pixel of {found.path} has a {what}.",
        got=first_three([f"{number:g} in {count:,} px" for number, count in zip(numbers, counts, strict=True)]),
        expected=expected,
        hint=f"{_MEND}; leave the pair out of pairs.csv; or go on without such pairs by data.tolerated.labels",
    )
