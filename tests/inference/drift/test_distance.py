"""Generated landscapes of water, forest and fields; a tiny model that never was trained."""

from dataclasses import replace
from datetime import UTC, datetime, timedelta

import numpy as np
import pytest
from scipy.stats import energy_distance as energy_distance_1d

from fusmae.config.params import load_config
from fusmae.config.task import Task
from fusmae.data.index import Pair
from fusmae.data.shard_writer import write_shards
from fusmae.errors import InputError
from fusmae.files import file_sha256
from fusmae.inference.drift.distance import MIXTURE, NOVELTY, band_distance, draw_scenes, energy_distance, judge_scene
from fusmae.inference.drift.reference import load_reference, save_reference, tile_quantiles
from fusmae.inference.drift.tiles import SceneTiles
from fusmae.release.drift_reference import make_reference

SPECTRA = {
    "water": {"VV": -20, "VH": -27, "B02": 500, "B03": 400, "B05": 200},
    "forest": {"VV": -10, "VH": -16, "B02": 250, "B03": 450, "B05": 800},
    "field": {"VV": -12, "VH": -19, "B02": 500, "B03": 750, "B05": 1300},
    "desert": {"VV": -17, "VH": -30, "B02": 2200, "B03": 2900, "B05": 3600},
}
BANDS = ("VV", "VH", "B02", "B03", "B05")
NUM_SCENES = {"train": 25, "validation": 20, "test": 1}


def tile(random, kinds=("water", "forest", "field")):
    """A tile of two kinds of ground, side by side."""
    first, second = random.choice(kinds, 2)
    border = int(random.integers(4, 20))
    bands = {}
    for name in BANDS:
        side = 12 if name == "B05" else 24
        is_first = np.broadcast_to(np.arange(side) * 24 / side < border, (side, side))
        level = np.where(is_first, SPECTRA[first][name], SPECTRA[second][name])
        if name in ("VV", "VH"):
            bands[name] = (level + random.normal(0, 1.5, level.shape)).astype(np.float32)
        else:
            bands[name] = np.maximum(level * random.normal(1, 0.15, level.shape), 1).astype(np.uint16)
    return bands


def arrays(inputs, tiles):
    return {item.name: np.array([[bands[name] for name in item.bands] for bands in tiles]) for item in inputs}


def landscape(inputs, seed, count=20, **options):
    random = np.random.default_rng(seed)
    return arrays(inputs, [tile(random, **options) for _ in range(count)])


@pytest.fixture(scope="module")
def pairs():
    made = []
    for split, count in NUM_SCENES.items():
        for scene in range(count):
            date = datetime(2017, 6, 1, tzinfo=UTC) + timedelta(days=scene)
            for number in range(6):
                key = f"{split}-{scene}-{number}"
                made.append(Pair(key, {"s1": key}, ("water",), split, key, date, lon=10.0, lat=50.0))
    return made


@pytest.fixture(scope="module")
def world(tmp_path_factory, exported, pairs):
    folder = tmp_path_factory.mktemp("world") / "shards"
    write_shards(
        pairs,
        lambda pair: tile(np.random.default_rng(list(pair.key.encode()))),
        folder,
        inputs=exported.inputs,
        task=Task(classes=("water",)),
        shard_pairs=50,
    )
    return folder


@pytest.fixture(scope="module")
def reference(exported, world, pairs):
    options = {"train_tiles": 2048, "validation_tiles": 2048, "tiles_per_scene": 64, "seed": 0}
    return make_reference(exported.session, file_sha256(exported.path), world, pairs, **options)


@pytest.fixture(scope="module")
def thresholds(pytestconfig):
    return load_config(pytestconfig.rootpath / "params.yaml").drift


@pytest.fixture(scope="module")
def judge(exported, reference, thresholds):
    def judged(pixels, setting=("s1", "s2")):
        pixels = {name: found for name, found in pixels.items() if name[:2] in setting}
        count = len(next(iter(pixels.values())))
        scene = SceneTiles(
            tile_quantiles(pixels, exported.inputs),
            exported.session.run(pixels)["embedding"],
            ("+".join(setting),) * count,
            np.zeros((count, 2), np.int64),
        )
        return judge_scene(reference, scene, thresholds, seed=0)

    return judged


def names(drift):
    return {measure.name for measure in drift.beyond}


@pytest.mark.parametrize("count", [1, 5, 20])
def test_scenes_of_the_same_landscape_are_alike(judge, exported, count):
    found = [judge(landscape(exported.inputs, seed, count)) for seed in range(12)]
    assert sum(bool(drift.beyond) for drift in found) <= 1


def test_an_offset_of_1000_drifts_in_every_band_of_s2_and_in_none_of_s1(judge, exported):
    pixels = landscape(exported.inputs, 1)
    drift = judge({name: found + 1000 if name[:2] == "s2" else found for name, found in pixels.items()})
    assert {"B02", "B03", "B05"} <= names(drift)
    assert not {"VV", "VH"} & names(drift)


def test_linear_power_drifts_in_both_bands_of_s1(judge, exported):
    pixels = landscape(exported.inputs, 2)
    drift = judge(pixels | {"s1_10m": (10 ** (pixels["s1_10m"] / 10)).astype(np.float32)})
    assert {"VV", "VH"} <= names(drift)
    assert not {"B02", "B03", "B05"} & names(drift)


def test_a_band_that_is_shifted_is_named_and_no_other(judge, exported):
    pixels = landscape(exported.inputs, 3)
    shifted = pixels["s2_10m"].copy()
    shifted[:, 1] += 400
    assert names(judge(pixels | {"s2_10m": shifted})) & set(BANDS) == {"B03"}


def test_another_landscape_drifts_in_bands_and_embedding(judge, exported):
    drift = judge(landscape(exported.inputs, 4, kinds=("desert",)))
    assert {"B02", "B05", NOVELTY} <= names(drift)


def test_another_texture_of_the_same_pixels_is_seen_by_the_embedding_alone(judge, exported):
    pixels = landscape(exported.inputs, 5, count=40)
    # Sorted along columns, every pixel is still in its tile.
    drift = judge(
        {name: np.sort(found.reshape(*found.shape[:2], -1)).reshape(found.shape) for name, found in pixels.items()}
    )
    assert names(drift)
    assert names(drift) <= {MIXTURE, NOVELTY}


@pytest.mark.parametrize("modality", ["s1", "s2"])
def test_one_modality_alone_is_judged_by_its_bands_and_the_embedding(judge, exported, modality):
    pixels = landscape(exported.inputs, 6)
    drift = judge(pixels, (modality,))
    assert not drift.beyond
    expected = {"s1": ["VV", "VH"], "s2": ["B02", "B03", "B05"]}[modality]
    assert [measure.name for measure in drift.measures] == [*expected, MIXTURE, NOVELTY]
    moved = {name: found + (1000 if modality == "s2" else 12) for name, found in pixels.items()}
    assert set(expected) <= names(judge(moved, (modality,)))


def test_tiles_of_another_setting_count_for_their_bands_only(reference, thresholds, exported):
    pixels = landscape(exported.inputs, 7, count=6)
    quantiles = tile_quantiles(pixels, exported.inputs)
    quantiles[4:, 2:] = np.nan
    embeddings = exported.session.run(pixels)["embedding"]
    scene = SceneTiles(quantiles, embeddings, ("s1+s2",) * 4 + ("s1",) * 2, np.zeros((6, 2), np.int64))
    drift = judge_scene(reference, scene, thresholds, seed=0)
    assert (drift.setting, drift.num_tiles, drift.num_embedded) == ("s1+s2", 6, 4)
    assert np.isnan(drift.novelty).tolist() == [False] * 4 + [True] * 2
    assert drift.measures[0].value == band_distance(reference, 0, quantiles[:, 0])
    assert drift.measures[2].value == band_distance(reference, 2, quantiles[:4, 2])


@pytest.mark.parametrize("num_both", [1, 25])
def test_bands_that_few_tiles_have_are_compared_with_as_few(reference, thresholds, exported, num_both):
    """The same landscape in 40 tiles, of which some have no S2: alarms are as rare as where all have it."""
    num_alarms = 0
    for seed in range(8):
        pixels = landscape(exported.inputs, seed, 40)
        quantiles = tile_quantiles(pixels, exported.inputs)
        quantiles[num_both:, 2:] = np.nan
        embeddings = exported.session.run(pixels)["embedding"]
        embeddings[num_both:] = exported.session.run(pixels, ("s1",))["embedding"][num_both:]
        settings = ("s1+s2",) * num_both + ("s1",) * (40 - num_both)
        scene = SceneTiles(quantiles, embeddings, settings, np.zeros((40, 2), np.int64))
        num_alarms += bool(judge_scene(reference, scene, thresholds, seed=0).beyond)
    assert num_alarms <= 1


def test_the_embedding_is_compared_with_as_few_tiles_as_have_the_setting(reference, thresholds, exported):
    pixels = landscape(exported.inputs, 11, 30)
    found = tile_quantiles(pixels, exported.inputs), exported.session.run(pixels)["embedding"]
    usual = []
    for settings in (("s1+s2",) * 30, ("s1+s2",) * 12 + ("s1",) * 9 + ("s2",) * 9):
        scene = SceneTiles(*found, settings, np.zeros((30, 2), np.int64))
        usual.append({item.name: item.usual for item in judge_scene(reference, scene, thresholds, seed=0).measures})
    assert all((usual[1][name] > usual[0][name]) == (name in (MIXTURE, NOVELTY)) for name in usual[0])


def test_the_same_scene_gives_the_same_answer(judge, exported):
    pixels = landscape(exported.inputs, 8)
    one, other = judge(pixels), judge(pixels)
    assert one.measures == other.measures
    np.testing.assert_array_equal(one.novelty, other.novelty)


def test_fewer_tiles_have_wider_limits(judge, exported):
    few, many = (judge(landscape(exported.inputs, 9, count)) for count in (2, 40))
    assert all(one.limit > other.limit for one, other in zip(few.measures, many.measures, strict=True))


def test_few_validation_scenes_cannot_promise_few_false_alarms(reference, thresholds, exported):
    rows = reference.validation_scenes < 3
    small = replace(
        reference,
        validation_quantiles=reference.validation_quantiles[rows],
        validation_embeddings={name: found[rows] for name, found in reference.validation_embeddings.items()},
        validation_scenes=reference.validation_scenes[rows],
    )
    pixels = landscape(exported.inputs, 10)
    scene = SceneTiles(
        tile_quantiles(pixels, exported.inputs),
        exported.session.run(pixels)["embedding"],
        ("s1+s2",) * 20,
        np.zeros((20, 2), np.int64),
    )
    assert judge_scene(small, scene, thresholds, seed=0).false_alarms == 1 / 4
    assert judge_scene(reference, scene, thresholds, seed=0).false_alarms == 1 / 21


def test_all_pixels_brighter_by_a_training_deviation_are_at_a_distance_of_one(reference):
    quantiles = reference.train_quantiles[2][None] + reference.train_std[2]
    assert band_distance(reference, 2, quantiles) == pytest.approx(1.0, rel=1e-4)


def test_the_energy_distance_is_that_of_scipy_in_one_dimension():
    random = np.random.default_rng(0)
    one, other = random.normal(0, 1, 40), random.normal(0.7, 2, 60)
    within, other_within = (np.abs(np.subtract.outer(found, found)) for found in (one, other))
    found = energy_distance(np.abs(np.subtract.outer(one, other)), within, other_within.mean())
    assert found == pytest.approx(energy_distance_1d(one, other) ** 2)


def test_draws_are_of_whole_scenes():
    scenes = np.repeat(np.arange(5, dtype=np.int32), 4)
    for rows in draw_scenes(scenes, 8, 30, seed=0):
        assert len(rows) == 8
        assert sorted(scenes[rows[:4]]) == [scenes[rows[0]]] * 4
        assert len(set(rows[:4].tolist())) == 4


def test_a_reference_is_read_as_it_was_written_and_the_same_bytes_each_time(reference, exported, tmp_path):
    for name in ("one.npz", "two.npz"):
        save_reference(reference, tmp_path / name)
    assert (tmp_path / "one.npz").read_bytes() == (tmp_path / "two.npz").read_bytes()
    found = load_reference(tmp_path / "one.npz", reference.graph_sha256, exported.inputs)
    assert (found.bands, found.facts) == (reference.bands, reference.facts)
    np.testing.assert_array_equal(found.validation_quantiles, reference.validation_quantiles)
    assert set(found.train_embeddings) == {"s1+s2", "s1", "s2"}
    for setting, embeddings in reference.train_embeddings.items():
        np.testing.assert_array_equal(found.train_embeddings[setting], embeddings)


@pytest.mark.parametrize(
    ("changes", "named"),
    [
        ({"graph_sha256": "0" * 64}, "another model"),
        ({"bands": ()}, "other bands than the model takes"),
        ({"train_std": np.array([5, 5, 0, 400, 400], np.float32)}, "same everywhere in training"),
        ({"train_std": np.array([5, 5, np.nan, 400, 400], np.float32)}, "same everywhere in training"),
    ],
)
def test_a_reference_of_another_graph_or_without_deviations_is_refused(reference, exported, tmp_path, changes, named):
    save_reference(replace(reference, **changes), tmp_path / "reference.npz")
    with pytest.raises(InputError, match=named):
        load_reference(tmp_path / "reference.npz", reference.graph_sha256, exported.inputs)


def test_a_damaged_or_pickled_reference_is_refused(reference, exported, tmp_path):
    path = tmp_path / "reference.npz"
    save_reference(reference, path)
    path.write_bytes(path.read_bytes()[:1000])
    with pytest.raises(InputError, match="can't be read"):
        load_reference(path, reference.graph_sha256, exported.inputs)
    np.savez(path, head=np.array([{"graph_sha256": reference.graph_sha256}], dtype=object))
    with pytest.raises(InputError, match="can't be read"):
        load_reference(path, reference.graph_sha256, exported.inputs)
    with pytest.raises(InputError, match="no reference at"):
        load_reference(tmp_path / "none.npz", reference.graph_sha256, exported.inputs)
