import shutil
import subprocess
from pathlib import Path

import pytest

from fusmae.doctor.repository import check_git, check_params
from tests.doctor.conftest import commit, only, run


def test_a_clean_checkout_is_well(project):
    assert only(check_git()).status == "ok"


def test_a_change_that_no_commit_has_is_a_warning(project):
    (project / "dvc.yaml").write_text((project / "dvc.yaml").read_text() + "# changed\n")
    found = only(check_git())
    assert found.status == "warning"
    assert "dvc.yaml" in found.found
    commit(project)
    assert only(check_git()).status == "ok"


def test_results_in_dvc_lock_are_no_fault_and_their_command_commits_them(project):
    (project / "dvc.lock").write_text((project / "dvc.lock").read_text() + "# as a stage writes it\n")
    found = only(check_git())
    assert found.status == "ok"
    assert "dvc.lock not committed" in found.found
    command = found.found.partition(": ")[2]
    subprocess.run(f"{NAMED}; {command}", shell=True, check=True, capture_output=True)
    assert only(check_git()).found.endswith("nothing uncommitted")


NAMED = "export GIT_AUTHOR_NAME=t GIT_AUTHOR_EMAIL=t@e.org GIT_COMMITTER_NAME=t GIT_COMMITTER_EMAIL=t@e.org"


@pytest.mark.parametrize("is_known", [True, False])
@pytest.mark.parametrize("is_inside_another", [True, False])
def test_a_folder_without_git_is_an_error_that_its_command_mends(project, is_inside_another, is_known, monkeypatch):
    monkeypatch.setenv("HOME", str(project.parent))
    monkeypatch.setenv("GIT_CONFIG_NOSYSTEM", "1")
    if is_known:
        run("git", "config", "--global", "user.email", "t@example.org")
        run("git", "config", "--global", "user.name", "t")
    shutil.rmtree(project / ".git")
    if is_inside_another:
        run("git", "init", "-q", project.parent)
    found = only(check_git())
    assert found.status == "error"
    assert (f"{project.parent} is" if is_inside_another else "not a git repository") in found.found
    assert ("git config" in found.mend) != is_known
    subprocess.run(found.mend, shell=True, check=True, capture_output=True)
    assert only(check_git()).status == "ok"


def test_a_checkout_without_a_commit_is_a_warning_that_its_command_mends(project):
    shutil.rmtree(project / ".git")
    run("git", "init", "-q")
    run("git", "add", "--all")
    found = only(check_git())
    assert (found.status, found.found) == ("warning", "no commit so far")
    subprocess.run(found.mend, shell=True, check=True, capture_output=True)
    assert only(check_git()).status == "ok"


def test_a_worktree_is_a_checkout(project, tmp_path, monkeypatch):
    run("git", "worktree", "add", "-q", "--detach", tmp_path / "beside")
    monkeypatch.chdir(tmp_path / "beside")
    assert only(check_git()).status == "ok"


def test_a_project_in_a_folder_of_a_larger_repository_is_a_checkout(project, monkeypatch):
    inside = project / "models" / "fusmae"
    inside.mkdir(parents=True)
    shutil.copy2(project / "dvc.yaml", inside)
    commit(project)
    monkeypatch.chdir(inside)
    assert only(check_git()).status == "ok"


def test_a_machine_without_git_is_an_error(project, monkeypatch, tmp_path):
    monkeypatch.setenv("PATH", str(tmp_path))
    assert only(check_git()).found == "git is not installed"


def test_a_shallow_clone_is_a_warning_that_its_command_mends(project, tmp_path, monkeypatch):
    (project / "dvc.yaml").write_text((project / "dvc.yaml").read_text() + "# second\n")
    commit(project)
    run("git", "clone", "-q", "--depth", "1", project.as_uri(), tmp_path / "clone")
    monkeypatch.chdir(tmp_path / "clone")
    _, history = check_git()
    assert history.status == "warning"
    subprocess.run(history.mend, shell=True, check=True, capture_output=True)
    assert only(check_git()).status == "ok"


def test_a_wrong_value_in_params_is_named_with_its_path(project):
    params = project / "params.yaml"
    params.write_text(params.read_text().replace("mask_ratio:", "mask_share:"))
    found = only(check_params(Path("params.yaml")))
    assert found.status == "error"
    assert "model.mask_share" in found.found
    run("git", "checkout", "-q", "params.yaml")
    assert only(check_params(Path("params.yaml"))).status == "ok"


def test_params_that_are_no_yaml_are_an_error(project):
    (project / "params.yaml").write_text("model: {")
    assert only(check_params(Path("params.yaml"))).status == "error"
