"""Several files read as one, one after the other."""

import io
from bisect import bisect_right
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import accumulate
from pathlib import Path

from fusmae.sources.transfer.storage import remove


@dataclass(frozen=True)
class Piece:
    """One of the files.

    Attributes:
        path: path of the file, which may have been removed after reading.
        size: size in bytes.
        is_ours: whether the file was made by a transfer, so that it may be removed; files of the user are kept.
    """

    path: Path
    size: int
    is_ours: bool


class JoinedFiles(io.RawIOBase):
    """Several pieces as one seekable file; a piece is opened when a byte of it is read.

    Args:
        pieces: files in their order.
    """

    def __init__(self, pieces: Sequence[Piece]) -> None:
        super().__init__()
        self._pieces = pieces
        self._ends = list(accumulate(piece.size for piece in pieces))
        self._position = 0
        self._open: tuple[int, io.FileIO] | None = None

    @property
    def size(self) -> int:
        """Size of all pieces together in bytes."""
        return self._ends[-1] if self._ends else 0

    def release(self, before: int) -> None:
        """Remove transferred pieces that end at or before an offset, because bytes before it are not read again."""
        for piece, end in zip(self._pieces, self._ends, strict=True):
            if piece.is_ours and end <= before:
                remove(piece.path)

    def readable(self) -> bool:
        """See `io.RawIOBase`."""
        return True

    def seekable(self) -> bool:
        """See `io.RawIOBase`."""
        return True

    def tell(self) -> int:
        """See `io.RawIOBase`."""
        return self._position

    def seek(self, offset: int, whence: int = io.SEEK_SET) -> int:
        """See `io.RawIOBase`."""
        self._position = offset + {io.SEEK_SET: 0, io.SEEK_CUR: self._position, io.SEEK_END: self.size}[whence]
        return self._position

    def readinto(self, buffer: bytearray | memoryview) -> int:  # type: ignore[override]
        """See `io.RawIOBase`."""
        if self._position >= self.size:
            return 0
        number = bisect_right(self._ends, self._position)
        file = self._file(number)
        file.seek(self._position - (self._ends[number] - self._pieces[number].size))
        with memoryview(buffer) as view:
            count = file.readinto(view[: self._ends[number] - self._position])
        if not count:
            raise EOFError(f"{self._pieces[number].path} is shorter than it was")
        self._position += count
        return int(count)

    def close(self) -> None:
        """See `io.RawIOBase`."""
        if self._open is not None:
            self._open[1].close()
            self._open = None
        super().close()

    def _file(self, number: int) -> io.FileIO:
        if self._open is None or self._open[0] != number:
            if self._open is not None:
                self._open[1].close()
            self._open = number, self._pieces[number].path.open("rb", buffering=0)
        assert self._open is not None  # noqa: S101
        return self._open[1]
