"""Files are read again where something tells that they may be others, and only there."""

import hashlib
import os
import time

import pytest

from fusmae.sources.folder import source as module
from fusmae.sources.folder.source import file_hashes


@pytest.fixture
def folder(tmp_path, monkeypatch):
    """Three files that were written a while ago, as far as is told."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(module, "_SETTLED_NS", -(10**18))
    made = tmp_path / "raw"
    made.mkdir()
    for name in "abc":
        (made / name).write_text(name)
    return made


@pytest.fixture
def read(monkeypatch):
    """Names of the files that were read."""
    names = []
    own = module.file_sha256
    monkeypatch.setattr(module, "file_sha256", lambda path: names.append(path.name) or own(path))
    return names


def hashes(folder):
    paths = sorted(folder.iterdir())
    found = file_hashes(folder, paths)
    assert found == [hashlib.sha256(path.read_bytes()).hexdigest() for path in paths]


def test_what_was_not_touched_is_not_read_again(folder, read):
    hashes(folder)
    hashes(folder)
    assert read == ["a", "b", "c"]


def test_another_size_time_or_file_of_that_name_is_read_again(folder, read):
    hashes(folder)
    del read[:]
    (folder / "a").write_text("longer")
    stat = (folder / "b").stat()
    (folder / "b").write_text("B")  # as long as before, and with the old time put back
    os.utime(folder / "b", ns=(stat.st_atime_ns, stat.st_mtime_ns))
    hashes(folder)
    assert read == ["a", "b"]


def test_new_files_are_read_and_those_that_are_gone_forgotten(folder, read):
    hashes(folder)
    (folder / "a").rename(folder.parent / "a")
    (folder / "d").write_text("d")
    hashes(folder)
    (folder.parent / "a").rename(folder / "a")
    hashes(folder)
    assert read == ["a", "b", "c", "d", "a"]


def test_what_was_written_just_now_may_be_written_again_in_the_same_moment(folder, read, monkeypatch):
    monkeypatch.setattr(module, "_SETTLED_NS", 3600 * 10**9)
    hashes(folder)
    hashes(folder)
    assert read == ["a", "b", "c"] * 2


def test_two_thousand_files_are_looked_at_in_a_fraction_of_a_second(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(module, "_SETTLED_NS", -(10**18))
    (tmp_path / "raw").mkdir()
    paths = [tmp_path / "raw" / f"{number}" for number in range(2_000)]
    for path in paths:
        path.touch()
    first = file_hashes(tmp_path / "raw", paths)
    start = time.process_time()
    assert file_hashes(tmp_path / "raw", paths) == first
    assert time.process_time() - start < 0.5
