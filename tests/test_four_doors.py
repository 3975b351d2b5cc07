"""Shards, the examination, maps and the service give the same verdict on the same pixels, at the limits too."""

import re

import numpy as np
import pytest

from fusmae.config.task import Task
from fusmae.data.pixels import stack_bands
from fusmae.data.shard_writer import write_shards
from fusmae.errors import InputError, PairError
from fusmae.examination.examine import examine_data
from fusmae.inference.scene.checks import check_pixels
from fusmae.inference.scene.grid import lay_grid
from fusmae.inference.scene.reader import SceneReader
from fusmae.inference.scene.scene import open_scenes
from fusmae.modalities import BandGroup, Modality, modality_inputs
from fusmae.serving.arrays import check_units
from fusmae.sources.shared.source import Facts
from tests.inference.conftest import write_raster

SIDE_PX = 20
MODALITIES = {
    "s1": Modality(units="dB", groups=(BandGroup(gsd_m=10, bands=("VV", "VH")),)),
    "s2": Modality(units="DN", groups=(BandGroup(gsd_m=10, bands=("B02", "B03")),)),
}
CLASSES = ("water", "forest", "town", "ice")
WRONG = r"looks like .*, not|is no \w+ in|is linear, the rest in dB"


def inputs_of(bands):
    modality = "s1" if "VV" in bands else "s2"
    return modality_inputs({modality: MODALITIES[modality]}, SIDE_PX * 10)


def shard(bands, pairs, folder):
    try:
        stack_bands("p", bands, inputs_of(bands))
    except PairError as error:
        return str(error)
    return ""


def examine(bands, pairs, folder):
    """One pair with these bands, among others that are right."""
    noise = np.random.default_rng(0).uniform(-1, 1, (SIDE_PX, SIDE_PX)).astype(np.float32)
    right = {name: np.float32(-12.5) + noise if "VV" in bands else np.round(1500 + noise) for name in bands}

    def read(pair):
        return bands if pair.key == "test00" else right

    write_shards(pairs, read, folder, inputs=inputs_of(bands), task=Task(classes=CLASSES), shard_pairs=9)
    checks = examine_data(pairs, Task(classes=CLASSES), Facts(), shards=folder, tolerated={}).checks
    (units,) = (check for check in checks if check.name == "units")
    return units.got if units.blocks and units.examples == ("test00",) else ""


def map_scene(bands, pairs, folder):
    """A scene of nine tiles, each with these bands."""
    inputs = inputs_of(bands)
    pixels = np.stack([np.tile(band, (3, 3)) for band in bands.values()])
    paths = {inputs[0].modality: [write_raster(folder / "scene.tif", pixels, names=tuple(bands))]}
    scenes = open_scenes(inputs, paths, {})
    with SceneReader(scenes, inputs, lay_grid(scenes, inputs, None)) as reader:
        return refusal(lambda: check_pixels(reader, scenes))


def serve(bands, pairs, folder):
    (item,) = inputs_of(bands)
    return refusal(lambda: check_units({item.name: np.stack(list(bands.values()))[None]}, [item]))


def refusal(run):
    try:
        run()
    except InputError as error:
        return str(error)
    return ""


def filled(value, other=0.0, count=0):
    band = np.full((SIDE_PX, SIDE_PX), value, np.float32)
    band.flat[:count] = other
    return band


def backscatter(*band):
    return {"VV": filled(*band), "VH": filled(*band)}


def numbers(*band):
    return {"B02": filled(*band), "B03": filled(*band)}


@pytest.mark.parametrize(
    ("bands", "is_right"),
    [
        # At most 5 % of linear pixels are negative.
        (backscatter(0.1, -0.01, 20), False),
        (backscatter(0.1, -0.01, 21), True),
        ({"VV": filled(-12.5), "VH": filled(0.02)}, False),
        (backscatter(-40), True),
        (backscatter(-40.01), False),
        (backscatter(5, -30.5, 150), True),
        (backscatter(5.01, -30.5, 150), False),
        (numbers(6, 3, 100), False),
        (numbers(256, 30, 100), True),
        (numbers(30_000), True),
        (numbers(30_001), False),
    ],
)
@pytest.mark.parametrize("door", [shard, examine, map_scene, serve])
def test_every_door_has_the_same_verdict(tmp_path, pairs, door, bands, is_right):
    assert bool(re.search(WRONG, door(bands, pairs, tmp_path))) is not is_right


@pytest.mark.parametrize(("highest", "is_picture"), [(7, True), (255, True), (256, False)])
def test_what_one_tile_can_not_prove_is_refused_of_a_scene_or_a_data_set_only(tmp_path, pairs, highest, is_picture):
    bands = numbers(highest, 3, 100)
    assert shard(bands, pairs, tmp_path) == ""
    assert serve(bands, pairs, tmp_path) == ""
    assert ("looks like an 8-bit picture" in map_scene(bands, pairs, tmp_path)) is is_picture
    write_shards(
        pairs,
        lambda _: bands,
        tmp_path / "shards",
        inputs=inputs_of(bands),
        task=Task(classes=CLASSES),
        shard_pairs=9,
    )
    checks = examine_data(pairs, Task(classes=CLASSES), Facts(), shards=tmp_path / "shards", tolerated={}).checks
    (units,) = (check for check in checks if check.name == "units")
    assert ("looks like an 8-bit picture" in units.got) is is_picture
