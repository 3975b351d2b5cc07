"""What predictors answer by kind of labels."""

import pytest
import torch

from fusmae.config.task import Task, Value
from fusmae.models.dense import DenseHead
from fusmae.models.encoder import Encoder
from fusmae.models.heads import pool
from fusmae.models.predictors import PixelPredictor, Predictor, TilePredictor, ValueScale, build_predictor
from tests.models.conftest import TILE_PX, make_architecture

CLASSES = ("a", "b", "c")


def make(kind, value=None, map_px=None, readout="mean", **changes) -> Predictor:
    architecture = make_architecture(**changes)
    task = Task(kind=kind, classes=() if value else CLASSES, value=value)
    return build_predictor(architecture, task, readout, map_px, Encoder(architecture)).eval()


def values(**limits) -> Value:
    return Value(name="height", unit="m", **limits)


def test_classes_of_tiles_have_probabilities_of_their_own_or_share_one(tiles):
    several, one = make("multilabel"), make("multiclass")
    raw = torch.tensor([[2.0, -1.0, 0.5]])
    torch.testing.assert_close(several.answer(raw), torch.sigmoid(raw))
    torch.testing.assert_close(one.answer(raw), torch.softmax(raw, 1))
    assert several(tiles).shape == (3, 3)


def test_each_pixel_of_a_segmentation_has_probabilities_that_sum_to_one(tiles):
    model = make("segmentation", map_px=TILE_PX)
    found = model.answer(model(tiles))
    assert found.shape == (3, 3, TILE_PX, TILE_PX)
    torch.testing.assert_close(found.sum(1), torch.ones(3, TILE_PX, TILE_PX))
    assert isinstance(model, PixelPredictor)


def test_values_are_in_their_unit(tiles):
    model = make("regression", values())
    model.scale.mean.fill_(100.0)
    model.scale.std.fill_(20.0)
    raw = model(tiles)
    assert raw.shape == (3, 1)
    torch.testing.assert_close(model.answer(raw), raw * 20 + 100)
    torch.testing.assert_close(model.scale.standard(model.answer(raw)), raw, atol=1e-5, rtol=0)
    assert make("regression", values(per="pixel"), map_px=TILE_PX)(tiles).shape == (3, 1, TILE_PX, TILE_PX)


@pytest.mark.parametrize(
    ("limits", "expected"),
    [({}, [-500, 0, 500]), ({"min": 0.0}, [0, 0, 500]), ({"max": 90.0}, [-500, 0, 90]),
     ({"min": -2.0, "max": 9.0}, [-2, 0, 9])],
)  # fmt: skip
def test_values_keep_to_the_limits_of_their_quantity(limits, expected):
    scale = ValueScale(limits.get("min"), limits.get("max"))
    scale.std.fill_(100.0)
    assert scale(torch.tensor([-5.0, 0.0, 5.0])).tolist() == expected


def test_moments_are_stored_with_the_weights():
    first, other = (make("regression", values(min=0.0)) for _ in range(2))
    first.scale.mean.fill_(7.0)
    first.scale.std.fill_(3.0)
    stored = first.state_dict()
    assert {"scale.mean", "scale.std"} <= set(stored)
    other.load_state_dict(stored)
    assert (other.scale.mean.item(), other.scale.std.item()) == (7.0, 3.0)
    assert not [name for name in make("multilabel").state_dict() if name.startswith("scale")]


def test_encoder_and_head_name_the_weights():
    for model in (make("multiclass"), make("segmentation", map_px=TILE_PX)):
        assert {name.partition(".")[0] for name in model.state_dict()} == {"encoder", "head"}


@pytest.mark.parametrize("readout", ["mean", "cls", "concat", "spread"])
def test_a_tile_s_embedding_is_what_its_head_takes(readout, tiles):
    model = make("multiclass", readout=readout)
    assert isinstance(model, TilePredictor)
    raw, embedding = model.raw(tiles)
    torch.testing.assert_close(embedding, pool(model.encoder(tiles), readout, tuple(tiles)))
    torch.testing.assert_close(model.head(embedding), raw)
    assert torch.equal(model.embed(tiles), embedding)


def test_a_map_is_as_wide_as_it_was_built():
    model = make("segmentation", map_px=48)
    assert isinstance(model.head, DenseHead)
    assert model.head.map_px == 48
