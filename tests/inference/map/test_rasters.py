"""A map's files are what other programs expect of them."""

import json
import weakref
from datetime import UTC, datetime

import numpy as np
import pystac
import pytest
import rasterio
import rasterio.shutil
from rasterio.crs import CRS

from fusmae.config.task import Task
from fusmae.inference.map.layers import NODATA, STEP, bands_of, confidence, map_layers
from fusmae.inference.map.quicklook import save_quicklook
from fusmae.inference.map.rasters import Rows, stac_item, write_rasters
from fusmae.inference.scene.grid import Grid
from fusmae.rasters.palette import class_colours
from fusmae.sources.patches.nomenclature import CLASSES as CLASSES_19

CLASSES = ("Urban fabric", "Pastures", "something <new> & other")
LAYERS = map_layers(Task(classes=CLASSES))
SHAPE = (300, 700)
GRID = Grid(CRS.from_epsg(32633), 400_000, 5_340_000, 1200, 600, 120, SHAPE[1] * 120, SHAPE[0] * 120)


@pytest.fixture(scope="module")
def values():
    rows, columns = np.mgrid[: SHAPE[0], : SHAPE[1]]
    found = np.stack([rows / SHAPE[0], columns / SHAPE[1], np.full(SHAPE, 0.5)])
    found[:, 40:90, 100:300] = np.nan
    return found


@pytest.fixture(scope="module")
def rasters(tmp_path_factory, values):
    look = np.repeat(np.nan_to_num(values[:1]).astype(np.float32) * 2000, 3, axis=0)
    bands = bands_of(LAYERS, values)
    rows = (Rows(first, bands[:, first : first + 7], look[:, first : first + 7]) for first in range(0, SHAPE[0], 7))
    return write_rasters(tmp_path_factory.mktemp("product"), "map", GRID, rows, LAYERS, {"MODEL": "tiny/1"})


@pytest.mark.parametrize("kind", ["probabilities", "classes"])
def test_rasters_are_cloud_optimized_with_overviews(rasters, kind):
    with rasterio.open(rasters.paths[kind]) as dataset:
        assert dataset.tags(ns="IMAGE_STRUCTURE")["LAYOUT"] == "COG"
        assert dataset.profile["tiled"]
        assert dataset.overviews(1) == [2, 4]
        assert dataset.crs == GRID.crs
        assert dataset.transform == GRID.transform(120)
        assert dataset.shape == SHAPE
        assert dataset.tags()["MODEL"] == "tiny/1"


def test_probabilities_and_confidence_come_back_to_half_a_step(rasters, values):
    with rasterio.open(rasters.paths["probabilities"]) as dataset:
        stored = dataset.read(masked=True)
        assert dataset.descriptions == (*CLASSES, "confidence")
        assert dataset.nodata == NODATA
        assert dataset.scales == (STEP,) * 4
    is_empty = np.isnan(values[0])
    assert (stored.mask == is_empty).all()
    expected = np.concatenate([values, confidence(values)[None]])
    assert np.abs(stored.filled(0) * STEP - expected)[:, ~is_empty].max() <= STEP / 2 + 1e-9


def test_the_top_class_is_numbered_from_one_with_a_colour_and_a_name(rasters, values, tmp_path):
    with rasterio.open(rasters.paths["classes"]) as dataset:
        numbers, colours = dataset.read(1), dataset.colormap(1)
        assert dataset.nodata == 0
    is_empty = np.isnan(values[0])
    assert (numbers[is_empty] == 0).all()
    assert (numbers[~is_empty] == values[:, ~is_empty].argmax(axis=0) + 1).all()
    assert [colours[number][:3] for number in (1, 2, 3)] == class_colours(CLASSES)
    assert list(rasters.contents.counts) == [(numbers == number).sum() for number in range(4)]
    # GDAL itself reads the names, for it writes them into a copy.
    rasterio.shutil.copy(rasters.paths["classes"], tmp_path / "copy.vrt", driver="VRT")
    text = (tmp_path / "copy.vrt").read_text(encoding="utf-8")
    for name in ("no data", "Urban fabric", "Pastures", "something &lt;new&gt; &amp; other"):
        assert f"<Category>{name}</Category>" in text


def test_overviews_of_classes_invent_no_class(tmp_path):
    """Classes 1 and 3 in stripes and a chessboard: a mean would be 2, by number and by colour, which GDAL goes by."""
    classes = ("Industrial or commercial units", "Agro-forestry areas", "Pastures")
    rows, columns = np.mgrid[: SHAPE[0], : SHAPE[1]]
    is_first = np.where(columns < 350, (rows + columns) % 2, columns % 3 == 0).astype(float)
    values = np.stack([is_first, np.full(SHAPE, 0.1), 1 - is_first])
    layers = map_layers(Task(classes=classes))
    rows = [Rows(0, bands_of(layers, values), values[:1].astype(np.float32))]
    made = write_rasters(tmp_path, "map", GRID, rows, layers, {})
    for level in (0, 1):
        with rasterio.open(made.paths["classes"], overview_level=level) as dataset:
            assert set(np.unique(dataset.read(1))) <= {1, 3}


def test_rows_are_written_as_they_come_and_never_kept(tmp_path):
    """A large map of many classes has more bytes than the machine has memory."""
    values, kept, most = np.full((3, 7, SHAPE[1]), 0.5), [], 0

    def rows():
        nonlocal most
        for first in range(0, SHAPE[0] - 7, 7):
            bands = bands_of(LAYERS, values)
            kept.append(weakref.ref(bands))
            most = max(most, sum(bands() is not None for bands in kept))
            yield Rows(first, bands, values[:1].astype(np.float32))

    write_rasters(tmp_path, "map", GRID, rows(), LAYERS, {})
    assert most <= 4  # those of the first rows, of the last, of the next, and of a part of one


def test_every_known_class_has_a_colour_of_its_own():
    colours = class_colours(CLASSES_19)
    assert len(set(colours)) == 19
    assert min(
        sum(abs(a - b) for a, b in zip(one, other, strict=True))
        for number, one in enumerate(colours)
        for other in colours[:number]
    ) > 40  # fmt: skip
    assert len(set(class_colours([f"class {number}" for number in range(40)]))) == 40


def test_the_picture_is_one_that_can_be_opened(rasters, tmp_path):
    save_quicklook(tmp_path / "map.png", rasters, LAYERS, GRID, "a title")
    with rasterio.open(tmp_path / "map.png") as dataset:
        assert dataset.width > 1000
        pixels = dataset.read([1, 2, 3]).reshape(3, -1).T
    shown = {tuple(colour) for colour in np.unique(pixels, axis=0)}
    assert set(class_colours(CLASSES)[:2]) <= shown


def test_the_picture_shows_the_scene_in_finer_pixels_than_the_map_s(tmp_path):
    """A chessboard of 60 m under cells of 120 m, each of which has one brightness in the mean."""
    shape, grid = (12, 20), Grid(CRS.from_epsg(32633), 400_000, 5_340_000, 1200, 600, 120, 20 * 120, 12 * 120)
    bands = bands_of(LAYERS, np.full((3, *shape), 0.5))
    look = (np.indices((24, 40)).sum(axis=0) % 2 * 1000).astype(np.float32)[None]
    rows = [Rows(first, bands[:, first : first + 4], look[:, 2 * first : 2 * first + 8]) for first in (0, 4, 8)]
    made = write_rasters(tmp_path, "map", grid, rows, LAYERS, {})
    with rasterio.open(made.look) as dataset:
        assert dataset.shape == (24, 40)
        assert dataset.transform == grid.transform(60)
        np.testing.assert_array_equal(dataset.read(), look)
    save_quicklook(tmp_path / "map.png", made, LAYERS, grid, "a title")
    with rasterio.open(tmp_path / "map.png") as dataset:
        left = dataset.read(1, window=((0, dataset.height), (0, dataset.width // 3)))
    # Both colours of the board, not the grey of a cell's mean.
    assert (left == 0).mean() > 0.2
    assert (left == 255).mean() > 0.2


def test_the_stac_item_says_where_the_map_lies(tmp_path):
    item = stac_item("map", GRID, LAYERS, datetime(2020, 6, 7, tzinfo=UTC), {"fusmae:model": "tiny/1"})
    (tmp_path / "map.json").write_text(json.dumps(item), encoding="utf-8")
    found = pystac.Item.from_file(str(tmp_path / "map.json"))
    west, south, east, north = found.bbox
    assert 13.6 < west < 13.8
    assert 48.1 < north < 48.3
    assert east - west == pytest.approx(700 * 120 / 111_320 / np.cos(np.radians(48)), rel=0.03)
    assert north - south == pytest.approx(300 * 120 / 111_200, rel=0.05)
    assert found.properties["proj:code"] == "EPSG:32633"
    assert found.properties["proj:shape"] == [300, 700]
    assert found.properties["proj:transform"] == [120, 0, 400_000, 0, -120, 5_340_000]
    assert {asset.href for asset in found.assets.values()} == {"./map.tif", "./map_classes.tif", "./map.png"}
    assert [c["value"] for c in found.assets["classes"].extra_fields["classification:classes"]] == [0, 1, 2, 3]
