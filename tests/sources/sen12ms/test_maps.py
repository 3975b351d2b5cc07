"""Land-cover tiles as maps of ten classes."""

import shutil
from pathlib import Path

import numpy as np
import pytest
import rasterio
from rasterio import Affine

from fusmae.data.index import Pair
from fusmae.data.pixels import NO_CLASS
from fusmae.errors import PairError
from fusmae.sources.sen12ms.labels import CLASSES
from fusmae.sources.sen12ms.source import Sen12msSource

NAME = "ROIs1868_summer_s2_19_p30.tif"
SOURCE = Sen12msSource([], 0.1)


@pytest.fixture
def raw(tmp_path: Path, tile_writer, list_writer) -> Path:
    """S2 side and land cover of one pair, which a test may damage."""
    list_writer(tmp_path, train=[], test=[NAME])
    for kind in ("s2", "lc"):
        tile_writer(tmp_path, NAME, kind)
    return tmp_path


def only_pair(raw: Path) -> Pair:
    (pair,) = SOURCE.pairs(raw)
    return pair


def refused(raw: Path, pair: Pair) -> PairError:
    with pytest.raises(PairError) as caught:
        SOURCE.read_map(raw, pair)
    assert pair.key in str(caught.value)
    return caught.value


def test_a_segmentation_has_the_ten_classes_and_leaves_labels_of_tiles_in_the_index(raw):
    source = Sen12msSource([], 0.1, kind="segmentation")
    assert (source.task.kind, source.task.classes, source.map_classes) == ("segmentation", CLASSES, CLASSES)
    assert source.pairs(raw) == SOURCE.pairs(raw)


def test_a_class_of_the_real_tiles_is_a_label_where_it_covers_a_tenth_of_the_map(shared_sen12ms, tmp_path, list_writer):
    shutil.copytree(shared_sen12ms, tmp_path, dirs_exist_ok=True)
    names = ["ROIs1970_fall_s2_4_p30", "ROIs2017_winter_s2_27_p36"]
    list_writer(tmp_path, train=[f"{name}.tif" for name in names], test=[])
    pairs = {pair.key: pair for pair in SOURCE.pairs(tmp_path)}
    assert set(pairs) == set(names)
    maps = {key: SOURCE.read_map(tmp_path, pair) for key, pair in pairs.items()}
    for key, found in maps.items():
        assert (found.dtype, found.shape) == (np.uint8, (256, 256))
        shares = np.bincount(found.ravel(), minlength=len(CLASSES)) / found.size
        assert pairs[key].labels == tuple(name for name, share in zip(CLASSES, shares, strict=True) if share >= 0.1)
    # Open shrubland of Texas, IGBP 7, covers too little to be a label.
    texas = np.bincount(maps[names[1]].ravel(), minlength=len(CLASSES)).tolist()
    assert {name: count for name, count in zip(CLASSES, texas, strict=True) if count} == {
        "Shrubland": 2178,
        "Grassland": 54564,
        "Croplands": 8794,
    }


def test_every_igbp_number_has_its_class_and_others_none(raw, tile_writer):
    pair = only_pair(raw)
    igbp = np.zeros((4, 256, 256), np.uint8)
    igbp[0, 0] = np.arange(256)
    tile_writer(raw, NAME, "lc", pixels=igbp)
    found = SOURCE.read_map(raw, pair)
    forest, shrubs, savanna, grass, wet, crops, town, snow, barren, water = range(10)
    known = [*[forest] * 5, *[shrubs] * 2, *[savanna] * 2, grass, wet, crops, town, crops, snow, barren, water]
    assert found[0].tolist() == [NO_CLASS, *known, *[NO_CLASS] * (255 - 17)]
    assert (found[1:] == NO_CLASS).all()
    assert SOURCE.map_classes == CLASSES


def test_an_absent_tile_is_incomplete(raw):
    pair = only_pair(raw)
    path = raw / "ROIs1868_summer/lc_19/ROIs1868_summer_lc_19_p30.tif"
    path.unlink()
    error = refused(raw, pair)
    assert error.fault == "incomplete"
    assert str(path) in str(error)


@pytest.mark.parametrize(
    ("changes", "fault"),
    [
        ({"side_px": 128}, "grid"),
        ({"dtype": "uint16"}, "grid"),
        ({"transform": Affine(10, 0, 712374.29, 0, -10, 1288830.13)}, "georeference"),
        ({"crs": "EPSG:32632"}, "georeference"),
    ],
)
def test_a_tile_of_another_size_type_or_place_is_refused(raw, tile_writer, changes, fault):
    pair = only_pair(raw)
    tile_writer(raw, NAME, "lc", **changes)
    assert refused(raw, pair).fault == fault


def test_a_damaged_tile_is_unreadable(raw):
    pair = only_pair(raw)
    path = raw / "ROIs1868_summer/lc_19/ROIs1868_summer_lc_19_p30.tif"
    path.write_bytes(path.read_bytes()[:1000])
    assert refused(raw, pair).fault == "unreadable"


def test_the_first_channel_is_read(raw, tile_writer):
    pair = only_pair(raw)
    igbp = np.stack([np.full((256, 256), number, np.uint8) for number in (17, 1, 2, 3)])
    with rasterio.open(tile_writer(raw, NAME, "lc", pixels=igbp)) as dataset:
        assert dataset.count == 4
    assert (SOURCE.read_map(raw, pair) == CLASSES.index("Water")).all()
