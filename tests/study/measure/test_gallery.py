"""A cell's pictures."""

import numpy as np
import pytest
from PIL import Image

from fusmae.config.task import Task, Value
from fusmae.study.measure.cell import failure_pictures, reconstruction_pictures
from fusmae.study.variants import variant_config

TASK = Task(classes=("water", "forest", "town", "ice"))
KEYS = [f"test{number:02d}" for number in range(6)]


def draw_reconstructions(tiny, folder, variant, names, count):
    own, checkpoint = variant_config(tiny.config, variant, 1), tiny.untrained(variant)
    data = tiny.data(4, names)
    return reconstruction_pictures(folder, checkpoint, data, tiny.pairs, own.data.modalities, count)


def sizes(folder, pictures):
    """Width and height of each listed picture, which is there and not blank."""
    found = []
    for picture in pictures:
        image = Image.open(folder / picture.file).convert("RGB")
        assert np.asarray(image).std() > 5
        found.append(image.size)
    return found


@pytest.mark.parametrize(("count", "keys"), [(1, ["test00"]), (3, ["test00", "test02", "test05"]), (9, KEYS)])
def test_reconstructions_are_spread_over_the_test_split(tiny, tmp_path, count, keys):
    pictures = draw_reconstructions(tiny, tmp_path / "pictures", "fusmae", ("s1", "s2"), count)
    assert [picture.key for picture in pictures] == keys
    assert {picture.kind for picture in pictures} == {"reconstruction"}
    assert len(sizes(tmp_path / "pictures", pictures)) == len(keys)
    assert {path.name for path in (tmp_path / "pictures").iterdir()} == {picture.file for picture in pictures}
    for picture in pictures:
        assert (picture.lon, picture.lat) == (tiny.pairs[picture.key].lon, 50.0)


def test_one_modality_is_drawn_alone(tiny, tmp_path):
    (both,) = sizes(tmp_path / "a", draw_reconstructions(tiny, tmp_path / "a", "fusmae", ("s1", "s2"), 1))
    (alone,) = sizes(tmp_path / "b", draw_reconstructions(tiny, tmp_path / "b", "s1-only", ("s1",), 1))
    assert alone[1] < 0.8 * both[1]


def test_failures_are_the_tiles_whose_labels_are_the_least_likely(tiny, tmp_path):
    labels = np.asarray(tiny.data().reader("test").labels, float)
    probabilities = np.abs(labels - 0.1)
    probabilities[4] = np.abs(labels[4] - 0.9)
    probabilities[1] = np.abs(labels[1] - 0.6)
    (tmp_path / "there.png").touch()
    pictures = failure_pictures(tmp_path, tiny.data(), tiny.pairs, TASK, probabilities.astype(np.float32), 2)
    assert [picture.key for picture in pictures] == ["test04", "test01"]
    assert {picture.kind for picture in pictures} == {"failure"}
    assert len(sizes(tmp_path, pictures)) == 2
    assert (tmp_path / "there.png").exists()
    assert (pictures[0].lon, pictures[0].lat) == (tiny.pairs["test04"].lon, 50.0)


def test_a_failures_caption_has_what_is_true_and_what_was_said(tiny, tmp_path):
    labels = np.asarray(tiny.data().reader("test").labels, float)
    probabilities = np.tile([0.02, 0.03, 0.2, 0.97], (6, 1))
    picture, *_ = failure_pictures(tmp_path, tiny.data(), tiny.pairs, TASK, probabilities, 6)
    assert labels[:, 3].sum() == 0
    assert picture.caption.startswith(f"true: {'; '.join(tiny.pairs[picture.key].labels)}. Said: ice 0.97; town 0.20")


def test_failures_of_values_are_those_that_are_furthest_off(tiny, tmp_path):
    data, task = tiny.data(), Task(kind="regression", value=Value(name="biomass", unit="t/ha"))
    truth = np.linspace(100, 150, 6, dtype=np.float32)[:, None]
    data.reader("test").labels = truth
    predicted = truth + np.array([1, -2, 30, 4, 5, -60])[:, None]
    pictures = failure_pictures(tmp_path, data, tiny.pairs, task, predicted, 2)
    assert [picture.key for picture in pictures] == ["test05", "test02"]
    assert pictures[0].caption == "true: 150 t/ha. Said: 90 t/ha."


def test_certain_probabilities_are_no_endless_surprise(tiny, tmp_path):
    labels = np.asarray(tiny.data().reader("test").labels, float)
    assert len(failure_pictures(tmp_path, tiny.data(), tiny.pairs, TASK, 1 - labels, 9)) == 6


def test_pairs_in_one_batch_are_those_of_several(tiny):
    rows = [5, 0, 3, 1, 2]
    (joined,), (direct,) = (tiny.data(size).batches("test", rows, 5) for size in (2, 5))
    assert joined.indices.tolist() == rows
    for name, array in direct.pixels.items():
        assert (joined.pixels[name].float() == array.float()).all()
    assert all((joined.noise[name] == values).all() for name, values in direct.noise.items())
