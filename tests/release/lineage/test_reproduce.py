"""The checkout that a version is made again in: its commit, its code, its parameters, raw data from here."""

import shutil
import subprocess
import sys
from pathlib import Path

import pytest
import yaml

from fusmae.errors import LineageError
from fusmae.files import write_json
from fusmae.release.lineage.record import GitState, Lineage
from fusmae.release.lineage.reproduce import make_again, require_code, require_commit, set_up
from fusmae.release.lineage.trace import Traced
from fusmae.release.registry.model_file import ModelFile
from fusmae.runs.dvc_lock import LockedStage, dvc_md5, locked_outs
from fusmae.runs.git import Worktree

PARAMS = {"seed": 7, "data": {"source": {"name": "folder"}, "tile_m": 1200}}
RECEIPT = {"source": {"name": "folder"}, "files": {"pairs.csv": "sha256:abc"}}


def git(*arguments):
    identity = ["-c", "user.name=t", "-c", "user.email=t@example.org"]
    done = subprocess.run(["git", *identity, *arguments], check=True, capture_output=True, text=True)
    return done.stdout.strip()


@pytest.fixture
def project(tmp_path, monkeypatch):
    """A clone with code, parameters and a lock in its only commit, and raw data that was put there by hand."""
    folder = tmp_path / "project"
    (folder / "fusmae").mkdir(parents=True)
    monkeypatch.chdir(folder)
    Path("fusmae/code.py").write_text("1", encoding="utf-8")
    Path("params.yaml").write_text(yaml.safe_dump(PARAMS, sort_keys=False), encoding="utf-8")
    Path("dvc.lock").write_text("stages: {}", encoding="utf-8")
    Path(".gitignore").write_text("/data\n/.fusmae\n", encoding="utf-8")
    git("init", "-q", "-b", "main")
    git("add", ".")
    git("commit", "-q", "-m", "first")
    write_json(Path("data/raw.json"), RECEIPT)
    for name in ("data/raw/folder/pairs.csv", "data/downloads/archive.whl", "data/downloads/.lock"):
        Path(name).parent.mkdir(parents=True, exist_ok=True)
        Path(name).write_text(name, encoding="utf-8")
    return folder


def traced(**changes):
    stage = LockedStage(
        name="train",
        code={"fusmae/code.py": dvc_md5(Path("fusmae/code.py"))},
        inputs={},
        outs={"models/export": "0"},
        params={"seed": 7},
    )
    state = GitState(commit=git("rev-parse", "HEAD"), is_dirty=False)
    known = {"git": state, "exported": state, "stages": (stage,), "params": {"seed": 7}, "receipt": RECEIPT}
    lineage = Lineage(name="tiny", onnx_sha256="0" * 64, **(known | changes))
    return Traced(ModelFile(Path("model.onnx"), "0" * 64, "tiny", "3"), (), lineage, frozenset())


@pytest.fixture
def worktree(project):
    made = Worktree(Path(".fusmae/reproduce/tiny-3"), git("rev-parse", "HEAD"), "tiny")
    made.make()
    yield made
    made.remove()


def test_a_commit_that_the_clone_lacks_is_named(project):
    with pytest.raises(LineageError, match=f"does not have commit {'c0ffee' * 6}") as refused:
        require_commit("c0ffee" * 6)
    assert "git fetch" in str(refused.value)
    with pytest.raises(LineageError, match="No commit names the code"):
        require_commit(None)


def test_the_checkout_has_the_commits_files_and_nothing_else(project, worktree):
    Path("fusmae/code.py").write_text("changed since", encoding="utf-8")
    assert (worktree.folder / "fusmae/code.py").read_text() == "1"
    assert not (worktree.folder / "data").exists()


def test_a_checkout_that_was_cut_off_is_gone_on_with_only_if_it_was_set_up_for_the_same(project, worktree):
    assert not worktree.is_begun
    worktree.begin()
    commit = git("rev-parse", "HEAD")
    top = Path(".fusmae/reproduce/tiny-3")
    assert Worktree(top, commit, "tiny").is_begun
    assert not Worktree(top, commit, "another").is_begun
    worktree.end()
    assert not Worktree(top, commit, "tiny").is_begun


def test_a_checkout_is_removed_whole_even_where_git_forgot_it(project, worktree):
    (worktree.folder / "left").write_text("over", encoding="utf-8")
    (project / ".git" / "worktrees" / "tiny-3" / "gitdir").unlink()
    worktree.remove()
    assert not worktree.folder.exists()
    assert len(git("worktree", "list").splitlines()) == 1


def test_hooks_do_not_fill_the_checkout(project):
    hook = project / ".git" / "hooks" / "post-checkout"
    hook.parent.mkdir(exist_ok=True)
    hook.write_text("#!/bin/sh\ntouch from-the-hook\n", encoding="utf-8")
    hook.chmod(0o755)
    made = Worktree(Path(".fusmae/reproduce/tiny-3"), git("rev-parse", "HEAD"), "tiny")
    made.make()
    assert not (made.folder / "from-the-hook").exists()


def test_a_project_in_a_folder_of_a_larger_repository_is_found_in_the_checkout(project, monkeypatch):
    monkeypatch.chdir(project / "fusmae")
    made = Worktree(Path("made"), git("rev-parse", "HEAD"), "tiny")
    made.make()
    assert (made.folder / "code.py").exists()


def test_params_that_are_the_commits_leave_the_checkout_clean(project, worktree):
    set_up(worktree.folder, traced().lineage)
    changed = subprocess.run(["git", "status", "--porcelain"], cwd=worktree.folder, capture_output=True, text=True)
    assert changed.stdout.split("\n") == [" D dvc.lock", ""]


def test_params_that_it_was_made_with_are_written_and_others_kept(project, worktree):
    wanted = {"seed": 8, "data.source": {"name": "sample"}, "model": {"dim": 32}}
    set_up(worktree.folder, traced(params=wanted).lineage)
    found = yaml.safe_load((worktree.folder / "params.yaml").read_text())
    assert found == {"seed": 8, "data": {"source": {"name": "sample"}, "tile_m": 1200}, "model": {"dim": 32}}


def test_raw_data_that_no_command_can_bring_back_is_linked_if_it_is_the_very_same(project, worktree):
    set_up(worktree.folder, traced().lineage)
    assert (worktree.folder / "data/raw/folder/pairs.csv").read_text() == "data/raw/folder/pairs.csv"
    assert (worktree.folder / "data/downloads/archive.whl").exists()
    assert not (worktree.folder / "data/downloads/.lock").exists()


def test_raw_data_of_another_receipt_is_not_linked(project, worktree):
    write_json(Path("data/raw.json"), {**RECEIPT, "files": {"pairs.csv": "sha256:changed"}})
    set_up(worktree.folder, traced().lineage)
    assert not (worktree.folder / "data/raw").exists()


def test_what_is_cheap_to_have_is_made_anew(project, worktree):
    receipt = {"source": {"name": "sample"}, "files": {}}
    write_json(Path("data/raw.json"), receipt)
    Path("data/raw/sample").mkdir()
    set_up(worktree.folder, traced(receipt=receipt).lineage)
    assert not (worktree.folder / "data/raw").exists()


START = "models/start/pretrain"
FACTS = {"reference": "mine", "origin": "/there/mine", "sha256": "5e11a"}
GRAPH = """
stages:
  start:
    matrix: {stage: [pretrain]}
    cmd: exit 1
    params: ["${item.stage}.start"]
    outs:
      - models/start/${item.stage}
"""


def dvc(*arguments, cwd=None):
    program = str(Path(sys.executable).with_name("dvc"))
    return subprocess.run([program, *arguments], cwd=cwd, capture_output=True, text=True)


@pytest.fixture
def started(project):
    """Hash of weights that a training started from, which are in DVC's cache and nowhere else; their stage fails."""
    assert dvc("init", "-q").returncode == 0
    Path("dvc.yaml").write_text(GRAPH, encoding="utf-8")
    Path("params.yaml").write_text(yaml.safe_dump(PARAMS | {"pretrain": {"start": "mine"}}), encoding="utf-8")
    Path(".gitignore").write_text("/data\n/.fusmae\n/models\n", encoding="utf-8")
    git("add", ".")
    git("commit", "-q", "-m", "second")
    Path("dvc.lock").unlink()
    write_json(Path(START, "start.json"), FACTS)
    Path(START, "model.safetensors").write_bytes(b"weights")
    assert dvc("commit", "--force", "start@pretrain").returncode == 0
    shutil.rmtree("models")
    return locked_outs()[START]


def traced_start(md5):
    stage = LockedStage(name="start@pretrain", code={}, inputs={}, outs={START: md5}, params={"pretrain.start": "mine"})
    return traced(stages=(stage,), params=stage.params, starts={START: FACTS}).lineage


def test_weights_that_a_training_started_from_come_from_the_cache_and_are_not_looked_up(started):
    made = Worktree(Path(".fusmae/reproduce/tiny-3"), git("rev-parse", "HEAD"), "tiny")
    made.make()
    set_up(made.folder, traced_start(started))
    assert (made.folder / START / "model.safetensors").read_bytes() == b"weights"
    assert dvc_md5(made.folder / START) == started == locked_outs(made.folder / "dvc.lock")[START]
    done = dvc("repro", "--no-run-cache", "start@pretrain", cwd=made.folder)
    assert done.returncode == 0, done.stderr
    assert "didn't change" in done.stdout


def test_weights_to_start_from_that_the_cache_lacks_are_named(started):
    shutil.rmtree(".dvc/cache")
    made = Worktree(Path(".fusmae/reproduce/tiny-3"), git("rev-parse", "HEAD"), "tiny")
    made.make()
    with pytest.raises(
        LineageError, match=r"lacks the weights that the training started from: /there/mine(.|\n)*dvc fetch"
    ):
        set_up(made.folder, traced_start(started))


def test_code_that_is_in_no_commit_is_refused_by_name(project, worktree):
    Path("fusmae/code.py").write_text("2", encoding="utf-8")
    made_from_changed = traced()
    with pytest.raises(LineageError, match=r"is in no commit.*\n.*1 files.*fusmae/code\.py"):
        require_code(worktree.folder, made_from_changed)
    Path("fusmae/code.py").write_text("1", encoding="utf-8")
    require_code(worktree.folder, traced())


def test_a_version_of_which_too_little_is_known_is_refused_before_anything_is_done(project, monkeypatch):
    monkeypatch.setattr("fusmae.release.lineage.reproduce.read_artifact", lambda model, name: None)
    with pytest.raises(
        LineageError, match=r"The lineage of tiny/3 is not complete enough.*\n.*older build; no metrics\.json"
    ):
        make_again(traced(gaps=("older build",)), Path(".fusmae/reproduce"), tolerance=0, keep=False)
    assert not Path(".fusmae").exists()


def test_a_checkout_of_refused_code_is_not_left_behind_neither_a_new_nor_a_begun_one(project, monkeypatch):
    Path("fusmae/code.py").write_text("2", encoding="utf-8")
    made_from_changed, folder = traced(), Path(".fusmae/reproduce")
    monkeypatch.setattr("fusmae.release.lineage.reproduce.read_artifact", lambda model, name: "{}")
    begun = Worktree(folder / "tiny-3", git("rev-parse", "HEAD"), "0" * 64)
    for is_begun in (False, True):
        if is_begun:
            begun.make()
            begun.begin()
        with pytest.raises(LineageError, match="is in no commit"):
            make_again(made_from_changed, folder, tolerance=0, keep=False)
        assert not begun.folder.exists()
        assert len(git("worktree", "list").splitlines()) == 1
