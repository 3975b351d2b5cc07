"""The uncompressed bytes of a tar, and the positions in the archive from which reading can resume."""

import io
from pathlib import Path
from typing import BinaryIO, Protocol, cast

from fusmae.errors import SourceError
from fusmae.sources.transfer.joined import JoinedFiles

# At each refill of the buffer, a gzip stream is read again from the last seek point: with a few points per buffer
# this costs a quarter more work. A point takes 32 KB of memory, so that 100 GB need 100 MB.
SPACING_BYTES = 32 * 2**20
BUFFER_BYTES = 4 * SPACING_BYTES
_LONGEST_ZSTD_WINDOW = 2**31


class TarStream(Protocol):
    """A tar that can be read forwards from any byte."""

    @property
    def file(self) -> BinaryIO:
        """The uncompressed tar."""
        ...

    def keep_place(self, offset: int, index: Path) -> int | None:
        """Write to `index` what is needed to read from a tar offset on; return the first archive byte needed then.

        None is returned where the compression allows no start in the middle.
        """
        ...


class PlainStream:
    """A tar that isn't compressed."""

    def __init__(self, archive: JoinedFiles) -> None:
        self.file = cast(BinaryIO, io.BufferedReader(archive, BUFFER_BYTES))

    def keep_place(self, offset: int, index: Path) -> int | None:
        """See `TarStream`."""
        index.touch()
        return offset


class GzipStream:
    """A tar.gz whose seek points are recorded while it is read.

    Args:
        archive: compressed bytes; those before the place that `index` was written for may be absent.
        index: file of seek points of an earlier reading; None for none.
    """

    def __init__(self, archive: JoinedFiles, index: Path | None) -> None:
        from indexed_gzip import IndexedGzipFile

        options = {"index_file": str(index)} if index is not None else {}
        self._gzip = IndexedGzipFile(fileobj=archive, spacing=SPACING_BYTES, buffer_size=BUFFER_BYTES, **options)
        self.file = cast(BinaryIO, self._gzip)

    def keep_place(self, offset: int, index: Path) -> int | None:
        """See `TarStream`."""
        before = [archive for tar, archive in self._gzip.seek_points() if tar <= offset]
        self._gzip.export_index(str(index))
        # A seek point may need the last bits of the byte before it.
        return max(before[-1] - 1, 0) if before else 0


class ForwardStream:
    """A tar with a compression that has no seek points: read once, from beginning to end."""

    def __init__(self, file: BinaryIO) -> None:
        self.file = file

    def keep_place(self, offset: int, index: Path) -> int | None:
        """See `TarStream`."""
        return None


def tar_stream(name: str, archive: JoinedFiles, index: Path | None) -> TarStream:
    """Open an archive by the compression that its name states.

    Raises:
        SourceError: the name states no known compression.
    """
    kind = name.rpartition(".tar")[2]
    if kind == ".gz":
        return GzipStream(archive, index)
    if kind == "" and name.endswith(".tar"):
        return PlainStream(archive)
    if kind == ".zst":
        from zstandard import ZstdDecompressor

        buffered = io.BufferedReader(archive, 2**20)
        decompressor = ZstdDecompressor(max_window_size=_LONGEST_ZSTD_WINDOW)
        return ForwardStream(cast(BinaryIO, decompressor.stream_reader(buffered, read_across_frames=True)))
    known = ".tar, .tar.gz or .tar.zst"
    raise SourceError(f"{name} is no archive of a known kind.", expected=known)
