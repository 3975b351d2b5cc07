"""Which files and addresses are STAC items, of which modality they are, and which one is taken."""

import json

import pytest

from fusmae.errors import InputError
from fusmae.inference.scene import stac_item
from fusmae.inference.scene.stac_item import read_items, scene_item
from tests.inference.conftest import make_scenes
from tests.stac import make_item, s2_files, serving, write_item


@pytest.fixture(scope="module")
def item(tmp_path_factory):
    folder = tmp_path_factory.mktemp("item")
    return make_item(s2_files(make_scenes(folder)))


@pytest.fixture(autouse=True)
def no_proxy(monkeypatch):
    monkeypatch.setenv("NO_PROXY", "127.0.0.1")
    monkeypatch.setenv("no_proxy", "127.0.0.1")


def changed(item, identifier="", **properties):
    kept = {key: value for key, value in (item["properties"] | properties).items() if value is not None}
    return item | {"id": identifier or item["id"], "properties": kept}


def collection(path, *items):
    return write_item(path, {"type": "FeatureCollection", "features": list(items)})


def refusal(given, modality="s2"):
    with pytest.raises(InputError) as error:
        scene_item(modality, given if isinstance(given, list) else [given])
    return str(error.value)


def test_files_folders_archives_and_rasters_elsewhere_are_no_items(tmp_path):
    (tmp_path / "folder.json").mkdir()
    for given in (
        "a.tif",
        str(tmp_path),
        str(tmp_path / "folder.json"),
        "https://example.org/B02.tif?sig=1",
        "s3://b/a",
    ):
        assert scene_item("s2", [given]) is None


def test_an_item_is_read_from_a_file_and_from_its_address(tmp_path, item):
    path = write_item(tmp_path / "an item.json", item)
    for given in (path, str(path), path.as_uri()):
        found = scene_item("s2", [given])
        assert (found.id, found.place, found.modality) == (item["id"], str(path), "s2")
    assert f"{found.taken:%Y-%m-%d %H:%M}" == "2020-06-07 10:10"


@pytest.mark.parametrize(
    ("properties", "modality"),
    [
        ({}, "s2"),
        ({"constellation": "Sentinel-1", "platform": None}, "s1"),
        ({"constellation": None, "platform": "SENTINEL_1C"}, "s1"),
        ({"constellation": None, "platform": "S2B"}, "s2"),
        ({"constellation": "Sentinel 2", "platform": None}, "s2"),
        ({"constellation": None, "platform": None, "instruments": ["msi"]}, "s2"),
        ({"constellation": None, "platform": None, "instruments": ["c-sar"]}, "s1"),
        ({"constellation": "landsat", "platform": "landsat-8"}, ""),
        ({"constellation": None, "platform": None}, ""),
    ],
)
def test_platform_constellation_or_instruments_tell_the_modality(tmp_path, item, properties, modality):
    (found,) = read_items(str(write_item(tmp_path / "item.json", changed(item, **properties))))
    assert found.modality == modality


@pytest.mark.parametrize(("keys", "modality"), [(("vv", "vh"), "s1"), (("B02_10m", "B8A_20m"), "s2"), (("B02",), "")])
def test_bands_that_one_mission_alone_has_tell_the_modality_where_nothing_else_does(tmp_path, item, keys, modality):
    unnamed = changed(item, constellation=None, platform=None) | {"assets": {key: {"href": "a.tif"} for key in keys}}
    (found,) = read_items(str(write_item(tmp_path / "item.json", unnamed)))
    assert found.modality == modality


def test_an_item_that_states_no_mission_is_what_the_option_says(tmp_path, item):
    path = write_item(tmp_path / "item.json", changed(item, constellation=None, platform=None))
    assert scene_item("s2", [path]).id == scene_item("dem", [path]).id == item["id"]


def test_an_item_of_the_other_mission_is_refused_with_its_option(tmp_path, item):
    path = write_item(tmp_path / "item.json", changed(item, constellation="sentinel-1", platform="sentinel-1a"))
    assert "holds no item of s2" in refusal(path)
    assert "--scene s1=PATH" in refusal(path)


def test_of_a_collection_each_option_takes_the_item_of_its_modality(tmp_path, item):
    radar = changed(item, "radar", constellation="sentinel-1", platform="sentinel-1a")
    path = collection(tmp_path / "items.json", item, radar)
    assert [scene_item(name, [path]).id for name in ("s2", "s1")] == [item["id"], "radar"]


def test_several_items_are_listed_and_the_one_behind_the_hash_is_taken(tmp_path, item):
    cloudy = changed(item, "cloudy", **{"eo:cloud_cover": 71.6})
    path = collection(tmp_path / "items.json", item, cloudy)
    text = refusal(path)
    assert "holds 2 items of s2: a scene is one" in text
    assert "S2A_33UUP_20200607_0_L2A (2020-06-07); cloudy (2020-06-07, 72 % cloud)" in text
    assert "#ID" in text
    assert scene_item("s2", [f"{path}#cloudy"]).cloud_cover == 71.6
    assert "holds no item cloud" in refusal(f"{path}#cloud")


def test_long_lists_are_cut(tmp_path, item):
    path = collection(tmp_path / "items.json", *[changed(item, f"item {number}") for number in range(30)])
    assert "item 19 (2020-06-07) and 10 more" in refusal(path)


def test_an_item_stands_alone(tmp_path, item):
    path = write_item(tmp_path / "item.json", item)
    assert "A STAC item is a whole s2 scene" in refusal([path, "B02.tif"])


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("no JSON", "is no STAC item.*no JSON object"),
        ("[" * 100_000, "is no STAC item.*no JSON object"),
        ("[1]", "is no STAC item.*no JSON object"),
        ('{"type": "Catalog"}', r"is no STAC item.*type Catalog.*--search ADDRESS"),
        ('{"type": "Feature"}', "holds an item that can't be read"),
        ('{"type": "FeatureCollection", "features": [3]}', "holds an item that can't be read"),
        ('{"type": "FeatureCollection", "features": []}', "holds no item of s2"),
        ('{"properties": {}}', "is no STAC item.*type None"),
    ],
)
def test_what_is_no_item_is_refused(tmp_path, text, message):
    path = tmp_path / "item.json"
    path.write_text(text)
    with pytest.raises(InputError, match=f"(?s){message}"):
        scene_item("s2", [path])


def test_absent_and_huge_files_are_refused(tmp_path, item, monkeypatch):
    assert "can't be read: No such file" in refusal(tmp_path / "none.json")
    path = write_item(tmp_path / "item.json", item)
    monkeypatch.setattr(stac_item, "_MAX_BYTES", 100)
    assert "is too large for STAC items" in refusal(path)
    with serving({"/item.json": path.read_bytes()}) as server:
        assert "is too large for STAC items" in refusal(f"{server.address}/item.json")


def test_an_item_is_read_from_the_web_and_its_signature_is_not_shown(item):
    with serving({"/items/a": json.dumps(item).encode(), "/old": "/items/a"}) as server:
        for path in ("/items/a", "/old"):
            found = scene_item("s2", [f"{server.address}{path}?sig={'SECRET' * 1000}"])
            assert found.id == item["id"]
            assert "SECRET" not in f"{found}{found.place}"


@pytest.mark.parametrize(("path", "status"), [("/none", 404), ("/private", 403), ("/broken", 500)])
def test_what_the_web_does_not_give_is_said_without_the_signature(path, status):
    with serving({"/private": 403, "/broken": 500}) as server:
        text = refusal(f"{server.address}{path}?sig=SECRET")
    assert f"HTTP status {status}" in text
    assert ("signature" in text) == (status == 403)
    assert "SECRET" not in text


def test_a_server_that_is_not_there_is_said_without_the_signature():
    with serving({}) as server:
        address = server.address
    text = refusal(f"{address}/item.json?sig=SECRET")
    assert "can't be reached" in text
    assert "SECRET" not in text


@pytest.mark.parametrize("target", ["file:///etc/passwd", "ftp://127.0.0.1/item.json"])
def test_no_redirection_leads_to_another_scheme(target):
    with serving({"/item.json": target}) as server:
        text = refusal(f"{server.address}/item.json")
    assert "leads to another kind of address" in text
    assert target in text


@pytest.mark.parametrize(
    ("base", "href", "expected"),
    [
        ("data/item.json", "./B02.tif", "data/B02.tif"),
        ("data/item.json", "/scenes/B02.tif", "/scenes/B02.tif"),
        ("data/item.json", "file:///scenes/B%2002.tif", "/scenes/B 02.tif"),
        ("data/item.json", "https://example.org/B02.tif?sig=1", "https://example.org/B02.tif?sig=1"),
        ("https://example.org/items/a", "../B02.tif", "https://example.org/B02.tif"),
        ("https://example.org/items/a", "s3://bucket/B02.tif", "s3://bucket/B02.tif"),
    ],
)
def test_links_are_relative_to_the_item(tmp_path, item, base, href, expected):
    (found,) = read_items(str(write_item(tmp_path / "item.json", item)))
    assert stac_item.as_scene(found.item, base, base).resolved("blue", href) == expected


@pytest.mark.parametrize(
    "href", ["file:///etc/a.tif", "/etc/a.tif", "~/a.tif", "//host/a.tif", "\\\\host\\a.tif", "C:/a.tif", ""]
)
def test_an_item_from_the_web_names_no_file_of_this_machine(tmp_path, item, href):
    (found,) = read_items(str(write_item(tmp_path / "item.json", item)))
    web = stac_item.as_scene(found.item, "https://example.org/a", "https://example.org/a")
    with pytest.raises(InputError, match="names no files of this machine"):
        web.resolved("blue", href)


@pytest.mark.parametrize(
    ("href", "named"), [("gs://b/a.tif", "gs"), ("/vsizip/a.zip/a.tif", "vsizip"), ("abfs://c/a.tif", "abfs")]
)
def test_addresses_of_other_kinds_are_refused_by_their_names(tmp_path, item, href, named):
    (found,) = read_items(str(write_item(tmp_path / "item.json", item)))
    with pytest.raises(InputError, match=f"(?s)can't be read.*http, https or s3.*by {named} to this machine"):
        found.resolved("blue", href)
