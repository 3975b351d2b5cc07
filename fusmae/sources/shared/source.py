"""What every raw dataset offers: how to get it, which pairs it holds, how to read one."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Protocol

from numpy.typing import NDArray

from fusmae.config.task import Task
from fusmae.data.index import Pair, Split
from fusmae.errors import PairError
from fusmae.modalities import BandStatistics, Statistics
from fusmae.sources.transfer.remote import DEFAULT_OPTIONS, DownloadOptions


@dataclass(frozen=True)
class Facts:
    """What a dataset states about itself, for the examination to compare with the data."""

    counts: Mapping[Split, int] | None = None  # number of pairs per split; None where the dataset states none
    # Classes of some known pairs by key, to test the class map with; such a pair may be absent.
    labels: Mapping[str, tuple[str, ...]] = field(default_factory=dict)
    # Published mean and standard deviation by modality and band; a band may be absent.
    statistics: Statistics = field(default_factory=dict)
    s2_offset: int = 0  # offset that the processing adds to every S2 digital number (1000 since baseline 04.00)
    cross_checked: str = ""  # what `Source.pairs` compares within the dataset's own tables; "" for nothing
    # What those tables state only once, so that a mistake in it can't be seen there.
    not_checked: str = "labels, splits, dates and countries, which are taken as they are stated"
    has_labels_by_place: bool = False  # whether pairs of one place have the same classes on all dates


class Source(Protocol):
    """One raw dataset; its settings in `params.yaml` are the arguments of its constructor."""

    name: str  # name of the source in `params.yaml`
    task: Task  # what the labels are, of the kind that was asked for
    # Classes of the maps, in the order of their numbers; empty where there are no maps, or maps of values.
    map_classes: tuple[str, ...] = ()
    licence: str  # licence of the imagery and of the dataset that distributes it
    is_synthetic: bool = False  # whether the pixels are made up; shown with them and with models trained on them

    def fetch(self, downloads: Path, raw: Path, options: DownloadOptions = DEFAULT_OPTIONS) -> dict[str, str]:
        """Complete the folder `raw`; the process may be killed at any time, and the next call resumes where it stopped.

        Files that are present already, fetched or placed there by the user, are kept. Archives stay in `downloads`
        until they are unpacked.

        Returns:
            What identifies this data: a checksum per file, or the seed by name. The archives of a folder that the user
            placed there, unchecked, have "provided by the user, not checked" in place of a checksum.

        Raises:
            SourceError: an archive can't be fetched, or its checksum is wrong.
            StorageError: the disk is full or refuses to write.
        """
        ...

    def pairs(self, raw: Path) -> list[Pair]:
        """Return every pair that should be in `raw`, in the order of keys, with splits that share no place.

        A pair has labels or a value; where maps have the labels, it has none.

        Raises:
            SourceError: `raw` is absent, damaged or not this dataset.
        """
        ...

    def read(self, raw: Path, pair: Pair) -> dict[str, NDArray[Any]]:
        """Read all modalities of a pair: `[h, w]` by band name, each band at its native resolution.

        S1 bands are float32 in dB, S2 bands uint16 digital numbers.

        Raises:
            PairError: a modality or a band is missing, unreadable, in another place, or of another size or type.
        """
        ...

    def read_map(self, raw: Path, pair: Pair) -> NDArray[Any]:
        """Read a pair's map on the 10 m grid, `[h, w]`.

        Its pixels are positions in `map_classes`, or `NO_CLASS`; in a regression per pixel float32 values in the unit
        of the task, or NaN.

        Raises:
            PairError: the map is absent, unreadable, in another place, or of another size or type, or there are none.
        """
        raise PairError("incomplete", f"Pair {pair.key} has no map: {self.name} with these settings has none.")

    def facts(self, raw: Path) -> Facts:
        """Return what the dataset states about the pairs that these settings select.

        Shards can be examined without the raw data: where `raw` is absent, only the facts that are read from it are
        left out.

        Raises:
            SourceError: `raw` is damaged or not this dataset.
        """
        ...


def statistics_of(table: Mapping[str, Mapping[str, tuple[float, float]]]) -> Statistics:
    """Return band statistics from mean and standard deviation by modality and band."""
    return {
        modality: {band: BandStatistics(mean=mean, std=std) for band, (mean, std) in bands.items()}
        for modality, bands in table.items()
    }
