"""Models that are built from a checkpoint, and nothing else."""

from dataclasses import replace

import pytest
import torch

from fusmae.config.task import Task
from fusmae.errors import CheckpointError
from fusmae.models.encoder import Encoder
from fusmae.models.fusmae import FusMAE
from fusmae.models.heads import ClassifierHead, ProbeHead
from fusmae.models.predictors import TilePredictor
from fusmae.models.preprocess import Preprocess
from fusmae.training.checkpoint import Checkpoint, load_checkpoint, part_of, save_checkpoint


@pytest.fixture
def saved(preprocessing, tmp_path):
    """Saves a checkpoint and reads it."""

    def checkpoint(architecture, weights, classes=()):
        save_checkpoint(tmp_path / "c", Checkpoint(architecture, preprocessing, Task(classes=classes), {}, weights))
        return load_checkpoint(tmp_path / "c")

    return checkpoint


@pytest.fixture
def batch(make_data):
    return next(iter(make_data().loader("validation")))


def test_description_comes_back_equal_and_gives_the_same_tiles(architecture, preprocessing, inputs, batch, saved):
    found = saved(architecture, {"w": torch.zeros(1)})
    assert found.architecture == architecture
    assert found.preprocessing == preprocessing
    assert found.preprocessing.inputs == inputs
    tiles, expected = Preprocess(found.preprocessing)(batch.pixels), Preprocess(preprocessing)(batch.pixels)
    assert list(tiles) == ["s1", "s2"]
    assert tiles["s2"].shape == (4, 5, 24, 24)
    assert all(torch.equal(tiles[key], expected[key]) for key in expected)


def test_preprocessed_training_tiles_are_standardised(preprocessing, make_data):
    whole = next(iter(make_data(17).loader("train")))
    tiles = Preprocess(preprocessing)(whole.pixels)
    finest = torch.cat([tiles["s1"], tiles["s2"][:, :3]], 1)
    torch.testing.assert_close(finest.mean((0, 2, 3)), torch.zeros(5), atol=1e-4, rtol=0)
    torch.testing.assert_close(finest.std((0, 2, 3)), torch.ones(5), atol=1e-3, rtol=0)


@pytest.mark.parametrize("switches", [{}, {"early_fusion": False, "target_norm": "group"}, {"masking": "consistent"}])
def test_autoencoder_rebuilt_from_a_saved_checkpoint_gives_the_same_outputs(architecture, batch, saved, switches):
    architecture = architecture.model_copy(update=switches)
    model = FusMAE(architecture)
    found = saved(architecture, model.state_dict())
    torch.manual_seed(99)
    rebuilt = found.autoencoder()
    assert not rebuilt.training
    tiles = Preprocess(found.preprocessing)(batch.pixels)
    masks = model.draw_masks(tiles, batch.noise)
    expected, outputs = model(tiles, masks), rebuilt(tiles, masks)
    for key in ("s1", "s2"):
        assert torch.equal(outputs[key].pred, expected[key].pred)
        assert torch.equal(outputs[key].target, expected[key].target)


def test_encoder_takes_the_autoencoders_weights_by_prefix(architecture, preprocessing, batch, saved):
    model = FusMAE(architecture)
    encoder = saved(architecture, model.state_dict()).encoder()
    tiles = Preprocess(preprocessing)(batch.pixels)
    assert torch.equal(encoder(tiles).cls, model.encoder(tiles).cls)


def test_part_of_takes_whole_prefixes_only():
    weights = {"heads.s1.weight": torch.zeros(1), "heads.s1+s2.weight": torch.ones(1), "encoder.x": torch.ones(1)}
    assert list(part_of(weights, "heads.s1.")) == ["weight"]
    assert part_of(weights, "heads.s1.")["weight"].item() == 0


@pytest.mark.parametrize(("readout", "width"), [("mean", 16), ("cls", 16), ("concat", 32), ("spread", 64)])
def test_finetuned_classifier_is_rebuilt_from_its_checkpoint(
    architecture, preprocessing, classes, batch, saved, readout, width
):
    model = TilePredictor(Task(), Encoder(architecture, drop_path=0.5), readout, ClassifierHead(width, 4)).eval()
    architecture = architecture.model_copy(update={"num_classes": 4, "readout": readout})
    rebuilt = saved(architecture, model.state_dict(), classes).predictor()
    tiles = Preprocess(preprocessing)(batch.pixels)
    assert not rebuilt.training
    assert torch.equal(rebuilt(tiles), model(tiles))


def test_a_probe_head_is_that_of_its_setting(architecture, preprocessing, classes, batch, saved):
    encoder = Encoder(architecture)
    heads = {name: ProbeHead(16, 4) for name in ("s1+s2", "s1", "s2")}
    weights = {f"encoder.{name}": tensor for name, tensor in encoder.state_dict().items()}
    for name, head in heads.items():
        head(torch.randn(8, 16))  # the batch norm's statistics travel, too
        weights |= {f"heads.{name}.{key}": tensor for key, tensor in head.state_dict().items()}
    found = saved(architecture.model_copy(update={"num_classes": 4, "readout": "mean"}), weights, classes)
    tiles = Preprocess(preprocessing)(batch.pixels)
    logits = {}
    for name, head in heads.items():
        rebuilt = TilePredictor(Task(), found.encoder(), found.readout, found.probe_head(name)).eval()
        logits[name] = rebuilt(tiles)
        assert torch.equal(logits[name], TilePredictor(Task(), encoder, "mean", head).eval()(tiles))
    assert not torch.equal(logits["s1"], logits["s2"])


def test_a_checkpoint_with_a_head_describes_it(architecture, preprocessing, classes):
    start = Checkpoint(architecture, preprocessing, Task(), {"seed": 1}, {})
    finished = start.with_head("cls", Task(classes=classes), {"seed": 2}, {"w": torch.zeros(1)})
    assert (finished.architecture.readout, finished.architecture.num_classes) == ("cls", 4)
    assert (finished.task, finished.provenance, list(finished.weights)) == (Task(classes=classes), {"seed": 2}, ["w"])
    assert finished.architecture.model_dump(exclude={"readout", "num_classes"}) == architecture.model_dump(
        exclude={"readout", "num_classes"}
    )


def test_a_pretrained_checkpoint_is_no_classifier_and_its_folder_is_named(architecture, saved, tmp_path):
    found = saved(architecture, FusMAE(architecture).state_dict())
    for build in (found.predictor, lambda: found.probe_head("s1")):
        with pytest.raises(CheckpointError, match=f"The checkpoint in {tmp_path / 'c'} has no head"):
            build()


def test_weights_left_over_beside_a_classifier_are_refused(architecture, classes, saved):
    model = TilePredictor(Task(), Encoder(architecture), "mean", ClassifierHead(16, 4))
    found = saved(architecture.model_copy(update={"num_classes": 4, "readout": "mean"}), model.state_dict(), classes)
    with pytest.raises(CheckpointError, match="left over"):
        replace(found, weights={**found.weights, "other": torch.zeros(1)}).predictor()
