"""Record of how far archives have been unpacked, so that a killed process can resume there."""

import json
from dataclasses import asdict, dataclass
from pathlib import Path

from fusmae.files import write_json
from fusmae.sources.transfer.storage import remove


@dataclass(frozen=True)
class Place:
    """Position from which unpacking resumes.

    Attributes:
        archive: number of the archive, counted from 0; those before it are unpacked.
        offset: offset in bytes of the next member in the uncompressed tar.
        archive_offset: offset in bytes of the first byte of the archive that is still needed.
        index: name of the file of seek points by which `offset` is reached; empty at the beginning of an archive.
    """

    archive: int = 0
    offset: int = 0
    archive_offset: int = 0
    index: str = ""


class Journal:
    """The stored place in one group of archives, with the identity of the group.

    Args:
        folder: folder where the journal is stored.
        identity: identity of the archives and of the choice among their members; a stored journal with another
            identity is ignored.
    """

    def __init__(self, folder: Path, identity: str) -> None:
        self._folder, self._identity = folder, identity
        self._path = folder / "journal.json"
        self.place = Place()
        self.is_begun = False
        try:
            stored = json.loads(self._path.read_text(encoding="utf-8"))
            if stored.pop("identity") == identity:
                self.place, self.is_begun = Place(**stored), True
        except (OSError, ValueError, TypeError, KeyError, AttributeError):
            pass

    def index(self) -> Path | None:
        """Return the path of the place's seek points; None where it has none."""
        return self._folder / self.place.index if self.place.index else None

    def new_index(self, offset: int) -> Path:
        """Return the path for new seek points of a tar offset; those in use are kept."""
        self._folder.mkdir(parents=True, exist_ok=True)
        return self._folder / f"{self.place.archive:03d}-{offset}.gzidx"

    def write(self, place: Place) -> None:
        """Store a new place to resume from.

        Raises:
            StorageError: the disk is full or refuses to write.
        """
        write_json(self._path, {"identity": self._identity, **asdict(place)})
        self.place, self.is_begun = place, True
        for path in self._folder.glob("*.gzidx"):
            if path.name != place.index:
                path.unlink()

    def remove(self) -> None:
        """Remove the stored place."""
        remove(self._folder)
        self.place, self.is_begun = Place(), False
