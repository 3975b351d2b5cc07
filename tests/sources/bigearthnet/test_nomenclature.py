from datetime import UTC, datetime
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from fusmae.errors import PairError, SourceError
from fusmae.modalities import BIGEARTHNET, modality_inputs
from fusmae.sources.patches.geotiff import validate_bands
from fusmae.sources.patches.nomenclature import (
    CLASS_OF_V1_LABEL,
    CLASSES,
    DROPPED_V1_LABELS,
    classes_of_v1_labels,
    in_table_order,
)
from fusmae.sources.patches.places import PATCH_M, parse_patch_name


def made_bands() -> dict[str, np.ndarray]:
    return {
        band: np.zeros((item.side_px, item.side_px), np.float32 if item.units == "dB" else np.uint16)
        for item in modality_inputs(BIGEARTHNET, PATCH_M)
        for band in item.bands
    }


def test_classes_and_the_map_from_43_are_those_of_torchgeo():
    from torchgeo.datasets import BigEarthNet

    classes, labels = BigEarthNet.class_sets[19], BigEarthNet.class_sets[43]
    assert list(CLASSES) == classes
    assert {labels[a]: classes[b] for a, b in BigEarthNet.label_converter.items()} == CLASS_OF_V1_LABEL
    assert set(labels) - set(CLASS_OF_V1_LABEL) == DROPPED_V1_LABELS


def test_class_table_is_the_set_of_labels_in_the_real_table(shared_bigearthnet: Path):
    labels = pd.read_parquet(shared_bigearthnet / "metadata.parquet", columns=["labels"])["labels"]
    assert set(np.concatenate(labels.to_numpy())) == set(CLASSES)


def test_every_s1_name_of_the_real_table_can_be_read(shared_bigearthnet: Path):
    names = pd.read_parquet(shared_bigearthnet / "metadata.parquet", columns=["patch_id", "s1_name", "s2v1_name"])
    for row in names.sample(2000, random_state=0).itertuples():
        s1, s2, s2_v1 = (parse_patch_name(name) for name in (row.s1_name, row.patch_id, row.s2v1_name))
        assert (s1.tile, s1.column, s1.row) == (s2.tile, s2.column, s2.row)
        assert (s1.column, s1.row) == (s2_v1.column, s2_v1.row)
        assert s2.date.date() == s2_v1.date.date()
        assert abs((s2.date - s2_v1.date).total_seconds()) < 60


def test_there_are_19_classes_and_43_labels():
    assert (len(CLASSES), len(CLASS_OF_V1_LABEL), len(DROPPED_V1_LABELS)) == (19, 32, 11)


def test_v1_labels_become_classes_once_each_in_table_order():
    labels = ["Water bodies", "Transitional woodland/shrub", "Water courses", "Airports"]
    assert classes_of_v1_labels(labels) == ("Transitional woodland, shrub", "Inland waters")
    assert classes_of_v1_labels(["Airports"]) == ()


def test_unknown_names_are_refused():
    with pytest.raises(SourceError, match="Lava"):
        classes_of_v1_labels(["Lava"])
    with pytest.raises(SourceError, match="woodland/shrub"):
        in_table_order(["Transitional woodland/shrub"])


@pytest.mark.parametrize(
    ("name", "tile", "column", "row", "date"),
    [
        ("S1A_IW_GRDH_1SDV_20170613T165043_33UUP_87_48", "33UUP", 87, 48, (2017, 6, 13, 16, 50, 43)),
        ("S2A_MSIL2A_20170613T101031_N9999_R022_T33UUP_37_88", "33UUP", 37, 88, (2017, 6, 13, 10, 10, 31)),
        ("S2A_MSIL2A_20171101T094131_N9999_R036_T35VNJ_00_00", "35VNJ", 0, 0, (2017, 11, 1, 9, 41, 31)),
        ("S2A_MSIL2A_20170613T101031_87_48", "", 87, 48, (2017, 6, 13, 10, 10, 31)),
        ("S2B_MSIL2A_20170924T93020_69_24", "", 69, 24, (2017, 9, 24, 9, 30, 20)),
        ("S2B_MSIL2A_20180204T94161_57_38", "", 57, 38, (2018, 2, 4, 9, 42, 1)),
    ],
)
def test_patch_names_say_tile_position_and_date(name, tile, column, row, date):
    patch = parse_patch_name(name)
    assert (patch.tile, patch.column, patch.row) == (tile, column, row)
    assert patch.date == datetime(*date, tzinfo=UTC)


@pytest.mark.parametrize("name", ["", "ROIs1158_spring_s1_1_p30", "S2A_MSIL2A_20171341T101031_87_48"])
def test_other_names_are_refused(name):
    with pytest.raises(SourceError):
        parse_patch_name(name)


def test_bands_come_in_channel_order():
    bands = made_bands()
    assert list(validate_bands("p", dict(reversed(bands.items())))) == list(bands)


def test_a_missing_band_is_named():
    bands = made_bands()
    del bands["B8A"]
    with pytest.raises(PairError, match="Pair p has no band B8A"):
        validate_bands("p", bands)


@pytest.mark.parametrize(
    ("band", "pixels"),
    [
        ("B05", np.zeros((120, 120), np.uint16)),
        ("VV", np.zeros((120, 120), np.int32)),
        ("B02", np.zeros((1, 120, 120), np.uint16)),
    ],
)
def test_a_band_of_another_size_or_type_is_named(band, pixels):
    with pytest.raises(PairError, match=f"Pair p: band {band} has another size or type"):
        validate_bands("p", {**made_bands(), band: pixels})
