"""Download of files and unpacking of archives, each completely or not at all; a killed fetch can be resumed."""

import shutil
from collections.abc import Callable, Collection, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

from fusmae.errors import SourceError
from fusmae.files import written_whole
from fusmae.sources.transfer import byhand
from fusmae.sources.transfer.download import download
from fusmae.sources.transfer.group import Group
from fusmae.sources.transfer.remote import Archive, DownloadOptions, RemoteFile
from fusmae.sources.transfer.segments import Segments
from fusmae.sources.transfer.storage import remove, writing_to

BY_HAND = "brought by hand"
"""Text in place of the checksum of data that the user provided and that were not checked."""

_COPY_BYTES = 2**20


def fetch_file(file: RemoteFile, target: Path, line: DownloadOptions) -> None:
    """Download one file to `target` and check it; an existing file is checked and kept.

    Args:
        file: file to download.
        target: path of the result; its folder holds the segments until the file is complete.
        line: mirrors and number of connections.

    Raises:
        SourceError: no address has the file with the right MD5, or another file is at `target`.
        StorageError: the disk is full or refuses to write.
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
    line: DownloadOptions,
    wanted: Callable[[str], bool] | None = None,
    *,
    choice: Collection[str] = (),
) -> set[str]:
    """Make `raw/<makes>` of every archive: download, check and unpack one archive after the other.

    While an archive is unpacked, the parts that were read are removed: the disk holds little more than the larger of
    the archive and its content. Existing folders in `raw` are kept, and parts that the user placed in `downloads` are
    used and not removed.

    Args:
        archives: archives to fetch; those that make the same name must be passed in one call.
        downloads: folder of transferred bytes, until they are unpacked, and of records of the progress.
        raw: target folder; a hidden folder in it holds partly unpacked data.
        line: mirrors and number of connections.
        wanted: function that selects members by path in the archive, such as
            `BigEarthNet-S2/tile/patch/patch_B02.tif`; None for all.
        choice: words that describe the selection of `wanted`, one per part of the dataset; empty for everything. Data
            unpacked before are kept if their choice included all of these words, and are replaced otherwise.

    Returns:
        `makes` of the folders that the user provided.

    Raises:
        SourceError: an archive can't be fetched, is damaged or unsafe, or another process is fetching.
        StorageError: the disk is full or refuses to write.
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
    """Return the checksums of the archives' parts, by name.

    Args:
        archives: archives that were fetched.
        by_hand: names of the folders that the user provided, as `fetch_archives` returns them.
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
