import hashlib
import os
import subprocess
from pathlib import Path

import pytest

from fusmae.errors import SourceError
from fusmae.sources.sample import source as module
from fusmae.sources.sample.source import LISTS_WHEEL, PIXELS_WHEEL, SampleSource, Wheel, download


@pytest.fixture
def no_network(monkeypatch):
    def refuse(*args, **kwargs):
        raise AssertionError("pip was asked")

    monkeypatch.setattr(module.subprocess, "run", refuse)


@pytest.fixture
def no_index(monkeypatch):
    """What pip sees where the index cannot be reached; nothing is faked in our code."""
    monkeypatch.setenv("PIP_NO_INDEX", "1")
    monkeypatch.setenv("PIP_CONFIG_FILE", os.devnull)
    monkeypatch.delenv("PIP_FIND_LINKS", raising=False)


def test_files_that_the_user_placed_are_used_without_network(sample_downloads: Path, tmp_path: Path, no_network):
    for wheel in (LISTS_WHEEL, PIXELS_WHEEL):
        (tmp_path / wheel.filename).symlink_to(sample_downloads / wheel.filename)
    SampleSource().fetch(tmp_path, tmp_path / "raw")
    assert len(SampleSource().pairs(tmp_path / "raw")) == 60


def test_a_wrong_checksum_is_refused_and_the_file_is_left_alone(tmp_path: Path, no_network):
    path = tmp_path / PIXELS_WHEEL.filename
    path.write_bytes(b"something else")
    with pytest.raises(SourceError) as caught:
        download(PIXELS_WHEEL, tmp_path)
    assert str(path) in str(caught.value)
    assert PIXELS_WHEEL.sha256 in str(caught.value)
    assert hashlib.sha256(b"something else").hexdigest() in str(caught.value)
    assert path.read_bytes() == b"something else"


def test_without_an_index_the_error_says_how_to_put_the_file_in_place(tmp_path: Path, no_index):
    with pytest.raises(SourceError) as caught:
        download(PIXELS_WHEEL, tmp_path)
    text = str(caught.value)
    assert "ERROR: " in text
    for part in (
        "pip download --no-deps",
        "configilm==0.7.1",
        PIXELS_WHEEL.filename,
        f"{tmp_path}/",
        "dvc repro -f -s fetch",
    ):
        assert part in text
    assert list(tmp_path.iterdir()) == []


def test_a_failed_fetch_makes_no_raw_folder(tmp_path: Path, no_index):
    with pytest.raises(SourceError):
        SampleSource().fetch(tmp_path / "downloads", tmp_path / "raw")
    assert not (tmp_path / "raw").exists()


def test_pip_is_run_without_shell_and_installs_nothing(tmp_path: Path, monkeypatch):
    wheel, seen = Wheel("some-package", "1.0", "0" * 64, size_mb=1), {}

    def answer(command, **options):
        seen.update(command=command, **options)
        requirements = Path(command[command.index("-r") + 1]).read_text()
        assert requirements == f"some-package==1.0 --hash=sha256:{wheel.sha256}\n"
        return subprocess.CompletedProcess(command, 1, "", "ERROR: no route to host\n")

    monkeypatch.setattr(module.subprocess, "run", answer)
    with pytest.raises(SourceError, match="no route to host"):
        download(wheel, tmp_path)
    assert {"download", "--no-deps", "--require-hashes", "--only-binary=:all:"} <= set(seen["command"])
    assert not seen.get("shell")


def test_what_pip_brings_is_checked_again(tmp_path: Path, monkeypatch):
    wheel = Wheel("some-package", "1.0", "0" * 64, size_mb=1)

    def answer(command, **options):
        (Path(command[command.index("-d") + 1]) / wheel.filename).write_bytes(b"other")
        return subprocess.CompletedProcess(command, 0, "", "")

    monkeypatch.setattr(module.subprocess, "run", answer)
    with pytest.raises(SourceError, match="SHA-256"):
        download(wheel, tmp_path)
    assert list(tmp_path.iterdir()) == []


def test_no_registry_host_is_named_in_the_package():
    for file in Path(module.__file__).parent.glob("*.py"):
        text = file.read_text()
        assert "pypi" not in text.lower()
        assert "://" not in text
