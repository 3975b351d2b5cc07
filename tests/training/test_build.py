import json

import pytest
import torch

from fusmae.models.heads import Classifier, ClassifierHead
from fusmae.training.build import build_encoder, build_fusmae, build_preprocess, inputs_of, part_of
from fusmae.training.checkpoint import Checkpoint, load_checkpoint, load_weights, save_checkpoint
from fusmae.training.classifiers import finetuned_classifier


def plain(value):
    """As it comes out of a checkpoint's JSON: tuples are lists, keys are sorted."""
    return json.loads(json.dumps(value, sort_keys=True))


@pytest.fixture
def batch(make_data):
    return next(iter(make_data().val_dataloader()))


def test_architecture_states_the_tile_and_the_band_groups(architecture):
    assert architecture["tile_px"] == 24
    assert architecture["groups"] == {"s1": [2], "s2": [3, 1, 1]}
    assert architecture["dim"] == 16


def test_preprocessing_rebuilt_from_json_gives_the_same_tiles(preprocessing, inputs, batch):
    assert inputs_of(plain(preprocessing)) == inputs
    found, expected = (
        build_preprocess(plain(preprocessing))(batch.pixels),
        build_preprocess(preprocessing)(batch.pixels),
    )
    assert list(found) == ["s1", "s2"]
    assert found["s2"].shape == (4, 5, 24, 24)
    assert all(torch.equal(found[key], expected[key]) for key in expected)


def test_preprocessed_training_tiles_are_standardised(preprocessing, make_data):
    whole = next(iter(make_data(17).loader("train")))
    tiles = build_preprocess(preprocessing)(whole.pixels)
    finest = torch.cat([tiles["s1"], tiles["s2"][:, :3]], 1)
    torch.testing.assert_close(finest.mean((0, 2, 3)), torch.zeros(5), atol=1e-4, rtol=0)
    torch.testing.assert_close(finest.std((0, 2, 3)), torch.ones(5), atol=1e-3, rtol=0)


@pytest.mark.parametrize("switches", [{}, {"early_fusion": False, "target_norm": "group"}, {"masking": "consistent"}])
def test_autoencoder_rebuilt_from_a_saved_checkpoint_gives_the_same_outputs(
    architecture, preprocessing, batch, tmp_path, switches
):
    architecture = architecture | switches
    model = build_fusmae(architecture)
    save_checkpoint(tmp_path / "c", Checkpoint(architecture, preprocessing, (), {}, model.state_dict()))
    found = load_checkpoint(tmp_path / "c")
    torch.manual_seed(99)
    rebuilt = build_fusmae(found.architecture)
    load_weights(rebuilt, found.weights, "here")
    tiles = build_preprocess(found.preprocessing)(batch.pixels)
    expected, outputs = model(tiles, batch.noise), rebuilt(tiles, batch.noise)
    for key in ("s1", "s2"):
        assert torch.equal(outputs[key].pred, expected[key].pred)
        assert torch.equal(outputs[key].target, expected[key].target)


def test_encoder_takes_the_autoencoders_weights_by_prefix(architecture, preprocessing, batch):
    model = build_fusmae(architecture)
    encoder = build_encoder(plain(architecture))
    load_weights(encoder, part_of(model.state_dict(), "encoder."), "here")
    tiles = build_preprocess(preprocessing)(batch.pixels)
    assert torch.equal(encoder(tiles).cls, model.encoder(tiles).cls)


def test_part_of_takes_whole_prefixes_only():
    weights = {"heads.s1.weight": torch.zeros(1), "heads.s1+s2.weight": torch.ones(1), "encoder.x": torch.ones(1)}
    assert list(part_of(weights, "heads.s1.")) == ["weight"]
    assert part_of(weights, "heads.s1.")["weight"].item() == 0


@pytest.mark.parametrize(("readout", "width"), [("mean", 16), ("cls", 16), ("concat", 32), ("spread", 64)])
def test_finetuned_classifier_is_rebuilt_from_its_checkpoint(
    architecture, preprocessing, classes, batch, tmp_path, readout, width
):
    model = Classifier(build_encoder(architecture, drop_path=0.5), readout, ClassifierHead(width, 4)).eval()
    architecture = architecture | {"num_classes": 4, "readout": readout}
    save_checkpoint(tmp_path / "c", Checkpoint(architecture, preprocessing, classes, {}, model.state_dict()))
    rebuilt = finetuned_classifier(load_checkpoint(tmp_path / "c"))
    tiles = build_preprocess(preprocessing)(batch.pixels)
    assert not rebuilt.training
    assert torch.equal(rebuilt(tiles), model(tiles))
