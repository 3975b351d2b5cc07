"""Each source offers the kinds of labels that its section states, and no other."""

import pytest
from pydantic import TypeAdapter

from fusmae.config.source import SourceConfig
from fusmae.config.task import KINDS
from fusmae.sources import open_source

SECTIONS = [
    {"name": "sample"},
    {"name": "bigearthnet", "version": 1, "countries": [], "snow_and_clouds": False},
    {"name": "bigearthnet", "version": 2, "countries": [], "snow_and_clouds": False},
    {"name": "sen12ms", "seasons": [], "validation_share": 0.1},
    {"name": "synthetic", "num_pairs": 50, "seed": 0},
    {"name": "folder", "classes": ["water", "land"], "s2_offset": 0},
    {"name": "folder", "classes": [], "s2_offset": 0, "value": {"name": "height", "unit": "m", "per": "pixel"}},
]


@pytest.mark.parametrize("values", SECTIONS, ids=lambda values: "-".join(map(str, values.values()))[:20])
def test_a_source_has_the_task_and_the_maps_of_every_kind_that_its_section_offers(values):
    section = TypeAdapter(SourceConfig).validate_python(values)
    assert section.kinds
    for kind in section.kinds:
        source = open_source(section.name, section.settings, kind=kind)
        assert source.task.kind == kind
        assert bool(source.task.classes) == (kind != "regression")
        # In a segmentation, a class has one number in the maps and in the labels of a tile.
        assert kind != "segmentation" or source.map_classes == source.task.classes
        assert kind != "regression" or source.map_classes == ()


def test_every_kind_is_offered_by_some_source():
    offered = {kind for values in SECTIONS for kind in TypeAdapter(SourceConfig).validate_python(values).kinds}
    assert offered == set(KINDS)
