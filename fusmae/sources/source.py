"""What every raw dataset offers: how to get it, which pairs it holds, how to read one."""

from pathlib import Path
from typing import Any, Protocol

from numpy.typing import NDArray

from fusmae.data.index import Pair


class Source(Protocol):
    """One raw dataset.

    Attributes:
        name: as `params.yaml` writes it.
        classes: the class table, in the order of a label vector.
        licence: terms of the imagery and of what carries it.
    """

    name: str
    classes: tuple[str, ...]
    licence: str

    def fetch(self, downloads: Path, raw: Path) -> None:
        """Make the folder `raw` whole, or leave it as it was.

        Args:
            downloads: archives are kept here; one that is already there is not fetched again.
            raw: the unpacked dataset.

        Raises:
            SourceError: an archive cannot be had, or its checksum is wrong.
            StorageError: the disk is full or refuses.
        """
        ...

    def pairs(self, raw: Path) -> list[Pair]:
        """Every pair in `raw`, in the order of keys, with splits that share no place.

        Raises:
            SourceError: `raw` is absent, damaged or not this dataset.
        """
        ...

    def read(self, raw: Path, pair: Pair) -> dict[str, NDArray[Any]]:
        """Both sides of a pair: `[h, w]` by band name, each at its native resolution.

        S1 bands are float32 in dB, S2 bands uint16 digital numbers.

        Raises:
            PairError: a side or a band is missing, unreadable or of another size or type.
        """
        ...
