import hashlib
import subprocess
import sys
from pathlib import Path

import pytest
import yaml

from fusmae.cli import study as command
from fusmae.errors import ConfigError

ROOT = Path(__file__).parents[2]


@pytest.fixture(autouse=True)
def in_the_project(monkeypatch):
    monkeypatch.chdir(ROOT)
    monkeypatch.setattr(command, "begin", lambda _: None)


def composed(out, *overrides):
    command.study(list(overrides), out)
    return yaml.safe_load(out.read_text(encoding="utf-8"))


def test_a_study_is_composed_with_the_values_that_are_asked_for(tmp_path):
    found = composed(tmp_path / "params.yaml", "study_size=gpu", "study.seeds=[7]", "pretrain.epochs=33")
    assert found["study"]["title"].endswith("on a GPU")
    assert (found["study"]["seeds"], found["pretrain"]["epochs"]) == ([7], 33)


@pytest.mark.parametrize("override", ["study_size=huge", "pretrain.epoch=3", "no equals sign"])
def test_an_override_that_names_nothing_is_told(tmp_path, override):
    with pytest.raises(ConfigError, match="study_size=gpu") as told:
        composed(tmp_path / "params.yaml", override)
    assert override in str(told.value)


def test_a_wrong_value_of_a_variant_is_told_by_its_path(tmp_path):
    with pytest.raises(ConfigError, match="masking"):
        composed(tmp_path / "params.yaml", "study.variants.joint.model.masking=odd")


def test_a_rivals_weights_are_known_by_what_is_in_the_file(tmp_path):
    weights, hashes = tmp_path / "a b.pth", []
    for content in (b"one", b"other"):
        weights.write_bytes(content)
        found = composed(tmp_path / "params.yaml", f"study.variants.dofa.weights='{weights}'")
        assert found["study"]["variants"]["dofa"]["weights"] == str(weights)
        hashes.append(found["study"]["variants"]["dofa"]["weights_sha256"])
    assert hashes == [hashlib.sha256(content).hexdigest() for content in (b"one", b"other")]


def test_a_file_of_weights_that_is_not_there_is_told_before_anything_runs(tmp_path):
    with pytest.raises(ConfigError, match=r"study\.variants\.dofa\.weights names no file") as told:
        composed(tmp_path / "params.yaml", "study.variants.dofa.weights=nowhere.pth")
    assert "nowhere.pth" in str(told.value)


def test_the_command_says_what_is_wrong_in_one_paragraph():
    done = subprocess.run(
        [sys.executable, "-m", "fusmae", "study", "study_size=huge", "--out", "/dev/null"],
        capture_output=True,
        text=True,
        check=False,
        cwd=ROOT,
    )
    assert done.returncode == 1
    assert "huge" in done.stderr
    assert "Traceback" not in done.stderr
