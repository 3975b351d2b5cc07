"""`fusmae tile` as a command: what it prints, what its options mean, and that `data=folder` takes what it wrote."""

import json

import numpy as np
import pyogrio
import pytest
import shapely
import yaml
from typer.testing import CliRunner

from fusmae.cli import app, call
from fusmae.cli.call import global_options
from fusmae.cli.cut_scenes import class_names
from fusmae.config.composition import compose
from fusmae.config.params import load_config
from fusmae.data.index import SPLITS
from fusmae.errors import ConfigError, InputError
from fusmae.sources import open_source
from fusmae.stages.fetch import fetch
from fusmae.stages.index import index
from tests.cli.conftest import ROOT
from tests.inference.conftest import LEFT, TOP, UTM, make_scenes, write_raster

SIDE_M = 2400
MODALITIES = {
    "s1": {"units": "dB", "groups": [{"gsd_m": 10, "bands": ["VV", "VH"]}]},
    "s2": {"units": "DN", "groups": [{"gsd_m": 10, "bands": ["B02", "B03"]}, {"gsd_m": 20, "bands": ["B05"]}]},
}


@pytest.fixture(scope="module")
def made(tmp_path_factory):
    """A scene and fields in the west of it."""
    folder = tmp_path_factory.mktemp("scene")
    shapes = [shapely.box(LEFT, TOP - SIDE_M, LEFT + 700, TOP), shapely.box(LEFT + 700, TOP - SIDE_M, LEFT + 1800, TOP)]
    pyogrio.raw.write(
        folder / "fields.gpkg",
        shapely.to_wkb(np.array(shapes, object)),
        [np.array(["maize", "wheat"], object)],
        ["crop"],
        crs=UTM,
        geometry_type="Polygon",
    )
    return make_scenes(folder, SIDE_M, SIDE_M)


@pytest.fixture
def project(tmp_path, monkeypatch):
    """A folder with params.yaml, to run commands in."""
    params = yaml.safe_load((ROOT / "params.yaml").read_text(encoding="utf-8"))
    params["data"] |= {"modalities": MODALITIES, "tile_m": 240}
    params["data"]["source"] = {"name": "folder", "classes": [], "s2_offset": 0}
    (tmp_path / "params.yaml").write_text(yaml.safe_dump(params, sort_keys=False), encoding="utf-8")
    (tmp_path / "conf").symlink_to(ROOT / "conf")
    for name in ("keep_freed_memory", "exclude_this_machine"):
        monkeypatch.setattr(call, name, lambda: None)
    monkeypatch.setattr(global_options, "params", tmp_path / "params.yaml")
    monkeypatch.chdir(tmp_path)
    return tmp_path


def tile(made, *arguments):
    done = CliRunner().invoke(
        app, ["tile", "--s1", str(made.s1), "--s2", str(made.s2), "--block", "960", *map(str, arguments)]
    )
    if done.exception and not isinstance(done.exception, SystemExit):
        raise done.exception
    return done


def test_data_folder_needs_no_edit_after_scenes_were_cut(made, project):
    done = tile(made, "--labels", made.s1.with_name("fields.gpkg"), "--class-column", "crop")
    assert done.exit_code == 0, done.output
    assert "next: dvc exp run -S data=folder examine" in done.output
    assert "wrote data/raw/folder/tiles_T33UUP_20200607T101031.png" in done.output
    compose(project, ["data=folder"])
    config = load_config(project / "params.yaml")
    assert config.data.source.classes == ["maize", "wheat"]
    assert config.data.tile_m == 240
    assert yaml.safe_load((project / "params.yaml").read_text())["data"]["modalities"] == MODALITIES
    raw = project / "data" / "raw"
    fetch(config.data, config.runtime, downloads=project / "downloads", raw=raw, receipt=project / "raw.json")
    index(config.data, raw=raw, out=project / "index.parquet")


KINDS = {
    "segmentation": ["--labels", "fields.gpkg", "--class-column", "crop", "--kind", "segmentation"],
    "multiclass": ["--labels", "fields.gpkg", "--class-column", "crop", "--kind", "multiclass"],
    "regression": [
        *("--labels", "heights.tif", "--kind", "regression"),
        *("--value", "height", "--unit", "m", "--per", "pixel"),
    ],
}


@pytest.mark.parametrize(("kind", "arguments"), KINDS.items(), ids=KINDS)
def test_data_folder_takes_the_kind_of_labels_that_scenes_were_cut_with(made, project, kind, arguments):
    heights = np.arange(SIDE_M // 10, dtype=np.float32)[None, None].repeat(SIDE_M // 10, axis=1)
    write_raster(made.s1.with_name("heights.tif"), heights)
    labels = [made.s1.with_name(word) if "." in word else word for word in arguments]
    assert tile(made, *labels).exit_code == 0
    compose(project, ["data=folder"])
    data = load_config(project / "params.yaml").data
    assert data.kind == kind
    assert data.source.classes == ([] if kind == "regression" else ["maize", "wheat"])
    if kind == "regression":
        assert (data.source.value.title, data.source.value.per) == ("height (m)", "pixel")
    raw = project / "data" / "raw"
    fetch(data, load_config(project / "params.yaml").runtime, downloads=raw, raw=raw, receipt=project / "raw.json")
    index(data, raw=raw, out=project / "index.parquet")
    source = open_source("folder", data.source.settings, data.inputs, kind)
    if source.task.is_dense:
        assert all(source.read_map(raw / "folder", pair).shape == (24, 24) for pair in source.pairs(raw / "folder")[:3])


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["--kind", "regression"], "Pairs of kind regression need labels"),
        (["--labels", "fields.gpkg", "--kind", "regression"], r"A regression needs a quantity(.|\n)*--value biomass"),
        (["--labels", "fields.gpkg", "--kind", "regression", "--value", "height"], "are the numbers of a raster"),
        (
            ["--labels", "fields.gpkg", "--class-column", "crop", "--unit", "m"],
            "describe a quantity, which has no name",
        ),
        (
            ["--labels", "fields.gpkg", "--class-column", "crop", "--value", "h"],
            "describe the quantity of a regression",
        ),
    ],
)
def test_options_of_labels_that_don_t_go_together_are_refused(made, project, arguments, said):
    with pytest.raises(InputError, match=said):
        tile(made, *(made.s1.with_name(word) if "." in word else word for word in arguments))


def test_the_table_counts_labels_by_split(made, project):
    done = tile(made, "--labels", made.s1.with_name("fields.gpkg"), "--class-column", "crop")
    counts = json.loads((project / "data/raw/folder/tiles.json").read_text(encoding="utf-8"))
    for name, numbers in {"pairs": counts["pairs"], **counts["labels"]}.items():
        (line,) = (line for line in done.output.splitlines() if f" {name} " in line and "│" in line)
        shown = [cell.strip() for cell in line.strip("│").split("│")]
        assert shown == [name, *(str(numbers[split]) for split in SPLITS), str(sum(numbers.values()))]


def test_bands_that_a_scene_lacks_are_left_out_of_pairs_and_parameters(made, project):
    (made.s2 / "T33UUP_20200607T101031_B05.tif").rename(project / "kept.tif")
    try:
        with pytest.raises(InputError, match="lacks band B05"):
            tile(made)
        tile(made, "--without", "B05", "--name", "few")
    finally:
        (project / "kept.tif").rename(made.s2 / "T33UUP_20200607T101031_B05.tif")
    section = yaml.safe_load((project / "data/raw/folder/folder.yaml").read_text(encoding="utf-8"))
    assert section["modalities"]["s2"]["groups"] == [{"gsd_m": 10, "bands": ["B02", "B03"]}]
    assert not list((project / "data/raw/folder/s2").glob("*_20m.tif"))


def test_an_empty_split_is_said_with_what_helps(made, project):
    done = tile(made, "--block", "240000")
    assert "which training needs" in done.output
    assert "--block" in done.output
    assert "next:" not in done.output


@pytest.mark.parametrize(
    ("arguments", "match"),
    [
        (["--class-column", "crop"], "there are none"),
        (["--shares", "70,30"], "--shares can't be used.*three numbers"),
        (["--shares", "70,30,0"], "--shares can't be used"),
        (["--without", "B42"], "--without names B42.*B02"),
        (["--name", "../up"], "--name can't be a part of file names"),
        (["--labels", "x.tif", "--classes", "water"], "--classes can't be used.*VALUE=NAME"),
        (["--labels", "x.tif"], "There are no labels at x.tif"),
    ],
)
def test_options_that_can_t_be_used_are_refused(made, project, arguments, match):
    with pytest.raises(InputError, match=f"(?s){match}"):
        tile(made, *arguments)
    assert not (project / "data").exists()


def test_names_of_classes_come_from_options_and_files(tmp_path):
    path = tmp_path / "legend.json"
    path.write_text('{"2": "forest", "10": "town"}', encoding="utf-8")
    assert class_names(["1=water", str(path)]) == {"1": "water", "2": "forest", "10": "town"}
    with pytest.raises(InputError, match="names a value twice"):
        class_names(["2=water", str(path)])
    path.write_text('["forest"]', encoding="utf-8")
    with pytest.raises(InputError, match="holds no names"):
        class_names([str(path)])
    with pytest.raises(InputError, match="can't be read"):
        class_names([str(tmp_path / "none.json")])


def test_a_missing_package_is_named_with_the_extra_that_has_it(monkeypatch):
    monkeypatch.setattr(call, "find_spec", lambda name: None if name == "pyogrio" else name)
    with pytest.raises(ConfigError, match=r"(?s)fusmae tile.*no pyogrio.*extra `train`"):
        call.require_packages("tile")
