from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from fusmae.config.task import Task
from fusmae.evaluation import figures
from fusmae.evaluation.figures import draw_reconstructions
from fusmae.models.fusmae import FusMAE
from fusmae.models.preprocess import Preprocessing
from fusmae.training.checkpoint import Checkpoint
from tests.sections import architecture_of


@pytest.fixture
def checkpoint(inputs, statistics) -> Checkpoint:
    torch.manual_seed(0)
    preprocessing = Preprocessing(inputs=inputs, statistics=statistics)
    architecture = architecture_of(preprocessing, mask_ratio={"s1": 0.75, "s2": 0.5}, decode_fraction=0.5)
    return Checkpoint(architecture, preprocessing, Task(), {}, FusMAE(architecture).state_dict())


@pytest.fixture
def batch(make_data):
    return next(iter(make_data().loader("validation")))


@pytest.fixture
def rows(monkeypatch) -> list:
    """What goes into each picture, beside the picture itself."""
    seen = []
    save = figures.save_images

    def record(path, title, images, note, *sizes):
        seen.append((title, images, note))
        save(path, title, images, note, *sizes)

    monkeypatch.setattr(figures, "save_images", record)
    return seen


def test_one_readable_picture_a_pair_named_by_its_key(tmp_path: Path, checkpoint, batch, modalities):
    out = tmp_path / "pictures"
    draw_reconstructions(out, checkpoint, batch, ["a", "b"], modalities, "")
    assert sorted(path.name for path in tmp_path.rglob("*")) == ["00_a.png", "01_b.png", "pictures"]
    contents = set()
    for path in out.iterdir():
        with Image.open(path) as image:
            pixels = np.asarray(image.convert("RGB"))
        assert len(np.unique(pixels.reshape(-1, 3), axis=0)) > 100
        contents.add(pixels.tobytes())
    assert len(contents) == 2


def test_true_image_is_the_shards_pixels_by_band_name(tmp_path, checkpoint, batch, modalities, rows, read_pair, pairs):
    keys = [pair for pair in pairs if pair.split == "validation"][:2]
    draw_reconstructions(tmp_path / "p", checkpoint, batch, [pair.key for pair in keys], modalities, "")
    for (_, images, _), pair in zip(rows, keys, strict=True):
        bands = read_pair(pair)
        assert list(images) == ["s1 (dB)", "s2 (DN)"]
        np.testing.assert_allclose(images["s1 (dB)"]["true"], np.clip((bands["VV"] + 25) / 25, 0, 1), atol=3e-4)
        colour = np.stack([bands[name] for name in ("B04", "B03", "B02")], -1) / 3000
        np.testing.assert_allclose(images["s2 (DN)"]["true"], np.clip(colour, 0, 1), atol=1e-3)


def test_masked_image_hides_the_removed_patches_and_prediction_keeps_the_visible_ones(
    tmp_path, checkpoint, batch, modalities, rows
):
    draw_reconstructions(tmp_path / "p", checkpoint, batch, ["a", "b"], modalities, "")
    for row, (title, images, note) in enumerate(rows):
        for key, removed in (("s1", 7), ("s2", 4)):
            true, masked, predicted = images[f"{key} ({modalities[key].units})"].values()
            draw = batch.noise[key][row].numpy()
            hidden = set(np.argsort(draw)[9 - removed :].tolist())
            for patch in range(9):
                cut = np.s_[8 * (patch // 3) : 8 * (patch // 3) + 8, 8 * (patch % 3) : 8 * (patch % 3) + 8]
                if patch in hidden:
                    assert (masked[cut] == 0.5).all()
                    assert not np.allclose(predicted[cut], true[cut])
                else:
                    assert np.array_equal(masked[cut], true[cut])
                    np.testing.assert_allclose(predicted[cut], true[cut], atol=1e-3)
            # Drawn whole, although training decodes only a half.
            assert np.isfinite(predicted).all()
        assert title == f"{'ab'[row]}; removed: 75% of s1, 50% of s2"
        assert "truth's own mean and deviation" in note


def test_drawing_changes_nothing_that_training_uses(tmp_path, checkpoint, batch, modalities):
    before = {name: tensor.clone() for name, tensor in checkpoint.weights.items()}
    draw_reconstructions(tmp_path / "p", checkpoint, batch, ["a"], modalities, "")
    assert checkpoint.architecture.decode_fraction == 0.5
    assert all(torch.equal(tensor, before[name]) for name, tensor in checkpoint.weights.items())
