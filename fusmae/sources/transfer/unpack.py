"""Unpacking of an archive: places to resume from are recorded, and the bytes of the archive before them are removed."""

import tarfile
import zlib
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

from fusmae.errors import SourceError
from fusmae.sources.transfer.joined import JoinedFiles
from fusmae.sources.transfer.journal import Journal
from fusmae.sources.transfer.members import Tree, safe_name
from fusmae.sources.transfer.remote import Archive
from fusmae.sources.transfer.segments import Show
from fusmae.sources.transfer.storage import settle, writing_to
from fusmae.sources.transfer.tarstream import TarStream, tar_stream

LEG_BYTES = 2**30
"""Bytes of a tar between two recorded places; after a kill, at most so many are unpacked again."""

_SHOW_BYTES = 4 * 2**20


class Unpacking:
    """The unpacking of one archive into a folder.

    Args:
        archive: archive to unpack.
        joined: bytes of the archive; those before the journal's place may be absent.
        root: folder that receives the members.
        journal: record of the place to resume from.
        wanted: function that selects members by their path in the archive.
        show: function that takes the progress in bytes.
    """

    def __init__(
        self,
        archive: Archive,
        joined: JoinedFiles,
        root: Path,
        journal: Journal,
        wanted: Callable[[str], bool],
        show: Show,
    ) -> None:
        self._archive, self._joined, self._journal, self._wanted = archive, joined, journal, wanted
        self._tree, self._show = Tree(root), show
        self._tops: set[str] = set()

    def run(self) -> set[str]:
        """Unpack from the journal's place to the end.

        Returns:
            The top-level names that the archive contains.

        Raises:
            SourceError: the archive is damaged, or a member can't be unpacked safely.
            StorageError: the disk is full or refuses to write.
        """
        try:
            with self._joined:
                stream = tar_stream(self._archive.name, self._joined, self._journal.index())
                self._unpack(stream)
        except _damage() as error:
            raise SourceError(
                f"{self._archive.name} can't be unpacked: {type(error).__name__}: {error}",
                expected="a tar with the compression that its name states",
                hint="free the folder of what was downloaded of it, then `dvc repro -f -s fetch`",
            ) from error
        return self._tops

    def _unpack(self, stream: TarStream) -> None:
        stream.file.seek(self._journal.place.offset)
        kept = shown = self._journal.place.offset
        with tarfile.open(fileobj=stream.file, mode="r:") as tar:
            while (member := tar.next()) is not None:
                # There are millions of members, and tarfile would keep them all in memory.
                tar.members.clear()  # type: ignore[attr-defined]
                self._write(tar, member)
                if tar.offset >= shown + _SHOW_BYTES:
                    shown = tar.offset
                    self._show(self._joined.tell(), self._joined.size)
                if tar.offset >= kept + LEG_BYTES:
                    kept = tar.offset
                    self._keep_place(stream, kept)
            self._check_end(stream)

    def _write(self, tar: tarfile.TarFile, member: tarfile.TarInfo) -> None:
        name = safe_name(self._archive.name, member)
        top = name.partition("/")[0]
        self._tops.add(top)
        if top == self._archive.makes and member.isreg() and self._wanted(name):
            self._tree.write(tar, member, name)

    def _keep_place(self, stream: TarStream, offset: int) -> None:
        """Record the place: first the members reach the disk, then the place, then the archive's bytes are removed."""
        settle()
        index = self._journal.new_index(offset)
        with writing_to(index):
            archive_offset = stream.keep_place(offset, index)
        if archive_offset is None:
            return
        place = replace(self._journal.place, offset=offset, archive_offset=archive_offset, index=index.name)
        self._journal.write(place)
        settle()
        self._joined.release(before=archive_offset)

    def _check_end(self, stream: TarStream) -> None:
        """Raise an error if non-zero bytes follow: tarfile takes a damaged header in the middle for the end."""
        while rest := stream.file.read(2**20):
            if rest.strip(b"\0"):
                raise tarfile.ReadError("a damaged header in the middle of it")


def _damage() -> tuple[type[Exception], ...]:
    """Return the errors that readers of tars and of compressed bytes raise."""
    from zstandard import ZstdError

    return tarfile.TarError, OSError, EOFError, zlib.error, ZstdError
