import sys
from importlib import metadata

import pytest

from fusmae.doctor import versions
from fusmae.doctor.versions import check_imports, check_packages, check_python
from tests.doctor.conftest import only, statuses

version = metadata.version


@pytest.fixture
def installed(monkeypatch):
    """Lets packages seem to be of other versions; None for one that is not installed."""

    def pretend(**others):
        def other_version(name):
            if name in others and others[name] is None:
                raise metadata.PackageNotFoundError(name)
            return others.get(name) or version(name)

        monkeypatch.setattr(metadata, "version", other_version)

    return pretend


def test_this_environment_is_the_one_that_the_lock_pins(project):
    assert set(statuses(check_packages()).values()) == {"ok"}
    assert only(check_python()).status == "ok"


def test_a_fastapi_that_breaks_prefect_s_server_is_named_with_the_reason_and_the_pin(project, installed):
    installed(fastapi="0.155.0")
    found = {finding.name: finding for finding in check_packages()}
    assert found["package fastapi"].status == "error"
    assert "Prefect's server does not start" in found["package fastapi"].found
    assert "<0.151" in found["package fastapi"].expected
    assert "pip install --require-hashes -r requirements.lock" in found["package fastapi"].mend


def test_a_torchvision_of_another_torch_is_named(project, installed):
    installed(torch="2.13.0")
    found = {finding.name: finding for finding in check_packages()}
    assert found["torch pair"].status == "error"
    assert "with torch 2.13.0" in found["torch pair"].found
    assert found["package torch"].status == "error"


def test_a_torchvision_that_is_built_against_another_cuda_is_named(project, installed):
    installed(torchvision="0.29.2")
    found = {finding.name: finding for finding in check_packages()}
    assert "must be built against the torch" in found["package torchvision"].found


def test_a_package_that_is_missing_is_named(project, installed):
    installed(onnxruntime=None)
    found = {finding.name: finding for finding in check_packages()}
    assert found["package onnxruntime"].found == "onnxruntime is not installed"


def test_both_packages_of_onnxruntime_at_once_are_an_error(project, monkeypatch):
    monkeypatch.setattr(metadata, "distributions", lambda name: ["there"])
    found = {finding.name: finding for finding in check_packages()}
    assert found["onnxruntime"].status == "error"
    assert "both installed" in found["onnxruntime"].found
    assert "pip install 'onnxruntime-gpu" in found["onnxruntime"].mend


def test_onnxruntime_for_gpus_in_place_of_that_for_the_cpu_is_right(project, installed, monkeypatch):
    monkeypatch.setattr(metadata, "distributions", lambda name: ["there"] if name == "onnxruntime-gpu" else [])
    installed(onnxruntime=None, **{"onnxruntime-gpu": version("onnxruntime")})
    assert set(statuses(check_packages()).values()) == {"ok"}


def test_a_version_that_pyproject_allows_and_the_lock_does_not_pin_is_a_warning(project, installed):
    installed(lightning="2.6.0")
    found = {finding.name: finding for finding in check_packages()}
    assert "package lightning" not in found
    assert found["lock"].status == "warning"
    assert "lightning 2.6.0 instead of 2.6" in found["lock"].found


def test_a_python_that_is_too_old_is_an_error(project, monkeypatch):
    monkeypatch.setattr(sys, "version_info", (3, 10, 2, "final", 0))
    found = only(check_python())
    assert (found.status, found.found) == ("error", f"3.10.2 in {sys.prefix}")
    assert "make" in found.mend


def test_a_package_that_breaks_on_import_is_a_finding_with_its_words(project, monkeypatch, tmp_path):
    (tmp_path / "halved.py").write_text("raise RuntimeError('operator torchvision::nms does not exist')")
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.setattr(versions, "IMPORTED", ("json", "halved"))
    found = only(check_imports())
    assert (found.name, found.status) == ("import halved", "error")
    assert "torchvision::nms" in found.found
    assert "uninstall --yes halved" in found.mend


def test_a_torchvision_that_was_built_for_another_torch_is_a_finding(project, monkeypatch, tmp_path):
    (tmp_path / "torchvision").mkdir()
    (tmp_path / "torchvision" / "__init__.py").touch()
    (tmp_path / "torchvision" / "_C.so").write_bytes(b"\x7fELF of another torch")
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.delitem(sys.modules, "torchvision", raising=False)
    found = only(check_imports())
    assert (found.name, found.status) == ("import torchvision", "error")
    assert "_C.so" in found.found


def test_outside_the_project_packages_are_skipped(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    assert only(check_packages()).status == "skipped"
