"""The files of an archive, read as one."""

import io
from bisect import bisect_right
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import accumulate
from pathlib import Path

from fusmae.files import remove


@dataclass(frozen=True)
class Piece:
    """One of the files.

    Attributes:
        path: path of the file, which may have been removed after reading.
        size: size in bytes.
        is_transferred: whether a transfer made the file, so that it may be removed; files of the user are kept.
    """

    path: Path
    size: int
    is_transferred: bool


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
        self._file: io.FileIO | None = None

    @property
    def size(self) -> int:
        """Size of all pieces together in bytes."""
        return self._ends[-1] if self._ends else 0

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
        file = self._opened(number)
        file.seek(self._position - (self._ends[number] - self._pieces[number].size))
        with memoryview(buffer) as view:
            count = file.readinto(view[: self._ends[number] - self._position])
        if not count:
            raise EOFError(f"{self._pieces[number].path} is shorter than it was")
        self._position += count
        return int(count)

    def close(self) -> None:
        """See `io.RawIOBase`."""
        if self._file is not None:
            self._file.close()
        super().close()

    def _opened(self, number: int) -> io.FileIO:
        path = self._pieces[number].path
        if self._file is None or self._file.name != path:
            if self._file is not None:
                self._file.close()
            self._file = io.FileIO(path)
        return self._file
