"""What the examination measures of a shard's pixels; the checks of pixels read only these measures."""

from collections.abc import Iterable
from dataclasses import dataclass
from functools import reduce
from operator import add
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from fusmae.data.index import SPLITS, Split
from fusmae.data.pixels import NO_CLASS, all_bands_are
from fusmae.data.shards import PairReader
from fusmae.rasters.s2_offset import FLOOR_QUANTILE
from fusmae.units import UNITS, Unit

# Number of pairs read at a time, which limits memory for any size of shard.
_CHUNK = 64
# Number of quantiles of a map of values; each stands for an equal share of its pixels.
_NUM_QUANTILES = 16
_MEASURES = ("mean", "floor", "nodata_share", "clipped_share", "is_constant", "is_whole")


@dataclass(frozen=True)
class Band:
    """A band of an observation."""

    modality: str
    name: str
    units: str

    @property
    def unit(self) -> Unit:
        """The row of its units."""
        return UNITS[self.units]


@dataclass(frozen=True)
class BandTotals:
    """Sums over all pixels of one band."""

    count: int  # number of pixels
    total: float  # sum of the pixels
    squares: float  # sum of the squared pixels
    lowest: float  # smallest pixel
    highest: float  # largest pixel
    histogram: NDArray[np.int64]  # number of pixels by bin of `histogram_edges`

    def __add__(self, other: "BandTotals") -> "BandTotals":
        return BandTotals(
            count=self.count + other.count,
            total=self.total + other.total,
            squares=self.squares + other.squares,
            lowest=min(self.lowest, other.lowest),
            highest=max(self.highest, other.highest),
            histogram=self.histogram + other.histogram,
        )

    @property
    def mean(self) -> float:
        """Mean of all pixels."""
        return self.total / self.count

    @property
    def std(self) -> float:
        """Standard deviation of all pixels."""
        return float(np.sqrt(max(self.squares / self.count - self.mean**2, 0.0)))


@dataclass(frozen=True)
class Observation:
    """Measures of some pairs' pixels; those from `mean` on are of each pair's bands, `[N, C]`."""

    bands: tuple[Band, ...]  # bands in the order of the columns and of `totals`
    totals: tuple[BandTotals, ...]  # sums over all these pairs, by band
    keys: list[str]  # keys of the pairs, in the order of the rows
    splits: list[Split]  # split in whose shards each pair is
    labels: NDArray[Any]  # label columns of the shards, `[N, K]` uint8, or float32 for values
    map_shares: NDArray[np.float32]  # share `[N, M]` of the map that each class covers; `[N, 0]` without
    # Number, mean, sum of squared deviations, lowest and highest of a pair's values, `[N, 5]`; `[N, 0]` for classes.
    values: NDArray[np.float64]
    quantiles: NDArray[np.float32]  # quantiles of a pair's values, `[N, Q]`; `[N, 0]` for classes
    mean: NDArray[np.float32]  # mean of the pixels
    floor: NDArray[np.float32]  # `FLOOR_QUANTILE` of the pixels that are not 0; NaN for a band without contrast
    nodata_share: NDArray[np.float32]  # share of pixels that are 0 in all bands of the modality, at all resolutions
    clipped_share: NDArray[np.float32]  # share of pixels that are clipped in all bands, as along the edge of a swath
    is_constant: NDArray[np.bool_]  # whether all pixels have the same value
    is_whole: NDArray[np.bool_]  # whether all pixels are whole numbers

    def keys_where(self, rows: ArrayLike) -> list[str]:
        """Return the keys of the pairs whose row `[N]` is true."""
        return [self.keys[row] for row in np.flatnonzero(rows)]


def observe(path: Path) -> Observation:
    """Measure one shard; the name of its folder is the name of the split.

    Raises:
        ShardError: the shard is damaged.
    """
    shard = PairReader([path])
    split = next(split for split in SPLITS if split == path.parent.name)
    chunks = []
    for start in range(0, len(shard.keys), _CHUNK):
        rows = range(start, min(start + _CHUNK, len(shard.keys)))
        pixels = shard.read(rows)
        nodata = all_bands_are(lambda unit: unit.nodata, pixels, shard.inputs)
        clipped = all_bands_are(lambda unit: unit.clipped_to, pixels, shard.inputs)
        measured = [_measure(pixels[i.name], i.unit, nodata[i.name], clipped[i.name]) for i in shard.inputs]
        chunks.append(
            Observation(
                bands=tuple(Band(item.modality, band, item.units) for item in shard.inputs for band in item.bands),
                totals=tuple(total for totals, _ in measured for total in totals),
                keys=[shard.keys[row] for row in rows],
                splits=[split] * len(rows),
                labels=shard.labels[rows],
                **_measure_labels(shard.labels[rows], shard.read_maps(rows) if shard.has_maps else None),
                **{name: np.concatenate([of_bands[name] for _, of_bands in measured], axis=1) for name in _MEASURES},
            )
        )
    return merge(chunks)


def merge(observations: Iterable[Observation]) -> Observation:
    """Merge observations of shards with the same bands; the result is empty where no shard has a pair."""
    parts = [part for part in observations if part.keys]
    if not parts:
        label, number, flag = (np.zeros((0, 0), kind) for kind in (np.uint8, np.float32, np.bool_))
        exact = number.astype(np.float64)
        return Observation((), (), [], [], label, number, exact, number, number, number, number, number, flag, flag)
    return Observation(
        bands=parts[0].bands,
        totals=tuple(reduce(add, totals) for totals in zip(*(part.totals for part in parts), strict=True)),
        keys=[key for part in parts for key in part.keys],
        splits=[split for part in parts for split in part.splits],
        map_shares=_padded([part.map_shares for part in parts]),
        **{
            name: np.concatenate([getattr(part, name) for part in parts])
            for name in ("labels", "values", "quantiles", *_MEASURES)
        },
    )


def _measure_labels(labels: NDArray[Any], maps: NDArray[Any] | None) -> dict[str, NDArray[Any]]:
    """Shares of classes, and moments and quantiles of values, of label columns `[B, K]` and maps `[B, h, w]`."""
    without = np.zeros((len(labels), 0), np.float32)
    if labels.dtype.kind != "f":
        shares = without if maps is None else _map_shares(maps)
        return {"map_shares": shares, "values": without.astype(np.float64), "quantiles": without}
    numbers = (labels if maps is None else maps.reshape(len(maps), -1)).astype(np.float64)
    steps = (np.arange(_NUM_QUANTILES) + 0.5) / _NUM_QUANTILES if maps is not None else np.array([0.5])
    has_some = np.isfinite(numbers).any(axis=1)
    moments, quantiles = np.full((len(labels), 5), np.nan), np.full((len(labels), len(steps)), np.nan, np.float32)
    moments[:, 0] = np.isfinite(numbers).sum(axis=1)
    if has_some.any():
        some = numbers[has_some]
        mean = np.nanmean(some, axis=1)
        squares = np.nansum((some - mean[:, None]) ** 2, axis=1)
        moments[has_some, 1:] = np.stack([mean, squares, np.nanmin(some, axis=1), np.nanmax(some, axis=1)], axis=1)
        quantiles[has_some] = np.nanquantile(some, steps, axis=1).T
    return {"map_shares": without, "values": moments, "quantiles": quantiles}


def _map_shares(maps: NDArray[np.uint8]) -> NDArray[np.float32]:
    """Return the shares `[B, M]` of the classes in maps `[B, h, w]`; M is the highest class number in them plus 1."""
    count = len(maps)
    pixels = maps.reshape(count, -1)
    numbers = pixels + 256 * np.arange(count)[:, None]
    shares = np.bincount(numbers.ravel(), minlength=256 * count).reshape(count, 256)[:, :NO_CLASS] / pixels.shape[1]
    width = int(np.flatnonzero(shares.any(axis=0)).max(initial=-1)) + 1
    return shares[:, :width].astype(np.float32)


def _padded(parts: list[NDArray[np.float32]]) -> NDArray[np.float32]:
    width = max(part.shape[1] for part in parts)
    return np.concatenate([np.pad(part, ((0, 0), (0, width - part.shape[1]))) for part in parts])


def _measure(
    pixels: NDArray[Any], unit: Unit, nodata: NDArray[np.bool_], clipped: NDArray[np.bool_]
) -> tuple[list[BandTotals], dict[str, NDArray[Any]]]:
    """Totals and `_MEASURES` of pixels `[B, C, h, w]`, of which `nodata` and `clipped` `[B, h, w]` are in all bands."""
    shape = pixels.shape[:2]
    # Pixels are sorted once, for all order statistics.
    pixels = np.sort(pixels.reshape(*shape, -1), axis=-1)
    size = pixels.shape[-1]
    exact = pixels.astype(np.float64)
    sums, squares = exact.sum(-1), np.einsum("bcp,bcp->bc", exact, exact)
    lowest, highest = pixels[..., 0], pixels[..., -1]
    zeros = np.count_nonzero(pixels == 0, axis=-1)
    negative = np.count_nonzero(pixels < 0, axis=-1)
    totals = [
        BandTotals(
            count=pixels.shape[0] * size,
            total=float(sums[:, column].sum()),
            squares=float(squares[:, column].sum()),
            lowest=float(lowest[:, column].min()),
            highest=float(highest[:, column].max()),
            histogram=_histogram(pixels[:, column], histogram_edges(unit)),
        )
        for column in range(pixels.shape[1])
    ]
    is_constant = lowest == highest
    return totals, {
        "mean": (sums / size).astype(np.float32),
        "floor": np.where(is_constant, np.nan, _floor(pixels, zeros, negative)).astype(np.float32),
        "nodata_share": np.broadcast_to(nodata.mean((1, 2), dtype=np.float32)[:, None], shape),
        "clipped_share": np.broadcast_to(clipped.mean((1, 2), dtype=np.float32)[:, None], shape),
        "is_constant": is_constant,
        "is_whole": _is_whole(pixels),
    }


def _is_whole(pixels: NDArray[Any]) -> NDArray[np.bool_]:
    if np.issubdtype(pixels.dtype, np.integer):
        return np.ones(pixels.shape[:-1], np.bool_)
    # Shards store dB in hundredths, which float32 can't represent exactly.
    return np.asarray((np.abs(pixels - np.rint(pixels)) < 0.001).all(-1))


def _floor(pixels: NDArray[Any], zeros: NDArray[np.intp], negative: NDArray[np.intp]) -> NDArray[Any]:
    """Return the dark floor `[B, C]` of sorted pixels `[B, C, P]`, without nodata."""
    size = pixels.shape[-1]
    rank = np.floor(FLOOR_QUANTILE * (size - zeros)).astype(np.intp)
    rank = np.where(rank < negative, rank, rank + zeros).clip(max=size - 1)
    return np.take_along_axis(pixels, rank[..., None], axis=-1)[..., 0]


def histogram_edges(unit: Unit) -> NDArray[np.float64]:
    """Edges of a histogram's bins; values beyond them are counted in the first or the last bin."""
    first, last, width = unit.histogram
    return np.arange(first, last + width / 2, width)


def _histogram(pixels: NDArray[Any], edges: NDArray[np.float64]) -> NDArray[np.int64]:
    """Count sorted pixels `[B, P]` by bin."""
    inner = edges[1:-1].astype(pixels.dtype)
    below = np.sum([np.searchsorted(row, inner) for row in pixels], axis=0, dtype=np.int64)
    return np.asarray(np.diff(below, prepend=0, append=pixels.size))
