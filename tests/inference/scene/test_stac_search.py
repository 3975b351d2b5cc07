"""Of the items that a search finds, the one that covers the place with the least cloud is chosen."""

import json
from datetime import UTC, datetime

import pystac
import pytest
from shapely import box
from shapely.geometry import mapping

from fusmae.errors import InputError
from fusmae.inference.scene import stac_search
from fusmae.inference.scene.stac_item import as_scene
from fusmae.inference.scene.stac_search import Search, search_items
from tests.stac import serving

PLACE = (13.3, 48.1, 13.4, 48.2)
WHOLE = (13.0, 48.0, 14.0, 49.0)
HALF = (13.0, 48.0, 13.35, 49.0)
API = "https://example.org/v1"


def found(identifier, day=7, cloud=None, mission=2, bounds=WHOLE, collection="sentinel-2-l2a"):
    properties = {"constellation": f"sentinel-{mission}"} if mission else {"platform": "landsat-8"}
    properties |= {} if cloud is None else {"eo:cloud_cover": cloud}
    date = datetime(2020, 6, day, 10, tzinfo=UTC)
    geometry = mapping(box(*bounds)) if bounds else None
    item = pystac.Item(identifier, geometry, list(bounds or WHOLE), date, properties, collection=collection)
    return as_scene(item, API, API)


@pytest.fixture
def search(monkeypatch):
    def run(*items, modalities=("s1", "s2"), **options):
        monkeypatch.setattr(stac_search, "_items", lambda _: list(items))
        return search_items(Search(API, PLACE, **options), modalities)

    return run


def test_the_least_cloudy_item_that_covers_the_place_is_chosen_and_said(search):
    items = [found("cloudy", cloud=40), found("clear", cloud=3), found("half", cloud=0, bounds=HALF)]
    chosen, sentences = search(*items, modalities=("s2",))
    assert chosen["s2"].id == "clear"
    assert sentences == ["s2: clear (2020-06-07, 3 % cloud); 2 of 3 items cover the place"]


def test_of_equally_cloudy_items_the_latest_is_chosen_in_any_order(search):
    items = [found("early", day=3, cloud=3), found("late", day=9, cloud=3), found("unstated", day=20)]
    for order in (items, items[::-1]):
        assert search(*order, modalities=("s2",))[0]["s2"].id == "late"


def test_radar_is_taken_from_the_day_nearest_to_the_other_scene(search):
    radar = [found(f"radar {day}", day=day, mission=1, collection="rtc") for day in (1, 10, 13, 25)]
    chosen, _ = search(*radar, found("clear", day=12, cloud=1))
    assert [chosen[name].id for name in ("s1", "s2")] == ["radar 13", "clear"]
    assert search(*radar)[0]["s1"].id == "radar 25"


def test_a_modality_without_items_is_left_out_and_said(search):
    chosen, sentences = search(found("clear", cloud=1), found("landsat", mission=0, collection="landsat"))
    assert list(chosen) == ["s2"]
    assert sentences[-1] == "s1: no items, goes on without"


def test_no_items_at_all_are_refused_with_what_there_is_instead(search):
    with pytest.raises(InputError, match=r"(?s)has no item of s1 or s2.*no items.*--bbox 13.3,48.1,13.4,48.2"):
        search()
    with pytest.raises(InputError, match=r"(?s)has no item of s2.*items of landsat"):
        search(found("landsat", mission=0, collection="landsat"), modalities=("s2",))


def test_scenes_are_not_joined(search):
    items = [
        found("west", bounds=HALF, cloud=1),
        found("east", bounds=(13.36, 48.0, 14.0, 49.0)),
        found("away", bounds=(1, 1, 2, 2)),
    ]
    with pytest.raises(InputError) as error:
        search(*items, modalities=("s2",))
    assert "No s2 item covers the whole place; scenes are not joined." in str(error.value)
    assert "west (2020-06-07, 1 % cloud) covers 50%; east (2020-06-07) covers 40%; away (2020-06-07) covers 0%" in str(
        error.value
    )
    assert "a smaller --bbox" in str(error.value)


def test_an_item_without_geometry_covers_its_box_or_nothing(search):
    assert search(found("boxed", bounds=None), modalities=("s2",))[0]["s2"].id == "boxed"
    broken = found("broken")
    broken.item.geometry = {"type": "Polygon", "coordinates": "none"}
    with pytest.raises(InputError, match="covers 0%"):
        search(broken, modalities=("s2",))


def test_items_of_several_collections_are_refused_with_the_option_that_decides(search):
    items = [found("a", cloud=1), found("b", cloud=2, collection="sentinel-2-l1c")]
    with pytest.raises(InputError, match=r"(?s)Several collections.*sentinel-2-l1c, sentinel-2-l2a.*--collection sent"):
        search(*items, modalities=("s2",))


@pytest.fixture
def no_proxy(monkeypatch):
    monkeypatch.setenv("NO_PROXY", "127.0.0.1")
    monkeypatch.setenv("no_proxy", "127.0.0.1")


CATALOG = """{{"type": "Catalog", "id": "x", "stac_version": "1.0.0", "description": "x", "links":
[{{"rel": "self", "href": "{self}"}}, {{"rel": "search", "href": "{search}", "type": "application/geo+json"}}],
"conformsTo": ["https://api.stacspec.org/v1.0.0/core", "https://api.stacspec.org/v1.0.0/item-search"]}}"""


@pytest.mark.parametrize(
    ("answer", "message"),
    [
        (404, "can't be searched.*HTTP status 404"),
        (b"no JSON", "can't be searched.*JSON"),
        (b'{"type": "Feature"}', "can't be searched"),
        ("file:///etc/passwd", "leads to another kind of address.*file:///etc/passwd"),
    ],
)
def test_what_is_no_api_is_refused_without_the_password(no_proxy, answer, message):
    with serving({"/": answer}) as server, pytest.raises(InputError, match=f"(?s){message}") as error:
        search_items(Search(f"{server.address}/?key=SECRET".replace("//127", "//me:SECRET@127"), PLACE), ("s2",))
    assert "SECRET" not in str(error.value)


@pytest.mark.parametrize("link", ["file:///etc/passwd", "ftp://127.0.0.1/search"])
def test_an_api_that_leads_off_the_web_is_refused(no_proxy, link):
    with serving({}) as server:
        server.files["/"] = CATALOG.format(self=server.address, search=link).encode()
        with pytest.raises(InputError, match=r"(?s)leads to an address that is not on the web.*got: "):
            search_items(Search(server.address + "/", PLACE), ("s2",))


def test_a_catalogue_that_can_not_search_is_refused(no_proxy):
    with serving({}) as server:
        text = CATALOG.format(self=server.address, search=server.address)
        server.files["/"] = text.replace("item-search", "other").replace('"search"', '"child"').encode()
        with pytest.raises(InputError, match=r"(?s)can't be searched.*landing page"):
            search_items(Search(server.address + "/", PLACE), ("s2",))


def test_too_many_items_are_refused(no_proxy, monkeypatch):
    monkeypatch.setattr(stac_search, "_MOST_ITEMS", 0)
    item = found("clear", cloud=1).item.to_dict(transform_hrefs=False)
    with serving({}) as server:
        server.files["/"] = CATALOG.format(self=server.address, search=server.address + "/search").encode()
        server.files["/search"] = json.dumps({"type": "FeatureCollection", "features": [item]}).encode()
        with pytest.raises(InputError, match=r"(?s)has more than 0 items there.*a shorter --datetime"):
            search_items(Search(server.address + "/", PLACE), ("s2",))
