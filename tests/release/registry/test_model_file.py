"""The file behind a reference: kept by its checksum, believed by its checksum, fetched by one process at a time."""

import os
import shutil
import subprocess
import sys
import time
from pathlib import Path

import pytest

from fusmae.errors import RegistryError, StorageError
from fusmae.files import file_sha256
from fusmae.release.registry.model_file import CACHE, model_file
from fusmae.release.registry.versions import register_graph


@pytest.fixture(scope="module")
def template(tmp_path_factory, exported):
    """A registry with one version and, beside its graph, another one."""
    folder = tmp_path_factory.mktemp("registry")
    facts = {"tags": {}, "experiment": "test"}
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(folder)
        patch.delenv("MLFLOW_TRACKING_URI", raising=False)
        Path("int8.onnx").write_bytes(b"another graph")
        register_graph("tiny", exported.path, extra_files=[Path("int8.onnx")], run_file=Path("none.json"), **facts)
    return folder


@pytest.fixture
def registered(template, tmp_path, monkeypatch, exported):
    """A folder to work in, with a copy of the registry; gives the version's hash."""
    shutil.copytree(template / "mlruns", tmp_path / "mlruns")
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("MLFLOW_TRACKING_URI", raising=False)
    return file_sha256(exported.path)


@pytest.fixture
def stored(registered, tmp_path):
    """The graph in the registry's own folder."""
    (path,) = (tmp_path / "mlruns").rglob("artifacts/model.onnx")
    return path


@pytest.fixture
def downloads(monkeypatch):
    """What was downloaded so far."""
    from mlflow import artifacts

    done, download = [], artifacts.download_artifacts

    def noted(uri, **options):
        done.append(uri)
        return download(uri, **options)

    monkeypatch.setattr(artifacts, "download_artifacts", noted)
    return done


def test_a_version_is_downloaded_once_and_nothing_but_its_graph(registered, downloads):
    for _ in range(3):
        found = model_file("tiny/1")
    assert downloads == ["models:/tiny/1/model.onnx"]
    assert found.path == CACHE / registered / "model.onnx"
    assert [path.name for path in found.path.parent.iterdir()] == ["model.onnx"]
    assert file_sha256(found.path) == registered


@pytest.mark.parametrize("keeps_time", [True, False])
def test_a_kept_file_that_was_tampered_with_is_fetched_anew(registered, downloads, keeps_time):
    path = model_file("tiny/1").path
    before = path.stat()
    with path.open("r+b") as file:  # one byte, the size stays
        file.seek(before.st_size // 2)
        byte = file.read(1)
        file.seek(-1, os.SEEK_CUR)
        file.write(bytes([byte[0] ^ 1]))
    if keeps_time:
        os.utime(path, ns=(before.st_atime_ns, before.st_mtime_ns))
    assert file_sha256(path) != registered
    assert file_sha256(model_file("tiny/1").path) == registered
    assert len(downloads) == 2


def test_an_untouched_file_is_read_once_a_process(registered, monkeypatch):
    model_file("tiny/1")
    model_file("tiny/1")
    monkeypatch.setattr(
        "fusmae.release.registry.model_file.file_sha256", lambda path: pytest.fail(f"{path} was read again")
    )
    model_file("tiny/1")


def test_a_file_that_was_changed_in_the_registry_is_refused(registered, stored):
    stored.write_bytes(b"forged")
    with pytest.raises(RegistryError, match=rf"is not the file that was registered.*\n.*\n.*{registered}"):
        model_file("tiny/1")
    assert not (CACHE / registered).exists()


def test_a_file_that_the_registry_lost_is_named(registered, stored):
    stored.unlink()
    with pytest.raises(RegistryError, match=r"does not give model\.onnx of models:/tiny/1"):
        model_file("tiny/1")


def test_a_cache_that_cannot_be_written_is_named(registered, tmp_path):
    (tmp_path / "file").write_text("no folder", encoding="utf-8")
    with pytest.raises(StorageError, match="could not be written"):
        model_file("tiny/1", cache=tmp_path / "file" / "models")


TOGETHER = """
import os, sys, time
from pathlib import Path
import mlflow.store.model_registry.sqlalchemy_store, mlflow.store.tracking.sqlalchemy_store
from mlflow import artifacts
from fusmae.files import file_sha256
from fusmae.release.registry import model_file as models

download, find = artifacts.download_artifacts, models.find_by_reference
def slow(*arguments, **options):
    Path(f"downloaded-{os.getpid()}").touch()
    time.sleep(1)  # all of them are here by then
    return download(*arguments, **options)
def together(*arguments, **options):
    found = find(*arguments, **options)
    Path(f"ready-{os.getpid()}").touch()
    while not Path("go").exists():
        time.sleep(0.001)
    return found
artifacts.download_artifacts, models.find_by_reference = slow, together

for _ in range(4):
    if not os.fork():  # what takes seconds, the imports, is done once
        os.write(1, f"{file_sha256(models.model_file('tiny/1').path)}\\n".encode())  # a whole line at once
        os._exit(0)
sys.exit(any([os.wait()[1] for _ in range(4)]))
"""


@pytest.mark.parametrize("kept", ["nothing", "a file that was tampered with"])
def test_processes_that_begin_together_fetch_once_and_all_have_the_file(registered, kept):
    if kept != "nothing":
        path = model_file("tiny/1").path
        path.write_bytes(b"forged")
    pipes = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE, "text": True}
    started = subprocess.Popen([sys.executable, "-c", TOGETHER], env=dict(os.environ), **pipes)
    deadline = time.monotonic() + 120
    while len(list(Path().glob("ready-*"))) < 4 and time.monotonic() < deadline:
        time.sleep(0.01)
    Path("go").touch()
    out, said = started.communicate(timeout=120)
    assert started.returncode == 0, said
    assert out.split() == [registered] * 4
    assert len(list(Path().glob("downloaded-*"))) == 1
