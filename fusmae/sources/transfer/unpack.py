"""Unpacking of a tar.gz: places to resume from are recorded, and the bytes of the archive before them are removed."""

import io
import json
import os
import tarfile
import zlib
from bisect import bisect_right
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, replace
from itertools import accumulate
from pathlib import Path
from typing import TYPE_CHECKING, BinaryIO, cast

from fusmae.errors import SourceError
from fusmae.files import remove, write_json
from fusmae.sources.transfer.download import Show
from fusmae.sources.transfer.remote import Archive
from fusmae.sources.transfer.segments import writing_to

if TYPE_CHECKING:
    from indexed_gzip import IndexedGzipFile

LEG_BYTES = 2**30
"""Bytes of a tar between two recorded places; after a kill, at most so many are unpacked again."""
# At each refill of the buffer, of four times this size, a gzip stream is read again from the last seek point: with a
# few points per buffer this costs a quarter more work. A point takes 32 KB of memory, so that 100 GB need 100 MB.
SPACING_BYTES = 32 * 2**20
_SHOW_BYTES = 4 * 2**20


@dataclass(frozen=True)
class Piece:
    """One of the files of an archive."""

    path: Path  # path of the file, which may have been removed after reading
    size: int  # size in bytes
    is_transferred: bool  # whether a transfer made the file, so that it may be removed; files of the user are kept


class JoinedFiles(io.RawIOBase):
    """Several pieces, in their order, as one seekable file; a piece is opened when a byte of it is read."""

    def __init__(self, pieces: Sequence[Piece]) -> None:
        super().__init__()
        self._pieces = pieces
        self._ends = list(accumulate(piece.size for piece in pieces))
        self._position = 0
        self.size = sum(piece.size for piece in pieces)

    def release(self, before: int) -> None:
        """Remove transferred pieces that end at or before an offset, because bytes before it are not read again."""
        for piece, end in zip(self._pieces, self._ends, strict=True):
            if piece.is_transferred and end <= before:
                remove(piece.path)

    def readable(self) -> bool:
        """See `io.RawIOBase`."""
        return True

    def seekable(self) -> bool:
        """See `io.RawIOBase`."""
        return True

    def seek(self, offset: int, whence: int = io.SEEK_SET) -> int:
        """See `io.RawIOBase`."""
        self._position = offset + {io.SEEK_SET: 0, io.SEEK_CUR: self._position, io.SEEK_END: self.size}[whence]
        return self._position

    def readinto(self, buffer: bytearray | memoryview) -> int:  # type: ignore[override]
        """See `io.RawIOBase`."""
        if self._position >= self.size:
            return 0
        number = bisect_right(self._ends, self._position)
        piece, end = self._pieces[number], self._ends[number]
        with io.FileIO(piece.path) as file, memoryview(buffer) as view:
            file.seek(self._position - (end - piece.size))
            count = file.readinto(view[: end - self._position])
        if not count:
            raise EOFError(f"{piece.path} is shorter than it was")
        self._position += count
        return int(count)


@dataclass(frozen=True)
class Place:
    """Position from which the unpacking of a group of archives resumes."""

    identity: str  # identity of the archives and of the choice among their members
    archive: int = 0  # number of the archive, counted from 0; those before it are unpacked
    offset: int = 0  # offset in bytes of the next member in the uncompressed tar
    archive_offset: int = 0  # offset in bytes of the first byte of the archive that is still needed
    index: str = ""  # file of seek points by which `offset` is reached; empty at the beginning of an archive


def read_place(journal: Path, identity: str) -> Place | None:
    """Return the place that a folder stores; None where it stores none, or that of archives with another identity."""
    try:
        place = Place(**json.loads((journal / "journal.json").read_text(encoding="utf-8")))
    except (OSError, ValueError, TypeError):
        return None
    return place if place.identity == identity else None


def write_place(journal: Path, place: Place) -> Place:
    """Store a new place, remove the seek points of the one before, and return the place.

    Raises:
        StorageError: the disk is full or refuses to write.
    """
    write_json(journal / "journal.json", asdict(place))
    for path in journal.glob("*.gzidx"):
        if path.name != place.index:
            path.unlink()
    return place


def unpack(
    archive: Archive,
    joined: JoinedFiles,
    root: Path,
    journal: Path,
    place: Place,
    wanted: Callable[[str], bool],
    show: Show,
) -> set[str]:
    """Unpack one archive into the folder `root`, from a place to the end, and return the top-level names in it.

    Its bytes `joined` may be absent before the place. The folder `journal` stores the place to resume from, again and
    again; `wanted` selects members by their path in the archive; `show` takes the progress in bytes.

    Raises:
        SourceError: the archive is damaged, or a member can't be unpacked safely.
        StorageError: the disk is full or refuses to write.
    """
    from indexed_gzip import IndexedGzipFile

    points = {"index_file": str(journal / place.index)} if place.index else {}
    tops, kept, shown = set(), place.offset, place.offset
    try:
        stream = IndexedGzipFile(fileobj=joined, spacing=SPACING_BYTES, buffer_size=4 * SPACING_BYTES, **points)
        stream.seek(kept)
        with tarfile.open(fileobj=cast(BinaryIO, stream), mode="r:") as tar:
            while (member := tar.next()) is not None:
                # There are millions of members, and tarfile would keep them all in memory.
                tar.members.clear()  # type: ignore[attr-defined]
                name = _safe_name(archive, member)
                top = name.partition("/")[0]
                tops.add(top)
                if top == archive.makes and member.isreg() and wanted(name):
                    content = cast(BinaryIO, tar.extractfile(member)).read()
                    _write(content, root / name, root / ".member.partial")
                if tar.offset >= shown + _SHOW_BYTES:
                    shown = tar.offset
                    show(joined.tell(), joined.size)
                if tar.offset >= kept + LEG_BYTES:
                    kept = tar.offset
                    _keep_place(journal, replace(place, offset=kept), stream, joined)
            # tarfile takes a damaged header in the middle for the end.
            while rest := stream.read(2**20):
                if rest.strip(b"\0"):
                    raise tarfile.ReadError("a damaged header in the middle of it")
    except (tarfile.TarError, OSError, EOFError, zlib.error) as error:
        raise SourceError(
            f"{archive.name} can't be unpacked: {type(error).__name__}: {error}",
            expected="a tar.gz",
            hint=f"remove {archive.name}* from the downloads folder, then `dvc repro -f -s fetch`",
        ) from error
    return tops


def _write(content: bytes, target: Path, partial: Path) -> None:
    """Write one member, completely or not at all.

    All members share the temporary file, outside of the unpacked data: a killed process leaves no file among them.
    """
    with writing_to(target):
        target.parent.mkdir(parents=True, exist_ok=True)
        partial.write_bytes(content)
        partial.replace(target)


def _keep_place(journal: Path, place: Place, stream: "IndexedGzipFile", joined: JoinedFiles) -> None:
    """Record the place: first the members reach the disk, then the place, then the archive's bytes are removed."""
    os.sync()
    index = journal / f"{place.archive:03d}-{place.offset}.gzidx"
    with writing_to(index):
        stream.export_index(str(index))
    before = [archive for tar, archive in stream.seek_points() if tar <= place.offset]
    # A seek point may need the last bits of the byte before it.
    needed = max(before[-1] - 1, 0) if before else 0
    write_place(journal, replace(place, archive_offset=needed, index=index.name))
    os.sync()
    joined.release(before=needed)


def _safe_name(archive: Archive, member: tarfile.TarInfo) -> str:
    """Return a member's path inside the target folder, without `.` and double slashes.

    This is stricter than tarfile's data filter, which allows links that stay inside the target folder. Without links,
    the name alone determines where a member is written.
    """
    parts = [part for part in member.name.split("/") if part not in ("", ".")]
    if member.name.startswith("/") or ".." in parts or "\0" in member.name:
        fault = "its path leaves the folder that it is unpacked to"
    elif member.issym() or member.islnk():
        fault = f"it is a link to {member.linkname!r}"
    elif not (member.isreg() or member.isdir()):
        fault = "it is neither a file nor a folder"
    else:
        return "/".join(parts)
    raise SourceError(
        f"{archive.name} holds a member that can't be unpacked safely.",
        got=f"{member.name!r}: {fault}",
        expected="files and folders only, with paths inside the archive's own folder",
        hint="report this to the dataset's authors: the archive has the MD5 that they publish",
    )
