import hashlib
import json
import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from fusmae.errors import ConfigError, StorageError
from fusmae.files import file_sha256, write_json, write_text, written_whole


class KillError(BaseException):
    """Like KeyboardInterrupt: no Exception."""


def listing(folder: Path) -> list[str]:
    return sorted(str(path.relative_to(folder)) for path in folder.rglob("*"))


def test_a_file_is_written_with_its_parents(tmp_path: Path):
    with written_whole(tmp_path / "a" / "b.txt") as partial:
        partial.write_text("new")
        assert not (tmp_path / "a" / "b.txt").exists()
    assert (tmp_path / "a" / "b.txt").read_text() == "new"
    assert listing(tmp_path) == ["a", "a/b.txt"]


@pytest.mark.parametrize("error", [ValueError, KillError, ConfigError])
def test_a_failure_keeps_the_old_file_and_leaves_nothing_else(tmp_path: Path, error):
    path = tmp_path / "a.txt"
    path.write_text("old")

    def write() -> None:
        with written_whole(path) as partial:
            partial.write_text("ne")
            raise error("cut off")

    with pytest.raises(error):
        write()
    assert path.read_text() == "old"
    assert listing(tmp_path) == ["a.txt"]


def test_a_folder_replaces_the_old_folder_whole(tmp_path: Path):
    folder = tmp_path / "out"
    (folder / "deep").mkdir(parents=True)
    (folder / "deep" / "old.txt").write_text("old")
    with written_whole(folder) as partial:
        partial.mkdir()
        (partial / "new.txt").write_text("new")
        assert (folder / "deep" / "old.txt").read_text() == "old"
    assert listing(tmp_path) == ["out", "out/new.txt"]


def test_a_folder_behind_a_link_is_replaced_and_the_link_stays(tmp_path: Path):
    shared, link = tmp_path / "shared" / "raw", tmp_path / "link"
    shared.mkdir(parents=True)
    link.symlink_to(shared)
    with written_whole(link) as partial:
        partial.mkdir()
        (partial / "new").touch()
    assert link.is_symlink()
    assert [path.name for path in shared.iterdir()] == ["new"]
    assert [path.name for path in shared.parent.iterdir()] == ["raw"]


def test_a_failure_keeps_the_old_folder(tmp_path: Path):
    folder = tmp_path / "out"
    folder.mkdir()
    (folder / "old.txt").write_text("old")

    def write() -> None:
        with written_whole(folder) as partial:
            partial.mkdir()
            (partial / "new.txt").write_text("new")
            raise ValueError("cut off")

    with pytest.raises(ValueError, match="cut off"):
        write()
    assert listing(tmp_path) == ["out", "out/old.txt"]


def test_what_a_killed_write_left_behind_is_cleared(tmp_path: Path):
    left = tmp_path / ".out.partial"
    left.mkdir()
    (left / "half.npy").write_bytes(b"half")
    with written_whole(tmp_path / "out") as partial:
        partial.mkdir()
        (partial / "new.txt").write_text("new")
    assert listing(tmp_path) == ["out", "out/new.txt"]


def test_a_folder_in_the_way_of_a_file_is_kept_and_named(tmp_path: Path):
    (tmp_path / "a.json").mkdir()
    with pytest.raises(StorageError, match=r"a\.json could not be written"):
        write_json(tmp_path / "a.json", {})
    assert listing(tmp_path) == ["a.json"]


def test_a_folder_that_can_not_be_made_is_named(tmp_path: Path):
    (tmp_path / "a").write_text("a file")
    with pytest.raises(StorageError, match=r"a/b\.txt could not be written"):
        write_text(tmp_path / "a" / "b.txt", "text")


def test_json_is_the_same_bytes_whatever_the_order(tmp_path: Path):
    write_json(tmp_path / "a.json", {"b": 1, "a": {"d": "é", "c": 2}})
    write_json(tmp_path / "b.json", {"a": {"c": 2, "d": "é"}, "b": 1})
    assert (tmp_path / "a.json").read_bytes() == (tmp_path / "b.json").read_bytes()
    assert json.loads((tmp_path / "a.json").read_text(encoding="utf-8")) == {"b": 1, "a": {"d": "é", "c": 2}}


def test_text_that_can_not_be_encoded_keeps_the_old_file(tmp_path: Path):
    write_text(tmp_path / "a.txt", "old")
    with pytest.raises(UnicodeEncodeError):
        write_text(tmp_path / "a.txt", "\ud800")
    assert (tmp_path / "a.txt").read_text(encoding="utf-8") == "old"


def test_sha256_is_that_of_the_bytes(tmp_path: Path):
    content = os.urandom(100_000)
    (tmp_path / "a").write_bytes(content)
    assert file_sha256(tmp_path / "a") == hashlib.sha256(content).hexdigest()


def test_a_full_disk_keeps_the_old_file_and_names_path_and_free_space(small_disk: Path):
    path = small_disk / "deep" / "a.txt"
    write_text(path, "old")
    with pytest.raises(StorageError) as raised:
        write_text(path, "x" * 2**21)
    assert f"The disk is full: {path} could not be written" in str(raised.value)
    assert f"0 MB free in {path.parent}" in str(raised.value)
    assert path.read_text(encoding="utf-8") == "old"
    assert listing(small_disk) == ["deep", "deep/a.txt"]


def test_a_full_disk_keeps_the_old_folder(small_disk: Path):
    folder = small_disk / "out"

    def write(size: int) -> None:
        with written_whole(folder) as partial:
            partial.mkdir()
            (partial / "first.bin").write_bytes(b"1" * 1000)
            (partial / "second.bin").write_bytes(b"2" * size)

    write(1000)
    with pytest.raises(StorageError, match="The disk is full"):
        write(2**21)
    assert listing(small_disk) == ["out", "out/first.bin", "out/second.bin"]
    assert (folder / "second.bin").stat().st_size == 1000
    write(2000)
    assert (folder / "second.bin").stat().st_size == 2000


REPLACE_AND_DIE = """
import os, signal, sys
from pathlib import Path
from fusmae.files import written_whole

EVENT, COUNT = sys.argv[2], int(sys.argv[3])
seen = 0

def die(event, arguments):
    global seen
    if event == EVENT:
        seen += 1
        if seen == COUNT:
            os.kill(os.getpid(), signal.SIGKILL)

with written_whole(Path(sys.argv[1])) as partial:
    partial.mkdir()
    for number in range(5):
        (partial / f"{number}.txt").write_text("new")
    sys.addaudithook(die)
"""


@pytest.mark.parametrize(("event", "count"), [("os.rename", 1), ("os.rename", 2), ("os.remove", 1), ("os.remove", 3)])
def test_a_kill_while_a_folder_is_replaced_leaves_no_half_folder(tmp_path: Path, event, count):
    folder = tmp_path / "out"
    folder.mkdir()
    for number in range(5):
        (folder / f"{number}.txt").write_text("old")
    killed = subprocess.run([sys.executable, "-c", REPLACE_AND_DIE, str(folder), event, str(count)], check=False)
    assert killed.returncode == -signal.SIGKILL
    if folder.exists():
        contents = {(folder / f"{number}.txt").read_text() for number in range(5)}
        assert contents in ({"old"}, {"new"})
    with pytest.raises(ValueError, match="cut off"), written_whole(folder):
        raise ValueError("cut off")
    assert len(listing(tmp_path)) == 6, "a failing write afterwards still finds a whole folder, and clears the rest"
