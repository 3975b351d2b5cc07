"""Checkpoints and a registered version that an earlier build wrote still load and give the same numbers.

`tests/fixtures/earlier_models` was written at commit 3f18f48, by a network of width 8 over tiles of 24 px whose weights
were shaken as training would; `expected.json` has what that build computed from the pixels and the noise made here.
"""

import json
from pathlib import Path

import numpy as np
import pytest
import rasterio
import torch
from torch import Tensor
from typer.testing import CliRunner

from fusmae.cli import app
from fusmae.config.task import Task
from fusmae.inference.session import Session
from fusmae.models.fusmae import reconstruction_loss
from fusmae.models.predictors import TilePredictor
from fusmae.models.preprocess import Preprocess
from fusmae.release.registry.versions import register_graph
from fusmae.training.checkpoint import Checkpoint, load_checkpoint, save_checkpoint
from tests.inference.conftest import make_scenes

EARLIER = Path(__file__).parent / "fixtures" / "earlier_models"
EXPECTED = json.loads((EARLIER / "expected.json").read_text(encoding="utf-8"))
SETTINGS = (("s1", "s2"), ("s1",), ("s2",))


def earlier_pixels(inputs, count=3):
    """Waves, which no other version of a random generator changes."""
    pixels = {}
    for item in inputs:
        shape = (count, len(item.bands), item.side_px, item.side_px)
        wave = np.sin(np.arange(np.prod(shape), dtype=np.float64) * 0.7).reshape(shape)
        is_radar = item.units == "dB"
        pixels[item.name] = (
            (-15 + 6 * wave).astype(np.float32) if is_radar else (1200 + 800 * wave).round().astype(np.uint16)
        )
    return pixels


@pytest.fixture
def registered(tmp_path, monkeypatch):
    """A registry of its own that holds the files of the earlier version."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("MLFLOW_TRACKING_URI", raising=False)
    folder = EARLIER / "registered"
    register_graph(
        "earlier",
        folder / "model.onnx",
        extra_files=sorted(folder.glob("*.json")),
        tags={},
        experiment="test",
        run_file=Path("none.json"),
    )
    return "earlier/1"


def test_a_registered_graph_states_its_metadata_and_gives_the_same_numbers():
    session = Session(EARLIER / "registered" / "model.onnx")
    assert session.metadata == json.loads((EARLIER / "registered" / "preprocessing.json").read_text(encoding="utf-8"))
    assert session.metadata["classes"] == ["water", "forest", "town"]
    pixels = earlier_pixels(session.inputs)
    for setting in SETTINGS:
        for name, values in session.run(pixels, setting).items():
            np.testing.assert_allclose(values, EXPECTED["registered"]["+".join(setting)][name], atol=1e-6)


def test_a_registered_version_maps_a_scene_and_tells_its_lineage(registered, tmp_path):
    scenes = make_scenes(tmp_path / "in")
    command = ["predict", "--model", registered, "--out", "map.tif", "--s1", str(scenes.s1), "--s2", str(scenes.s2)]
    done = CliRunner().invoke(app, command)
    assert done.exit_code == 0, done.output
    with rasterio.open("map.tif") as dataset:
        means = dataset.read().astype(np.float64).mean(axis=(1, 2))
        names = dataset.descriptions
    np.testing.assert_allclose(means, EXPECTED["map"], atol=0.01)
    assert names[:3] == ("water", "forest", "town")
    told = CliRunner().invoke(app, ["lineage", registered, "--json"])
    assert told.exit_code == 0, told.output
    lineage = json.loads(told.stdout)
    assert (lineage["version"], lineage["seed"]) == ("1", 0)
    assert lineage["git"]["commit"] == "71650649aa82d8df24f4723849e266e695ea408e"
    assert [stage["name"] for stage in lineage["stages"]][:2] == ["fetch", "index"]


@pytest.fixture(autouse=True)
def _one_thread():
    """Sums on several threads may round differently."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


def tiles_of(checkpoint: Checkpoint, modalities=("s1", "s2")) -> dict[str, Tensor]:
    pixels = earlier_pixels(checkpoint.preprocessing.inputs)
    given = {item.name: item for item in checkpoint.preprocessing.inputs if item.modality in modalities}
    return Preprocess(checkpoint.preprocessing)({name: torch.from_numpy(pixels[name]) for name in given})


def earlier_noise(names) -> dict[str, Tensor]:
    grid, slope = torch.arange(27).reshape(3, 9), torch.arange(9) * 1e-3
    return {name: ((grid * (4 + at) + at) % 9 / 9 + slope).float() for at, name in enumerate(names)}


@pytest.mark.parametrize("name", ["pretrained", "stacked"])
@torch.no_grad()
def test_an_earlier_autoencoder_reconstructs_as_it_did(name):
    checkpoint = load_checkpoint(EARLIER / name)
    assert checkpoint.preprocessing.is_stacked == (name == "stacked")
    model, tiles = checkpoint.autoencoder(), tiles_of(checkpoint)
    found = model(tiles, model.draw_masks(tiles, earlier_noise(checkpoint.architecture.groups)))
    expected = EXPECTED[name]
    assert {key: float(reconstruction_loss(item)) for key, item in found.items()} == pytest.approx(
        expected["loss"], rel=1e-6
    )
    for key, item in found.items():
        assert [item.ids.shape[1], float(item.pred.double().sum())] == pytest.approx(expected["decoded"][key], abs=1e-3)


@pytest.mark.parametrize("setting", SETTINGS, ids="+".join)
@torch.no_grad()
def test_earlier_classifiers_give_the_same_logits(setting):
    finetuned, probed = load_checkpoint(EARLIER / "finetuned"), load_checkpoint(EARLIER / "probed")
    assert finetuned.task.classes == probed.task.classes == ("water", "forest", "town")
    name = "+".join(setting)
    for classifier, expected in (
        (finetuned.predictor(), EXPECTED["finetuned"][name]),
        (
            TilePredictor(Task(), probed.encoder(), probed.readout, probed.probe_head(name)).eval(),
            EXPECTED["probed"][name],
        ),
    ):
        np.testing.assert_allclose(classifier(tiles_of(finetuned, setting)).numpy(), expected, atol=1e-6)


@pytest.mark.parametrize("name", ["pretrained", "stacked", "finetuned", "probed"])
def test_an_earlier_checkpoint_is_saved_again_as_the_same_bytes(name, tmp_path):
    save_checkpoint(tmp_path / name, load_checkpoint(EARLIER / name))
    for file in (EARLIER / name).iterdir():
        assert (tmp_path / name / file.name).read_bytes() == file.read_bytes()
