"""SEN12MS's scene labels: ten classes, computed from a tile's shares of the 17 IGBP land-cover classes."""

import multiprocessing
import os
from collections.abc import Sequence
from concurrent.futures import ProcessPoolExecutor
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray
from rasterio.errors import RasterioError
from rasterio.warp import transform

from fusmae.config.task import Kind
from fusmae.data.pixels import NO_CLASS
from fusmae.errors import SourceError
from fusmae.sources.shared.raster import opened
from fusmae.sources.shared.unpickle import array_of, load_plain

LABELS_FILE = "IGBP_probability_labels.pkl"
"""File of the official shares by S2 file name; optional, because they can be computed from the land-cover tiles."""

NUM_IGBP = 17
MIN_SHARE = 0.1
_NUM_CHANNELS = 4
_MAX_PROCESSES = 16
_CHUNK = 256
# With fewer tiles, starting a pool takes longer than it saves.
_MIN_TILES_FOR_POOL = 4000

_SIMPLIFIED_IGBP: dict[str, tuple[int, ...]] = {
    "Forest": (1, 2, 3, 4, 5),
    "Shrubland": (6, 7),
    "Savanna": (8, 9),
    "Grassland": (10,),
    "Wetlands": (11,),
    "Croplands": (12, 14),
    "Urban/Built-up": (13,),
    "Snow/Ice": (15,),
    "Barren": (16,),
    "Water": (17,),
}
"""Classes of Schmitt & Wu (2021), doi:10.5194/isprs-annals-V-2-2021-101-2021, by IGBP number, which starts at 1."""

CLASSES: tuple[str, ...] = tuple(_SIMPLIFIED_IGBP)
"""The ten classes in the order of the simplified IGBP scheme."""


def classes_of(shares: Sequence[float], kind: Kind) -> tuple[str, ...]:
    """Return the classes of one tile by its shares of IGBP classes 1 to 17: the largest one, or all large ones."""
    # Added up one by one, as the dataset's authors do, so that a share of exactly 0.1 is rounded in the same way.
    sums = {name: sum(shares[number - 1] for number in numbers) for name, numbers in _SIMPLIFIED_IGBP.items()}
    if kind == "multiclass":
        return (max(sums, key=lambda name: sums[name]),)
    return tuple(name for name, share in sums.items() if share >= MIN_SHARE)


def shares_of_pixels(igbp: NDArray[Any]) -> list[float] | None:
    """Return the shares of IGBP classes 1 to 17 among a land-cover tile's pixels, or None where no pixel has a class.

    Other values in `igbp`, which is unsigned `[h, w]`, are unclassified and not counted.
    """
    counts = np.bincount(igbp.ravel(), minlength=NUM_IGBP + 1)[1 : NUM_IGBP + 1]
    total = int(counts.sum())
    return [int(count) / total for count in counts] if total else None


def classes_of_pixels(igbp: NDArray[np.uint8]) -> NDArray[np.uint8]:
    """Convert a tile's IGBP numbers `[h, w]` to positions in `CLASSES`; numbers beyond 1 to 17 become `NO_CLASS`."""
    positions = np.full(2**8, NO_CLASS, np.uint8)
    for position, numbers in enumerate(_SIMPLIFIED_IGBP.values()):
        positions[list(numbers)] = position
    return positions[igbp]


def read_shares(path: Path) -> dict[str, list[float]] | None:
    """Read the official shares by S2 file name, or None without a file; no name in the pickle is imported or run.

    Raises:
        SourceError: the pickle holds anything other than a dict of arrays of 17 shares.
    """
    if not path.exists():
        return None
    hint = f"remove {path}: labels then come from the land-cover tiles"
    try:
        values = load_plain(path.read_bytes())
    except SourceError as error:
        reason, *_ = str(error).split("\n  next:")  # the hint of `load_plain` is about another file
        raise SourceError(f"{path} is refused. {reason}", hint=hint) from error
    if not isinstance(values, dict) or not values:
        raise SourceError(f"{path} holds no shares by name.", got=type(values).__name__, expected="dict", hint=hint)
    shares: dict[str, list[float]] = {}
    for name, value in values.items():
        array = array_of(value)
        if array is None or not _are_shares(array):
            raise SourceError(
                f"{path}: the shares of {name} are invalid.",
                got=value if array is None else array,
                expected=f"an array of {NUM_IGBP} numbers that add up to 1",
                hint=hint,
            )
        shares[name] = array.tolist()
    return shares


def _are_shares(array: NDArray[Any]) -> bool:
    is_vector = array.shape == (NUM_IGBP,) and array.dtype.kind == "f"
    return is_vector and bool((array >= 0).all()) and 0 < array.sum() < 1.01


class LandCover(NamedTuple):
    """One land-cover tile."""

    shares: list[float] | None = None  # shares of IGBP classes 1 to 17; None where they were not requested
    crs: str = ""  # coordinate reference system as WKT
    x: float = 0.0  # x coordinate of the tile's centre, in units of `crs`
    y: float = 0.0  # y coordinate of the tile's centre, in units of `crs`
    fault: str = ""  # reason why the tile can't be used, in which case the others are empty; "" if it can be used


def read_land_covers(paths: Sequence[Path], *, with_shares: bool) -> list[LandCover]:
    """Read land-cover tiles, in their order, with their pixels or only their places.

    About 500 tiles are read per second and processor core.
    """
    read = partial(_read, with_shares=with_shares)
    num_processes = min(os.cpu_count() or 1, _MAX_PROCESSES)
    if len(paths) < _MIN_TILES_FOR_POOL or num_processes == 1:
        return [read(path) for path in paths]
    # Processes, not threads: nine tenths of opening a small GeoTIFF runs under the interpreter's lock.
    # They are spawned, because a forked process would inherit locks that another thread may hold.
    with ProcessPoolExecutor(num_processes, mp_context=multiprocessing.get_context("spawn")) as pool:
        return list(pool.map(read, paths, chunksize=_CHUNK))


def lon_lat(covers: Sequence[LandCover]) -> list[tuple[float | None, float | None]]:
    """Return longitude and latitude (WGS 84) of each tile's centre; None where the tile can't be used."""
    found: list[tuple[float | None, float | None]] = [(None, None)] * len(covers)
    for crs in {cover.crs for cover in covers} - {""}:  # about 60 UTM zones: one transformation per zone
        rows = [row for row, cover in enumerate(covers) if cover.crs == crs]
        lons, lats = transform(crs, "EPSG:4326", [covers[row].x for row in rows], [covers[row].y for row in rows])
        for row, lon, lat in zip(rows, lons, lats, strict=True):
            found[row] = (float(lon), float(lat))
    return found


def _read(path: Path, *, with_shares: bool) -> LandCover:
    if not path.is_file():
        return LandCover(fault="is absent")
    try:
        with opened(path) as dataset:
            kind = dataset.dtypes[0]
            if dataset.count != _NUM_CHANNELS or not kind.startswith("uint") or dataset.crs is None:
                return LandCover(fault=f"has {dataset.count} channels of {kind} and CRS {dataset.crs}")
            left, bottom, right, top = dataset.bounds
            crs = dataset.crs.to_wkt()
            shares = shares_of_pixels(dataset.read(1)) if with_shares else None  # IGBP is the first channel
    except RasterioError as error:
        return LandCover(fault=f"cannot be read: {error.__cause__ or error}")
    if with_shares and shares is None:
        return LandCover(fault="has no pixel with an IGBP class")
    return LandCover(shares, crs, (left + right) / 2, (bottom + top) / 2)
