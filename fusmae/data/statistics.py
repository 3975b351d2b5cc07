"""Mean and standard deviation of each band over one split."""

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from pydantic import TypeAdapter

from fusmae.data.cluster import Run
from fusmae.data.index import Split
from fusmae.data.pixels import all_bands_are
from fusmae.data.shards import PairReader, ShardFolder
from fusmae.errors import ShardError
from fusmae.files import write_json
from fusmae.modalities import BandStatistics, ModalityInput, Statistics

_BATCH = 64
_STATISTICS = TypeAdapter(Statistics)


@dataclass(frozen=True)
class Moments:
    """Moments of some pixels of each band."""

    count: int  # number of pixels per band
    mean: NDArray[np.float64]  # means `[C]`, float64
    squares: NDArray[np.float64]  # sums `[C]` of squared differences from the mean, float64

    def joined(self, other: "Moments") -> "Moments":
        """Moments of both together (Chan, Golub and LeVeque 1979); sums of raw squares would lose precision."""
        count = self.count + other.count
        if not count:
            return self
        step = other.mean - self.mean
        return Moments(
            count,
            self.mean + step * (other.count / count),
            self.squares + other.squares + step**2 * (self.count * other.count / count),
        )


def measure_statistics(folder: Path, split: Split = "train", *, run: Run = map) -> Statistics:
    """Measure a split in float64, in the bands' physical units.

    `run` applies a function to every shard's path and returns the results in the order of the paths; the number of its
    processes changes no result.

    Raises:
        ShardError: there are no shards, or a band is constant, so that it can't be standardised.
    """
    shards = ShardFolder(folder)
    total: dict[str, Moments] = {}
    for found in run(measure_shard, shards.paths(split)):
        total = {name: total[name].joined(moments) if total else moments for name, moments in found.items()}
    statistics: Statistics = {}
    for item in shards.inputs if total else ():
        for channel, band in enumerate(item.bands):
            statistics.setdefault(item.modality, {})[band] = _statistics_of(band, total[item.name], channel, item)
    return statistics


def measure_shard(path: Path) -> dict[str, Moments]:
    """Moments of one shard's bands by input name."""
    shard = PairReader([path])
    total = {item.name: Moments(0, np.zeros(len(item.bands)), np.zeros(len(item.bands))) for item in shard.inputs}
    for start in range(0, len(shard), _BATCH):
        pixels = shard.read(range(start, min(start + _BATCH, len(shard))))
        empty = all_bands_are(lambda unit: unit.nodata, pixels, shard.inputs)
        for name, array in pixels.items():
            total[name] = total[name].joined(_moments_of(array, empty[name]))
    return total


def _moments_of(array: NDArray[Any], empty: NDArray[np.bool_]) -> Moments:
    """Moments of an array `[B, C, h, w]` without its nodata pixels `[B, h, w]`."""
    if empty.any():
        data = np.moveaxis(array, 1, 0)[:, ~empty].astype(np.float64)
        if not data.size:
            return Moments(0, np.zeros(len(data)), np.zeros(len(data)))
        mean = data.mean(1)
        return Moments(data.shape[1], mean, ((data - mean[:, None]) ** 2).sum(1))
    mean = array.mean((0, 2, 3), dtype=np.float64)
    squares = ((array - mean[:, None, None]) ** 2).sum((0, 2, 3))
    return Moments(array.shape[0] * array.shape[2] * array.shape[3], mean, squares)


def _statistics_of(band: str, moments: Moments, channel: int, item: ModalityInput) -> BandStatistics:
    std = float(np.sqrt(moments.squares[channel] / moments.count)) if moments.count else 0.0
    if not std > 0:
        raise ShardError(
            f"Band {band} of {item.modality} is the same in every training pixel: it can't be standardised.",
            hint=f"look at its files, or take {band} out of data.modalities in params.yaml",
        )
    return BandStatistics(mean=float(moments.mean[channel]), std=std)


def write_statistics(path: Path, statistics: Statistics) -> None:
    """Write band statistics as JSON."""
    write_json(path, _STATISTICS.dump_python(statistics))


def read_statistics(path: Path) -> Statistics:
    """Read band statistics that `write_statistics` wrote.

    Raises:
        ShardError: the file is absent.
    """
    if not path.exists():
        raise ShardError(f"There are no band statistics at {path}.", hint="dvc repro shard")
    return _STATISTICS.validate_json(path.read_bytes())
