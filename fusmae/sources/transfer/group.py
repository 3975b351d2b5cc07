"""Archives that are unpacked into one folder together, from their addresses to that folder."""

import hashlib
import json
from collections.abc import Callable, Collection, Sequence
from pathlib import Path
from typing import Any

from fusmae.errors import SourceError
from fusmae.files import write_json
from fusmae.sources.transfer import byhand
from fusmae.sources.transfer.download import download
from fusmae.sources.transfer.joined import JoinedFiles, Piece
from fusmae.sources.transfer.journal import Journal, Place
from fusmae.sources.transfer.progress import progress
from fusmae.sources.transfer.remote import Archive, DownloadOptions, RemoteFile
from fusmae.sources.transfer.segments import Segments
from fusmae.sources.transfer.storage import remove, settle, writing_to
from fusmae.sources.transfer.unpack import Unpacking


class Group:
    """The archives that make `raw/<makes>`.

    They are unpacked into a hidden folder beside it, which is renamed when all are unpacked: a folder with the final
    name is complete.

    Args:
        makes: name of the folder or file.
        archives: all archives that it is made of.
        downloads: folder of transferred bytes, see `fetch_archives`.
        raw: target folder, see `fetch_archives`.
        choice: words that describe the selection of members, see `fetch_archives`.
    """

    def __init__(
        self, makes: str, archives: Sequence[Archive], downloads: Path, raw: Path, choice: Collection[str]
    ) -> None:
        self._archives, self._downloads, self._choice = archives, downloads, sorted(set(choice))
        self._made, self._half = raw / makes, raw / f".{makes}.partial"
        self._marker = downloads / f"{makes}.done"
        # The identity has no addresses: they may change while the bytes stay the same.
        identity = json.dumps([makes, [(archive.name, _md5s(archive)) for archive in archives], self._choice])
        self._journal = Journal(downloads / f"{makes}.journal", hashlib.sha256(identity.encode()).hexdigest())

    def fetch(self, line: DownloadOptions, wanted: Callable[[str], bool]) -> bool:
        """Make the folder, unless it exists; resumes where a killed process stopped.

        Returns:
            Whether the folder was made by this program; otherwise the user provided it, and its content is unchecked.
        """
        if not self._is_unpacked():
            if self._is_done():
                self._clear()
                return self._is_as_fetched()
            self._begin()
        for archive in self._archives[self._journal.place.archive :]:
            self._fetch(archive, line, wanted)
        return self._finish()

    def _is_unpacked(self) -> bool:
        """Return whether all archives are unpacked, under the hidden or final name: only last steps may be missing."""
        is_there = self._made.exists() or (self._half / self._made.name).exists()
        return is_there and self._journal.place.archive == len(self._archives)

    def _is_done(self) -> bool:
        if not self._made.exists():
            return False
        marker = self._stored_marker()
        if marker is None:
            return True  # provided by the user
        has_all = all(marker["archives"].get(archive.name) == _md5s(archive) for archive in self._archives)
        # Fetched data took days to fetch: they are never replaced by a part of themselves.
        if has_all and _covers(marker["choice"], self._choice):
            return True
        if not self._is_as_fetched():
            raise SourceError(
                f"{self._made} did not come from here, and {self._marker} names other contents.",
                got=f"notes of {sorted(marker['archives'])}, choice {_shown(marker['choice'])}",
                expected=f"{sorted(archive.name for archive in self._archives)}, choice {_shown(self._choice)}",
                hint=f"remove {self._marker} to keep the folder as it is, or the folder to have it made anew",
            )
        return False

    def _is_as_fetched(self) -> bool:
        """Return whether the folder is the one that this program made, and was not replaced by another."""
        marker = self._stored_marker()
        return marker is not None and marker["inode"] == self._made.stat().st_ino

    def _begin(self) -> None:
        is_over = self._journal.place.archive == len(self._archives)
        if is_over or not self._journal.is_begun or not self._half.is_dir():
            with writing_to(self._half):
                self._journal.remove()
                remove(self._half)
                self._half.mkdir(parents=True)
            self._journal.write(Place())
        for archive in self._archives[: self._journal.place.archive]:
            self._remove_segments(archive)

    def _fetch(self, archive: Archive, line: DownloadOptions, wanted: Callable[[str], bool]) -> None:
        number = self._journal.place.archive
        pieces = self._pieces(archive)
        if not self._can_go_on(pieces):
            self._journal.write(Place(number))
            pieces = [piece for part in archive.parts for piece in self._transferred(part, line)]
        with progress(f"unpacking {archive.name}") as show:
            tops = Unpacking(archive, JoinedFiles(pieces), self._half, self._journal, wanted, show).run()
        if not (self._half / archive.makes).exists():
            raise SourceError(
                f"{archive.name} holds nothing of {archive.makes!r} that is wanted.",
                got=f"names at its top: {', '.join(sorted(tops)) or 'none'}",
                expected=f"{archive.makes}, of which the choice {_shown(self._choice)} leaves something",
                hint="check the choice in params.yaml",
            )
        settle()
        self._journal.write(Place(number + 1))
        self._remove_segments(archive)

    def _can_go_on(self, pieces: Sequence[Piece]) -> bool:
        """Return whether the journal's place lies in this archive and all bytes from there on are present."""
        end, place = 0, self._journal.place
        if not (place.index and pieces):
            return False
        for piece in pieces:
            end += piece.size
            if end > place.archive_offset and not (piece.path.exists() and piece.path.stat().st_size == piece.size):
                return False
        index = self._journal.index()
        return index is not None and index.exists()

    def _pieces(self, archive: Archive) -> list[Piece]:
        """Return all pieces, including removed ones, if all parts have been verified; otherwise none."""
        pieces: list[Piece] = []
        for part in archive.parts:
            path = self._downloads / part.name
            segments = Segments(self._segments_folder(part), part.md5)
            if byhand.has_whole(part, path):
                pieces.append(Piece(path, path.stat().st_size, is_ours=False))
            elif segments.plan.is_verified:
                pieces.extend(Piece(path, size, is_ours=True) for path, size in segments.files())
            else:
                return []
        return pieces

    def _transferred(self, part: RemoteFile, line: DownloadOptions) -> list[Piece]:
        path = self._downloads / part.name
        if byhand.has_whole(part, path):
            remove(self._segments_folder(part))
            return [Piece(path, path.stat().st_size, is_ours=False)]
        segments = Segments(self._segments_folder(part), part.md5)
        download(part, segments, line, by_hand=str(path))
        return [Piece(path, size, is_ours=True) for path, size in segments.files()]

    def _finish(self) -> bool:
        half = self._half / self._made.name
        if half.exists():
            if self._made.exists() and self._stored_marker() is None:  # provided by the user in the meantime
                self._clear()
                return False
            with writing_to(self._made):
                # An existing folder can only be the result of an earlier choice.
                replaced = self._half / ".replaced"
                if self._made.exists():
                    self._made.replace(replaced)
                half.replace(self._made)
        marker = {
            "archives": {archive.name: _md5s(archive) for archive in self._archives},
            "choice": self._choice,
            "inode": self._made.stat().st_ino,
        }
        write_json(self._marker, marker)
        self._clear()
        return True

    def _clear(self) -> None:
        with writing_to(self._downloads):
            for archive in self._archives:
                self._remove_segments(archive)
            remove(self._half)
            self._journal.remove()

    def _remove_segments(self, archive: Archive) -> None:
        for part in archive.parts:
            remove(self._segments_folder(part))

    def _segments_folder(self, part: RemoteFile) -> Path:
        return self._downloads / f"{part.name}.segments"

    def _stored_marker(self) -> dict[str, Any] | None:
        try:
            marker = json.loads(self._marker.read_text(encoding="utf-8"))
            return marker if {"archives", "choice", "inode"} <= marker.keys() else None
        except (OSError, ValueError, AttributeError):
            return None


def _md5s(archive: Archive) -> list[str]:
    return [part.md5 for part in archive.parts]


def _covers(choice: Collection[str], wanted: Collection[str]) -> bool:
    """Return whether one choice includes all of another; the empty choice is everything."""
    return not choice or (bool(wanted) and set(wanted) <= set(choice))


def _shown(choice: Collection[str]) -> str:
    return repr(", ".join(choice) or "everything")
