"""Download of one file from any of its addresses into segments, checked by its MD5."""

import threading
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor, as_completed
from typing import TypeVar

from fusmae.errors import SourceError
from fusmae.sources.transfer.progress import progress
from fusmae.sources.transfer.remote import DownloadOptions, RemoteFile, addresses, shown, without_secrets
from fusmae.sources.transfer.segments import Segments, Show
from fusmae.sources.transfer.server import ChangedError, DroppedError, RefusedError, RemoteOffer, Server, reach

OFFER_TRIES = 4
TRIES = 8
BACKOFF_S = 1.0
LONGEST_WAIT_S = 60.0

_T = TypeVar("_T")


def download(file: RemoteFile, segments: Segments, line: DownloadOptions, *, by_hand: str) -> None:
    """Complete and verify the segments of a file; bytes that are present already are not transferred again.

    Args:
        file: file to download.
        segments: segments that receive the bytes.
        line: mirrors and number of connections.
        by_hand: path where the user may place the file, for the error's text.

    Raises:
        SourceError: no address has the file with the right MD5.
        StorageError: the disk is full or refuses to write.
    """
    if segments.plan.is_verified and segments.is_whole():
        return
    said, dropped = [], None
    for address in addresses(file, line):
        try:
            _download_from(address, file, segments, line)
        except RefusedError as error:
            said.append(f"{shown(address)}: {without_secrets(str(error))}")
            dropped = error.__cause__ or dropped
        else:
            return
    raise SourceError(
        f"{file.name} could not be downloaded.",
        got="\n            ".join(said),
        expected=f"a file with MD5 {file.md5}",
        hint=f"try again later, or download it by hand to {by_hand}, then `dvc repro -f -s fetch`",
    ) from dropped


def _download_from(address: str, file: RemoteFile, segments: Segments, line: DownloadOptions) -> None:
    server = reach(address, line.num_connections)
    for is_last_round in (False, True):
        try:
            offer = _patiently(server.offer)
            segments.begin(address, offer, is_own_address=address == file.address)
            is_anew = not segments.present
            with progress(f"downloading {file.name} from {shown(address)}") as show:
                _Transfer(server, offer, segments, show).run(line.num_connections)
            found = _md5(file, segments)
            if found == file.md5.lower():
                segments.mark_verified()
                return
            segments.wipe()
            # Segments present before this round may be of another address or of an older file: one more round
            # without them may succeed.
            if is_anew or is_last_round:
                raise RefusedError(f"its file has MD5 {found}")
        except ChangedError:
            segments.wipe()
            if is_last_round:
                raise


def _md5(file: RemoteFile, segments: Segments) -> str:
    with progress(f"checking {file.name}") as show:
        return segments.md5(show)


def _patiently(ask: Callable[[], _T]) -> _T:
    for attempt in range(OFFER_TRIES - 1):
        try:
            return ask()
        except DroppedError:
            time.sleep(_wait_s(attempt))
    try:
        return ask()
    except DroppedError as error:
        raise RefusedError(f"{error} ({OFFER_TRIES} times)") from error


def _wait_s(attempt: int) -> float:
    return min(BACKOFF_S * 2.0**attempt, LONGEST_WAIT_S)


class _Transfer:
    """Fills the segments from one server, in several threads if the server supports ranges."""

    def __init__(self, server: Server, offer: RemoteOffer, segments: Segments, show: Show) -> None:
        self._server, self._offer, self._segments, self._show = server, offer, segments, show
        self._is_halted = threading.Event()

    def run(self, num_connections: int) -> None:
        segments = self._segments
        ranges: list[tuple[int, int | None]]
        if self._offer.is_ranged:
            ranges = [*segments.missing()]
        else:
            ranges = [(0, self._offer.size)] if not segments.is_whole() else []
        with ThreadPoolExecutor(num_connections) as pool:
            futures = [pool.submit(self._persist, start, stop) for start, stop in ranges]
            try:
                for future in as_completed(futures):
                    future.result()
            except BaseException:
                self._is_halted.set()
                pool.shutdown(wait=False, cancel_futures=True)
                raise

    def _persist(self, start: int, stop: int | None) -> None:
        """Resume after each broken transfer; gives up after several in a row in which no thread received a byte."""
        failures = 0
        while not self._is_halted.is_set():
            before = self._segments.present
            try:
                self._pour(self._segments.next_byte(start) if self._offer.is_ranged else 0, stop)
            except DroppedError as error:
                failures = 1 if self._segments.present > before else failures + 1
                if failures >= TRIES:
                    raise RefusedError(f"{error} ({TRIES} times)") from error
                self._is_halted.wait(_wait_s(failures - 1))
            else:
                return

    def _pour(self, position: int, stop: int | None) -> None:
        for chunk in self._server.read(self._offer, position, stop):
            self._segments.put(position, chunk)
            position += len(chunk)
            self._show(self._segments.present, self._offer.size)
            if self._is_halted.is_set():
                return
        if stop is None:
            self._segments.end_at(position)
