"""Pictures of predictions: readable PNGs of each kind."""

import numpy as np
import pytest
from PIL import Image

from fusmae.data.datamodule import Draws, PairDataModule
from fusmae.evaluation.label_figures import draw_predictions, save_confusion
from fusmae.evaluation.scorers import scorer_of
from fusmae.models.preprocess import Preprocess, Preprocessing
from fusmae.rasters.palette import class_colours
from tests.kinds import TASKS, make_predictor

PICTURES = {
    "multilabel": set(),
    "multiclass": {"confusion.png"},
    "segmentation": {"confusion.png", "maps.png"},
    "tile value": {"scatter.png"},
    "pixel value": {"maps.png", "scatter.png"},
}


def found_by(name, count):
    """What a scorer takes of a model's answers."""
    random, task = np.random.default_rng(0), TASKS[name]
    width = {"segmentation": 9 + 4, "pixel value": 6}.get(name, task.num_outputs)
    return random.random((count, width)) * (100 if task.value or task.is_dense else 1)


@pytest.mark.parametrize("name", TASKS)
def test_each_kind_has_its_pictures_over_test(name, kind_shards, inputs, statistics, tmp_path):
    data = PairDataModule(kind_shards(name), batch_size=4, draws=Draws(0, ("s1", "s2"), 9))
    data.with_maps = TASKS[name].is_dense
    preprocessing, reader = Preprocessing(inputs=inputs, statistics=statistics), data.reader("test")
    scorer = scorer_of(TASKS[name], reader.labels)
    model = make_predictor(name, preprocessing)
    draw_predictions(tmp_path, model, Preprocess(preprocessing), data, scorer, found_by(name, len(reader)))
    assert {path.name for path in tmp_path.iterdir()} == PICTURES[name]
    for path in tmp_path.iterdir():
        with Image.open(path) as picture:
            assert picture.format == "PNG"
            assert 300 < min(picture.size) <= max(picture.size) < 2500
            assert len(np.unique(np.asarray(picture.convert("L")))) > 20


def test_classes_that_never_occur_are_left_out_of_the_confusion(tmp_path):
    counts = np.zeros((40, 40), int)
    counts[:3, :3] = [[8, 1, 1], [2, 5, 0], [0, 0, 4]]
    save_confusion(tmp_path / "few.png", counts, [f"class {number}" for number in range(40)])
    save_confusion(tmp_path / "all.png", counts + 1, [f"class {number}" for number in range(40)])
    sides = [Image.open(tmp_path / f"{name}.png").size[0] for name in ("few", "all")]
    assert sides[0] < 0.5 * sides[1]


def test_each_class_has_a_colour_of_its_own_that_other_classes_do_not_change():
    names = [f"class {number}" for number in range(40)]
    assert len(set(class_colours(names))) == 40
    assert all(0 <= part <= 255 for colour in class_colours(names) for part in colour)
    known = class_colours(["Marine waters", "Coniferous forest"])
    assert class_colours(["Coniferous forest", "Marine waters"]) == known[::-1]
