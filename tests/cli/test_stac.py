"""Commands on scenes take STAC items, from files and from the web, and searches for them."""

import json
import re
import shlex
import shutil
import traceback
from pathlib import Path

import numpy as np
import pystac
import pytest
import rasterio
from rasterio.warp import transform_bounds
from typer.testing import CliRunner

from fusmae.cli import app
from fusmae.cli.scene_files import SceneFiles
from fusmae.cli.write_embeddings import write_embeddings
from fusmae.errors import InputError
from fusmae.inference.scene import stac_search
from fusmae.inference.scene.stac_item import read_items
from tests.inference.conftest import LEFT, TOP, UTM
from tests.stac import make_item, s2_files, serving, write_item


@pytest.fixture(autouse=True)
def no_proxy(monkeypatch):
    monkeypatch.setenv("NO_PROXY", "127.0.0.1")
    monkeypatch.setenv("no_proxy", "127.0.0.1")


@pytest.fixture
def item(scenes):
    return write_item(scenes.s2.parent / "item.json", make_item(s2_files(scenes)))


def run(command, exported, *arguments):
    return CliRunner().invoke(app, [command, "--model", str(exported.path), *map(str, arguments)])


def made(command, exported, *arguments):
    done = run(command, exported, *arguments)
    assert done.exit_code == 0, done.exception
    return done


def refusal(command, exported, *arguments):
    error = run(command, exported, *arguments).exception
    assert isinstance(error, InputError)
    return str(error)


def pixels(path):
    with rasterio.open(path) as dataset:
        return dataset.read()


def degrees(left_m, top_m, side_m):
    """`--bbox` of a square within the scenes, by its distances from their upper left corner."""
    left, top = LEFT + left_m, TOP - top_m
    box = transform_bounds(UTM, "EPSG:4326", left, top - side_m, left + side_m, top)
    return ",".join(f"{side:.9f}" for side in box)


def test_an_item_makes_the_map_that_its_files_make_and_is_named_in_the_maps_item(tmp_path, exported, scenes, item):
    made("predict", exported, "--s2", scenes.s2, "--out", tmp_path / "files.tif")
    made("predict", exported, "--s2", item, "--out", tmp_path / "out" / "item.tif")
    assert (pixels(tmp_path / "files.tif") == pixels(tmp_path / "out" / "item.tif")).all()
    described = pystac.Item.from_file(str(tmp_path / "out" / "item.json"))
    assert described.properties["datetime"] == "2020-06-07T10:10:31Z"
    assert described.properties["fusmae:datetime_from"] == "STAC item"
    assert described.properties["fusmae:sources"][0] == "S2A_33UUP_20200607_0_L2A/blue"
    (link,) = described.get_links("derived_from")
    assert (tmp_path / "out" / link.href).resolve() == item.resolve()
    assert not pystac.Item.from_file(str(tmp_path / "files.json")).get_links("derived_from")


def test_a_general_option_and_a_signed_address_give_the_same_scene(tmp_path, exported, scenes, item):
    files = {f"/s2/{path.name}": path.read_bytes() for path in scenes.s2.iterdir()}
    with serving(files | {"/item": item.read_bytes()}) as server:
        done = made("predict", exported, "--scene", f"s2={server.address}/item?sig=SECRET", "--out", tmp_path / "a.tif")
        address = server.address
    made("predict", exported, "--s2", scenes.s2, "--out", tmp_path / "b.tif")
    assert (pixels(tmp_path / "a.tif") == pixels(tmp_path / "b.tif")).all()
    assert json.loads((tmp_path / "a.json").read_text())["links"][0]["href"] == f"{address}/item"
    written = b"".join(path.read_bytes() for path in tmp_path.glob("a*"))
    assert b"SECRET" not in written
    assert "SECRET" not in done.output


def test_no_error_nor_its_traceback_shows_a_signature(tmp_path, exported, scenes):
    assets = s2_files(scenes)
    with serving(dict.fromkeys((f"/s2/{path.name}" for path in scenes.s2.iterdir()), 403)) as server:
        for asset in assets.values():
            asset["href"] = f"{server.address.replace('//', '//me:SECRET@')}{asset['href'][1:]}?sig=SECRET"
        item = write_item(tmp_path / "item.json", make_item(assets))
        done = run("predict", exported, "--s2", item, "--out", tmp_path / "map.tif")
    assert "its signature may have expired" in str(done.exception)
    assert "SECRET" not in "".join(traceback.format_exception(done.exception)) + done.output
    assert not list(tmp_path.glob("*map*"))


def test_a_map_covers_the_box_that_is_asked_for(tmp_path, exported, scenes, item):
    for given in (item, scenes.s2):
        made("predict", exported, "--s2", given, "--bbox", degrees(240, 120, 480), "--out", tmp_path / "map.tif")
        with rasterio.open(tmp_path / "map.tif") as dataset:
            left, bottom, right, top = dataset.bounds
        assert left <= LEFT + 240 < left + 120
        assert right - 120 < LEFT + 720 <= right
        assert top - 120 < TOP - 120 <= top
        assert bottom <= TOP - 600 < bottom + 120


def test_a_box_off_the_scene_or_smaller_than_a_tile_is_refused(tmp_path, exported, item):
    out = ("--out", tmp_path / "map.tif")
    assert "What --bbox asks for is not on the scenes" in refusal(
        "predict", exported, "--s2", item, "--bbox", "1,2,3,4", *out
    )
    small = refusal("predict", exported, "--s2", item, "--bbox", degrees(240, 120, 100), *out)
    assert "a larger --bbox" in small


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--bbox", "1,2,3"], "--bbox can't be used"),
        (["--bbox", "3,2,1,4"], "west, south, east and north"),
        (["--bbox", "170,2,190,4"], "none beyond the 180th meridian"),
        (["--bbox", "nan,2,3,4"], "--bbox can't be used"),
        (["--search", "https://example.org"], "--bbox W,S,E,N beside it"),
        (["--datetime", "2020-06-01"], "--search ADDRESS beside them"),
        (["--collection", "a"], "--search ADDRESS beside them"),
    ],
)
def test_options_of_a_search_that_can_not_be_used_are_refused(tmp_path, exported, arguments, message):
    assert message in refusal("predict", exported, "--out", tmp_path / "map.tif", *arguments)


@pytest.fixture
def found(monkeypatch, item):
    """What every search of these tests finds."""
    searches = []

    def items(search):
        searches.append(search)
        return read_items(str(item))

    monkeypatch.setattr(stac_search, "_items", items)
    return searches


def test_a_search_finds_the_modalities_that_are_not_given(tmp_path, exported, scenes, found):
    box = degrees(240, 120, 480)
    options = ["--search", "https://example.org", "--bbox", box, "--datetime", "2020-06", "--collection", "a"]
    done = made("predict", exported, "--s1", scenes.s1, *options, "--out", tmp_path / "found.tif")
    assert "search: s2: S2A_33UUP_20200607_0_L2A (2020-06-07); 1 of 1 items cover the place" in done.stderr
    assert (found[0].datetime, found[0].collections) == ("2020-06", ("a",))
    given = ["--s1", scenes.s1, "--s2", scenes.s2, "--bbox", box]
    made("predict", exported, *given, "--out", tmp_path / "given.tif")
    assert (pixels(tmp_path / "found.tif") == pixels(tmp_path / "given.tif")).all()
    assert "--search has nothing to find" in refusal(
        "predict", exported, *given, "--search", "https://example.org", "--out", tmp_path / "map.tif"
    )


def test_embeddings_of_an_item_of_a_search_and_of_files_are_the_same(tmp_path, exported, scenes, item, found):
    box = ["--bbox", degrees(240, 120, 480)]
    for name, given in {
        "files": ["--s2", scenes.s2],
        "item": ["--s2", item],
        "search": ["--search", "https://example.org"],
    }.items():
        made("embed", exported, *given, *box, "--out", tmp_path / f"{name}.parquet")
    tables = [(tmp_path / f"{name}.parquet").read_bytes() for name in ("files", "item", "search")]
    assert tables[0] == tables[1] == tables[2]


def test_a_box_is_not_of_shards(exported, tmp_path):
    options = {"model": str(exported.path), "out": tmp_path / "a.parquet", "stride": None, "is_checked": True}
    with pytest.raises(InputError, match=r"(?s)Shards say themselves.*no --stride or --bbox"):
        write_embeddings(
            **options, files=SceneFiles(bbox=(1.0, 2.0, 3.0, 4.0)), shards=Path("shards"), split=None, index=None
        )


def test_drift_of_an_item_is_that_of_its_files(tmp_path, exported, world, scenes, item):
    reports = []
    for given in (scenes.s2, item):
        done = run("drift", exported, "--s2", given, "--reference", world.reference, "--out", tmp_path / "drift")
        assert done.exit_code in (0, 3), done.exception
        report = json.loads((tmp_path / "drift" / "drift.json").read_text())
        report.pop("sources", None)
        reports.append(report)
    assert np.array_equal(*(json.dumps(report) for report in reports))


def test_the_commands_of_the_page_on_stac_work_as_they_stand(tmp_path, exported, item, found, monkeypatch):
    monkeypatch.chdir(tmp_path)
    shutil.copytree(item.parent / "s2", "s2")
    shutil.copy(item, "item.json")
    page = (Path(__file__).parents[2] / "docs" / "stac.md").read_text(encoding="utf-8")
    commands = re.findall(r"^    fusmae ((?:.*\\\n)*.*)", page, re.MULTILINE)
    assert len(commands) == 2
    for command in commands:
        words = shlex.split(command.replace("\\\n", " "))
        words[words.index("--model") + 1] = str(exported.path)
        words[words.index("--bbox") + 1] = degrees(240, 120, 480)
        done = CliRunner().invoke(app, words)
        assert done.exit_code == 0, done.exception
    assert found[0].collections == ("sentinel-2-l2a",)
