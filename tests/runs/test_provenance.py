import hashlib
import subprocess
from pathlib import Path

import pytest
import yaml

from fusmae.runs.provenance import VERSIONED, content_sha256, dvc_hash, git_state, provenance, resume_key


def git(*arguments: str) -> str:
    identity = ["-c", "user.name=Test", "-c", "user.email=test@example.org", "-c", "commit.gpgsign=false"]
    found = subprocess.run(["git", *identity, *arguments], check=True, capture_output=True, text=True)
    return found.stdout.strip()


@pytest.fixture
def repository(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A real git repository with one commit, in which the test stands."""
    folder = tmp_path / "repository"
    folder.mkdir()
    monkeypatch.chdir(folder)
    git("init", "--quiet")
    (folder / "code.py").write_text("a = 1\n")
    (folder / "dvc.lock").write_text("schema: '2.0'\n")
    git("add", ".")
    git("commit", "--quiet", "-m", "first")
    return folder


def test_a_clean_checkout_is_not_dirty_and_names_its_commit(repository):
    assert git_state() == {"commit": git("rev-parse", "HEAD"), "is_dirty": False}


def test_a_changed_tracked_file_is_dirty_until_it_is_committed(repository):
    before = git_state()["commit"]
    (repository / "code.py").write_text("a = 2\n")
    assert git_state() == {"commit": before, "is_dirty": True}
    git("add", ".")
    assert git_state()["is_dirty"]
    git("commit", "--quiet", "-m", "second")
    assert not git_state()["is_dirty"]
    assert git_state()["commit"] != before


def test_a_deleted_tracked_file_is_dirty(repository):
    (repository / "code.py").unlink()
    assert git_state()["is_dirty"]


def test_untracked_files_and_the_lock_that_stages_write_are_not_dirty(repository):
    (repository / "notes.txt").write_text("x")
    (repository / "dvc.lock").write_text("schema: '2.0'\nstages: {}\n")
    assert not git_state()["is_dirty"]


def test_a_new_file_beside_the_code_is_dirty(repository):
    (repository / "fusmae").mkdir()
    (repository / "fusmae" / "new.py").write_text("x = 1")
    assert git_state()["is_dirty"]


def test_outside_a_checkout_there_is_no_commit(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("GIT_CEILING_DIRECTORIES", str(tmp_path.parent))
    assert git_state() == {"commit": None, "is_dirty": False}


def test_without_git_there_is_no_commit(repository, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setenv("PATH", "")
    assert git_state() == {"commit": None, "is_dirty": False}


LOCK = {
    "schema": "2.0",
    "stages": {
        "shard": {
            "cmd": "x",
            "deps": [{"path": "data/raw", "md5": "0raw"}],
            "outs": [{"path": "data/shards", "md5": "1abc.dir"}, {"path": "data/statistics.json", "md5": "2def"}],
        },
        "probe@random": {"cmd": "y", "outs": [{"path": "models/probe/random", "md5": "3fff.dir"}]},
        "nothing": {"cmd": "z"},
    },
}


@pytest.fixture
def lock(tmp_path: Path) -> Path:
    file = tmp_path / "dvc.lock"
    file.write_text(yaml.safe_dump(LOCK))
    return file


@pytest.mark.parametrize(
    ("path", "expected"),
    [
        ("data/shards", "md5:1abc.dir"),
        ("data/shards/", "md5:1abc.dir"),
        ("data/statistics.json", "md5:2def"),
        ("models/probe/random", "md5:3fff.dir"),
        ("data/raw", None),
        ("data", None),
        ("data/shards/train", None),
    ],
)
def test_hash_of_an_output_is_that_of_dvcs_lock(lock, path, expected):
    assert dvc_hash(Path(path), lock) == expected


@pytest.mark.parametrize("text", ["", "schema: '2.0'\n"])
def test_a_lock_without_stages_knows_no_hash(tmp_path, text):
    (tmp_path / "dvc.lock").write_text(text)
    assert dvc_hash(Path("data"), tmp_path / "dvc.lock") is None


def test_an_absent_lock_knows_no_hash(tmp_path):
    assert dvc_hash(Path("data"), tmp_path / "dvc.lock") is None


def test_provenance_takes_dvcs_hash_and_else_the_contents(repository):
    (repository / "dvc.lock").write_text(yaml.safe_dump(LOCK))
    (repository / "data").mkdir()
    (repository / "data" / "own.json").write_text("{}")
    facts = provenance("probe", [Path("data/statistics.json"), Path("data/own.json")], seed=3)
    assert facts["inputs"] == {
        "data/statistics.json": "md5:2def",
        "data/own.json": f"sha256:{hashlib.sha256(b'{}').hexdigest()}",
    }
    assert facts["git"] == {"commit": git("rev-parse", "HEAD"), "is_dirty": False}
    assert (facts["stage"], facts["seed"]) == ("probe", 3)
    assert set(facts["versions"]) == set(VERSIONED)


def test_identity_of_a_folder_changes_with_names_and_contents_only(tmp_path):
    folder = tmp_path / "a"
    folder.mkdir()
    (folder / "x.txt").write_text("1")
    (folder / "y.txt").write_text("2")
    before = content_sha256(folder)
    folder = folder.rename(tmp_path / "b")
    (folder / "x.txt").write_text("1")
    assert content_sha256(folder) == before
    (folder / "x.txt").write_text("3")
    changed = content_sha256(folder)
    (folder / "x.txt").write_text("1")
    (folder / "x.txt").rename(folder / "z.txt")
    assert len({before, changed, content_sha256(folder)}) == 3


def test_shards_are_known_by_their_manifest(shards):
    assert content_sha256(shards) == hashlib.sha256((shards / "manifest.json").read_bytes()).hexdigest()


def test_resume_key_changes_with_stage_params_inputs_and_code_and_only_then(tmp_path):
    (tmp_path / "input.json").write_text("1")
    params, code = (
        {"seed": 0, "model": {"dim": 16, "depth": 2}},
        {"fusmae/models/encoder.py": "a", "fusmae/files.py": "b"},
    )

    def key(stage="pretrain", params=params, inputs=(tmp_path / "input.json",), code=code) -> str:
        return resume_key(stage, params, inputs, code)

    first = key()
    assert len(first) == 16
    (tmp_path / "input.json").touch()
    (tmp_path / "other.json").write_text("1")
    assert key() == first
    assert key(params={"model": {"depth": 2, "dim": 16}, "seed": 0}) == first

    keys = {first, key(stage="finetune")}
    keys |= {key(params={**params, "seed": 1}), key(params={**params, "model": {"dim": 16, "depth": 3}})}
    keys.add(key(inputs=(tmp_path / "input.json", tmp_path / "other.json")))
    keys.add(key(code={**code, "fusmae/models/encoder.py": "c"}))
    keys.add(key(code={"fusmae/models/decoder.py": "a", "fusmae/files.py": "b"}))
    keys.add(key(code={**code, "fusmae/models/new.py": "d"}))
    (tmp_path / "input.json").write_text("2")
    keys.add(key())
    assert len(keys) == 9
