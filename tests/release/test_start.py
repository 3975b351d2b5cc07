"""References to weights that a training starts from: a folder, a file, a registered version; and what is refused."""

import json
import shutil
from pathlib import Path

import pytest
import yaml
from typer.testing import CliRunner

from fusmae.cli import app
from fusmae.errors import CheckpointError, RegistryError
from fusmae.release.registry.versions import register_graph
from fusmae.stages.start import start
from fusmae.training.checkpoint_card import CARD, START, WEIGHTS

EARLIER = Path(__file__).parents[1] / "fixtures" / "earlier_models"
ENCODER = EARLIER / "pretrained"
STAGES = ("pretrain", "finetune")
OUT = Path("models/start/pretrain")


@pytest.fixture(scope="module")
def project(tmp_path_factory):
    """A folder with a registry that has one version, with its checkpoint."""
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(tmp_path_factory.mktemp("start"))
        patch.delenv("MLFLOW_TRACKING_URI", raising=False)
        register_graph(
            "fusmae-encoder",
            EARLIER / "registered" / "model.onnx",
            extra_files=[ENCODER / WEIGHTS, ENCODER / CARD],
            tags={},
            experiment="test",
            run_file=Path("none.json"),
        )
        yield


@pytest.fixture
def mine(project):
    """A checkpoint of a user's."""
    shutil.rmtree("mine", ignore_errors=True)
    shutil.copytree(ENCODER, "mine")
    return Path("mine")


@pytest.fixture(autouse=True)
def _nothing_there(project):
    shutil.rmtree(OUT, ignore_errors=True)


def stated():
    return json.loads((OUT / START).read_text(encoding="utf-8"))


def test_an_empty_parameter_writes_a_note_and_no_weights(project):
    start("", out=OUT)
    assert stated() == {"reference": ""}
    assert [path.name for path in OUT.iterdir()] == [START]


@pytest.mark.parametrize(
    ("reference", "origin"),
    [
        ("mine", "mine"),
        (f"mine/{WEIGHTS}", f"mine/{WEIGHTS}"),
        ("models:/fusmae-encoder@challenger", "fusmae-encoder/1"),
        ("fusmae-encoder@challenger", "fusmae-encoder/1"),
        ("fusmae-encoder/1", "fusmae-encoder/1"),
    ],
)
def test_every_kind_of_reference_is_copied_with_what_it_meant(mine, reference, origin, capsys):
    start(reference, out=OUT)
    assert sorted(path.name for path in OUT.iterdir()) == sorted([CARD, WEIGHTS, START])
    for name in (CARD, WEIGHTS):
        assert (OUT / name).read_bytes() == (ENCODER / name).read_bytes()
    sha256 = json.loads((ENCODER / CARD).read_text(encoding="utf-8"))["sha256"]
    expected = str(Path(origin).absolute()) if origin.startswith("mine") else origin
    assert stated() == {"reference": reference, "origin": expected, "sha256": sha256}
    assert f"{reference} is {expected}, SHA-256 of its weights {sha256[:12]}" in capsys.readouterr().err


def test_a_file_of_weights_may_have_any_name(mine):
    (mine / WEIGHTS).rename(mine / "encoder.safetensors")
    start("mine/encoder.safetensors", out=OUT)
    assert (OUT / WEIGHTS).read_bytes() == (ENCODER / WEIGHTS).read_bytes()


def test_a_folder_of_the_same_name_counts_before_a_version(mine):
    shutil.copytree(mine, "fusmae-encoder/1")
    try:
        start("fusmae-encoder/1", out=OUT)
        assert stated()["origin"] == str(Path("fusmae-encoder/1").absolute())
    finally:
        shutil.rmtree("fusmae-encoder")


def test_a_temporary_checkout_finds_untracked_weights_in_the_original_one(mine, monkeypatch):
    top = Path.cwd()
    (top / ".git").mkdir(exist_ok=True)
    temporary = top / ".dvc/tmp/exps/tmp1"
    (temporary / ".git").mkdir(parents=True, exist_ok=True)
    monkeypatch.chdir(temporary)
    start("mine", out=OUT)
    assert stated()["origin"] == str(top / "mine")


REFUSED = {
    "nothing-there": (
        CheckpointError,
        r"no weights to start from at nothing-there(.|\n)*NAME@ALIAS(.|\n)*params\.yaml",
    ),
    "mine/empty": (CheckpointError, r"no checkpoint in mine/empty: checkpoint\.json is missing"),
    "mine/model.onnx": (CheckpointError, r"mine/model\.onnx is no file of weights(.|\n)*ends in \.onnx"),
    "fusmae-encoder/9": (RegistryError, "has no fusmae-encoder/9"),
    "fusmae-encoder@nobody": (RegistryError, "has no fusmae-encoder@nobody"),
}


@pytest.mark.parametrize("reference", REFUSED)
def test_what_is_missing_is_refused_and_nothing_is_left(mine, reference):
    (mine / "empty").mkdir()
    (mine / "model.onnx").touch()
    error, message = REFUSED[reference]
    start("mine", out=OUT)
    with pytest.raises(error, match=message):
        start(reference, out=OUT)
    assert stated()["reference"] == "mine"
    assert [path.name for path in OUT.parent.iterdir()] == [OUT.name]


def test_a_version_that_was_registered_without_its_checkpoint_is_refused_with_what_to_do(project):
    (card,) = Path("mlruns").rglob(f"extra_files/{CARD}")
    kept = card.rename("kept.json")
    try:
        with pytest.raises(
            CheckpointError, match=r"fusmae-encoder/1 was registered without its checkpoint(.|\n)*name another version"
        ):
            start("fusmae-encoder/1", out=OUT)
    finally:
        kept.rename(card)
    assert not OUT.exists()


def test_weights_without_their_card_are_refused_by_the_files_name(mine):
    (mine / CARD).unlink()
    with pytest.raises(CheckpointError, match=rf"in mine: {CARD} is missing(.|\n)*copy {WEIGHTS} and its {CARD}"):
        start(f"mine/{WEIGHTS}", out=OUT)


@pytest.mark.parametrize("text", ["[]", "{", '{"format": 7}'])
def test_a_card_that_is_none_is_refused(mine, text):
    (mine / CARD).write_text(text, encoding="utf-8")
    with pytest.raises(CheckpointError, match=rf"mine/{CARD} is (damaged|of another format)(.|\n)*copy {WEIGHTS}"):
        start("mine", out=OUT)


def test_weights_that_were_changed_are_refused(mine):
    with (mine / WEIGHTS).open("ab") as file:
        file.write(b"x")
    with pytest.raises(CheckpointError, match=rf"checksum of mine/{WEIGHTS} is wrong"):
        start("mine", out=OUT)
    assert not OUT.exists()


@pytest.mark.parametrize("stage", STAGES)
def test_the_command_takes_the_parameter_of_its_stage(mine, stage, tmp_path):
    params = yaml.safe_load((Path(__file__).parents[2] / "params.yaml").read_text(encoding="utf-8"))
    for name in STAGES:
        params[name]["start"] = "mine" if name == stage else ""
    Path("params.yaml").write_text(json.dumps(params), encoding="utf-8")
    for name in STAGES:
        done = CliRunner().invoke(app, ["start", "--stage", name, "--out", str(tmp_path / name)])
        assert done.exit_code == 0, done.output
    found = {name: json.loads((tmp_path / name / START).read_text())["reference"] for name in STAGES}
    assert found == {"pretrain": "", "finetune": ""} | {stage: "mine"}
