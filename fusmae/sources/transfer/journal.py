"""How far archives have been unpacked, so that a killed run goes on there."""

import json
from dataclasses import asdict, dataclass
from pathlib import Path

from fusmae.files import write_json
from fusmae.sources.transfer.storage import remove


@dataclass(frozen=True)
class Place:
    """Where unpacking goes on.

    Attributes:
        archive: number of the archive; those before are unpacked.
        offset: of its next member in the uncompressed tar.
        archive_offset: first byte of the archive that is still needed.
        index: file name of the seek points that `offset` is reached by; empty at the beginning of an archive.
    """

    archive: int = 0
    offset: int = 0
    archive_offset: int = 0
    index: str = ""


class Journal:
    """The place in one group of archives, with what identifies the group.

    Args:
        folder: where it is kept.
        identity: of the archives and of the choice among their members; a journal of another identity counts for none.
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
        """The seek points of the place."""
        return self._folder / self.place.index if self.place.index else None

    def new_index(self, offset: int) -> Path:
        """Where to write seek points for a tar offset, beside those in use."""
        self._folder.mkdir(parents=True, exist_ok=True)
        return self._folder / f"{self.place.archive:03d}-{offset}.gzidx"

    def write(self, place: Place) -> None:
        """Take a new place for the one to go on from.

        Raises:
            StorageError: the disk is full or refuses.
        """
        write_json(self._path, {"identity": self._identity, **asdict(place)})
        self.place, self.is_begun = place, True
        for path in self._folder.glob("*.gzidx"):
            if path.name != place.index:
                path.unlink()

    def remove(self) -> None:
        """Forget the place."""
        remove(self._folder)
        self.place, self.is_begun = Place(), False
