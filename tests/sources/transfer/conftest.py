"""A file server on loopback that misbehaves as told, and constants small enough to need few bytes."""

import hashlib
import io
import random
import re
import tarfile
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from dataclasses import dataclass, field
from pathlib import Path

import pytest

from fusmae.sources.transfer import download, segments, unpack
from fusmae.sources.transfer import server as server_module
from fusmae.sources.transfer.remote import Archive, RemoteFile
from tests.web import QuietHandler, web_server

SMALL = {
    (segments, "SEGMENT_BYTES"): 2**16,
    (unpack, "LEG_BYTES"): 2**18,
    (unpack, "SPACING_BYTES"): 2**16,
    (download, "BACKOFF_S"): 0.001,
    (server_module, "BACKOFF_S"): 0.001,
}


@dataclass
class Hits:
    ranges: list[str] = field(default_factory=list)
    sent: int = 0


@dataclass
class FileServer:
    """What it serves by path, how it misbehaves, and what was asked of it."""

    files: dict[str, bytes] = field(default_factory=dict)
    hits: dict[str, Hits] = field(default_factory=dict)
    address: str = ""
    ignores_ranges: bool = False
    says_length: bool = True
    busy_answers: int = 0
    retry_after_s: int | None = None
    drops: int = 0
    drop_after: int = 10_000
    bytes_per_s: float = 0
    wrong_total: int = 0
    wrong_first_byte: int = 0
    edition: Callable[[bytes], str] | None = None
    before_answer: Callable[[int], None] = lambda _: None
    num_requests: int = 0
    lock: threading.Lock = field(default_factory=threading.Lock)

    def file(self, name: str, content: bytes, *, folder: str = "/data") -> RemoteFile:
        self.files[f"{folder}/{name}"] = content
        return RemoteFile(name, f"{self.address}{folder}/{name}", md5(content))

    def sent(self, name: str, folder: str = "/data") -> int:
        return self.hits[f"{folder}/{name}"].sent

    def take(self, counter: str) -> bool:
        with self.lock:
            left = getattr(self, counter)
            setattr(self, counter, max(left - 1, 0))
            return bool(left)


class Handler(QuietHandler):
    protocol_version = "HTTP/1.1"
    told: FileServer

    def do_GET(self) -> None:
        told = self.told
        with told.lock:
            told.num_requests += 1
            hits = told.hits.setdefault(self.path, Hits())
            hits.ranges.append(self.headers.get("Range", ""))
        told.before_answer(told.num_requests)
        if self.path not in told.files:
            self.send_error(404)
        elif told.take("busy_answers"):
            self.answer_busy()
        else:
            self.answer(told.files[self.path], hits)

    def answer_busy(self) -> None:
        self.send_response(503)
        if self.told.retry_after_s is not None:
            self.send_header("Retry-After", str(self.told.retry_after_s))
        self.send_header("Content-Length", "0")
        self.end_headers()

    def answer(self, content: bytes, hits: Hits) -> None:
        told = self.told
        found = re.fullmatch(r"bytes=(\d+)-(\d*)", self.headers.get("Range", ""))
        if found and not told.ignores_ranges:
            first, last = int(found[1]), int(found[2]) if found[2] else len(content) - 1
            body = content[first : last + 1]
            self.send_response(206)
            said = first + told.wrong_first_byte
            self.send_header("Content-Range", f"bytes {said}-{said + len(body) - 1}/{len(content) + told.wrong_total}")
        else:
            body = content
            self.send_response(200)
        if told.edition:
            self.send_header("ETag", told.edition(content))
        if told.says_length:
            self.send_header("Content-Length", str(len(body)))
        else:
            self.send_header("Transfer-Encoding", "chunked")
        self.end_headers()
        self.send(body, hits)

    def send(self, body: bytes, hits: Hits) -> None:
        told = self.told
        is_dropped = len(body) > told.drop_after and told.take("drops")
        body = body[: told.drop_after] if is_dropped else body
        try:
            for start in range(0, len(body), 8192):
                piece = body[start : start + 8192]
                self.wfile.write(piece if told.says_length else b"%x\r\n%s\r\n" % (len(piece), piece))
                hits.sent += len(piece)
                if told.bytes_per_s:
                    time.sleep(len(piece) / told.bytes_per_s)
            if not told.says_length and not is_dropped:
                self.wfile.write(b"0\r\n\r\n")
        except OSError:
            self.close_connection = True
        if is_dropped:
            self.close_connection = True


@pytest.fixture(autouse=True)
def small(monkeypatch: pytest.MonkeyPatch) -> None:
    for (module, name), value in SMALL.items():
        monkeypatch.setattr(module, name, value)
    # A pause that grows with whatever else the machine writes; the killed processes of test_kill.py keep it.
    monkeypatch.setattr("os.sync", lambda: None)
    monkeypatch.setenv("NO_PROXY", "127.0.0.1")
    monkeypatch.setenv("no_proxy", "127.0.0.1")


@pytest.fixture
def serve() -> Iterator[Callable[[], FileServer]]:
    with ExitStack() as servers:

        def start() -> FileServer:
            told = FileServer()
            handler = type("ToldHandler", (Handler,), {"told": told})
            told.address = servers.enter_context(web_server(handler)).address
            return told

        yield start


@pytest.fixture
def server(serve: Callable[[], FileServer]) -> FileServer:
    return serve()


@pytest.fixture
def content() -> bytes:
    return noise(300_000)


def noise(size: int, seed: int = 0) -> bytes:
    return random.Random(seed).randbytes(size)


def md5(content: bytes) -> str:
    return hashlib.md5(content, usedforsecurity=False).hexdigest()


@pytest.fixture
def tree() -> dict[str, bytes]:
    """Sixty files of an archive, 3 MB of noise."""
    return {f"Things/{n % 7}/thing_{n:02d}.bin": noise(40_000 + 397 * n, seed=n) for n in range(60)}


def packed(tree: dict[str, bytes]) -> bytes:
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w:gz") as tar:
        for name, content in tree.items():
            member = tarfile.TarInfo(name)
            member.size = len(content)
            tar.addfile(member, io.BytesIO(content))
    return buffer.getvalue()


@pytest.fixture
def pack() -> Callable[..., bytes]:
    return packed


@pytest.fixture
def offer_archive(server: FileServer) -> Callable[..., Archive]:
    """Puts a tar's bytes on the server, in as many parts as asked for."""

    def offer(content: bytes, name: str = "Things.tar.gz", num_parts: int = 1, makes: str = "Things") -> Archive:
        step = -(-len(content) // num_parts)
        cuts = [content[start : start + step] for start in range(0, len(content), step)]
        names = [name] if num_parts == 1 else [f"{name}a{chr(97 + n)}" for n in range(len(cuts))]
        parts = tuple(server.file(part, cut) for part, cut in zip(names, cuts, strict=True))
        return Archive(name, parts, makes)

    return offer


@pytest.fixture
def read_tree() -> Callable[[Path], dict[str, bytes]]:
    """Every file under a folder by its path, hidden ones too."""
    return lambda root: {
        str(path.relative_to(root)): path.read_bytes() for path in sorted(root.rglob("*")) if path.is_file()
    }
