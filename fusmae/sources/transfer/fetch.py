"""Files and unpacked archives from elsewhere, whole or not at all; a killed fetch goes on where it was."""

import shutil
from collections.abc import Callable, Collection, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

from fusmae.errors import SourceError
from fusmae.files import written_whole
from fusmae.sources.transfer import byhand
from fusmae.sources.transfer.download import download
from fusmae.sources.transfer.group import Group
from fusmae.sources.transfer.remote import Archive, Line, RemoteFile
from fusmae.sources.transfer.segments import Segments
from fusmae.sources.transfer.storage import remove, writing_to

BY_HAND = "brought by hand"
"""Stands for the checksum of what nobody checked."""

_COPY_BYTES = 2**20


def fetch_file(file: RemoteFile, target: Path, line: Line) -> None:
    """Download one file to `target`, checked; kept if it is there already.

    Args:
        file: which one.
        target: where to; its folder holds what was transferred until the file is whole.
        line: which way.

    Raises:
        SourceError: no address has the file with the right MD5, or another file is at `target`.
        StorageError: the disk is full or refuses.
    """
    if target.exists():
        byhand.check(file, target)
        return
    segments = Segments(target.with_name(f"{target.name}.segments"), file.md5)
    download(file, segments, line, by_hand=str(target))
    with written_whole(target) as partial, partial.open("wb") as whole:
        for path, _ in segments.files():
            with path.open("rb") as segment:
                shutil.copyfileobj(segment, whole, _COPY_BYTES)
    remove(segments.folder)


def fetch_archives(
    archives: Sequence[Archive],
    downloads: Path,
    raw: Path,
    line: Line,
    wanted: Callable[[str], bool] | None = None,
    *,
    choice: Collection[str] = (),
) -> set[str]:
    """Make `raw/<makes>` of every archive: download, check and unpack one after the other.

    While an archive is unpacked, what was read of it is removed: the disk holds little more than the larger of the
    archive and what it unpacks to. What is in `raw` already is kept, and parts that were put into `downloads` by hand
    are used and stay.

    Args:
        archives: which ones; those that make the same name are given in one call.
        downloads: what was transferred is kept here until it is unpacked, and notes of what is done.
        raw: where to; on the same disk as its hidden folder of what is half unpacked.
        line: which way.
        wanted: chooses members by their path in the archive, as in `BigEarthNet-S2/tile/patch/patch_B02.tif`.
        choice: words for what `wanted` chooses, one for each part of the dataset; none for everything. What was
            unpacked before is kept as it is if it was chosen by all of these words, and is replaced if not.

    Returns:
        `makes` of what was brought by hand.

    Raises:
        SourceError: an archive can't be had, is damaged or unsafe, or another fetch is at work.
        StorageError: the disk is full or refuses.
    """
    groups: dict[str, list[Archive]] = {}
    for archive in archives:
        groups.setdefault(archive.makes, []).append(archive)
    by_hand: set[str] = set()
    with _alone_in(downloads):
        for makes, members in groups.items():
            if not Group(makes, members, downloads, raw, choice).fetch(line, wanted or (lambda _: True)):
                by_hand.add(makes)
    return by_hand


def part_sums(archives: Sequence[Archive], by_hand: Collection[str]) -> dict[str, str]:
    """What is known of the archives' bytes, by the names of their parts.

    Args:
        archives: which ones.
        by_hand: as `fetch_archives` gave it.
    """
    return {
        part.name: BY_HAND if archive.makes in by_hand else f"md5:{part.md5}"
        for archive in archives
        for part in archive.parts
    }


@contextmanager
def _alone_in(downloads: Path) -> Iterator[None]:
    from filelock import FileLock, Timeout

    with writing_to(downloads):
        downloads.mkdir(parents=True, exist_ok=True)
    lock = FileLock(downloads / ".lock", timeout=0)
    try:
        lock.acquire()
    except Timeout as error:
        raise SourceError(
            f"Another run is downloading to {downloads}.", hint="wait until it is done, then run the same command again"
        ) from error
    try:
        yield
    finally:
        lock.release()
