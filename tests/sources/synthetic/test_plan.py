from collections import Counter, defaultdict

import pytest

from fusmae.errors import SourceError
from fusmae.sources.patches.places import parse_patch_name, place_names
from fusmae.sources.synthetic.plan import World, blocks_of


@pytest.mark.parametrize("num_pairs", [50, 60, 999, 5000])
def test_world_has_as_many_patches_as_wanted_each_with_a_name_of_its_own(num_pairs):
    patches = [patch for block in blocks_of(World(num_pairs, 3)) for patch in block.patches]
    assert len(patches) == num_pairs
    assert len({patch.s2_name for patch in patches}) == num_pairs
    assert len({patch.s1_name for patch in patches}) == num_pairs


def test_no_two_blocks_share_a_scene_folder_in_a_world_of_100000_pairs():
    blocks = blocks_of(World(100_000, 0))
    assert len({block.s1_scene for block in blocks}) == len({block.s2_scene for block in blocks}) == len(blocks)


def test_every_block_is_a_place_of_its_own():
    blocks = blocks_of(World(6000, 0))
    patches = [(block.number, parse_patch_name(patch.s2_name)) for block in blocks for patch in block.patches]
    blocks_of_place = defaultdict(set)
    for (number, _), place in zip(patches, place_names([patch for _, patch in patches]), strict=True):
        blocks_of_place[place].add(number)
    assert all(len(found) == 1 for found in blocks_of_place.values())
    assert len(blocks_of_place) == len(blocks)


def test_blocks_of_neighbouring_zones_and_bands_are_separate_places():
    # One corner of every block of the largest world: a place of two blocks would show as fewer places.
    blocks = blocks_of(World(150_000, 0))
    corners = [parse_patch_name(next(block.patches).s2_name) for block in blocks]
    assert len(set(place_names(corners))) == len(blocks)


def test_half_of_the_blocks_are_for_training_and_a_quarter_for_each_other_split():
    counts = Counter(block.split for block in blocks_of(World(6400, 5)))
    assert counts == {"train": 200, "validation": 100, "test": 100}


def test_seed_changes_splits_and_dates():
    first, second = (blocks_of(World(1000, seed)) for seed in (0, 1))
    assert [block.split for block in first] != [block.split for block in second]
    assert [block.s2_date for block in first] != [block.s2_date for block in second]


def test_s1_passes_within_four_days_of_s2():
    assert all(abs(block.s1_date - block.s2_date).days <= 4 for block in blocks_of(World(1000, 0)))


def test_a_world_larger_than_the_ground_is_refused():
    with pytest.raises(SourceError, match="no room"):
        blocks_of(World(10**7, 0))
