"""What every raw dataset offers: how to get it, which pairs it holds, how to read one."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from fusmae.data.index import Pair, Split
from fusmae.errors import PairError
from fusmae.modalities import Statistics


@dataclass(frozen=True)
class Facts:
    """What a dataset states of itself, for the examination to compare with what is there.

    Attributes:
        counts: pairs by split; None where it states none.
        labels: classes of some known pairs by key, to test the class map with; a pair need not be there.
        statistics: published mean and standard deviation by modality and band; a band need not be there.
        s2_offset: what the processing adds to every S2 digital number (1000 since baseline 04.00).
        cross_checked: what `Source.pairs` compares within the dataset's own tables, in words; "" for nothing.
        not_checked: what those tables state once only, so that a mistake in it can't be seen there.
        has_labels_by_place: pairs of one place have the same classes on all dates.
    """

    counts: Mapping[Split, int] | None = None
    labels: Mapping[str, tuple[str, ...]] = field(default_factory=dict)
    statistics: Statistics = field(default_factory=dict)
    s2_offset: int = 0
    cross_checked: str = ""
    not_checked: str = "labels, splits, dates and countries, which are taken as they are stated"
    has_labels_by_place: bool = False


class Source(Protocol):
    """One raw dataset; its settings in `params.yaml` are arguments of its constructor.

    Attributes:
        name: as `params.yaml` writes it.
        classes: the class table, in the order of a label vector.
        map_classes: classes of its land-cover maps, in the order of their numbers; none where it has no maps.
        licence: terms of the imagery and of what carries it.
        is_synthetic: its pixels are made up; shown wherever they, or what was learned from them, are.
    """

    name: str
    classes: tuple[str, ...]
    map_classes: tuple[str, ...]
    licence: str
    is_synthetic: bool

    def fetch(
        self, downloads: Path, raw: Path, *, mirrors: Sequence[str] = (), num_connections: int = 4
    ) -> dict[str, str]:
        """Make the folder `raw` whole; may be killed at any time and goes on where it was.

        What is there already, fetched or brought by hand, is kept.

        Args:
            downloads: archives are kept here until they are unpacked.
            raw: the unpacked dataset.
            mirrors: addresses of folders that hold the archives too; tried before the dataset's own.
            num_connections: transfers at a time.

        Returns:
            What makes this data the data it is: a checksum by file, or the seed by name. Where a folder was brought
            by hand, which nobody checked, its archives have "brought by hand" for theirs.

        Raises:
            SourceError: an archive cannot be had, or its checksum is wrong.
            StorageError: the disk is full or refuses.
        """
        ...

    def pairs(self, raw: Path) -> list[Pair]:
        """Every pair that should be in `raw`, in the order of keys, with splits that share no place.

        Raises:
            SourceError: `raw` is absent, damaged or not this dataset.
        """
        ...

    def read(self, raw: Path, pair: Pair) -> dict[str, NDArray[Any]]:
        """Both sides of a pair: `[h, w]` by band name, each at its native resolution.

        S1 bands are float32 in dB, S2 bands uint16 digital numbers.

        Raises:
            PairError: a side or a band is missing, unreadable, elsewhere, or of another size or type.
        """
        ...

    def read_map(self, raw: Path, pair: Pair) -> NDArray[np.uint8]:
        """A pair's land-cover map on its 10 m grid: `[h, w]` positions in `map_classes`, `NO_CLASS` where it has none.

        Raises:
            PairError: the map is absent, unreadable, elsewhere, or of another size or type.
        """
        ...

    def facts(self, raw: Path) -> Facts:
        """What the dataset states of the pairs that these settings choose.

        Shards can be judged without the raw data: where `raw` is absent, only what it alone can tell is left out.

        Raises:
            SourceError: `raw` is damaged or not this dataset.
        """
        ...


def no_maps(source: str, pair: Pair) -> PairError:
    """The error of a source whose `map_classes` are none."""
    return PairError("incomplete", f"Pair {pair.key} has no land-cover map: {source} has none.")
