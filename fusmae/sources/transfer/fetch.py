"""Download of files and unpacking of archives, each completely or not at all; a killed fetch can be resumed."""

import hashlib
import json
import os
import shutil
from collections.abc import Callable, Collection, Sequence
from itertools import accumulate
from pathlib import Path
from typing import Any

from filelock import FileLock, Timeout

from fusmae.errors import SourceError
from fusmae.files import remove, write_json, written_whole
from fusmae.sources.transfer.download import check, download, is_provided, progress
from fusmae.sources.transfer.remote import Archive, DownloadOptions, RemoteFile
from fusmae.sources.transfer.segments import Segments, writing_to
from fusmae.sources.transfer.unpack import JoinedFiles, Piece, Place, read_place, unpack, write_place

PROVIDED = "provided by the user, not checked"
"""Text in place of the checksum of data that the user placed in the raw folder."""


def fetch_file(file: RemoteFile, target: Path, options: DownloadOptions) -> None:
    """Download one file to `target` and check it; an existing file is checked and kept.

    Until the file is complete, its segments are in the same folder.

    Raises:
        SourceError: no address has the file with the right MD5, or another file is at `target`.
        StorageError: the disk is full or refuses to write.
    """
    if target.exists():
        check(file, target)
        return
    segments = Segments(target.with_name(f"{target.name}.segments"), file.md5)
    download(file, segments, options, target)
    with written_whole(target) as partial, partial.open("wb") as whole:
        for path, _ in segments.files():
            with path.open("rb") as segment:
                shutil.copyfileobj(segment, whole)
    remove(segments.folder)


def fetch_archives(
    archives: Sequence[Archive],
    downloads: Path,
    raw: Path,
    options: DownloadOptions,
    wanted: Callable[[str], bool] = lambda _: True,
    *,
    choice: Collection[str] = (),
) -> dict[str, str]:
    """Make `raw/<makes>` of every archive: download, check and unpack one archive after the other.

    While an archive is unpacked, the parts that were read are removed: the disk holds little more than the larger of
    the archive and its content. Existing folders in `raw` are kept, and parts that the user placed in `downloads` are
    used and not removed.

    Args:
        archives: those that make the same name must be passed in one call.
        downloads: folder of transferred bytes, until they are unpacked, and of records of the progress.
        raw: target folder; a hidden folder in it holds partly unpacked data.
        options: see `DownloadOptions`.
        wanted: function that selects members by path in the archive, such as
            `BigEarthNet-S2/tile/patch/patch_B02.tif`.
        choice: words that describe the selection of `wanted`, one per part of the dataset; empty for everything. Data
            unpacked before are kept if their choice included all of these words, and are replaced otherwise.

    Returns:
        Checksum of every part of the archives by name, or `PROVIDED` where the user placed the folder in `raw`.

    Raises:
        SourceError: an archive can't be fetched, is damaged or unsafe, or another process is fetching.
        StorageError: the disk is full or refuses to write.
    """
    groups: dict[str, list[Archive]] = {}
    for archive in archives:
        groups.setdefault(archive.makes, []).append(archive)
    sums: dict[str, str] = {}
    with writing_to(downloads):
        downloads.mkdir(parents=True, exist_ok=True)
    try:
        with FileLock(downloads / ".lock", timeout=0):
            for makes, members in groups.items():
                is_fetched = _Group(makes, members, downloads, raw, choice).fetch(options, wanted)
                parts = [part for archive in members for part in archive.parts]
                sums |= {part.name: f"md5:{part.md5}" if is_fetched else PROVIDED for part in parts}
    except Timeout as error:
        hint = "wait until it is done, then run the same command again"
        raise SourceError(f"Another run is downloading to {downloads}.", hint=hint) from error
    return sums


class _Group:
    """The archives that make `raw/<makes>`, see `fetch_archives` for the arguments.

    They are unpacked into a hidden folder beside it, which is renamed when all are unpacked: a folder with the final
    name is complete.
    """

    def __init__(
        self, makes: str, archives: Sequence[Archive], downloads: Path, raw: Path, choice: Collection[str]
    ) -> None:
        self._archives, self._downloads, self._choice = archives, downloads, sorted(set(choice))
        self._made, self._half = raw / makes, raw / f".{makes}.partial"
        self._marker, self._journal = downloads / f"{makes}.done", downloads / f"{makes}.journal"
        self._md5s = {archive.name: [part.md5 for part in archive.parts] for archive in archives}
        # The identity has no addresses: they may change while the bytes stay the same.
        identity = json.dumps([makes, [*self._md5s.items()], self._choice])
        self._identity = hashlib.sha256(identity.encode()).hexdigest()

    def fetch(self, options: DownloadOptions, wanted: Callable[[str], bool]) -> bool:
        """Make the folder, unless it exists; resumes where a killed process stopped.

        Returns:
            Whether the folder was made by this program; otherwise the user provided it, and its content is unchecked.
        """
        place = read_place(self._journal, self._identity)
        is_over = place is not None and place.archive == len(self._archives)
        # With all archives unpacked, under the hidden or the final name, only the last steps may be missing.
        if not (is_over and (self._made.exists() or (self._half / self._made.name).exists())):
            if self._is_done():
                self._clear()
                return self._is_as_fetched()
            if is_over or place is None or not self._half.is_dir():
                with writing_to(self._half):
                    remove(self._journal)
                    remove(self._half)
                    self._half.mkdir(parents=True)
                place = write_place(self._journal, Place(self._identity))
            self._remove_segments(self._archives[: place.archive])
            for archive in self._archives[place.archive :]:
                place = self._fetch(archive, place, options, wanted)
        return self._finish()

    def _is_done(self) -> bool:
        if not self._made.exists():
            return False
        marker = self._stored_marker()
        if marker is None:
            return True  # provided by the user
        has_all = all(marker["archives"].get(name) == md5s for name, md5s in self._md5s.items())
        # The stored choice includes this one; the empty choice is everything. Fetched data took days to fetch: they
        # are never replaced by a part of themselves.
        if has_all and (not marker["choice"] or (self._choice and set(self._choice) <= set(marker["choice"]))):
            return True
        if not self._is_as_fetched():
            raise SourceError(
                f"{self._made} is not the folder that was fetched, and {self._marker} is about other content.",
                got=f"record of {sorted(marker['archives'])}, choice {_shown(marker['choice'])}",
                expected=f"{sorted(self._md5s)}, choice {_shown(self._choice)}",
                hint=f"remove {self._marker} to keep the folder as it is, or the folder to have it fetched again",
            )
        return False

    def _is_as_fetched(self) -> bool:
        """Return whether the folder is the one that this program made, and was not replaced by another."""
        marker = self._stored_marker()
        return marker is not None and marker["inode"] == self._made.stat().st_ino

    def _fetch(self, archive: Archive, place: Place, options: DownloadOptions, wanted: Callable[[str], bool]) -> Place:
        """Unpack an archive from a place on, and return the place after it."""
        pieces = self._pieces(archive)
        if not self._can_go_on(place, pieces):
            place = write_place(self._journal, Place(self._identity, place.archive))
            pieces = self._pieces(archive, options)
        with progress(f"unpacking {archive.name}") as show:
            tops = unpack(archive, JoinedFiles(pieces), self._half, self._journal, place, wanted, show)
        if not (self._half / archive.makes).exists():
            raise SourceError(
                f"{archive.name} holds nothing of {archive.makes!r} that is wanted.",
                got=f"names at its top: {', '.join(sorted(tops)) or 'none'}",
                expected=f"{archive.makes}, of which the choice {_shown(self._choice)} leaves something",
                hint="check the choice in params.yaml",
            )
        os.sync()
        after = write_place(self._journal, Place(self._identity, place.archive + 1))
        self._remove_segments([archive])
        return after

    def _can_go_on(self, place: Place, pieces: Sequence[Piece]) -> bool:
        """Return whether the place lies in this archive and all bytes from there on are present."""
        ends = accumulate(piece.size for piece in pieces)
        needed = [piece for piece, end in zip(pieces, ends, strict=True) if end > place.archive_offset]
        are_there = all(piece.path.exists() and piece.path.stat().st_size == piece.size for piece in needed)
        return bool(place.index and pieces) and (self._journal / place.index).exists() and are_there

    def _pieces(self, archive: Archive, options: DownloadOptions | None = None) -> list[Piece]:
        """Return all pieces of an archive, downloaded where necessary.

        Without `options` nothing is downloaded: the pieces may have been removed, and there are none if a part was
        never verified.
        """
        pieces: list[Piece] = []
        for part in archive.parts:
            path = self._downloads / part.name
            segments = Segments(self._segments_folder(part), part.md5)
            if is_provided(part, path):
                remove(segments.folder)
                pieces.append(Piece(path, path.stat().st_size, is_transferred=False))
                continue
            if options is not None:
                download(part, segments, options, path)
            elif not segments.plan.is_verified:
                return []
            pieces += [Piece(segment, size, is_transferred=True) for segment, size in segments.files()]
        return pieces

    def _finish(self) -> bool:
        half = self._half / self._made.name
        if half.exists():
            if self._made.exists() and self._stored_marker() is None:  # provided by the user in the meantime
                self._clear()
                return False
            with writing_to(self._made):
                # An existing folder can only be the result of an earlier choice.
                if self._made.exists():
                    self._made.replace(self._half / ".replaced")
                half.replace(self._made)
        inode = self._made.stat().st_ino
        write_json(self._marker, {"archives": self._md5s, "choice": self._choice, "inode": inode})
        self._clear()
        return True

    def _clear(self) -> None:
        with writing_to(self._downloads):
            self._remove_segments(self._archives)
            remove(self._half)
            remove(self._journal)

    def _remove_segments(self, archives: Sequence[Archive]) -> None:
        for archive in archives:
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


def _shown(choice: Collection[str]) -> str:
    return repr(", ".join(choice) or "everything")
