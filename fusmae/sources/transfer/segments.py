"""A file stored in segments, which show which of its bytes are present and which are missing."""

import json
import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import asdict, dataclass, field
from pathlib import Path

from fusmae.files import remove, storage_error, write_json
from fusmae.runs.address import shown
from fusmae.sources.transfer.server import RefusedError, RemoteOffer

SEGMENT_BYTES = 64 * 2**20
"""Size of a segment: one connection transfers it, and unpacking removes whole segments that it has read."""


@contextmanager
def writing_to(path: Path) -> Iterator[None]:
    """Convert errors of the disk to an error with advice to the user; the bytes transferred so far are kept.

    Raises:
        StorageError: the disk is full or refuses to write.
    """
    try:
        yield
    except OSError as error:
        raise storage_error(path, error, kept="what was transferred before is kept") from error


@dataclass
class Plan:
    """What is known about the file; stored beside the segments, so that a killed transfer can resume."""

    md5: str  # expected MD5 of the whole file
    segment_bytes: int  # size in bytes of every segment except the last
    size: int | None = None  # size of the whole file in bytes; None where no server has stated it yet
    editions: dict[str, str] = field(default_factory=dict)  # edition of the file by the address that served it
    is_verified: bool = False  # whether all bytes had once the right MD5; segments may have been removed since then


class Segments:
    """The bytes of one file in a folder of segments; bytes are only appended, so a segment's length is its progress.

    The folder is created with the first byte. Existing segments of a file with another MD5 are removed.
    """

    def __init__(self, folder: Path, md5: str) -> None:
        self.folder = folder
        self._lock = threading.Lock()
        self.plan = Plan("", 0)
        with suppress(OSError, ValueError, TypeError):
            self.plan = Plan(**json.loads((folder / "plan.json").read_text(encoding="utf-8")))
        if self.plan.md5 != md5:
            self.wipe(md5)
        self.present = sum(path.stat().st_size for path in folder.glob("*") if path.name.isdecimal())

    def begin(self, address: str, offer: RemoteOffer, *, is_own_address: bool) -> None:
        """Record an address's offer in the plan.

        Bytes of another edition from this address are removed. Where sizes differ, the file's own address is trusted.

        Raises:
            RefusedError: a mirror's file differs in size from the file of which bytes are present.
        """
        plan, place = self.plan, shown(address)  # the plan is stored in a file, which must not contain passwords
        is_other_size = None not in (plan.size, offer.size) and plan.size != offer.size
        if is_other_size and self.present and not is_own_address:
            raise RefusedError(f"has {offer.size} bytes; {plan.size} were begun from elsewhere")
        if is_other_size or plan.editions.get(place, offer.edition) != offer.edition:
            self.wipe(plan.md5)
        self.plan.editions[place] = offer.edition
        self.note(offer.size if offer.size is not None else self.plan.size, is_verified=False)

    def note(self, size: int | None, *, is_verified: bool) -> None:
        """Store what was learned of the whole file: its size in bytes, and whether it has the right MD5."""
        self.plan.size, self.plan.is_verified = size, is_verified
        write_json(self.folder / "plan.json", asdict(self.plan))

    def missing(self) -> list[tuple[int, int]]:
        """Return start and end of the missing bytes of every unfinished segment; the size must be known."""
        step = self.plan.segment_bytes
        gaps = ((self.next_byte(start), min(start + step, self.size)) for start in range(0, self.size, step))
        return [(start, stop) for start, stop in gaps if start < stop]

    def put(self, position: int, chunk: bytes) -> None:
        """Append the new bytes of a chunk; bytes that are present already are skipped.

        Raises:
            StorageError: the disk is full or refuses to write.
        """
        step = self.plan.segment_bytes
        while chunk:
            number, inside = divmod(position, step)
            piece, new = chunk[: step - inside], self.next_byte(position) - position
            assert new >= 0, "bytes of a segment come in their order"  # noqa: S101
            self._append(number, piece[new:])
            position, chunk = position + len(piece), chunk[len(piece) :]

    def next_byte(self, position: int) -> int:
        """Return the position of the first missing byte in the segment that contains `position`."""
        number = position // self.plan.segment_bytes
        path = self._path(number)
        return number * self.plan.segment_bytes + (path.stat().st_size if path.exists() else 0)

    def is_whole(self) -> bool:
        """Return whether every segment is present at its full length."""
        return self.plan.size is not None and not self.missing()

    def files(self) -> list[tuple[Path, int]]:
        """Return path and full length in bytes of every segment in order, including removed ones."""
        step = self.plan.segment_bytes
        return [(self._path(start // step), min(step, self.size - start)) for start in range(0, self.size, step)]

    def wipe(self, md5: str) -> None:
        """Remove all segments, and begin an empty plan."""
        remove(self.folder)
        self.plan = Plan(md5, SEGMENT_BYTES)
        self.present = 0

    @property
    def size(self) -> int:
        """Size of the whole file in bytes, which must be known."""
        assert self.plan.size is not None, "the size is known after the first transfer"  # noqa: S101
        return self.plan.size

    def _append(self, number: int, piece: bytes) -> None:
        if not piece:
            return
        path = self._path(number)
        with writing_to(path), path.open("ab") as file:
            file.write(piece)
        with self._lock:
            self.present += len(piece)

    def _path(self, number: int) -> Path:
        return self.folder / f"{number:05d}"
