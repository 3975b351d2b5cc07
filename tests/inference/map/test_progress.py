"""Work is known by all that a map depends on, and by nothing else."""

import os
import threading
import time
import zipfile
from contextlib import suppress
from types import SimpleNamespace

import numpy as np
import pytest

from fusmae.errors import InputError, StorageError
from fusmae.inference.map.progress import TileResult, Work, work_key
from fusmae.inference.scene.grid import lay_grid
from fusmae.inference.scene.scene import Reading, open_scenes
from tests.inference.conftest import make_scenes


def key(scenes, model, sha256="0", stride_m=None, device="cpu", **readings):
    opened = open_scenes(model.session.inputs, scenes.paths, readings)
    return work_key(f"{sha256} on {device}", opened, lay_grid(opened, model.session.inputs, stride_m))


def test_the_same_map_has_the_same_key(scenes, model):
    assert key(scenes, model) == key(scenes, model)


def test_another_model_device_scene_or_setting_is_another_key(tmp_path, scenes, model):
    keys = [
        key(scenes, model),
        key(scenes, model, sha256="1"),
        key(scenes, model, device="cuda"),
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


def test_another_archive_of_the_same_name_is_another_key(tmp_path, scenes, model):
    archive = SimpleNamespace(paths={"s1": [tmp_path / "s1.zip"]})
    keys = []
    for text in ("", "", "more"):
        with zipfile.ZipFile(tmp_path / "s1.zip", "w") as opened:
            opened.write(scenes.s1, "product/s1.tif")
            opened.writestr("readme.txt", text)
        os.utime(tmp_path / "s1.zip", ns=(0, 0))
        keys.append(key(archive, model))
    assert keys[0] == keys[1] != keys[2]


def test_what_was_kept_comes_back_to_the_bit(tmp_path, scenes, model):
    opened = open_scenes(model.session.inputs, scenes.paths, {})
    unit = lay_grid(opened, model.session.inputs, None).units()[1]
    work = Work(tmp_path / "map.tif", "key", TileResult)
    assert not work.is_done(unit)
    values = np.random.default_rng(0).random((5, 3), np.float32)
    values[2] = np.nan
    work.save(unit, TileResult(values, values > 0.5, values[None]))
    found = work.load(unit)
    assert work.is_done(unit)
    assert np.array_equal(found.answers, values, equal_nan=True)
    assert np.array_equal(found.has_data, values > 0.5)
    assert np.array_equal(found.look, values[None], equal_nan=True)


KEYS = ("0123456789abcdef", "fedcba9876543210")


@pytest.fixture(params=["map.tif", "map[1].tif", "*.tif"])
def out(tmp_path, request):
    """A map beside work of its own, of an older run for it, and of other maps."""
    name = request.param
    for folder in (*(f".{name}.{key}" for key in KEYS), f".other.tif.{KEYS[0]}", f".{name}.b.tif.{KEYS[0]}"):
        (tmp_path / folder).mkdir()
    (tmp_path / name).write_text("a map")
    return tmp_path / name


def beside(out):
    return {path.name for path in out.parent.iterdir()}


def test_a_map_that_is_done_removes_all_work_for_it_and_no_other(out):
    before = beside(out)
    with Work(out, KEYS[0], TileResult).claimed():
        assert beside(out) == before | {f".{out.name}.lock"}
    assert beside(out) == before - {f".{out.name}.{key}" for key in KEYS}


def test_scenes_that_can_not_be_used_remove_the_work_on_them_alone(out):
    before = beside(out)
    with pytest.raises(InputError), Work(out, KEYS[0], TileResult).claimed():
        raise InputError("cut short")
    assert beside(out) == before - {f".{out.name}.{KEYS[0]}"}


@pytest.mark.parametrize("error", [StorageError("the disk is full"), KeyboardInterrupt(), RuntimeError()])
def test_what_is_no_fault_of_the_scenes_removes_nothing(out, error):
    before = beside(out)
    with pytest.raises(type(error)), Work(out, KEYS[0], TileResult).claimed():
        raise error
    assert beside(out) == before


def test_one_run_at_a_time_has_a_map_and_the_next_one_gets_it(out):
    with Work(out, KEYS[0], TileResult).claimed():
        with pytest.raises(StorageError, match="Another run is writing"), Work(out, KEYS[1], TileResult).claimed():
            raise AssertionError("two runs at once")
        with Work(out.with_name("other.tif"), KEYS[0], TileResult).claimed():
            pass
        assert (out.parent / f".{out.name}.lock").exists()
    with Work(out, KEYS[1], TileResult).claimed():
        pass


def test_a_lock_that_is_removed_while_others_try_for_it_is_never_held_twice(tmp_path):
    holders, most, num_claims = [], 0, 0

    def claim():
        nonlocal most, num_claims
        for _ in range(200):
            with suppress(StorageError), Work(tmp_path / "map.tif", KEYS[0], TileResult).claimed():
                holders.append(1)
                most, num_claims = max(most, len(holders)), num_claims + 1
                time.sleep(0.0005)
                holders.pop()

    threads = [threading.Thread(target=claim) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert most == 1
    assert num_claims > 10
    assert not list(tmp_path.iterdir())
