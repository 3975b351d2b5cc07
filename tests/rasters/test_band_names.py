"""Bands are known by their product names and by those that archives and tools give them."""

import pytest

from fusmae.rasters.band_names import PRODUCT_NAMES, names_in, other_modality

S2 = PRODUCT_NAMES["s2"]


@pytest.mark.parametrize(
    ("text", "name"),
    [
        ("B02", "B02"),
        ("b2", "B02"),
        ("B2 (blue)", "B02"),
        ("T33UUP_20170613T101031_B8A_20m", "B8A"),
        ("SRE_B12", "B12"),
        ("Red_Sea_B03", "B03"),
        ("coastal", "B01"),
        ("nbart_coastal_aerosol", "B01"),
        ("blue", "B02"),
        ("Green", "B03"),
        ("S2A_33TWL_20200607_0_L2A_red", "B04"),
        ("rededge1", "B05"),
        ("red_edge_2", "B06"),
        ("Red Edge 3", "B07"),
        ("rededge071", "B05"),
        ("nir", "B08"),
        ("nir08", "B8A"),
        ("nir09", "B09"),
        ("cirrus", "B10"),
        ("swir16", "B11"),
        ("swir22", "B12"),
    ],
)
def test_names_of_products_and_catalogues_are_read(text, name):
    assert names_in("s2", (text,), S2) == (name,)


@pytest.mark.parametrize("text", ["rededge", "swir", "swir1", "swir_2", "nir_1", "blue and green", "B02_B03"])
def test_names_that_may_mean_several_bands_are_shown_with_them(text):
    assert len(names_in("s2", (text,), S2)) > 1


@pytest.mark.parametrize("text", ["SCL", "AOT", "visual", "reduced", "bluebell", "B2A", ""])
def test_other_words_name_no_band(text):
    assert names_in("s2", (text,), S2) == ()


@pytest.mark.parametrize("text", ["Sigma0_VV_db", "Gamma0_vv", "s1a-iw-grd-vv-20200607t010800", "VV"])
def test_polarisations_are_read_in_any_case(text):
    assert names_in("s1", (text,), ("VV", "VH")) == ("VV",)


def test_a_band_that_the_model_does_not_take_keeps_its_name():
    assert names_in("s2", ("B10 (cirrus, near nir)",), ("B02", "B08")) == ("B10",)


def test_a_modality_without_a_table_is_known_by_the_models_names():
    assert names_in("dem", ("elevation",), ("elevation",)) == ("elevation",)
    assert names_in("dem", ("blue",), ("elevation",)) == ()


def test_files_of_another_modality_are_recognised():
    assert other_modality("s2", ("Sigma0_VV", "angle")) == "s1"
    assert other_modality("s1", ("B02",)) == "s2"
    assert other_modality("s2", ("SCL",)) == ""
