"""An experiment becomes a commit of params.yaml and dvc.lock, or nothing changes; by real git and DVC."""

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
import yaml

from fusmae.errors import PromotionError
from fusmae.release.promotion.experiments import WORKSPACE, commit_experiment, experiments

STAGE = """
import json, pathlib, yaml
epochs = yaml.safe_load(pathlib.Path("params.yaml").read_text())["pretrain"]["epochs"]
out = pathlib.Path("reports/register")
out.mkdir(parents=True)
(out / "version.json").write_text(json.dumps({"name": "tiny", "version": str(epochs)}))
with pathlib.Path("runs.txt").open("a") as file:
    file.write(f"{epochs}\\n")
"""


def git(*arguments):
    done = subprocess.run(["git", *arguments], capture_output=True, text=True, check=True)
    return done.stdout.strip()


def dvc(*arguments):
    program = str(Path(sys.executable).with_name("dvc"))
    subprocess.run([program, *arguments], check=True, capture_output=True)


@pytest.fixture(scope="module")
def template(tmp_path_factory):
    """A project whose only stage ran at 1 epoch, in a commit, and at 3 epochs as the experiment `longer`."""
    folder = tmp_path_factory.mktemp("project")
    before = Path.cwd()
    os.chdir(folder)
    try:
        git("init", "-q", "-b", "main")
        git("config", "user.name", "A. Person")
        git("config", "user.email", "a.person@example.org")
        dvc("init", "-q")
        dvc("config", "core.analytics", "false")
        dvc("config", "core.site_cache_dir", str(folder / ".cache"))
        Path("fusmae").mkdir()
        Path("fusmae/stage.py").write_text(STAGE, encoding="utf-8")
        Path("params.yaml").write_text("seed: 0\npretrain:\n  epochs: 1\n", encoding="utf-8")
        stage = {"cmd": f"{sys.executable} fusmae/stage.py", "deps": ["fusmae/stage.py"], "params": ["pretrain"]}
        stages = {"register": {**stage, "outs": ["reports/register"]}}
        Path("dvc.yaml").write_text(yaml.safe_dump({"stages": stages}), encoding="utf-8")
        Path(".gitignore").write_text("/reports\n/runs.txt\n/.cache\n", encoding="utf-8")
        dvc("repro", "-q")
        git("add", "-A")
        git("commit", "-q", "-m", "first")
        dvc("exp", "run", "-q", "--name", "longer", "-S", "pretrain.epochs=3")
    finally:
        os.chdir(before)
    return folder


@pytest.fixture
def project(template, tmp_path, monkeypatch):
    """A copy of it, just after the experiment was run."""
    folder = tmp_path / "project"
    shutil.copytree(template, folder, symlinks=True)
    monkeypatch.chdir(folder)
    monkeypatch.setenv("HOME", str(tmp_path))
    return folder


def registered():
    return json.loads(Path("reports/register/version.json").read_text())["version"]


def state():
    return git("rev-parse", "HEAD"), git("status", "--porcelain"), Path("params.yaml").read_text()


def refused(name, match):
    before = state()
    with pytest.raises(PromotionError, match=match):
        commit_experiment(name, "tiny", "register")
    assert state() == before


def test_what_was_run_last_is_committed_with_what_it_changes_and_not_run_again(project):
    commit_experiment(WORKSPACE, "tiny", "register")
    assert git("status", "--porcelain") == ""
    assert git("log", "-1", "--format=%B").splitlines() == [
        "Keep the parameters and results of the workspace",
        "",
        "pretrain.epochs: 1 -> 3",
    ]
    assert git("diff", "--name-only", "HEAD~1").split() == ["dvc.lock", "params.yaml"]
    assert registered() == "3"
    assert Path("runs.txt").read_text() == "1\n3\n"
    commit_experiment(WORKSPACE, "tiny", "register")  # nothing is left to commit
    assert git("rev-list", "--count", "HEAD") == "2"


def test_an_experiment_is_brought_back_by_its_name_from_the_cache(project):
    git("checkout", "-q", "params.yaml", "dvc.lock")
    dvc("checkout", "-q")
    assert registered() == "1"
    commit_experiment("longer", "tiny", "register")
    assert registered() == "3"
    assert git("status", "--porcelain") == ""
    assert "epochs: 3" in git("show", "HEAD:params.yaml")
    assert Path("runs.txt").read_text() == "1\n3\n"


def test_what_was_not_run_yet_is_run_at_its_commit(project):
    Path("params.yaml").write_text("seed: 0\npretrain:\n  epochs: 4\n", encoding="utf-8")
    commit_experiment(WORKSPACE, "tiny", "register")
    assert (registered(), git("status", "--porcelain")) == ("4", "")
    assert "epochs: 4" in git("show", "HEAD:dvc.lock")


def test_unsaved_parameters_are_not_overwritten_but_saved_ones_may_be(project):
    Path("params.yaml").write_text("seed: 1\npretrain:\n  epochs: 5\n", encoding="utf-8")
    refused("longer", r"would be overwritten by experiment longer(.|\n)*git checkout params\.yaml dvc\.lock")


def test_other_changes_are_named(project):
    Path("fusmae/stage.py").write_text(f"{STAGE}\n# changed\n", encoding="utf-8")
    Path("fusmae/new.py").write_text("", encoding="utf-8")
    for name in (WORKSPACE, "longer"):
        refused(name, r"fusmae/new\.py, fusmae/stage\.py(.|\n)*git stash")


def test_an_unknown_name_is_answered_with_the_known_ones(project):
    refused("longr", r"no experiment 'longr'(.|\n)*workspace, longer")


def test_without_a_branch_or_a_name_for_the_commit_nothing_changes(project, monkeypatch):
    git("config", "user.useConfigOnly", "true")
    git("config", "--unset", "user.email")
    refused(WORKSPACE, r"has no name and e-mail(.|\n)*git config user\.name")
    git("config", "user.email", "a.person@example.org")
    git("checkout", "-q", "--detach")
    refused(WORKSPACE, r"on no branch(.|\n)*git switch -c")


def test_a_commit_that_a_hook_refuses_leaves_the_files_as_they_were(project):
    git("checkout", "-q", "params.yaml", "dvc.lock")
    hook = Path(".git/hooks/pre-commit")
    hook.parent.mkdir(exist_ok=True)
    hook.write_text("#!/bin/sh\necho not today >&2\nexit 1\n", encoding="utf-8")
    hook.chmod(0o755)
    refused("longer", "not today")


def test_an_experiment_on_other_code_is_not_mixed_with_this_one(project):
    git("checkout", "-q", "params.yaml", "dvc.lock")
    Path("fusmae/stage.py").write_text(f"{STAGE}\n# another\n", encoding="utf-8")
    git("commit", "-q", "-a", "-m", "another stage")
    refused("longer", r"code has changed since(.|\n)*fusmae/stage\.py(.|\n)*git switch -c longer-branch")
    git("switch", "-q", "-c", "longer-branch", experiments()[0].baseline)  # as the error says
    commit_experiment("longer", "tiny", "register")
    assert registered() == "3"


def test_an_experiment_with_changed_code_is_to_be_looked_at_first(project):
    Path("fusmae/stage.py").write_text(f"{STAGE}\n# tried\n", encoding="utf-8")
    dvc("exp", "run", "-q", "--name", "tried", "-S", "pretrain.epochs=6")
    git("checkout", "-q", "params.yaml", "dvc.lock", "fusmae/stage.py")
    refused(
        "tried", r"other changes than those of params\.yaml: fusmae/stage\.py(.|\n)*dvc exp branch tried tried-branch"
    )
    dvc("exp", "branch", "tried", "tried-branch")  # as the error says
    git("switch", "-q", "tried-branch")
    dvc("checkout", "-q")
    commit_experiment(WORKSPACE, "tiny", "register")
    assert registered() == "6"
