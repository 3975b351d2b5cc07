import shutil
import subprocess
from pathlib import Path

from fusmae.stack.checkout import check_git, check_params

from .conftest import commit, only, run


def test_a_clean_checkout_is_well(project):
    assert only(check_git()).status == "ok"


def test_a_change_that_no_commit_has_is_a_warning(project):
    (project / "dvc.yaml").write_text((project / "dvc.yaml").read_text() + "# changed\n")
    found = only(check_git())
    assert found.status == "warning"
    assert "dvc.yaml" in found.found
    commit(project)
    assert only(check_git()).status == "ok"


def test_a_folder_without_git_is_an_error_that_its_command_mends(project):
    shutil.rmtree(project / ".git")
    found = only(check_git())
    assert found.status == "error"
    assert "not a git repository" in found.found
    subprocess.run(found.mend, shell=True, check=True, capture_output=True)
    assert only(check_git()).found == "no commit so far"


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
