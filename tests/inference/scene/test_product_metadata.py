"""Products say their offset and level in XML, in STAC items and in names."""

import json

import pytest

from fusmae.inference.scene.s2_checks import stated_level, stated_offset

PRODUCT = "S2A_MSIL2A_20240607T101031_N0510_R022_T33TWL_20240607T123456.SAFE"
XML = """<n1:Level-2A_User_Product><PROCESSING_BASELINE>{}</PROCESSING_BASELINE>{}</n1:Level-2A_User_Product>"""
OFFSETS = '<BOA_ADD_OFFSET band_id="0">-1000</BOA_ADD_OFFSET><BOA_ADD_OFFSET band_id="1">-1000</BOA_ADD_OFFSET>'


def band(folder, name="B02.jp2"):
    path = folder / name
    path.parent.mkdir(parents=True, exist_ok=True)
    path.touch()
    return path


def test_the_products_name_tells_from_any_folder_in_it(tmp_path):
    path = band(
        tmp_path / PRODUCT / "GRANULE" / "L2A_T33TWL" / "IMG_DATA" / "R10m", "T33TWL_20240607T101031_B02_10m.jp2"
    )
    assert stated_offset([path]).offset == 1000
    assert PRODUCT in stated_offset([path]).source
    assert stated_level([path], frozenset())[0] == "L2A"


@pytest.mark.parametrize(
    ("baseline", "offsets", "offset"),
    [("05.10", OFFSETS, 1000), ("02.14", "", 0), ("05.10", OFFSETS.replace("-1000", "0"), 0)],
)
def test_the_products_xml_goes_before_names(tmp_path, baseline, offsets, offset):
    path = band(tmp_path / PRODUCT / "GRANULE" / "IMG_DATA")
    (tmp_path / PRODUCT / "MTD_MSIL2A.xml").write_text(XML.format(baseline, offsets))
    found = stated_offset([path])
    assert found.offset == offset
    assert "MTD_MSIL2A.xml" in found.source


def test_xml_that_tells_nothing_or_too_much_is_passed_over(tmp_path):
    path = band(tmp_path / "product")
    xml = tmp_path / "product" / "MTD_MSIL2A.xml"
    for text in (
        "",
        "no XML",
        XML.format("05.10", OFFSETS + OFFSETS.replace("-1000", "-500")),
        "<!DOCTYPE a [<!ENTITY",
    ):
        xml.write_text(text)
        assert stated_offset([path]) is None


@pytest.mark.parametrize(
    ("properties", "offset"),
    [
        ({"s2:processing_baseline": "05.10"}, 1000),
        ({"s2:processing_baseline": "02.14"}, 0),
        ({"s2:processing_baseline": "05.10", "earthsearch:boa_offset_applied": True}, 0),
        ({"s2:processing_baseline": "05.10", "earthsearch:boa_offset_applied": False}, 1000),
    ],
)
def test_a_stac_item_beside_the_bands_tells(tmp_path, properties, offset):
    path = band(tmp_path)
    (tmp_path / "item.json").write_text(json.dumps({"type": "Feature", "properties": properties}))
    assert stated_offset([path]).offset == offset


@pytest.mark.parametrize("text", ["[1, 2]", "{}", '{"properties": 3}', "no JSON", "[" * 100_000])
def test_other_json_tells_nothing(tmp_path, text):
    path = band(tmp_path)
    (tmp_path / "item.json").write_text(text)
    assert stated_offset([path]) is None


@pytest.mark.parametrize(
    ("name", "bands", "level"),
    [
        ("S2A_MSIL1C_20200607T101031_N0209/B02.tif", (), "L1C"),
        ("T33TWL_L2A_B02.tif", ("B10",), "L2A"),
        ("scene/B02.tif", ("B10",), "L1C"),
        ("scene/B02.tif", (), None),
    ],
)
def test_names_and_the_cirrus_band_tell_the_level(tmp_path, name, bands, level):
    found = stated_level([band(tmp_path, name)], frozenset(bands))
    assert (found and found[0]) == level
