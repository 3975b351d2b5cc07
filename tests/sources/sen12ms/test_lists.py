import random
from collections import Counter

import pytest

from fusmae.errors import SourceError
from fusmae.sources.sen12ms.source import Tile, read_tiles, validation_scenes

SEASONS = ("spring", "summer", "fall", "winter")
SCENES = [Tile("ROIs1868_summer", "summer", scene, 1) for scene in range(60)]


def test_a_tile_knows_its_three_files():
    tile = Tile("ROIs1868_summer", "summer", 19, 30)
    assert tile.path("s2") == "ROIs1868_summer/s2_19/ROIs1868_summer_s2_19_p30.tif"
    assert tile.path("s1") == "ROIs1868_summer/s1_19/ROIs1868_summer_s1_19_p30.tif"
    assert tile.path("lc") == "ROIs1868_summer/lc_19/ROIs1868_summer_lc_19_p30.tif"
    assert tile.place == "ROIs1868_summer_19"


def test_each_listed_tile_is_there_once_and_the_test_list_is_test(raw_lists):
    splits = read_tiles(raw_lists, SEASONS, 0.1)
    assert Counter(splits.values()) == {"train": 108, "validation": 12, "test": 4}
    assert {tile.scene for tile, split in splits.items() if split == "test"} == {63, 146}


def test_no_scene_is_in_two_splits(raw_lists):
    found: dict[str, set[str]] = {}
    for tile, split in read_tiles(raw_lists, SEASONS, 0.4).items():
        found.setdefault(tile.place, set()).add(split)
    assert all(len(splits) == 1 for splits in found.values())


@pytest.mark.parametrize(("share", "count"), [(0.001, 1), (0.1, 6), (0.5, 30), (0.999, 59)])
def test_validation_has_its_share_of_the_scenes_and_never_none_or_all(share, count):
    assert len(validation_scenes(SCENES, share)) == count


def test_the_carve_depends_on_names_only_not_on_the_order_of_a_list():
    shuffled = random.Random(0).sample(SCENES, len(SCENES))
    assert validation_scenes(shuffled, 0.2) == validation_scenes(SCENES, 0.2)
    assert validation_scenes(SCENES, 0.05) == {"ROIs1868_summer_15", "ROIs1868_summer_27", "ROIs1868_summer_6"}


def test_a_larger_share_keeps_the_scenes_of_a_smaller_one():
    assert validation_scenes(SCENES, 0.1) < validation_scenes(SCENES, 0.3)


def test_choosing_seasons_moves_no_scene_to_another_split(raw_lists):
    everything = read_tiles(raw_lists, SEASONS, 0.2)
    some = read_tiles(raw_lists, ("fall", "winter"), 0.2)
    assert {tile.season for tile in some} == {"fall", "winter"}
    assert some == {tile: split for tile, split in everything.items() if tile.season in ("fall", "winter")}


def test_a_scene_in_both_lists_goes_whole_to_test(tmp_path, list_writer):
    train = [f"ROIs1970_fall_s2_{scene}_p{patch}.tif" for scene in (1, 2, 3) for patch in (1, 2)]
    list_writer(tmp_path, train=train, test=["ROIs1970_fall_s2_2_p2.tif"])
    splits = read_tiles(tmp_path, SEASONS, 0.5)
    assert {tile.place for tile, split in splits.items() if split == "test"} == {"ROIs1970_fall_2"}
    assert Counter(splits.values()) == {"train": 2, "validation": 2, "test": 2}


@pytest.mark.parametrize(
    "line", ["ROIs1970_fall_s1_1_p1.tif", "ROIs1970_autumn_s2_1_p1.tif", "../s2_1_p1.tif", "<html>"]
)
def test_a_line_that_names_no_s2_tile_is_shown(tmp_path, list_writer, line):
    list_writer(tmp_path, train=["ROIs1970_fall_s2_1_p1.tif", line], test=[])
    with pytest.raises(SourceError, match=r"train_list\.txt, line 2 names no S2 tile") as caught:
        read_tiles(tmp_path, SEASONS, 0.1)
    assert line in str(caught.value)
    assert "dvc repro -f -s fetch" in str(caught.value)


def test_an_absent_list_says_how_to_get_it(tmp_path, list_writer):
    list_writer(tmp_path, train=[], test=[])
    (tmp_path / "test_list.txt").unlink()
    with pytest.raises(SourceError, match=r"no list .*test_list\.txt\.\n.*dvc repro -f -s fetch"):
        read_tiles(tmp_path, SEASONS, 0.1)


@pytest.mark.parametrize("encoding", ["cp1252", "utf-16"])
def test_a_list_that_is_not_utf8_is_refused_and_no_letter_replaced(tmp_path, encoding):
    (tmp_path / "train_list.txt").write_bytes("ROIs1868_sümmer_s2_19_p30.tif\n".encode(encoding))
    with pytest.raises(SourceError, match=r"not UTF-8(.|\n)*iconv -f"):
        read_tiles(tmp_path, SEASONS, 0.1)
