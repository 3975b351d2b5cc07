import logging
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from pyftpdlib.authorizers import DummyAuthorizer
from pyftpdlib.handlers import DTPHandler, FTPHandler
from pyftpdlib.servers import FTPServer

from fusmae.errors import SourceError
from fusmae.sources.transfer.fetch import fetch_archives, fetch_file
from fusmae.sources.transfer.remote import Archive, DownloadOptions, RemoteFile

LINE = DownloadOptions(num_connections=3)


class Told:
    """What the server was asked for, and how it misbehaves."""

    def __init__(self, root: Path) -> None:
        self.root, self.rests, self.drops, self.sent, self.address = root, [], 0, 0, ""
        self.handler: type[FTPHandler] = FTPHandler

    def file(self, name: str, content: bytes, md5: str) -> RemoteFile:
        (self.root / name).write_bytes(content)
        return RemoteFile(name, f"{self.address}/{name}", md5)


@pytest.fixture
def ftp(tmp_path: Path) -> Iterator[Told]:
    root = tmp_path / "served"
    root.mkdir()
    told = Told(root)

    class Data(DTPHandler):
        def send(self, content: bytes) -> int:
            told.sent += (count := super().send(content))
            if self.get_transmitted_bytes() > 70_000 and told.drops:
                told.drops -= 1
                self.close()
            return count

    class Handler(FTPHandler):
        dtp_handler = Data
        use_sendfile = False
        auth_failed_timeout = 0.05
        authorizer = DummyAuthorizer()

        def ftp_REST(self, line: str) -> None:
            told.rests.append(int(line))
            super().ftp_REST(line)

    Handler.authorizer.add_user("me", "it's/me", str(root))
    logging.getLogger("pyftpdlib").setLevel(logging.CRITICAL)
    told.handler = Handler
    server = FTPServer(("127.0.0.1", 0), Handler)
    told.address = f"ftp://me:it%27s%2Fme@127.0.0.1:{server.address[1]}"
    is_over = threading.Event()

    def work() -> None:
        while not is_over.is_set():
            server.serve_forever(timeout=0.01, blocking=False)

    thread = threading.Thread(target=work)
    thread.start()
    yield told
    is_over.set()
    thread.join()
    server.close_all()


@pytest.fixture
def md5() -> Any:
    import hashlib

    return lambda content: hashlib.md5(content, usedforsecurity=False).hexdigest()


def test_file_comes_by_several_sessions_from_any_byte_on(ftp: Told, content: bytes, tmp_path: Path, md5: Any) -> None:
    fetch_file(ftp.file("a b.bin", content, md5(content)), tmp_path / "a.bin", LINE)
    assert (tmp_path / "a.bin").read_bytes() == content
    assert {2**16, 2 * 2**16, 3 * 2**16, 4 * 2**16} <= set(ftp.rests)


def test_dropped_ftp_transfer_goes_on_where_it_was(
    ftp: Told, tmp_path: Path, md5: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("fusmae.sources.transfer.segments.SEGMENT_BYTES", 10**7)
    content = bytes(range(256)) * 8000
    ftp.drops = 3
    fetch_file(ftp.file("a.bin", content, md5(content)), tmp_path / "a.bin", LINE)
    assert (tmp_path / "a.bin").read_bytes() == content
    assert ftp.drops == 0
    assert len({rest for rest in ftp.rests if rest > 70_000}) == 3


def test_ftp_server_without_rest_gives_one_stream(ftp: Told, content: bytes, tmp_path: Path, md5: Any) -> None:
    ftp.handler.ftp_REST = lambda handler, line: handler.respond("502 Command not implemented.")
    fetch_file(ftp.file("a.bin", content, md5(content)), tmp_path / "a.bin", LINE)
    assert (tmp_path / "a.bin").read_bytes() == content


@pytest.mark.parametrize("answer", ["500 Unknown command.", "502 Command not implemented.", "504 Not for this."])
def test_ftp_server_that_says_no_size_gives_one_stream(
    ftp: Told, content: bytes, tmp_path: Path, md5: Any, answer: str
) -> None:
    ftp.handler.ftp_SIZE = lambda handler, line: handler.respond(answer)
    fetch_file(ftp.file("a.bin", content, md5(content)), tmp_path / "a.bin", LINE)
    assert (tmp_path / "a.bin").read_bytes() == content
    assert set(ftp.rests) <= {1}


def test_file_that_is_absent_from_an_ftp_server_without_sizes_is_an_error(ftp: Told, tmp_path: Path) -> None:
    ftp.handler.ftp_SIZE = lambda handler, line: handler.respond("502 Command not implemented.")
    with pytest.raises(SourceError, match=r"a\.bin: 550"):
        fetch_file(RemoteFile("a.bin", f"{ftp.address}/a.bin", "0" * 32), tmp_path / "a.bin", LINE)


def test_ftp_server_that_admits_one_session_serves_all(ftp: Told, content: bytes, tmp_path: Path, md5: Any) -> None:
    ftp.handler.max_login_attempts = 1
    from_it = ftp.file("a.bin", content, md5(content))
    sessions: list[object] = []
    login = ftp.handler.handle_auth_success

    def count(handler: Any, *args: Any) -> None:
        sessions[:] = [other for other in sessions if not other._closed]
        if sessions:
            handler.respond("530 Sorry, too many connections.")
            handler.close_when_done()
            return
        sessions.append(handler)
        login(handler, *args)

    ftp.handler.handle_auth_success = count
    fetch_file(from_it, tmp_path / "a.bin", DownloadOptions((), 2))
    assert (tmp_path / "a.bin").read_bytes() == content


def test_absent_file_and_wrong_password_are_told_without_the_password(ftp: Told, tmp_path: Path) -> None:
    wrong = ftp.address.replace("it%27s%2Fme", "hunter2")
    with pytest.raises(SourceError) as raised:
        fetch_file(RemoteFile("a.bin", f"{ftp.address}/a.bin", "0" * 32), tmp_path / "a.bin", DownloadOptions((wrong,)))
    assert "550" in str(raised.value)
    assert "530" in str(raised.value)
    assert "hunter2" not in str(raised.value)


def test_archive_comes_over_ftp(
    ftp: Told, tree: dict[str, bytes], tmp_path: Path, pack: Any, md5: Any, read_tree: Any
) -> None:
    content = pack(tree)
    part = ftp.file("Things.tar.gz", content, md5(content))
    fetch_archives([Archive(part.name, (part,), "Things")], tmp_path / "downloads", tmp_path / "raw", LINE)
    assert read_tree(tmp_path / "raw") == dict(sorted(tree.items()))
