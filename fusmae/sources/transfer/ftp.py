"""Files over FTP, read from any byte on with the command REST."""

# FTP is unsafe for secrets. Here it transfers public data, verified by a checksum: SEN12MS has no other server.
import ftplib  # nosec B402
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from urllib.parse import unquote, urlsplit

from fusmae.sources.transfer.server import CHUNK_BYTES, ChangedError, DroppedError, RefusedError, RemoteOffer

_TIMEOUT_S = 60


class FtpServer:
    """One ftp address; each read has its own login, because FTP transfers one file per session.

    Args:
        address: full URL, with user and password where the server needs them.
    """

    def __init__(self, address: str) -> None:
        split = urlsplit(address)
        self._host, self._port = split.hostname or "", split.port or ftplib.FTP_PORT
        self._user, self._password = unquote(split.username or "anonymous"), unquote(split.password or "")
        self._path = unquote(split.path)

    def offer(self) -> RemoteOffer:
        """See `Server`."""
        with self._session() as ftp:
            size = _size(ftp, self._path)
            return RemoteOffer(size, size is not None and _knows(ftp, "REST 1"), self._edition(ftp))

    def read(self, offer: RemoteOffer, start: int, stop: int | None) -> Iterator[bytes]:
        """See `Server`; FTP has no end of a range, so the connection is closed when enough bytes were received."""
        position = start if offer.is_ranged else 0
        stop = offer.size if stop is None else stop
        with self._session() as ftp:
            if self._edition(ftp) != offer.edition:
                raise ChangedError("the file changed during the transfer")
            with ftp.transfercmd(f"RETR {self._path}", rest=position or None) as data:
                while stop is None or position < stop:
                    chunk = data.recv(CHUNK_BYTES)
                    if not chunk:
                        break
                    end = position + len(chunk) if stop is None else min(position + len(chunk), stop)
                    if end > start:
                        yield chunk[max(start - position, 0) : end - position]
                    position += len(chunk)
            if stop is None:
                ftp.voidresp()
        if stop is not None and position < stop:
            raise DroppedError(f"the connection ended at byte {position} instead of {stop}")

    @contextmanager
    def _session(self) -> Iterator[ftplib.FTP]:
        ftp = ftplib.FTP(timeout=_TIMEOUT_S)  # noqa: S321 - see the import  # nosec B321
        try:
            ftp.connect(self._host, self._port)
            self._log_in(ftp)
            ftp.voidcmd("TYPE I")
            yield ftp
        except ftplib.error_perm as error:
            raise RefusedError(str(error)) from error
        except (ftplib.Error, OSError, EOFError) as error:
            raise DroppedError(f"{type(error).__name__}: {error}") from error
        except ValueError as error:  # a line break in the path
            raise RefusedError(str(error)) from error
        finally:
            ftp.close()

    def _log_in(self, ftp: ftplib.FTP) -> None:
        try:
            ftp.login(self._user, self._password)
        except ftplib.error_perm as error:
            # Many servers give this answer when they are busy, so it is tried again; with a wrong password the limit
            # on tries ends it.
            raise DroppedError(str(error)) from error

    def _edition(self, ftp: ftplib.FTP) -> str:
        with suppress(ftplib.error_perm):
            return ftp.sendcmd(f"MDTM {self._path}")
        return ""


def _size(ftp: ftplib.FTP, path: str) -> int | None:
    """Return the file's size in bytes; None where the server doesn't state it.

    Raises:
        ftplib.error_perm: the server can't deliver the file.
    """
    try:
        return ftp.size(path)
    except ftplib.error_perm as error:
        # Codes 55x concern the file. Others concern the command SIZE, which a server may lack and still deliver files.
        if str(error).startswith("55"):
            raise
        return None


def _knows(ftp: ftplib.FTP, command: str) -> bool:
    try:
        ftp.sendcmd(command)
    except ftplib.error_perm:
        return False
    return True
