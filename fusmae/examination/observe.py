"""What the examination measures of a shard's pixels; the checks of pixels read only these measures."""

from collections.abc import Callable, Iterable
from dataclasses import dataclass, fields
from functools import reduce
from operator import add
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from fusmae.data.index import SPLITS, Split
from fusmae.data.pixels import NO_CLASS, all_bands_are
from fusmae.data.shards import Shard
from fusmae.rasters.s2_offset import FLOOR_QUANTILE
from fusmae.units import UNITS, Unit

# Number of pairs read at a time, which limits memory for any size of shard.
_CHUNK = 64


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
    """Sums over all pixels of one band.

    Attributes:
        count: number of pixels.
        total: sum of the pixels.
        squares: sum of the squared pixels.
        lowest: smallest pixel.
        highest: largest pixel.
        histogram: number of pixels by bin of `histogram_edges`.
    """

    count: int
    total: float
    squares: float
    lowest: float
    highest: float
    histogram: NDArray[np.int64]

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
class BandMeasures:
    """Measures of each pair's bands, `[N, C]` each.

    Attributes:
        mean: mean of the pixels.
        floor: dark floor, the `FLOOR_QUANTILE` of the pixels that are not 0; NaN for a band without contrast.
        nodata_share: share of nodata pixels, which are 0 in all bands of the modality, over all resolutions.
        clipped_share: share of pixels that are clipped in all bands, as along the edge of a swath.
        is_constant: whether all pixels have the same value.
        is_whole: whether all pixels are whole numbers.
    """

    mean: NDArray[np.float32]
    floor: NDArray[np.float32]
    nodata_share: NDArray[np.float32]
    clipped_share: NDArray[np.float32]
    is_constant: NDArray[np.bool_]
    is_whole: NDArray[np.bool_]


@dataclass(frozen=True)
class Observation:
    """Measures of some pairs' pixels.

    Attributes:
        bands: bands in the order of the columns of `measures` and of `totals`.
        totals: sums over all these pairs, by band.
        measures: measures of each pair's bands.
        keys: keys of the pairs, in the order of the rows.
        splits: split in whose shards each pair is.
        labels: label columns of the shards, `[N, K]` uint8.
        map_shares: share of the land-cover map that each of its classes covers, `[N, M]`; `[N, 0]` without maps.
    """

    bands: tuple[Band, ...]
    totals: tuple[BandTotals, ...]
    measures: BandMeasures
    keys: list[str]
    splits: list[Split]
    labels: NDArray[np.uint8]
    map_shares: NDArray[np.float32]

    def columns(self, wanted: Callable[[Band], bool]) -> list[int]:
        """Return the columns of the bands for which `wanted` returns true."""
        return [column for column, band in enumerate(self.bands) if wanted(band)]

    def keys_where(self, rows: ArrayLike) -> list[str]:
        """Return the keys of the pairs whose row `[N]` is true."""
        return [self.keys[row] for row in np.flatnonzero(rows)]


def observe(path: Path) -> Observation:
    """Measure one shard; the name of its folder is the name of the split.

    Raises:
        ShardError: the shard is damaged.
    """
    shard = Shard(path)
    split = next(split for split in SPLITS if split == path.parent.name)
    chunks = []
    for start in range(0, len(shard.keys), _CHUNK):
        rows = range(start, min(start + _CHUNK, len(shard.keys)))
        batch = shard.read(rows)
        nodata = all_bands_are(lambda unit: unit.nodata, batch.pixels, shard.inputs)
        clipped = all_bands_are(lambda unit: unit.clipped_to, batch.pixels, shard.inputs)
        measured = [_measure(batch.pixels[i.name], i.unit, nodata[i.name], clipped[i.name]) for i in shard.inputs]
        chunks.append(
            Observation(
                bands=tuple(Band(item.modality, band, item.units) for item in shard.inputs for band in item.bands),
                totals=tuple(total for totals, _ in measured for total in totals),
                measures=_joined([measures for _, measures in measured], axis=1),
                keys=[shard.keys[row] for row in rows],
                splits=[split] * len(rows),
                labels=batch.labels,
                map_shares=_map_shares(shard.maps(rows), len(rows)),
            )
        )
    return merge(chunks)


def merge(observations: Iterable[Observation]) -> Observation:
    """Merge observations of shards with the same bands; the result is empty where no shard has a pair."""
    parts = [part for part in observations if part.keys]
    if not parts:
        number, flag = np.zeros((0, 0), np.float32), np.zeros((0, 0), np.bool_)
        measures = BandMeasures(number, number, number, number, flag, flag)
        return Observation((), (), measures, [], [], np.zeros((0, 0), np.uint8), number)
    return Observation(
        bands=parts[0].bands,
        totals=tuple(reduce(add, totals) for totals in zip(*(part.totals for part in parts), strict=True)),
        measures=_joined([part.measures for part in parts], axis=0),
        keys=[key for part in parts for key in part.keys],
        splits=[split for part in parts for split in part.splits],
        labels=np.concatenate([part.labels for part in parts]),
        map_shares=_padded([part.map_shares for part in parts]),
    )


def _map_shares(maps: NDArray[np.uint8] | None, count: int) -> NDArray[np.float32]:
    """Return the shares `[B, M]` of the classes in maps `[B, h, w]`; M is the highest class number in them plus 1."""
    if maps is None:
        return np.zeros((count, 0), np.float32)
    pixels = maps.reshape(count, -1)
    numbers = pixels + 256 * np.arange(count)[:, None]
    shares = np.bincount(numbers.ravel(), minlength=256 * count).reshape(count, 256)[:, :NO_CLASS] / pixels.shape[1]
    width = int(np.flatnonzero(shares.any(axis=0)).max(initial=-1)) + 1
    return shares[:, :width].astype(np.float32)


def _padded(parts: list[NDArray[np.float32]]) -> NDArray[np.float32]:
    width = max(part.shape[1] for part in parts)
    return np.concatenate([np.pad(part, ((0, 0), (0, width - part.shape[1]))) for part in parts])


def _joined(parts: list[BandMeasures], axis: int) -> BandMeasures:
    names = [field.name for field in fields(BandMeasures)]
    return BandMeasures(**{name: np.concatenate([getattr(part, name) for part in parts], axis) for name in names})


def _measure(
    pixels: NDArray[Any], unit: Unit, nodata: NDArray[np.bool_], clipped: NDArray[np.bool_]
) -> tuple[list[BandTotals], BandMeasures]:
    """Measure pixels `[B, C, h, w]`; `nodata` and `clipped` mark pixels `[B, h, w]` that are so in all bands."""
    shape = pixels.shape[:2]
    # Pixels are sorted once, for all order statistics.
    pixels = np.sort(pixels.reshape(*pixels.shape[:2], -1), axis=-1)
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
    measures = BandMeasures(
        mean=(sums / size).astype(np.float32),
        floor=np.where(is_constant, np.nan, _floor(pixels, zeros, negative)).astype(np.float32),
        nodata_share=np.broadcast_to(nodata.mean((1, 2), dtype=np.float32)[:, None], shape),
        clipped_share=np.broadcast_to(clipped.mean((1, 2), dtype=np.float32)[:, None], shape),
        is_constant=is_constant,
        is_whole=_is_whole(pixels),
    )
    return totals, measures


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
