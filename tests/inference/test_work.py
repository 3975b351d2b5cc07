"""Work is known by all that a map depends on, and by nothing else."""

import os

import numpy as np

from fusmae.inference.grid import lay_grid
from fusmae.inference.scene import Reading, open_scenes
from fusmae.inference.work import Result, Work, work_key

from .conftest import make_scenes


def key(scenes, model, sha256="0", stride_m=None, **readings):
    opened = open_scenes(model.session.inputs, scenes.paths, readings)
    return work_key(sha256, opened, lay_grid(opened, model.session.inputs, stride_m))


def test_the_same_map_has_the_same_key(scenes, model):
    assert key(scenes, model) == key(scenes, model)


def test_another_model_scene_or_setting_is_another_key(tmp_path, scenes, model):
    keys = [
        key(scenes, model),
        key(scenes, model, sha256="1"),
        key(scenes, model, stride_m=60),
        key(scenes, model, s2=Reading(offset=0)),
        key(make_scenes(tmp_path / "others"), model),
    ]
    with scenes.s1.open("r+b") as file:
        file.seek(2000)
        file.write(b"changed")
    os.utime(scenes.s1, ns=(0, 0))
    keys.append(key(scenes, model))
    os.utime(scenes.s1, ns=(0, 10**9))
    keys.append(key(scenes, model))
    assert len(set(keys)) == len(keys)


def test_what_was_kept_comes_back_to_the_bit(tmp_path, scenes, model):
    opened = open_scenes(model.session.inputs, scenes.paths, {})
    unit = lay_grid(opened, model.session.inputs, None).units()[1]
    work = Work(tmp_path / "map.tif", "key")
    assert not work.is_done(unit)
    values = np.random.default_rng(0).random((5, 3), np.float32)
    values[2] = np.nan
    work.save(unit, Result(values, values > 0.5, values[None]))
    found = work.load(unit)
    assert work.is_done(unit)
    assert np.array_equal(found.probabilities, values, equal_nan=True)
    assert np.array_equal(found.has_data, values > 0.5)
    assert np.array_equal(found.look, values[None], equal_nan=True)


def test_clearing_removes_work_of_this_map_only(tmp_path):
    for name in (".map.tif.0123", ".map.tif.4567", ".other.tif.0123"):
        (tmp_path / name).mkdir()
    (tmp_path / "map.tif").write_text("a map")
    Work(tmp_path / "map.tif", "0123").clear()
    assert sorted(path.name for path in tmp_path.iterdir()) == [".other.tif.0123", "map.tif"]
