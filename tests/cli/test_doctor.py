"""`fusmae doctor` as a person or a script calls it."""

import json
import os
import subprocess
import sys
import time

import pytest

from fusmae.doctor.doctor import examine_stack
from fusmae.doctor.finding import ask_all
from tests.doctor.conftest import DVC, ROOT, finished_project, nobody, project, run, silent  # noqa: F401

pytestmark = pytest.mark.usefixtures("project")


def fusmae(*arguments, **environment):
    given = {**os.environ, "PYTHONPATH": str(ROOT), **environment}
    command = [sys.executable, "-m", "fusmae", *arguments]
    return subprocess.run(command, env=given, capture_output=True, text=True, check=False)


def test_a_project_with_nothing_wrong_ends_with_0_and_a_warning_counts_only_if_told_to():
    done = fusmae("doctor", http_proxy="http://proxy:3128", no_proxy="", NO_PROXY="")
    assert done.returncode == 0, done.stdout + done.stderr
    assert "warning: proxies" in done.stdout
    assert "  next:     export no_proxy=localhost,127.0.0.1,::1 NO_PROXY=localhost,127.0.0.1,::1" in done.stdout
    assert "error: " not in done.stdout
    assert fusmae("doctor", "--strict", http_proxy="http://proxy:3128", no_proxy="", NO_PROXY="").returncode == 1


def test_a_wrong_params_file_ends_with_1_and_one_paragraph_with_its_command(project):  # noqa: F811
    (project / "params.yaml").write_text("modle: {}\n")
    done = fusmae("doctor")
    assert done.returncode == 1
    assert "error: params\n  got:      params.yaml" in done.stdout
    assert "git checkout params.yaml" in done.stdout
    assert "Traceback" not in done.stdout + done.stderr


def test_json_parses_and_servers_that_are_down_are_told_within_seconds_without_their_passwords(nobody, silent):  # noqa: F811
    addresses = {
        "MLFLOW_TRACKING_URI": f"http://me:hunter2@{silent}",
        "PREFECT_API_URL": f"http://me:hunter2@{nobody}/api",
        "PREFECT_API_AUTH_STRING": "me:hunter2",
        "MLFLOW_TRACKING_TOKEN": "hunter2",
    }
    run(DVC, "remote", "add", "--local", "-d", "storage", f"http://me:hunter2@{nobody}/x")
    began = time.monotonic()
    done = fusmae("doctor", "--json", **addresses)
    assert time.monotonic() - began < 30
    assert "hunter2" not in done.stdout + done.stderr
    assert done.returncode == 1
    content = json.loads(done.stdout)
    assert content["is_well"] is False
    found = {finding["name"]: finding for finding in content["findings"]}
    for name in ("mlflow store", "prefect server", "dvc remote"):
        assert found[name]["status"] == "error"
    assert set(found["gpu"]) == {"name", "status", "found", "expected", "mend"}


def test_whatever_is_wrong_has_a_command(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    is_well, text = examine_stack(params=tmp_path / "params.yaml", as_json=True, is_strict=False)
    assert not is_well
    wrong = [finding for finding in json.loads(text)["findings"] if finding["status"] in ("error", "warning")]
    assert {"params", "git", "dvc project"} <= {finding["name"] for finding in wrong}
    assert all(finding["expected"] and finding["mend"] for finding in wrong)


def test_asking_changes_no_file_but_dvc_s_own_scratch(project):  # noqa: F811
    def tree():
        found = {path.relative_to(project): path for path in project.rglob("*") if path.is_file()}
        scratch = (".git", ".fusmae", ".dvc/tmp")
        return {name: path.stat().st_mtime_ns for name, path in found.items() if not str(name).startswith(scratch)}

    before = tree()
    examine_stack(params=project / "params.yaml", as_json=False, is_strict=False)
    assert tree() == before
    assert not (project / "mlruns").exists()


def test_an_import_that_breaks_inside_a_check_is_a_finding_and_no_traceback(monkeypatch):
    from fusmae.doctor import doctor as module

    monkeypatch.setitem(sys.modules, "dvc.repo", None)
    monkeypatch.setitem(sys.modules, "prefect.settings", None)
    found = ask_all(module._checks(ROOT / "params.yaml", ()), module._REMOTE, 7)
    names = {finding.name: finding.found for finding in found if finding.status == "error"}
    assert "dvc.repo" in names["dvc project"]
    assert "prefect.settings" in names["prefect"]
