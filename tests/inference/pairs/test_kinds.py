"""A scene is cut into pairs with labels of every kind, which `data=folder` reads as they are."""

import json
from functools import partial

import numpy as np
import pyogrio
import pytest
import rasterio
import shapely
import yaml

from fusmae.config.data import DataConfig
from fusmae.config.params import checked
from fusmae.config.task import Task, Value
from fusmae.data.index import validate_index
from fusmae.data.pixels import NO_CLASS
from fusmae.data.shard_writer import Maps, write_shards
from fusmae.errors import ConfigError, InputError
from fusmae.inference.pairs import cut as module
from fusmae.inference.pairs.blocks import Blocks
from fusmae.inference.pairs.cut import OUTCOMES, cut_pairs
from fusmae.inference.pairs.folder import CutScene
from fusmae.inference.pairs.label_file import LabelFile
from fusmae.inference.pairs.picture import save_picture
from fusmae.inference.pairs.settings import CutSettings
from fusmae.inference.scene.grid import Grid
from fusmae.modalities import BandGroup, Modality
from fusmae.rasters.palette import class_colours
from fusmae.sources import open_source
from tests.inference.conftest import LEFT, TOP, UTM, make_scenes, write_raster

TILE_M, SIDE_M = 240, 1440
MODALITIES = {
    "s1": Modality(units="dB", groups=(BandGroup(gsd_m=10, bands=("VV", "VH")),)),
    "s2": Modality(units="DN", groups=(BandGroup(gsd_m=10, bands=("B02", "B03")), BandGroup(gsd_m=20, bands=("B05",)))),
}
SETTINGS = {"name": "may", "modalities": MODALITIES, "tile_m": TILE_M, "seed": 0}
SETTINGS |= {"block_m": 480, "gap_m": 0, "shares": (0.5, 0.25, 0.25)}
HEIGHT = Value(name="height", unit="m")


@pytest.fixture(scope="module")
def scene(tmp_path_factory):
    return make_scenes(tmp_path_factory.mktemp("scene"), SIDE_M, SIDE_M)


@pytest.fixture(scope="module")
def numbers():
    """Class numbers at 10 m: 7 in the west, 3 from x = 600 m on, a stripe of 9 in the middle, 0 in the south."""
    found = np.full((SIDE_M // 10, SIDE_M // 10), 7, np.uint8)
    found[:, 60:] = 3
    found[:, 70:72] = 9
    found[106:] = 0
    return found


@pytest.fixture(scope="module")
def cover(tmp_path_factory, numbers):
    path = write_raster(tmp_path_factory.mktemp("cover") / "cover.tif", numbers[None], nodata=0)
    return LabelFile(path, names={"3": "forest", "7": "water", "9": "road"})


@pytest.fixture(scope="module")
def heights(tmp_path_factory):
    """Heights at 5 m from 0 in the west to 287 in the east; the south has none."""
    made = np.arange(SIDE_M // 5, dtype=np.float32)[None].repeat(SIDE_M // 5, axis=0)
    made[212:] = -1
    path = tmp_path_factory.mktemp("heights") / "heights.tif"
    return LabelFile(write_raster(path, made[None], gsd_m=5, nodata=-1))


@pytest.fixture(autouse=True)
def pictures(monkeypatch):
    """The maps of labels that would be drawn: drawing takes longer than cutting, and has a test of its own."""
    drawn = []
    monkeypatch.setattr(module, "save_picture", lambda *arguments: drawn.append(arguments[-1]))
    return drawn


def cut(scene, out, **changes):
    return cut_pairs(scene.paths, {}, out, CutSettings(**(SETTINGS | changes)))


def opened(out):
    data = checked(DataConfig, yaml.safe_load((out / "folder.yaml").read_text(encoding="utf-8")), "folder.yaml")
    source = open_source(data.source.name, data.source.settings, data.inputs, data.kind)
    source.fetch(out, out)
    pairs = source.pairs(out)
    validate_index(pairs, source.task)
    return data, source, pairs


def tile_of(pair) -> tuple[slice, slice]:
    """The rows and columns of a pair's tile in pixels of 10 m of the scene, by its key."""
    row, column = (int(word) for word in pair.key.split("_")[1:])
    side = TILE_M // 10
    return slice(row * side, (row + 1) * side), slice(column * side, (column + 1) * side)


def test_a_raster_of_classes_becomes_maps_that_are_read_as_they_were(scene, cover, numbers, tmp_path, pictures):
    made = cut(scene, tmp_path, labels=cover, kind="segmentation")
    data, source, pairs = opened(tmp_path)
    assert (data.kind, source.task.classes) == ("segmentation", ("forest", "water", "road"))
    positions = np.full(256, NO_CLASS)
    positions[[3, 7, 9]] = 0, 1, 2
    for pair in pairs:
        np.testing.assert_array_equal(source.read_map(tmp_path, pair), positions[numbers[tile_of(pair)]])
        stated = {source.task.classes[number] for number in np.unique(source.read_map(tmp_path, pair)) if number < 255}
        assert set(pair.labels) == stated
    with rasterio.open(tmp_path / "maps" / f"{pairs[0].key}.tif") as dataset:
        assert (dataset.dtypes, dataset.nodata, dataset.res) == (("uint8",), 255, (10, 10))
    # Tiles in the south have no class, but the row that is cut by the edge has some.
    assert made.scene.left_out["without a label"] > 0
    assert max(tile_of(pair)[0].start for pair in pairs) == 96
    (drawn,) = pictures
    assert drawn[:, :106, :60].min() == drawn[:, :106, :60].max() == 1
    assert np.isnan(drawn[:, 106:]).all()
    counts = json.loads((tmp_path / "tiles.json").read_text())
    assert counts["labels"]["road"]["train"] < counts["labels"]["forest"]["train"]


def test_pairs_with_maps_go_into_shards(scene, cover, tmp_path):
    cut(scene, tmp_path / "raw", labels=cover, kind="segmentation")
    data, source, pairs = opened(tmp_path / "raw")
    left_out = write_shards(
        pairs,
        partial(source.read, tmp_path / "raw"),
        tmp_path / "shards",
        inputs=data.inputs,
        task=source.task,
        shard_pairs=20,
        maps=Maps(source.map_classes, partial(source.read_map, tmp_path / "raw")),
    )
    assert left_out == []


def test_polygons_and_points_become_maps_and_the_first_class_counts_where_they_overlap(scene, tmp_path):
    shapes = [
        shapely.box(LEFT, TOP - 1440, LEFT + 500, TOP),
        shapely.box(LEFT + 250, TOP - 1440, LEFT + 750, TOP),
        shapely.Point(LEFT + 1205, TOP - 5),
    ]
    path = tmp_path / "fields.gpkg"
    names = np.array(["wheat", "maize", "wheat"], object)
    geometry = shapely.to_wkb(np.array(shapes))
    pyogrio.raw.write(path, geometry, [names], np.array(["crop"], object), geometry_type="Unknown", crs=UTM)
    cut(scene, tmp_path / "raw", labels=LabelFile(path, class_column="crop"), kind="segmentation")
    _, source, pairs = opened(tmp_path / "raw")
    assert source.task.classes == ("maize", "wheat")
    expected = np.full((SIDE_M // 10, SIDE_M // 10), NO_CLASS)
    expected[:, :50] = 1
    expected[:, 25:75] = 0
    expected[0, 120] = 1
    for pair in pairs:
        np.testing.assert_array_equal(source.read_map(tmp_path / "raw", pair), expected[tile_of(pair)])


def test_one_class_per_pair_is_the_largest_of_a_tile(scene, cover, numbers, tmp_path):
    cut(scene, tmp_path, labels=cover, kind="multiclass")
    data, source, pairs = opened(tmp_path)
    assert data.kind == "multiclass"
    for pair in pairs:
        counts = {name: int((numbers[tile_of(pair)] == number).sum()) for name, number in (("forest", 3), ("water", 7))}
        assert pair.labels == (max(counts, key=lambda name: counts[name]),)
    # The road is in no tile the largest, so that it is no class; a tile with less than 60 % of any has none.
    assert source.task.classes == ("forest", "water")
    again = cut(scene, tmp_path / "again", labels=cover, kind="multiclass", min_share=0.6)
    assert again.scene.num_pairs < len(pairs)


def test_values_per_pixel_are_means_of_smaller_pixels_and_nan_where_there_is_none(scene, heights, tmp_path):
    value = HEIGHT.model_copy(update={"per": "pixel"})
    cut(scene, tmp_path, labels=heights, kind="regression", value=value)
    data, source, pairs = opened(tmp_path)
    assert (data.kind, data.source.value, data.source.classes) == ("regression", value, [])
    expected = (2 * np.arange(SIDE_M // 10) + 0.5)[None].repeat(SIDE_M // 10, axis=0)
    expected[106:] = np.nan
    for pair in pairs:
        found = source.read_map(tmp_path, pair)
        np.testing.assert_allclose(found, expected[tile_of(pair)], atol=1e-3)
        assert pair.value == pytest.approx(np.nanmean(found, dtype=np.float64))
    assert "mean height (m)" in (tmp_path / "tiles.md").read_text()


def test_values_per_tile_are_means_of_its_pixels(scene, heights, tmp_path):
    cut(scene, tmp_path, labels=heights, kind="regression", value=HEIGHT, min_share=0.5)
    data, _, pairs = opened(tmp_path)
    assert data.source.value == HEIGHT
    assert not (tmp_path / "maps").exists()
    for pair in pairs:
        columns = tile_of(pair)[1]
        assert pair.value == pytest.approx(columns.start + columns.stop - 0.5, abs=1e-3)
    # A third of the tiles in the last row with values has some, which is less than the half that is asked for.
    assert max(tile_of(pair)[0].start for pair in pairs) == 72


def test_numbers_are_read_with_their_scale_and_offset_from_any_crs(scene, tmp_path):
    numbers = np.full((1, 60, 60), 7, np.int16)
    path = write_raster(tmp_path / "coarse.tif", numbers, gsd_m=100, left=LEFT - 1800, top=TOP + 1800)
    with rasterio.open(path, "r+") as dataset:
        dataset.scales, dataset.offsets = (0.5,), (10,)
    cut(scene, tmp_path / "raw", labels=LabelFile(path), kind="regression", value=HEIGHT)
    lines = (tmp_path / "raw" / "pairs.csv").read_text().splitlines()
    assert lines[0] == "key,value,split,place,date"
    assert {line.split(",")[1] for line in lines[1:]} == {"13.5"}


def test_a_scene_that_is_added_keeps_the_numbers_of_the_classes(scene, cover, numbers, tmp_path):
    cut(scene, tmp_path, labels=cover, kind="segmentation")
    other = LabelFile(cover.path, names={"7": "lake", "3": "forest", "9": "water"})
    cut(scene, tmp_path, name="june", labels=other, appends=True)
    _, source, pairs = opened(tmp_path)
    assert source.task.classes == ("forest", "water", "road", "lake")
    positions = {"may": {3: 0, 7: 1, 9: 2, 0: 255}, "june": {3: 0, 7: 3, 9: 1, 0: 255}}
    for pair in pairs:
        table = positions[pair.key.split("_")[0]]
        expected = np.vectorize(table.get)(numbers[tile_of(pair)])
        np.testing.assert_array_equal(source.read_map(tmp_path, pair), expected)


def test_a_scene_of_other_labels_is_refused_where_pairs_are(scene, cover, heights, tmp_path):
    cut(scene, tmp_path / "classes", labels=cover, kind="segmentation")
    cut(scene, tmp_path / "values", labels=heights, kind="regression", value=HEIGHT)
    june = {"name": "june", "appends": True}
    with pytest.raises(InputError, match=r"--kind differs(.|\n)*got:      multiclass\n  expected: segmentation"):
        cut(scene, tmp_path / "classes", labels=cover, kind="multiclass", **june)
    feet = Value(name="height", unit="ft", per="pixel")
    with pytest.raises(
        InputError, match=r"--unit or --per differs(.|\n)*height \(ft\) per pixel\n.*height \(m\) per tile"
    ):
        cut(scene, tmp_path / "values", labels=heights, value=feet, **june)
    with pytest.raises(InputError, match="Pairs of kind segmentation need labels"):
        cut(scene, tmp_path / "classes", **june)
    before = (tmp_path / "values" / "pairs.csv").read_text()
    cut(scene, tmp_path / "values", labels=heights, **june)  # what is there need not be said again
    after = (tmp_path / "values" / "pairs.csv").read_text()
    assert after.startswith(before)
    assert "june_0000_" in after


def test_limits_in_folder_yaml_stay_when_a_scene_is_added(scene, heights, tmp_path):
    cut(scene, tmp_path, labels=heights, kind="regression", value=HEIGHT)
    path = tmp_path / "folder.yaml"
    path.write_text(path.read_text().replace("min: null", "min: 0.0"))
    cut(scene, tmp_path, name="june", labels=heights, value=HEIGHT, appends=True)
    assert opened(tmp_path)[0].source.value.min == 0.0


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"kind": "multiclass"}, "Pairs of kind multiclass need labels"),
        ({"kind": "segmentation", "labels": "cover", "keeps_unlabelled": True}, "--keep-unlabelled keeps pairs that"),
        ({"kind": "regression", "labels": "heights"}, r"needs a quantity(.|\n)*--value biomass --unit t/ha"),
        ({"kind": "multiclass", "labels": "cover", "value": HEIGHT}, "describe the quantity of a regression"),
        ({"kind": "regression", "labels": "cover", "value": HEIGHT}, r"numbers of a raster(.|\n)*with classes"),
        ({"kind": "segmentation", "labels": "heights"}, "is no raster of class numbers"),
        ({"kind": "segmentation", "labels": "cover", "tile_m": 250, "modalities": None}, "--side 240|--side 260"),
    ],
)
def test_labels_that_don_t_fit_their_kind_are_refused_and_nothing_is_written(
    scene, cover, heights, tmp_path, changes, said
):
    files = {"cover": cover, "heights": heights}
    changes = changes | {"labels": files.get(changes.get("labels"))}
    if changes.pop("modalities", MODALITIES) is None:
        s1 = {"s1": Modality(units="dB", groups=(BandGroup(gsd_m=5, bands=("VV", "VH")),))}
        changes |= {"modalities": s1, "tile_m": 245}
    with pytest.raises(InputError, match=said):
        cut(scene, tmp_path / "raw", **changes)
    assert not list(tmp_path.rglob("*.tif"))


def test_one_class_alone_is_no_segmentation(scene, cover, tmp_path):
    with pytest.raises(ConfigError, match=r"got segmentation with 1 source\.classes; expected 2 to 255"):
        cut(scene, tmp_path, labels=LabelFile(cover.path, names={"7": "water"}), kind="segmentation")
    assert not (tmp_path / "pairs.csv").exists()


@pytest.mark.parametrize("kind", ["segmentation", "regression"])
def test_the_picture_shows_maps_beside_the_scene_and_its_splits(tmp_path, kind):
    from PIL import Image
    from rasterio.crs import CRS

    grid = Grid(CRS.from_epsg(32633), 0.0, 0.0, 240, 240, 10, 960, 720)
    cut_scene = CutScene(name="may", date="", files=[], num_pairs=12, left_out={}, crs="", left=0, top=0)
    look, outcomes = np.random.default_rng(0).random((1, 72, 96), dtype=np.float32), np.zeros((3, 4), np.int8)
    maps = np.full((1, 72, 96), np.nan, np.float32)
    maps[0, :, :48] = 1
    task = Task(kind=kind, classes=("water", "forest")) if kind == "segmentation" else Task(kind=kind, value=HEIGHT)
    widths = {}
    for name, found in (("without", None), ("with", maps)):
        path = tmp_path / f"{name}.png"
        save_picture(path, look, outcomes, grid, Blocks(480, 0, 0, (0.7, 0.15, 0.15)), cut_scene, OUTCOMES, task, found)
        with Image.open(path) as image:
            pixels = np.asarray(image.convert("RGB"))
        widths[name] = pixels.shape[1]
    assert widths["with"] == pytest.approx(1.5 * widths["without"], abs=2)
    if kind == "segmentation":
        colour = class_colours(task.classes)[1]
        is_forest = (np.abs(pixels.astype(int) - colour) <= 2).all(axis=2)
        # Half of the third panel, which is about a fifth of the picture.
        assert 0.02 < is_forest.mean() < 0.2
        assert not is_forest[:, : pixels.shape[1] // 2].any()
