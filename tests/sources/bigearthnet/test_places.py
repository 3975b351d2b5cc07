import json
import random
from datetime import UTC, datetime
from pathlib import Path

import pytest

from fusmae.data.index import Pair
from fusmae.errors import SourceError
from fusmae.sources.patches.places import (
    PLACE_DISTANCE_M,
    PatchName,
    parse_patch_name,
    place_names,
    utm_corner,
    with_places,
)

DATE = datetime(2017, 6, 13, tzinfo=UTC)


def patch(tile: str, column: int, row: int) -> PatchName:
    return PatchName(tile, column, row, DATE)


def pair(key: str, split: str) -> Pair:
    return Pair(key=key, files={}, labels=(), split=split, place="", date=DATE)


def test_corners_are_those_that_the_data_states(sample_raw: Path):
    stated_files = sorted(sample_raw.glob("v1_geotiff/*S1*/*/*.json"))
    assert len(stated_files) == 6
    for file in stated_files:
        stated = json.loads(file.read_text())["coordinates"]
        _, easting, northing = utm_corner(parse_patch_name(file.parent.name))
        assert abs(easting - stated["ulx"]) <= 60
        assert abs(northing - stated["uly"]) <= 60


def test_neighbours_are_one_place_and_distant_patches_are_not():
    a, b, c = place_names([patch("33UUP", 10, 10), patch("33UUP", 14, 10), patch("33UUP", 40, 10)])
    assert a == b == "33UUP_10_10"
    assert c == "33UUP_40_10"


def test_a_chain_of_neighbours_is_one_place():
    chain = [patch("33UUP", 5 * step, 30) for step in range(10)]
    assert set(place_names(chain)) == {"33UUP_00_30"}
    assert len(set(place_names([chain[0], chain[-1]]))) == 2


def test_neighbours_in_the_next_tile_are_one_place():
    # Row 83 of the tile to the north and row 0 of this one are 400 m apart.
    assert len(set(place_names([patch("33UUP", 20, 0), patch("33UUQ", 20, 83)]))) == 1
    assert len(set(place_names([patch("33UUP", 20, 40), patch("33UUQ", 20, 40)]))) == 2


def test_neighbours_in_the_next_utm_zone_are_one_place():
    from rasterio.warp import transform

    epsg, easting, northing = utm_corner(patch("35VLJ", 5, 5))
    (other_easting,), (other_northing,) = transform(f"EPSG:{epsg}", "EPSG:32634", [easting], [northing])
    assert (other_easting // 100_000, other_northing // 100_000) == (6, 68)
    across = patch("34VFP", int(other_easting - 600_000) // 1200, int(6_900_000 - other_northing) // 1200)
    assert len(set(place_names([patch("35VLJ", 5, 5), across]))) == 1


def test_a_place_goes_whole_to_its_most_held_out_split():
    patches = [patch("33UUP", column, 0) for column in (0, 1, 30, 31, 60, 61)]
    splits = ["train", "test", "train", "validation", "validation", "test"]
    settled = with_places([pair(str(i), split) for i, split in enumerate(splits)], patches)
    assert [one.split for one in settled] == ["test", "test", "validation", "validation", "test", "test"]


def test_places_without_a_conflict_keep_their_split():
    patches = [patch("33UUP", 0, 0), patch("33UUP", 40, 0)]
    assert [one.split for one in with_places([pair("a", "train"), pair("b", "test")], patches)] == ["train", "test"]


def test_places_do_not_depend_on_the_order_of_pairs():
    patches = [patch(tile, c, r) for tile in ("33UUP", "33UUQ", "35VNJ") for c in range(0, 91, 9) for r in (0, 7, 50)]
    wanted = dict(zip(patches, place_names(patches), strict=True))
    random.Random(0).shuffle(patches)
    assert dict(zip(patches, place_names(patches), strict=True)) == wanted


def test_no_two_places_of_the_sample_are_neighbours(sample_raw: Path, sample_pairs: list[Pair]):
    from rasterio.warp import transform

    positions = []
    for one in sample_pairs:
        epsg, easting, northing = utm_corner(parse_patch_name(f"S1A_IW_GRDH_1SDV_20170613T165043_{one.place}"))
        (x,), (y,) = transform(f"EPSG:{epsg}", "EPSG:3035", [easting], [northing])
        positions.append((one.place, x, y))
    for place, x, y in positions:
        for other, x2, y2 in positions:
            assert place == other or ((x - x2) ** 2 + (y - y2) ** 2) ** 0.5 > PLACE_DISTANCE_M


@pytest.mark.parametrize("tile", ["", "33U", "99UUP", "33UIP", "33HUP", "xxUUP"])
def test_what_is_no_northern_mgrs_tile_is_refused(tile):
    with pytest.raises(SourceError):
        utm_corner(patch(tile, 0, 0))
