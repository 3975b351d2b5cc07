"""A file in segments: what of it is here already, which bytes are missing."""

import hashlib
import json
import threading
from collections.abc import Callable
from dataclasses import asdict, dataclass, field
from pathlib import Path

from fusmae.files import write_json
from fusmae.sources.transfer.remote import shown
from fusmae.sources.transfer.server import CHUNK_BYTES, Offer, RefusedError
from fusmae.sources.transfer.storage import remove, writing_to

SEGMENT_BYTES = 64 * 2**20
"""A segment is transferred by one connection, and is what unpacking gives back to the disk at a time."""

Show = Callable[[int, int | None], None]
"""Takes how many bytes are done, and of how many."""


@dataclass
class Plan:
    """What is known of the file; kept beside the segments, so that a killed transfer goes on.

    Attributes:
        md5: that the whole must have.
        segment_bytes: length of every segment but the last.
        size: of the whole; None where no server said it yet.
        editions: by address that bytes came from, which edition of the file it served.
        is_verified: all bytes were there and had the right MD5; segments may have been released since.
    """

    md5: str
    segment_bytes: int
    size: int | None = None
    editions: dict[str, str] = field(default_factory=dict)
    is_verified: bool = False


class Segments:
    """The bytes of one file in a folder of segments; each grows by appending, so its length says how far it came.

    Args:
        folder: where the segments and their plan are kept; made on the first byte.
        md5: of the whole; segments of a file with another one are removed.
    """

    def __init__(self, folder: Path, md5: str) -> None:
        self.folder = folder
        self._lock = threading.Lock()
        self.plan = self._stored_plan(md5)
        self.present = sum(self._length(number) for number in self._numbers())

    def begin(self, address: str, offer: Offer, *, is_own_address: bool) -> None:
        """Take an address's offer into the plan.

        What another edition at this address gave is removed. Where sizes differ, the file's own address is right.

        Raises:
            RefusedError: a mirror's file has another size than what was begun.
        """
        plan, place = self.plan, shown(address)  # the plan is a file: no password belongs there
        is_other_size = None not in (plan.size, offer.size) and plan.size != offer.size
        if is_other_size and self.present and not is_own_address:
            raise RefusedError(f"has {offer.size} bytes; {plan.size} were begun from elsewhere")
        if is_other_size or plan.editions.get(place, offer.edition) != offer.edition:
            self.wipe()
        self.plan.size = offer.size if offer.size is not None else self.plan.size
        self.plan.is_verified = False
        self.plan.editions[place] = offer.edition
        self._store_plan()

    def missing(self) -> list[tuple[int, int]]:
        """First byte and end of what every unfinished segment lacks; the size must be known."""
        size, step = self.size, self.plan.segment_bytes
        ranges = ((start, min(start + step, size)) for start in range(0, size, step))
        gaps = ((start + self._length(start // step), stop) for start, stop in ranges)
        return [(start, stop) for start, stop in gaps if start < stop]

    def put(self, position: int, chunk: bytes) -> None:
        """Append what is new of a chunk; what is here already is passed over.

        Raises:
            StorageError: the disk is full or refuses.
        """
        step = self.plan.segment_bytes
        while chunk:
            number, inside = divmod(position, step)
            piece = chunk[: step - inside]
            length = self._length(number)
            assert length >= inside, "bytes of a segment come in their order"  # noqa: S101
            self._append(number, piece[length - inside :])
            position, chunk = position + len(piece), chunk[len(piece) :]

    def next_byte(self, position: int) -> int:
        """First byte that is missing of the segment that holds `position`."""
        number = position // self.plan.segment_bytes
        return number * self.plan.segment_bytes + self._length(number)

    def end_at(self, size: int) -> None:
        """Take the place where a stream of unsaid length ended for the file's size."""
        self.plan.size = size
        self._store_plan()

    def is_whole(self) -> bool:
        """Every segment is here at its full length."""
        return self.plan.size is not None and not self.missing()

    def md5(self, show: Show) -> str:
        """MD5 of all segments, one after the other."""
        digest, done = hashlib.md5(usedforsecurity=False), 0
        for path, _ in self.files():
            with path.open("rb") as file:
                while chunk := file.read(CHUNK_BYTES):
                    digest.update(chunk)
                    done += len(chunk)
                    show(done, self.plan.size)
        return digest.hexdigest()

    def mark_verified(self) -> None:
        """Remember that the whole has the right MD5."""
        self.plan.is_verified = True
        self._store_plan()

    def files(self) -> list[tuple[Path, int]]:
        """Path and full length of every segment in order, whether it is still here or not."""
        step = self.plan.segment_bytes
        return [(self._path(start // step), min(step, self.size - start)) for start in range(0, self.size, step)]

    def wipe(self) -> None:
        """Forget the file and remove its segments; the plan stays as an empty one."""
        remove(self.folder)
        self.plan = Plan(self.plan.md5, SEGMENT_BYTES)
        self.present = 0

    @property
    def size(self) -> int:
        """Of the whole file, in bytes; it must be known."""
        assert self.plan.size is not None, "the size is known after the first transfer"  # noqa: S101
        return self.plan.size

    def _stored_plan(self, md5: str) -> Plan:
        try:
            plan = Plan(**json.loads((self.folder / "plan.json").read_text(encoding="utf-8")))
        except (OSError, ValueError, TypeError):
            plan = None
        if plan is None or plan.md5 != md5:
            remove(self.folder)
            return Plan(md5, SEGMENT_BYTES)
        return plan

    def _store_plan(self) -> None:
        write_json(self.folder / "plan.json", asdict(self.plan))

    def _append(self, number: int, piece: bytes) -> None:
        if not piece:
            return
        path = self._path(number)
        with writing_to(path), path.open("ab") as file:
            file.write(piece)
        with self._lock:
            self.present += len(piece)

    def _length(self, number: int) -> int:
        path = self._path(number)
        return path.stat().st_size if path.exists() else 0

    def _numbers(self) -> list[int]:
        if not self.folder.is_dir():
            return []
        return [int(path.name) for path in self.folder.iterdir() if path.name.isdecimal()]

    def _path(self, number: int) -> Path:
        return self.folder / f"{number:05d}"
