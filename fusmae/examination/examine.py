"""The examination: every check of an index, of its shards and of what their dataset states."""

from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from fusmae.data.index import SPLITS, Pair, Split
from fusmae.data.shards import every_shard, read_left_out, read_map_classes
from fusmae.errors import ConfigError
from fusmae.examination.check import Check
from fusmae.examination.diagnosis import BandSummary, Diagnosis
from fusmae.examination.index import (
    check_classes,
    check_complete,
    check_counts,
    check_labels,
    check_maps,
    check_neighbours,
    check_places,
    check_table,
    class_counts,
)
from fusmae.examination.observe import Observation, merge, observe
from fusmae.examination.pixels import (
    check_constant,
    check_georeference,
    check_grid,
    check_histograms,
    check_nodata,
    check_offset,
    check_polarisation,
    check_typical,
    check_units,
)
from fusmae.sources.shared.source import Facts

CHECK_NAMES = (
    "counts",
    "complete",
    "table",
    "labels",
    "maps",
    "classes",
    "places",
    "neighbours",
    "georeference",
    "grid",
    "constant",
    "nodata",
    "units",
    "offset",
    "histograms",
    "typical",
    "polarisation",
)
"""Names of all checks, in the order of the report; all except `places` are keys of `data.tolerated`."""

MapShards = Callable[[Callable[[Path], Observation], Sequence[Path]], Iterable[Observation]]


def examine_data(
    pairs: Sequence[Pair],
    classes: Sequence[str],
    facts: Facts,
    *,
    shards: Path,
    tolerated: Mapping[str, int],
    map_shards: MapShards = map,
) -> Diagnosis:
    """Run every check of a dataset.

    Args:
        pairs: pairs of the index.
        classes: class names, in the order of the label columns.
        facts: facts that the dataset states about itself.
        shards: folder of all shards.
        tolerated: number of findings that are allowed, by name of the check.
        map_shards: function that applies another one to every shard's path and returns the results in their order.

    Raises:
        ConfigError: `tolerated` has a name that is not a check.
        ShardError: there are no shards, or they are damaged.
    """
    _require_known(tolerated)
    observed = merge(map_shards(observe, every_shard(shards)))
    left_out = read_left_out(shards)
    checks = [
        check_counts(pairs, facts.counts),
        check_complete(pairs, observed, left_out),
        check_table(pairs, facts),
        check_labels(pairs, classes, facts, observed, left_out),
        check_maps(observed, classes, read_map_classes(shards)),
        check_classes(pairs, classes),
        check_places(pairs),
        check_neighbours(pairs),
        check_georeference(left_out, len(pairs)),
        check_grid(left_out, len(pairs)),
        check_constant(observed),
        check_nodata(observed, left_out),
        check_units(observed, left_out),
        check_offset(pairs, observed, facts.s2_offset),
        check_histograms(observed, facts.statistics),
        check_typical(observed, facts.statistics),
        check_polarisation(observed),
    ]
    return Diagnosis(
        checks=_with_tolerance(checks, tolerated),
        num_pairs=_num_pairs(pairs),
        class_counts=class_counts(pairs, classes),
        bands=tuple(
            BandSummary(band, totals, facts.statistics.get(band.modality, {}).get(band.name))
            for band, totals in zip(observed.bands, observed.totals, strict=True)
        ),
        positions={split: _positions(pairs, split) for split in SPLITS},
        left_out=tuple(left_out),
    )


def examine_index(
    pairs: Sequence[Pair], classes: Sequence[str], facts: Facts, *, tolerated: Mapping[str, int] | None = None
) -> list[Check]:
    """Run the checks of an index that need no imagery; arguments are those of `examine_data`.

    Raises:
        ConfigError: `tolerated` has a name that is not a check.
    """
    tolerated = tolerated or {}
    _require_known(tolerated)
    checks = [
        check_counts(pairs, facts.counts),
        check_table(pairs, facts),
        check_labels(pairs, classes, facts),
        check_classes(pairs, classes),
        check_places(pairs),
        check_neighbours(pairs),
    ]
    return list(_with_tolerance(checks, tolerated))


def _require_known(tolerated: Mapping[str, int]) -> None:
    """Refuse a misspelt name before anything is read, because reading a whole dataset takes hours."""
    # A place in two splits can't be tolerated: test data must not have been trained on.
    known = [name for name in CHECK_NAMES if name != "places"]
    unknown = sorted(set(tolerated) - set(known))
    if unknown:
        raise ConfigError(
            f"data.tolerated names {', '.join(unknown)}, which is no check of the examination that can be agreed to.",
            got=unknown,
            expected=f"some of {', '.join(known)}",
        )


def _with_tolerance(checks: Sequence[Check], tolerated: Mapping[str, int]) -> tuple[Check, ...]:
    return tuple(replace(check, tolerated=tolerated.get(check.name, 0)) for check in checks)


def _num_pairs(pairs: Sequence[Pair]) -> dict[Split, int]:
    counts = Counter(pair.split for pair in pairs)
    return {split: counts[split] for split in SPLITS}


def _positions(pairs: Sequence[Pair], split: Split) -> NDArray[np.float64]:
    found = [(pair.lon, pair.lat) for pair in pairs if pair.split == split and pair.lon is not None]
    return np.array(found, np.float64).reshape(-1, 2)
