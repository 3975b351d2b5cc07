"""`fusmae drift` on scenes like those that its reference was made from, and on others; a real registry."""

import json
import re
import shutil
from zlib import crc32

import numpy as np
import onnx
import pytest
import rasterio

from fusmae.cli.compare_scenes import compare_scenes
from fusmae.cli.scene_files import SceneFiles
from fusmae.config.task import Task
from fusmae.data.shard_writer import write_shards
from fusmae.errors import ExportError, InputError
from fusmae.files import file_sha256
from fusmae.inference.drift import reference as reference_module
from fusmae.inference.drift.distance import MIXTURE, NOVELTY
from fusmae.inference.drift.reference import REFERENCE, save_reference
from fusmae.inference.scene.scene import Reading
from fusmae.release.drift_reference import make_reference
from fusmae.release.export.onnx_file import write_graph
from fusmae.release.registry.versions import register_graph
from tests.cli.conftest import CLASSES, TILE_M, contents, fusmae
from tests.inference.conftest import GSD_M, LEFT, TOP, band, make_scenes

REPORT = ["drift.html", "drift.json"]


@pytest.fixture(scope="session")
def judged(exported, world, config):
    """`compare_scenes` with the tiny model and its reference; any argument may be given."""

    def run(out, scenes=None, **arguments):
        files = SceneFiles({"s1": (scenes.s1,), "s2": (scenes.s2,)}) if scenes else None
        others = {"model": str(exported.path), "files": files, "reference": world.reference, "is_checked": True}
        is_drift, text = compare_scenes(**({"config": config, "out": out} | others | arguments))
        found = json.loads((out / "drift.json").read_text(encoding="utf-8"))
        assert found["verdict"] == ("drift" if is_drift else "alike")
        return is_drift, text, found

    return run


def changed(paths, change):
    for path in paths:
        with rasterio.open(path, "r+") as dataset:
            dataset.write(change(dataset.read()).astype(dataset.dtypes[0]))


def brighter(pixels):
    return pixels + 1000


def linear(pixels):
    return 10 ** (pixels / 10)


def beyond(found):
    return {measure["name"] for measure in found["measures"] if measure["is_beyond"]}


def command(exported, scenes, reference, out):
    options = ("--model", exported.path, "--s1", scenes.s1, "--s2", scenes.s2, "--out", out)
    return fusmae("drift", *options, *(("--reference", reference) if reference else ()))


def test_the_command_ends_with_0_for_scenes_that_are_alike(tmp_path, exported, scenes, world):
    done = command(exported, scenes, world.reference, tmp_path / "out")
    assert done.returncode == 0, done.stderr
    assert done.stdout.startswith("alike: model.onnx, 12 tiles compared with 120 of 120 training tiles")
    assert sorted(contents(tmp_path / "out")) == REPORT


def test_the_command_ends_with_3_for_scenes_that_drift(tmp_path, exported, scenes, world):
    changed(scenes.s2.iterdir(), brighter)
    done = command(exported, scenes, world.reference, tmp_path / "out")
    assert done.returncode == 3, done.stderr
    assert done.stdout.startswith("DRIFT: model.onnx")
    assert all(f"s2 {name}: " in done.stdout for name in ("B02", "B03", "B05"))
    assert "s1 VV: " not in done.stdout
    assert sorted(contents(tmp_path / "out")) == REPORT


def absent(world, folder):
    return folder / "none.npz"


def of_another_model(world, folder):
    with np.load(world.reference) as found:
        arrays = dict(found)
    head = json.loads(str(arrays["head"])) | {reference_module._GRAPH_KEY: "0" * 64}
    np.savez(folder / "other.npz", **(arrays | {"head": np.array(json.dumps(head))}))
    return folder / "other.npz"


@pytest.mark.parametrize(("make", "named"), [(absent, "no reference at"), (of_another_model, "another model")])
def test_the_command_ends_with_1_where_nothing_was_compared(tmp_path, exported, scenes, world, make, named):
    done = command(exported, scenes, make(world, tmp_path), tmp_path / "out")
    assert done.returncode == 1
    assert named in done.stderr
    assert "Traceback" not in done.stderr
    assert not (tmp_path / "out").exists()


def test_a_plain_file_needs_its_reference_named(tmp_path, judged, scenes):
    with pytest.raises(InputError, match=r"plain file(.|\n)*--reference models/reference\.npz"):
        judged(tmp_path / "out", scenes, reference=None)
    assert not (tmp_path / "out").exists()


def test_the_report_names_every_band_and_stands_alone(tmp_path, judged, scenes):
    _, _, found = judged(tmp_path / "out", scenes)
    assert [measure["name"] for measure in found["measures"]] == [*GSD_M, MIXTURE, NOVELTY]
    assert found["sources"] == [*sorted(path.name for path in scenes.s2.iterdir()), "s1.tif"]
    assert found["crs"] == "EPSG:32633"
    html = (tmp_path / "out" / "drift.html").read_text(encoding="utf-8")
    assert not re.search(r"https?://|\bsrc=|\bhref=|@import|url\(", html)
    assert all(f"<b>{name}</b>" in html for name in GSD_M)


@pytest.mark.parametrize("modality", ["s1", "s2"])
def test_one_sensor_alone_is_compared_by_its_own_bands(tmp_path, judged, scenes, modality):
    files = SceneFiles({modality: tuple(scenes.paths[modality])})
    is_drift, _, found = judged(tmp_path / "out", files=files)
    assert not is_drift
    assert {measure["modality"] for measure in found["measures"]} == {modality, ""}
    assert found["setting"] == modality


@pytest.mark.parametrize("is_checked", [True, False])
def test_linear_power_is_a_fault_of_units_beside_its_bands(tmp_path, judged, scenes, is_checked):
    changed([scenes.s1], linear)
    is_drift, text, found = judged(tmp_path / "out", scenes, is_checked=is_checked)
    assert is_drift
    assert ("looks like linear power" in found["unit_faults"]) == is_checked
    assert ("looks like linear power" in text) == is_checked
    assert ("looks like linear power" in (tmp_path / "out" / "drift.html").read_text(encoding="utf-8")) == is_checked
    assert {"VV", "VH"} <= beyond(found)
    assert not beyond(found) & {"B02", "B03", "B05"}


def test_what_the_options_mend_is_alike(tmp_path, judged, scenes):
    changed([scenes.s1], linear)
    changed(scenes.s2.iterdir(), brighter)
    files = SceneFiles(
        {"s1": (scenes.s1,), "s2": (scenes.s2,)}, {"s1": Reading(units="power"), "s2": Reading(offset=1000)}
    )
    is_drift, _, found = judged(tmp_path / "out", files=files)
    assert not is_drift, found["measures"]


def test_about_as_many_tiles_are_looked_at_as_params_say(tmp_path, judged, scenes, config):
    few = config.model_copy(update={"drift": config.drift.model_copy(update={"max_tiles": 4})})
    _, _, found = judged(tmp_path / "out", scenes, config=few)
    assert (found["num_tiles"], found["num_drawn"], found["thresholds"]["max_tiles"]) == (4, 4, 4)
    assert any("with 4 tiles the limits are wide" in caveat for caveat in found["caveats"])


def test_no_ground_is_counted_twice_where_the_scene_is_no_multiple_of_a_tile(tmp_path, judged):
    scenes = make_scenes(tmp_path / "in", 840, 1080)
    _, _, found = judged(tmp_path / "out", scenes)
    assert found["num_tiles"] == 3 * 4
    corners = {(tile["left"], tile["top"]) for tile in found["strangest"]}
    assert len(corners) == 10
    assert all((left - LEFT) % 240 == (TOP - top) % 240 == 0 for left, top in corners)


def test_a_band_that_is_the_same_everywhere_in_training_is_measured_in_its_own_units(
    tmp_path, judged, exported, scenes, world
):
    def read(pair):
        pixels = {name: band(name, TILE_M, TILE_M, seed=crc32(pair.key.encode())) for name in GSD_M}
        return pixels | {"B05": np.full_like(pixels["B05"], 700)}

    write_shards(
        world.pairs, read, tmp_path / "shards", inputs=exported.inputs, task=Task(classes=CLASSES), shard_pairs=500
    )
    kept = {"train_tiles": 40, "validation_tiles": 40, "tiles_per_scene": 12, "seed": 0}
    made = make_reference(exported.session, file_sha256(exported.path), tmp_path / "shards", world.pairs, **kept)
    save_reference(made, tmp_path / "reference.npz")
    changed(scenes.s2.glob("*B05*"), lambda pixels: np.full_like(pixels, 1700))
    _, _, found = judged(tmp_path / "out", scenes, reference=tmp_path / "reference.npz")
    values = {measure["name"]: measure["value"] for measure in found["measures"]}
    assert values["B05"] == 1000
    assert "B05" in beyond(found)
    assert all(np.isfinite([measure["value"], measure["limit"]]).all() for measure in found["measures"])


def test_the_same_scenes_give_the_same_report(tmp_path, judged, scenes):
    for name in ("one", "two"):
        judged(tmp_path / name, scenes)
    assert contents(tmp_path / "one") == contents(tmp_path / "two")


def truncated(scenes):
    path = next(scenes.s2.glob("*B03*"))
    with path.open("r+b") as file:
        file.truncate(path.stat().st_size // 4 * 3)


def without_data(scenes):
    changed([scenes.s1, *scenes.s2.iterdir()], np.zeros_like)


@pytest.mark.parametrize(("damage", "named"), [(truncated, "cut short"), (without_data, "no tile with data")])
@pytest.mark.parametrize("is_checked", [True, False])
def test_bad_scenes_leave_an_older_report_as_it_was(tmp_path, judged, damage, named, is_checked):
    scenes = make_scenes(tmp_path / "in", compress="deflate", tiled=True, blockxsize=16, blockysize=16)
    judged(tmp_path / "out", scenes)
    older = contents(tmp_path / "out")
    damage(scenes)
    with pytest.raises(InputError, match=named):
        judged(tmp_path / "out", scenes, is_checked=is_checked)
    assert contents(tmp_path / "out") == older


def test_a_file_cut_short_beside_the_rows_that_are_compared_is_an_error_and_no_drift(tmp_path, judged, config):
    scenes = make_scenes(tmp_path / "in", 9600, 480, compress="deflate", tiled=True, blockxsize=16, blockysize=16)
    path = next(scenes.s2.glob("*B03*"))
    # The rows that are compared end at 78 % of the scene; of the tiles whose units are checked one lies behind.
    with path.open("r+b") as file:
        file.truncate(path.stat().st_size * 81 // 100)
    few = config.model_copy(update={"drift": config.drift.model_copy(update={"max_tiles": 4})})
    judged(tmp_path / "unchecked", scenes, config=few, is_checked=False)
    with pytest.raises(InputError, match="cut short"):
        judged(tmp_path / "out", scenes, config=few)
    assert not (tmp_path / "out").exists()


def test_a_graph_without_an_embedding_is_refused(tmp_path, judged, exported, scenes):
    graph = onnx.load(exported.path)
    (output,) = (item for item in graph.graph.output if item.name == "embedding")
    graph.graph.output.remove(output)
    write_graph(graph, tmp_path / "older.onnx")
    with pytest.raises(ExportError, match=r"older\.onnx gives no embedding"):
        judged(tmp_path / "out", scenes, model=str(tmp_path / "older.onnx"))


def test_a_registered_version_brings_its_own_reference(tmp_path, judged, exported, scenes, world, monkeypatch):
    """Version 1 was registered without one."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("MLFLOW_TRACKING_URI", raising=False)
    facts = {"tags": {}, "experiment": "test"}
    older = onnx.load(exported.path)
    older.doc_string = "older"
    write_graph(older, tmp_path / "older.onnx")
    shutil.copy(world.reference, tmp_path / REFERENCE)
    for path, extra in ((tmp_path / "older.onnx", []), (exported.path, [tmp_path / REFERENCE])):
        shutil.copy(path, tmp_path / "model.onnx")
        register_graph("tiny", tmp_path / "model.onnx", extra_files=extra, run_file=tmp_path / "none.json", **facts)
    is_drift, text, found = judged(tmp_path / "out", scenes, model="tiny/2", reference=None)
    assert not is_drift
    assert text.startswith("alike: tiny/2")
    assert found["model"] == "tiny/2"
    with pytest.raises(InputError, match=r"tiny/1 was registered without a reference"):
        judged(tmp_path / "out", scenes, model="tiny/1", reference=None)
