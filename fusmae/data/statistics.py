"""Mean and standard deviation of each band over one split."""

import json
from collections import defaultdict
from pathlib import Path

import numpy as np

from fusmae.data.shards import ShardReader
from fusmae.errors import ShardError
from fusmae.files import write_json
from fusmae.modalities import BandStatistics, Statistics

_BATCH = 64


def measure_statistics(reader: ShardReader) -> Statistics:
    """Measure a split in its own units, in float64, in the order of its pairs.

    Raises:
        ShardError: a band is constant, so that it can't be standardised.
    """
    count: dict[str, int] = defaultdict(int)
    total: dict[str, np.ndarray] = defaultdict(lambda: np.zeros(1))
    squares: dict[str, np.ndarray] = defaultdict(lambda: np.zeros(1))
    # Shifted by the first tile's mean: squares of raw digital numbers would cancel.
    first = reader.read([0]).pixels
    shift = {name: array.mean((0, 2, 3), dtype=np.float64) for name, array in first.items()}
    for start in range(0, len(reader), _BATCH):
        batch = reader.read(range(start, min(start + _BATCH, len(reader))))
        for name, array in batch.pixels.items():
            moved = array - shift[name][:, None, None]
            count[name] += array.shape[0] * array.shape[2] * array.shape[3]
            total[name] = total[name] + moved.sum((0, 2, 3))
            squares[name] = squares[name] + (moved**2).sum((0, 2, 3))
    statistics: Statistics = {}
    for item in reader.inputs:
        mean = total[item.name] / count[item.name]
        std = np.sqrt(squares[item.name] / count[item.name] - mean**2)
        for channel, band in enumerate(item.bands):
            if not std[channel] > 0:
                raise ShardError(f"Band {band} of {item.modality} is constant: it can't be standardised.")
            statistics.setdefault(item.modality, {})[band] = BandStatistics(
                mean=float(mean[channel] + shift[item.name][channel]), std=float(std[channel])
            )
    return statistics


def write_statistics(path: Path, statistics: Statistics) -> None:
    """Write band statistics as JSON."""
    write_json(
        path, {key: {band: value.model_dump() for band, value in bands.items()} for key, bands in statistics.items()}
    )


def plain_statistics(statistics: Statistics) -> dict[str, dict[str, dict[str, float]]]:
    """Band statistics as plain JSON values."""
    return {key: {band: value.model_dump() for band, value in bands.items()} for key, bands in statistics.items()}


def read_statistics(path: Path) -> Statistics:
    """Read what `write_statistics` wrote.

    Raises:
        ShardError: the file is absent.
    """
    if not path.exists():
        raise ShardError(f"There are no band statistics at {path}.", hint="dvc repro shard")
    return parse_statistics(json.loads(path.read_text(encoding="utf-8")))


def parse_statistics(values: dict[str, dict[str, dict[str, float]]]) -> Statistics:
    """Band statistics from plain JSON values."""
    return {key: {band: BandStatistics(**value) for band, value in bands.items()} for key, bands in values.items()}
