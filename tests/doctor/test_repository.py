import shutil
import subprocess

import pytest
import yaml

from fusmae.doctor.repository import check_project
from tests.doctor.conftest import DVC, GRAPH, only, run, statuses


def test_a_project_whose_stages_have_run_is_well(project):
    assert statuses(check_project()) == {"dvc project": "ok", "dvc.lock": "ok"}


def test_a_folder_without_git_is_no_dvc_project(project):
    shutil.rmtree(project / ".git")
    found = only(check_project())
    assert found.status == "error"
    assert ".git" in found.expected


def test_a_folder_outside_any_project_is_an_error(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    assert only(check_project()).status == "error"


def test_a_folder_inside_the_project_is_not_its_root(project, monkeypatch):
    (project / "inside").mkdir()
    monkeypatch.chdir(project / "inside")
    found = only(check_project())
    assert found.status == "error"
    assert found.mend == f"cd {project}"


@pytest.mark.parametrize("name", ["Zürich", "run #1", "which?", "feature%2Fsar"])
def test_a_path_below_which_dvc_makes_no_temporary_checkouts_is_a_warning(name, project, monkeypatch):
    folder = project.with_name(name)
    project.rename(folder)
    monkeypatch.chdir(folder)
    found = {finding.name: finding for finding in check_project()}["dvc project"]
    assert found.status == "warning"
    assert "--temp" in found.found
    assert found.mend


def test_a_dvc_lock_with_conflict_marks_is_an_error(project):
    lock = project / "dvc.lock"
    lock.write_text(f"<<<<<<< HEAD\n{lock.read_text()}=======\n")
    found = only(check_project())
    assert found.status == "error"
    assert "dvc.lock" in found.found
    run("git", "checkout", "-q", "dvc.yaml", "dvc.lock")
    assert set(statuses(check_project()).values()) == {"ok"}


def test_a_dvc_lock_that_is_not_there_is_a_warning(project):
    (project / "dvc.lock").unlink()
    assert statuses(check_project())["dvc.lock"] == "warning"


def test_a_stage_that_was_renamed_stays_in_dvc_lock_and_the_command_mends_it_without_a_run(project):
    (project / "dvc.yaml").write_text(GRAPH.replace("copy:", "take:"))
    run(DVC, "repro")
    found = {finding.name: finding for finding in check_project()}["dvc.lock"]
    assert found.status == "error"
    assert "copy" in found.found
    command = found.mend.replace("dvc repro", f"{DVC} repro")
    done = subprocess.run(command, shell=True, check=True, capture_output=True, text=True)
    assert "is cached - skipping run" in done.stdout
    assert set(yaml.safe_load((project / "dvc.lock").read_text())["stages"]) == {"take"}
    assert statuses(check_project())["dvc.lock"] == "ok"


def test_a_command_or_an_input_that_changed_since_the_run_is_a_warning(project):
    (project / "dvc.yaml").write_text(GRAPH.replace("cp params", "cp -f params"))
    found = {finding.name: finding for finding in check_project()}["dvc.lock"]
    assert (found.status, found.found) == ("warning", "changed in dvc.yaml since they ran: copy")
    (project / "dvc.yaml").write_text(GRAPH.replace("    outs", "      - pyproject.toml\n    outs"))
    assert statuses(check_project())["dvc.lock"] == "warning"


def test_a_parameter_that_changed_since_the_run_is_a_warning_until_its_command_has_run(project):
    params = project / "params.yaml"
    params.write_text(params.read_text().replace("seed: 0", "seed: 1"))
    found = {finding.name: finding for finding in check_project()}["dvc.lock"]
    assert (found.status, found.found) == ("warning", "changed in params.yaml since they ran: copy")
    run(DVC, *found.mend.split()[1:])
    assert statuses(check_project())["dvc.lock"] == "ok"


def test_a_stage_that_dvc_status_finds_unchanged_is_well(project):
    # What a stage no longer reads stays in dvc.lock until it runs again.
    (project / "dvc.yaml").write_text(GRAPH.replace("    params:\n      - seed\n", ""))
    assert "up to date" in run(DVC, "status")
    assert statuses(check_project())["dvc.lock"] == "ok"


def test_a_stage_that_has_not_run_is_a_warning(project):
    (project / "dvc.yaml").write_text(GRAPH + "  more:\n    cmd: echo\n")
    found = {finding.name: finding for finding in check_project()}["dvc.lock"]
    assert (found.status, found.found) == ("warning", "not run yet: more")
