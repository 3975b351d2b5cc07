"""Download of one file from any of its addresses into segments, and the check of its MD5."""

import hashlib
import json
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor, as_completed
from contextlib import contextmanager
from pathlib import Path

from fusmae.errors import SourceError
from fusmae.files import write_json
from fusmae.runs.address import shown, without_secrets
from fusmae.sources.transfer.remote import DownloadOptions, RemoteFile, addresses
from fusmae.sources.transfer.segments import Segments
from fusmae.sources.transfer.server import (
    CHUNK_BYTES,
    ChangedError,
    DroppedError,
    RefusedError,
    RemoteOffer,
    Server,
    reach,
)

OFFER_TRIES = 4
TRIES = 8
BACKOFF_S = 1.0
LONGEST_WAIT_S = 60.0

Show = Callable[[int, int | None], None]
"""Function that takes the number of bytes done and their total, None where the total is unknown."""


@contextmanager
def progress(title: str) -> Iterator[Show]:
    """Show a progress bar in bytes on a terminal, otherwise one line; written to stderr, so that stdout stays clean.

    Yields:
        Function that takes the progress; may be called from any thread.
    """
    from rich.console import Console
    from rich.progress import BarColumn, DownloadColumn, Progress, TextColumn, TimeRemainingColumn, TransferSpeedColumn

    console = Console(stderr=True, highlight=False)
    if not console.is_terminal:
        console.print(title, markup=False)
    text = TextColumn("{task.description}", markup=False)
    columns = (text, BarColumn(), DownloadColumn(binary_units=True), TransferSpeedColumn(), TimeRemainingColumn())
    with Progress(*columns, console=console, disable=not console.is_terminal) as bars:
        bar = bars.add_task(title, total=None)
        yield lambda done, total: bars.update(bar, completed=done, total=total)


def is_provided(file: RemoteFile, path: Path) -> bool:
    """Return whether the user placed the file at `path`; its MD5 is computed once, which takes minutes for 50 GB.

    Raises:
        SourceError: the file at `path` has another MD5.
    """
    if not path.is_file():
        return False
    receipt = path.with_name(f"{path.name}.checked.json")
    stat = path.stat()
    state = {"md5": file.md5.lower(), "size": stat.st_size, "mtime_ns": stat.st_mtime_ns}
    try:
        is_checked = json.loads(receipt.read_text(encoding="utf-8")) == state
    except (OSError, ValueError):
        is_checked = False
    if not is_checked:
        check(file, path)
        write_json(receipt, state)
    return True


def check(file: RemoteFile, path: Path) -> None:
    """Compare the MD5 of a file that the user placed at `path` with the expected one.

    Raises:
        SourceError: the two differ.
    """
    md5 = _md5(file, [path])
    if md5 != file.md5.lower():
        raise SourceError(
            f"{path} is not {file.name} of the dataset: its MD5 differs.",
            got=f"{md5} ({path.stat().st_size} bytes)",
            expected=file.md5,
            hint="remove this file or replace it with the right one, then `dvc repro -f -s fetch`",
        )


def download(file: RemoteFile, segments: Segments, options: DownloadOptions, path: Path) -> None:
    """Complete and verify the segments of a file; bytes that are present already are not transferred again.

    At `path` the user may place the file by hand, as the error states.

    Raises:
        SourceError: no address has the file with the right MD5.
        StorageError: the disk is full or refuses to write.
    """
    if segments.plan.is_verified and segments.is_whole():
        return
    refusals, dropped = [], None
    for address in addresses(file, options):
        try:
            _download_from(address, file, segments, options)
        except RefusedError as error:
            refusals.append(f"{shown(address)}: {without_secrets(str(error))}")
            dropped = error.__cause__ or dropped
        else:
            return
    raise SourceError(
        f"{file.name} could not be downloaded.",
        got="\n            ".join(refusals),
        expected=f"a file with MD5 {file.md5}",
        hint=f"try again later, or download it by hand to {path}, then `dvc repro -f -s fetch`",
    ) from dropped


def _md5(file: RemoteFile, paths: Sequence[Path]) -> str:
    """Return the MD5 of the bytes of several files, one after the other."""
    digest, done, size = hashlib.md5(usedforsecurity=False), 0, sum(path.stat().st_size for path in paths)
    with progress(f"checking {file.name}") as show:
        for path in paths:
            with path.open("rb") as content:
                while chunk := content.read(CHUNK_BYTES):
                    digest.update(chunk)
                    done += len(chunk)
                    show(done, size)
    return digest.hexdigest()


def _download_from(address: str, file: RemoteFile, segments: Segments, options: DownloadOptions) -> None:
    server = reach(address, options.num_connections)
    for is_last_round in (False, True):
        try:
            offer = _offer(server)
            segments.begin(address, offer, is_own_address=address == file.address)
            is_anew = not segments.present
            with progress(f"downloading {file.name} from {shown(address)}") as show:
                _fill(segments, server, offer, options.num_connections, show)
            md5 = _md5(file, [path for path, _ in segments.files()])
            if md5 == file.md5.lower():
                segments.note(segments.size, is_verified=True)
                return
            segments.wipe(file.md5)
            # Segments present before this round may be of another address or of an older file: one more round
            # without them may succeed.
            if is_anew or is_last_round:
                raise RefusedError(f"its file has MD5 {md5}")
        except ChangedError:
            segments.wipe(file.md5)
            if is_last_round:
                raise


def _offer(server: Server) -> RemoteOffer:
    failures = 0
    while True:
        try:
            return server.offer()
        except DroppedError as error:
            failures += 1
            if failures == OFFER_TRIES:
                raise RefusedError(f"{error} ({OFFER_TRIES} times)") from error
            time.sleep(_wait_s(failures))


def _wait_s(failures: int) -> float:
    return min(BACKOFF_S * 2.0 ** (failures - 1), LONGEST_WAIT_S)


def _fill(segments: Segments, server: Server, offer: RemoteOffer, num_connections: int, show: Show) -> None:
    """Fill the segments from one server, in several threads if the server supports ranges."""
    is_halted = threading.Event()

    def pour(start: int, stop: int | None) -> None:
        position = segments.next_byte(start) if offer.is_ranged else 0
        for chunk in server.read(offer, position, stop):
            segments.put(position, chunk)
            position += len(chunk)
            show(segments.present, offer.size)
            if is_halted.is_set():
                return
        if stop is None:  # the server had not stated the length
            segments.note(position, is_verified=False)

    def persist(start: int, stop: int | None) -> None:
        """Resume after each broken transfer; gives up after several in a row in which no thread received a byte."""
        failures = 0
        while not is_halted.is_set():
            before = segments.present
            try:
                pour(start, stop)
            except DroppedError as error:
                failures = 1 if segments.present > before else failures + 1
                if failures >= TRIES:
                    raise RefusedError(f"{error} ({TRIES} times)") from error
                is_halted.wait(_wait_s(failures))
            else:
                return

    whole: list[tuple[int, int | None]] = [] if segments.is_whole() else [(0, offer.size)]
    ranges = segments.missing() if offer.is_ranged else whole
    with ThreadPoolExecutor(num_connections) as pool:
        transfers = [pool.submit(persist, *range_) for range_ in ranges]
        try:
            for transfer in as_completed(transfers):
                transfer.result()
        except BaseException:
            is_halted.set()
            pool.shutdown(wait=False, cancel_futures=True)
            raise
