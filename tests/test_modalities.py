import pytest
from pydantic import ValidationError

from fusmae.modalities import BandGroup, BandStatistics, Modality, modality_inputs


def test_bands_come_group_by_group(modalities):
    assert modalities["s2"].bands == ("B02", "B03", "B04", "B05", "B01")


def test_every_group_becomes_one_named_array(modalities):
    found = {
        item.name: (item.modality, item.units, item.bands, item.side_px) for item in modality_inputs(modalities, 240)
    }
    assert found == {
        "s1_10m": ("s1", "dB", ("VV", "VH"), 24),
        "s2_10m": ("s2", "DN", ("B02", "B03", "B04"), 24),
        "s2_20m": ("s2", "DN", ("B05",), 12),
        "s2_60m": ("s2", "DN", ("B01",), 4),
    }


def test_a_resolution_that_does_not_divide_the_tile_is_named(modalities):
    with pytest.raises(ValueError, match="s2: 60 m pixels do not divide a tile of 200 m"):
        modality_inputs(modalities, 200)


def test_a_band_twice_is_refused():
    groups = (BandGroup(gsd_m=10, bands=("B02",)), BandGroup(gsd_m=20, bands=("B05", "B02")))
    with pytest.raises(ValidationError, match="a band is named twice"):
        Modality(units="DN", groups=groups)


def test_two_groups_of_one_resolution_are_refused():
    groups = (BandGroup(gsd_m=10, bands=("B02",)), BandGroup(gsd_m=10, bands=("B03",)))
    with pytest.raises(ValidationError, match="two groups share a gsd_m"):
        Modality(units="DN", groups=groups)


@pytest.mark.parametrize(
    "change",
    [{"gsd_m": 0}, {"gsd_m": -10}, {"bands": ()}, {"unknown": 1}],
)
def test_a_group_that_makes_no_sense_is_refused(change):
    with pytest.raises(ValidationError):
        BandGroup(**({"gsd_m": 10, "bands": ("VV",)} | change))


def test_units_are_rows_of_the_table():
    with pytest.raises(ValidationError, match="got 'linear'; expected DN, dB, m, the rows of"):
        Modality(units="linear", groups=(BandGroup(gsd_m=10, bands=("VV",)),))


def test_a_modality_can_not_be_changed(modalities):
    with pytest.raises(ValidationError, match="frozen"):
        modalities["s1"].units = "DN"


def test_a_standard_deviation_of_zero_is_refused():
    with pytest.raises(ValidationError, match="std"):
        BandStatistics(mean=1.0, std=0.0)
