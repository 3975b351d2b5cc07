"""A real process, killed with SIGKILL where it works, then the same call again."""

import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from fusmae.sources.transfer.remote import Archive

# Arguments: downloads, raw, seconds a member, then the archive's name and (name, address, MD5) of each part.
CHILD = """
import sys, time
from pathlib import Path
from fusmae.sources.transfer import download, segments, server, unpack
from fusmae.sources.transfer.fetch import fetch_archives
from fusmae.sources.transfer.remote import Archive, DownloadOptions, RemoteFile

segments.SEGMENT_BYTES, unpack.LEG_BYTES = 2**16, 2**18
unpack.SPACING_BYTES = 2**16
download.BACKOFF_S = server.BACKOFF_S = 0.01
downloads, raw, pause_s, name, *rest = sys.argv[1:]
parts = tuple(RemoteFile(*rest[n : n + 3]) for n in range(0, len(rest), 3))
wanted = lambda _: not time.sleep(float(pause_s))
fetch_archives([Archive(name, parts, "Things")], Path(downloads), Path(raw), DownloadOptions((), 3), wanted)
"""


@pytest.fixture
def start(tmp_path: Path) -> Callable[..., subprocess.Popen[bytes]]:
    def start_child(archive: Archive, pause_s: float = 0) -> subprocess.Popen[bytes]:
        parts = [value for part in archive.parts for value in (part.name, part.address, part.md5)]
        folders = (str(tmp_path / "downloads"), str(tmp_path / "raw"))
        command = [sys.executable, "-c", CHILD, *folders, str(pause_s), archive.name, *parts]
        # The server is on this machine: NO_PROXY is set for it, and inherited.
        return subprocess.Popen(command, cwd=Path(__file__).parents[3], stderr=subprocess.PIPE)

    return start_child


def kill_when(child: subprocess.Popen[bytes], is_time: Callable[[], bool]) -> None:
    deadline = time.monotonic() + 60
    while not is_time():
        assert child.poll() is None, child.stderr and child.stderr.read().decode()
        assert time.monotonic() < deadline
        time.sleep(0.005)
    child.send_signal(signal.SIGKILL)
    child.wait()


def finish(child: subprocess.Popen[bytes]) -> None:
    _, said = child.communicate(timeout=60)
    assert child.returncode == 0, said.decode()


def test_killed_downloads_go_on_at_the_byte_where_they_were(
    tmp_path: Path, server: Any, start: Any, tree: Any, pack: Any, offer_archive: Any, read_tree: Any
) -> None:
    content = pack(tree)
    archive = offer_archive(content, num_parts=2)
    server.bytes_per_s = 1_000_000
    for share in (0.15, 0.4, 0.7):
        already = share * len(content)
        kill_when(
            start(archive),
            lambda limit=already: sum(f.stat().st_size for f in tmp_path.glob("downloads/*.segments/0*")) > limit,
        )
    server.bytes_per_s = 0
    finish(start(archive))
    assert read_tree(tmp_path / "raw") == dict(sorted(tree.items()))
    # A kill costs what was under way on its connections: less than a socket's buffers on each.
    sent = sum(server.sent(part.name) for part in archive.parts)
    assert sent < len(content) + 3 * 3 * 2**16


@pytest.mark.parametrize("num_parts", [1, 3])
def test_killed_unpacking_goes_on_without_the_bytes_that_it_gave_back(
    num_parts: int, tmp_path: Path, server: Any, start: Any, tree: Any, pack: Any, offer_archive: Any, read_tree: Any
) -> None:
    content = pack(tree)
    archive = offer_archive(content, num_parts=num_parts)
    half = tmp_path / "raw" / ".Things.partial" / "Things"
    for count in (20, 40):
        kill_when(start(archive, 0.02), lambda least=count: half.is_dir() and len(list(half.rglob("*.bin"))) >= least)
        whole = {name: content for name, content in tree.items() if (half.parent / name).exists()}
        assert len(whole) >= count
        assert all((half.parent / name).read_bytes() == content for name, content in whole.items())
        assert not (tmp_path / "raw" / "Things").exists()
    left = sum(f.stat().st_size for f in tmp_path.glob("downloads/*.segments/0*"))
    assert left < 0.6 * len(content)
    requests = server.num_requests
    finish(start(archive))
    assert read_tree(tmp_path / "raw") == dict(sorted(tree.items()))
    assert server.num_requests == requests
    assert sum(server.sent(part.name) for part in archive.parts) == len(content) + num_parts
