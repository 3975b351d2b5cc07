"""The world's labels of every kind, and its quantity that no sensor alone shows."""

from functools import partial

import numpy as np
import pytest

from fusmae.config.source import SyntheticConfig
from fusmae.data.index import validate_index
from fusmae.data.shard_writer import Maps, write_shards
from fusmae.data.shards import ShardReader
from fusmae.modalities import BIGEARTHNET, modality_inputs
from fusmae.sources import open_source
from fusmae.sources.patches.places import PATCH_M
from fusmae.sources.synthetic.landscape import CLASSES, build_surface, lay_regions
from fusmae.sources.synthetic.materials import MATERIAL_IDS, greenness
from fusmae.sources.synthetic.plan import blocks_of
from fusmae.sources.synthetic.scene import BIOMASS, biomass_of

KINDS = ["multilabel", "multiclass", "segmentation", "tile", "pixel"]


def source_of(made, kind: str):
    """The made world with labels of a kind; of a value per tile or per pixel for these words."""
    settings = {"num_pairs": made.world.num_pairs, "seed": made.world.seed}
    if kind in ("tile", "pixel"):
        return open_source("synthetic", {**settings, "value_per": kind}, kind="regression")
    return open_source("synthetic", settings, kind=kind)


@pytest.mark.parametrize("kind", KINDS)
def test_pairs_of_every_kind_are_valid_and_those_that_the_world_states(made, kind):
    source = source_of(made, kind)
    pairs = source.pairs(made.raw)
    validate_index(pairs, source.task)
    labels, stated = {pair.key: pair.labels for pair in pairs}, source.facts(made.raw).labels
    assert {key: labels[key] for key in stated} == stated
    assert bool(stated) == bool(source.task.classes)


def test_the_section_offers_every_kind():
    assert SyntheticConfig(name="synthetic", num_pairs=50, seed=0).kinds == (
        "multilabel",
        "multiclass",
        "segmentation",
        "regression",
    )


def test_the_one_class_of_a_patch_covers_most_of_its_map(made):
    source = source_of(made, "multiclass")
    pairs = source.pairs(made.raw)
    for pair in pairs:
        counts = np.bincount(source.read_map(made.raw, pair).ravel(), minlength=len(CLASSES))
        assert pair.labels == (CLASSES[int(counts.argmax())],)
    assert len({pair.labels for pair in pairs if pair.split == "train"}) > 5


def test_the_value_of_a_patch_is_the_mean_of_its_map(made):
    per_tile, per_pixel = source_of(made, "tile"), source_of(made, "pixel")
    assert (per_tile.task.value.per, per_pixel.task.value.per) == ("tile", "pixel")
    assert per_tile.task.value.title == per_pixel.task.value.title == "biomass (t/ha)"
    for pair in per_tile.pairs(made.raw):
        found = per_pixel.read_map(made.raw, pair)
        assert (found.dtype, found.shape) == (np.float32, (120, 120))
        assert pair.value == pytest.approx(found.mean(dtype=np.float64))
        assert BIOMASS.min <= found.min() < found.max() <= BIOMASS.max


def test_shards_of_a_value_per_pixel_hold_the_maps_and_their_means(made, tmp_path):
    source = source_of(made, "pixel")
    members = [pair for pair in source.pairs(made.raw) if pair.split == "test"]
    left_out = write_shards(
        members,
        partial(source.read, made.raw),
        tmp_path,
        inputs=modality_inputs(BIGEARTHNET, PATCH_M),
        task=source.task,
        shard_pairs=9,
        maps=Maps((), partial(source.read_map, made.raw)),
    )
    assert left_out == []
    reader = ShardReader(tmp_path, "test")
    assert reader.task == source.task
    np.testing.assert_array_equal(reader.read_maps([3])[0], source.read_map(made.raw, members[3]))
    np.testing.assert_allclose(reader.labels[:, 0], [pair.value for pair in members], rtol=1e-6)


# Biomass


def explained(value: np.ndarray, *factors: np.ndarray) -> float:
    """Share of a value's variance that the best function of some factors explains, by the means in 12 bins of each."""
    places = np.stack([np.minimum((factor * 12).astype(int), 11) for factor in factors])
    bins = np.ravel_multi_index(tuple(places), (12,) * len(factors))
    sizes, sums = np.bincount(bins), np.bincount(bins, value)
    return float(np.var((sums / np.maximum(sizes, 1))[bins]) / np.var(value))


@pytest.fixture(scope="module")
def ground(made):
    """Greenness, roughness and biomass of the pixels of some blocks."""
    found = []
    for block in blocks_of(made.world)[:8]:
        side = block.side * 120
        surface, _ = build_surface(
            made.world.seed, block.number, lay_regions(made.world.seed, block.number, (side, side))
        )
        green = greenness(surface.material, surface.state, 1.0)
        found.append([part.ravel() for part in (green, surface.rough, biomass_of(surface, 1.0), surface.material)])
    return [np.concatenate(parts) for parts in zip(*found, strict=True)]


def test_biomass_needs_greenness_and_roughness_together(ground):
    green, rough, biomass, _ = ground
    assert explained(biomass, green) < 0.65
    assert explained(biomass, rough) < 0.65
    assert explained(biomass, green, rough) > 0.97


def test_nothing_grows_on_water_roofs_and_roads(ground):
    *_, biomass, material = ground
    bare = np.isin(material, [MATERIAL_IDS[name] for name in ("water", "roof", "asphalt")])
    assert bare.any()
    assert not biomass[bare].any()
    assert (biomass[~bare] > 0).mean() > 0.9
    assert biomass[~bare].mean() > 30


def test_pixels_of_both_sensors_together_show_more_of_biomass_than_those_of_one(made):
    from sklearn.ensemble import HistGradientBoostingRegressor

    source = source_of(made, "pixel")
    found = []
    for pair in source.pairs(made.raw):
        bands = {**source.read(made.raw, pair), "biomass": source.read_map(made.raw, pair)}
        # Means of 5 x 5 pixels, so that speckle does not hide roughness.
        means = {
            name: bands[name].reshape(24, 5, 24, 5).mean(axis=(1, 3), dtype=np.float64).ravel()
            for name in ("VV", "VH", "B03", "B04", "B08", "biomass")
        }
        means["greenness"] = (means["B08"] - means["B04"]) / (means["B08"] + means["B04"])
        found.append(means)
    of_train = np.random.default_rng(0).random(len(found) * 24 * 24) < 0.5
    columns = {name: np.concatenate([means[name] for means in found]) for name in found[0]}
    scores = {}
    s1, s2 = ["VV", "VH"], ["B03", "B04", "B08", "greenness"]
    for name, chosen in {"s1": s1, "s2": s2, "both": s1 + s2}.items():
        features = np.stack([columns[band] for band in chosen], axis=1)
        model = HistGradientBoostingRegressor(max_iter=60, random_state=0)
        model.fit(features[of_train], columns["biomass"][of_train])
        scores[name] = model.score(features[~of_train], columns["biomass"][~of_train])
    assert scores["both"] > max(scores["s1"], scores["s2"]) + 0.1, scores
