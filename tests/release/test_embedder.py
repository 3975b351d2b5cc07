"""Features from a checkpoint, an ONNX file or a registered version: from arrays as people have them."""

import numpy as np
import pytest
import torch

import fusmae
from fusmae.config.task import Task
from fusmae.errors import CheckpointError, ConfigError, ExportError, InputError, RegistryError
from fusmae.training.checkpoint import Checkpoint, save_checkpoint
from tests.release.conftest import NAME
from tests.sections import architecture_of

SETTINGS = [("s1", "s2"), ("s1",), ("s2",)]


@pytest.fixture(scope="module")
def folder(exported, tmp_path_factory):
    """A finetuned checkpoint with the weights of the exported graph."""
    preprocessing, weights = exported.preprocess.preprocessing, exported.classifier.state_dict()
    start = Checkpoint(architecture_of(preprocessing), preprocessing, Task(), {}, {})
    path = tmp_path_factory.mktemp("embedder") / "finetuned"
    save_checkpoint(path, start.with_head("mean", Task(classes=("a", "b", "c")), {}, weights))
    return path


@pytest.fixture(scope="module")
def pretrained(exported, tmp_path_factory):
    """A checkpoint of the same encoder without a head."""
    preprocessing, weights = exported.preprocess.preprocessing, exported.classifier.encoder.state_dict()
    weights = {f"encoder.{name}": tensor for name, tensor in weights.items()}
    path = tmp_path_factory.mktemp("embedder") / "pretrained"
    save_checkpoint(path, Checkpoint(architecture_of(preprocessing), preprocessing, Task(), {}, weights))
    return path


@pytest.fixture(scope="module")
def opened(exported, exported_encoder, folder, pretrained):
    return {
        "encoder": fusmae.load(exported_encoder.path),
        "graph": fusmae.load(exported.path),
        "checkpoint": fusmae.load(folder),
        "pretrained": fusmae.load(pretrained),
    }


@pytest.fixture(scope="module")
def pixels(exported):
    """Arrays of five tiles by modality and ground sampling distance."""
    arrays = exported.pixels(5)
    return {"s1": {10: arrays["s1_10m"]}, "s2": {10: arrays["s2_10m"], 20: arrays["s2_20m"]}}


def whole(s2):
    """All bands of S2 on the grid of 10 m, each pixel of a coarser band repeated."""
    return np.concatenate([s2[10], s2[20].repeat(2, axis=-1).repeat(2, axis=-2)], axis=-3)


def test_a_model_says_which_bands_it_takes_and_how_many_features_it_gives(opened):
    for model in opened.values():
        assert model.modalities == {"s1": ("VV", "VH"), "s2": ("B02", "B03", "B05")}
        assert model.dim == 16


@pytest.mark.parametrize("setting", SETTINGS)
def test_checkpoint_and_graph_give_the_same_features_with_any_sensor_missing(opened, pixels, setting):
    given = {name: pixels[name] for name in setting}
    found = {name: model.embed(**given) for name, model in opened.items()}
    assert found["graph"].shape == (5, 16)
    for features in found.values():
        np.testing.assert_allclose(features, found["graph"], atol=1e-4)


def test_features_are_those_that_the_graph_itself_gives(exported, opened, pixels):
    expected = exported.session.run(exported.pixels(5))["embedding"]
    np.testing.assert_array_equal(opened["graph"].embed(**pixels), expected)


@pytest.mark.parametrize("kind", ["graph", "checkpoint"])
def test_one_tile_gives_one_vector(opened, pixels, kind):
    one = {name: {gsd: array[3] for gsd, array in arrays.items()} for name, arrays in pixels.items()}
    vector = opened[kind].embed(**one)
    assert vector.shape == (16,)
    np.testing.assert_allclose(vector, opened[kind].embed(**pixels)[3], atol=1e-5)


@pytest.mark.parametrize("kind", ["graph", "checkpoint"])
def test_all_bands_in_one_array_on_the_finest_grid_are_the_same_pixels(opened, pixels, kind):
    found = opened[kind].embed(s1=pixels["s1"][10], s2=whole(pixels["s2"]))
    np.testing.assert_allclose(found, opened[kind].embed(**pixels), atol=1e-5)


@pytest.mark.parametrize("kind", ["graph", "checkpoint"])
def test_tensors_give_tensors_and_arrays_arrays(opened, pixels, kind):
    expected = opened[kind].embed(**pixels)
    assert (type(expected), expected.dtype) == (np.ndarray, np.float32)
    tensors = {
        name: {gsd: torch.from_numpy(array.astype(np.int32)) for gsd, array in arrays.items()}
        for name, arrays in {"s2": pixels["s2"]}.items()
    }
    found = opened[kind].embed(s1=torch.from_numpy(pixels["s1"][10]), **tensors)
    assert (type(found), found.dtype) == (torch.Tensor, torch.float32)
    np.testing.assert_allclose(found.numpy(), expected, atol=1e-5)


@pytest.mark.parametrize("kind", ["pretrained", "encoder"])
def test_tokens_lie_on_the_grid_of_patches_and_their_mean_is_the_vector(opened, pixels, kind):
    vectors, tokens = opened[kind].embed(**pixels, tokens=True)
    assert {name: found.shape for name, found in tokens.items()} == {"s1": (5, 3, 3, 16), "s2": (5, 3, 3, 16)}
    mean = np.mean([found.mean(axis=(1, 2)) for found in tokens.values()], axis=0)
    np.testing.assert_allclose(mean, vectors, atol=1e-5)
    one = {name: {gsd: array[2] for gsd, array in arrays.items()} for name, arrays in pixels.items()}
    _, own = opened[kind].embed(**one, tokens=True)
    np.testing.assert_allclose(own["s2"], tokens["s2"][2], atol=1e-5)


@pytest.mark.parametrize("kind", ["pretrained", "encoder"])
def test_the_place_of_a_token_is_that_of_its_pixels(opened, pixels, kind):
    s2 = {gsd: array[:1].copy() for gsd, array in pixels["s2"].items()}
    _, before = opened[kind].embed(s2=s2, tokens=True)
    s2[10][..., 0:8, 16:24] += 2000  # the patch in row 0, column 2
    _, after = opened[kind].embed(s2=s2, tokens=True)
    change = np.abs(after["s2"] - before["s2"]).sum(axis=-1)[0]
    assert np.unravel_index(change.argmax(), change.shape) == (0, 2)


@pytest.mark.parametrize("reference", [f"models:/{NAME}/1", f"{NAME}@challenger"])
def test_a_registered_version_is_loaded_by_number_and_by_alias(checkout, shards, reference):
    model = fusmae.load(reference)
    sample = fusmae.open_shards(shards, "test")[0]
    features = model.embed(s1=sample["image_s1"], s2=sample["image_s2"])
    assert features.shape == (model.dim,)
    assert model.label == f"{NAME}/{'1' if reference.endswith('1') else '3'}"


def test_a_sample_of_the_shards_is_taken_as_its_pixels_are(checkout, shards):
    model, samples = fusmae.load(f"{NAME}/1"), fusmae.open_shards(shards, "test")
    from fusmae.data.shards import ShardReader

    stored = ShardReader(shards, "test").read([2])
    by_gsd = {10: stored["s2_10m"], 20: stored["s2_20m"], 60: stored["s2_60m"]}
    expected = model.embed(s1=stored["s1_10m"], s2=by_gsd)[0]
    found = model.embed(s1=samples[2]["image_s1"], s2=samples[2]["image_s2"])
    np.testing.assert_allclose(found.numpy(), expected, atol=1e-5)


@pytest.mark.parametrize("kind", ["graph", "checkpoint"])
@pytest.mark.parametrize(
    ("given", "said"),
    [
        ({}, "one modality or more"),
        ({"dem": np.zeros((1, 24, 24))}, "got:      \\['dem'\\]"),
        ({"s1": np.zeros((3, 24, 24))}, "The array of s1 has a wrong shape.*VV, VH"),
        ({"s1": np.zeros((2, 24, 25))}, "\\[2, 24, 24\\] or \\[B, 2, 24, 24\\]"),
        ({"s1": np.zeros((24, 24))}, "The array of s1 has a wrong shape"),
        ({"s2": {10: np.zeros((2, 24, 24))}}, "other ground sampling distances"),
        ({"s2": {10: np.zeros((2, 24, 24)), 20: np.zeros((1, 24, 24))}}, "Array s2_20m has a wrong shape"),
        ({"s1": np.zeros((2, 2, 24, 24)), "s2": np.zeros((1, 3, 24, 24))}, "the same B in every array"),
        ({"s1": np.zeros((2, 2, 24, 24)), "s2": np.zeros((3, 24, 24))}, "the same B in every array"),
        ({"s1": np.full((2, 24, 24), np.nan)}, "Array s1_10m has NaN"),
        ({"s1": np.full((2, 24, 24), -np.inf)}, "leave s1 out"),
    ],
)
def test_what_a_model_can_t_take_is_named(opened, kind, given, said):
    with pytest.raises(InputError, match=f"(?s){said}"):
        opened[kind].embed(**given)


@pytest.mark.parametrize("setting", SETTINGS)
def test_an_encoder_s_graph_gives_the_tokens_of_its_checkpoint(opened, pixels, setting):
    given = {name: pixels[name] for name in setting}
    (one, expected), (two, found) = (opened[kind].embed(**given, tokens=True) for kind in ("pretrained", "encoder"))
    assert tuple(found) == tuple(expected) == setting
    np.testing.assert_allclose(two, one, atol=1e-4)
    for name in setting:
        np.testing.assert_allclose(found[name], expected[name], atol=1e-4)


def test_the_graph_of_a_classifier_says_where_tokens_are(opened, pixels):
    with pytest.raises(ExportError, match=r"gives no tokens(?s:.*)fusmae\.load\(.models/finetune/pretrained.\)"):
        opened["graph"].embed(**pixels, tokens=True)


def test_what_is_no_model_is_refused(tmp_path, checkout):
    with pytest.raises(CheckpointError, match="There is no checkpoint"):
        fusmae.load(tmp_path)
    with pytest.raises(CheckpointError, match=r"There is no folder models/absent(?s:.*)next: +dvc repro pretrain"):
        fusmae.load("models/absent")
    with pytest.raises(RegistryError, match="There is no file"):
        fusmae.load(tmp_path / "absent.onnx")
    with pytest.raises(RegistryError):
        fusmae.load("models:/nothing@champion")


def test_a_device_that_is_not_there_is_named(exported, folder):
    with pytest.raises(ConfigError, match="torch can't use the device 'abacus'"):
        fusmae.load(folder, device="abacus")
    with pytest.raises(ConfigError, match=r"onnxruntime has no device 'abacus'(?s:.*)expected: +auto, cpu, cuda"):
        fusmae.load(exported.path, device="abacus")


@pytest.mark.skipif(torch.cuda.is_available(), reason="this machine has a GPU")
def test_a_gpu_that_is_not_there_is_named(folder):
    with pytest.raises(ConfigError, match="torch can't use the device 'cuda'"):
        fusmae.load(folder, device="cuda")


def test_auto_is_the_cpu_where_there_is_no_gpu_for_each_kind_of_reference(exported, folder, pixels):
    if torch.cuda.is_available():
        pytest.skip("this machine has a GPU")
    for reference in (exported.path, folder):
        found, expected = (fusmae.load(reference, device=device).embed(**pixels) for device in ("auto", "cpu"))
        assert np.array_equal(found, expected)


@pytest.mark.skipif(not torch.cuda.is_available(), reason="this machine has no GPU")
def test_features_on_a_gpu_are_those_of_the_cpu(folder, pixels):
    found, expected = (fusmae.load(folder, device=device).embed(**pixels) for device in ("cuda", "cpu"))
    np.testing.assert_allclose(found, expected, atol=1e-3)
