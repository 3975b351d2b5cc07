"""One graph takes tiles with and without some resolutions, if the model learned from such tiles; others need all."""

import json
from functools import partial

import numpy as np
import pyarrow.parquet
import pytest
import torch

import fusmae
from fusmae.cli.scene_files import SceneFiles
from fusmae.cli.write_embeddings import write_embeddings
from fusmae.errors import InputError
from fusmae.inference.scene.scene import open_scenes
from fusmae.inference.session import Session
from fusmae.models.encoder import Encoder
from fusmae.release.export.graph import DeployableEncoder, check_parity, export_onnx
from fusmae.release.export.onnx_file import save_onnx
from fusmae.serving.tile import Upload, read_tile
from tests.inference.conftest import band, make_scenes
from tests.sections import architecture_of, preprocess_of
from tests.serving.test_tile import geotiff


@pytest.fixture(scope="module")
def model(exported):
    """The tiny encoder, as if it had learned from tiles without some resolutions."""
    preprocess = preprocess_of(exported.inputs, exported.preprocess.preprocessing.statistics, may_lack_groups=True)
    torch.manual_seed(0)
    return DeployableEncoder(preprocess, Encoder(architecture_of(preprocess.preprocessing)).eval())


@pytest.fixture(scope="module")
def graph(model, exported, make_once):
    metadata = exported.metadata | {
        "classes": [],
        "outputs": model.outputs,
        "presence_columns": list(model.columns),
    }
    folder = make_once("groups", lambda to: save_onnx(export_onnx(model, opset=17), metadata, to / "model.onnx"))
    return folder / "model.onnx"


@pytest.fixture(scope="module")
def session(graph):
    return Session(graph)


def without(pixels, *names):
    return {name: array for name, array in pixels.items() if name not in names}


def test_parity_is_checked_with_each_group_missing(model, session, exported):
    pixels = exported.pixels(3)
    assert session.groups == ("s2_10m", "s2_20m")
    report = check_parity(
        session,
        model.reference,
        lambda rows: {name: array[list(rows)] for name, array in pixels.items()},
        3,
        max_abs_error=1e-4,
    )
    settings = {(tuple(row["modalities"]), row.get("without", "")) for row in report["checks"]}
    assert settings == {
        (("s1", "s2"), ""),
        (("s1",), ""),
        (("s2",), ""),
        (("s1", "s2"), "s2_10m"),
        (("s1", "s2"), "s2_20m"),
    }


@pytest.mark.parametrize("missing", [("s2_20m",), ("s2_10m",), ("s2_20m", "s1_10m")])
def test_a_missing_array_counts_as_its_bands_means(session, exported, missing):
    pixels = exported.pixels(2)
    statistics = exported.preprocess.preprocessing.statistics
    at_mean = {
        item.name: np.broadcast_to(
            np.array([statistics[item.modality][band].mean for band in item.bands], np.float32)[:, None, None],
            pixels[item.name].shape,
        )
        for item in exported.inputs
        if item.name in missing and item.modality == "s2"
    }
    found = session.run(without(pixels, *missing), outputs=["embedding"])["embedding"]
    expected = session.run(without(pixels, *missing) | at_mean, outputs=["embedding"])["embedding"]
    np.testing.assert_allclose(found, expected, atol=1e-5)
    if missing == ("s2_20m",):
        assert np.abs(found - session.run(pixels, outputs=["embedding"])["embedding"]).max() > 1e-3


def test_arrays_of_an_absent_group_may_hold_anything(session, exported):
    pixels = {name: array.astype(np.float32) for name, array in exported.pixels(2).items()}
    feeds = pixels | {"presence": np.array([[1, 1, 0]] * 2, np.float32)}
    feeds["s2_20m"] = np.full_like(feeds["s2_20m"], np.nan)
    found = session._session.run(["embedding"], feeds)[0]
    np.testing.assert_allclose(found, session.run(without(pixels, "s2_20m"))["embedding"], atol=1e-5)


def test_a_model_that_needs_all_groups_says_how_to_train_one_that_does_not(exported):
    with pytest.raises(InputError, match=r"Array s2_20m is missing(?s:.*)pretrain\.group_drop"):
        exported.session.run(without(exported.pixels(1), "s2_20m"))


def test_in_python_a_resolution_may_be_left_out(graph, session, exported):
    encoder, pixels = fusmae.load(graph), exported.pixels(2)
    assert encoder.may_lack_groups
    found = encoder.embed(s1=pixels["s1_10m"], s2={10: pixels["s2_10m"]})
    np.testing.assert_array_equal(found, session.run(without(pixels, "s2_20m"))["embedding"])
    with pytest.raises(InputError, match="other ground sampling distances"):
        encoder.embed(s2={30: pixels["s2_10m"]})
    with pytest.raises(InputError, match="other ground sampling distances"):
        fusmae.load(exported.path).embed(s2={10: pixels["s2_10m"]})


def test_metadata_name_the_columns_of_presence(session):
    assert json.loads(json.dumps(session.metadata))["presence_columns"] == ["s1_10m", "s2_10m", "s2_20m"]


def test_a_scene_without_a_resolution_is_embedded_as_its_tiles_are_without_it(tmp_path, graph, session):
    scenes = make_scenes(tmp_path / "scenes")
    next(scenes.s2.glob("*_B05.tif")).unlink()
    embed = partial(write_embeddings, stride=None, is_checked=True, shards=None, split=None, index=None)
    files = SceneFiles({"s1": (scenes.s1,), "s2": (scenes.s2,)})
    said = embed(model=str(graph), files=files, out=tmp_path / "tiles.parquet")
    assert "s2_20m: the scene has no B05; the model goes on without them" in said
    table = pyarrow.parquet.read_table(tmp_path / "tiles.parquet")
    first = {
        "s1_10m": np.stack([band(name, 720, 960)[:24, :24] for name in ("VV", "VH")])[None],
        "s2_10m": np.stack([band(name, 720, 960)[:24, :24] for name in ("B02", "B03")])[None],
    }
    np.testing.assert_allclose(table["embedding"][0].as_py(), session.run(first)["embedding"][0], atol=1e-4)


def test_a_scene_that_lacks_a_part_of_a_resolution_or_all_bands_is_refused(tmp_path, session, exported):
    scenes = make_scenes(tmp_path / "scenes")
    b03 = next(scenes.s2.glob("*_B03.tif"))
    b03.unlink()
    with pytest.raises(InputError, match="lacks band B03"):
        open_scenes(session.inputs, {"s2": [scenes.s2]}, {}, groups=session.groups)
    next(scenes.s2.glob("*_B02.tif")).unlink()
    found = open_scenes(session.inputs, {"s2": [scenes.s2]}, {}, groups=session.groups)
    assert list(found["s2"].bands) == ["B05"]
    with pytest.raises(InputError, match="lacks bands B02, B03"):
        open_scenes(exported.session.inputs, {"s2": [scenes.s2]}, {}, groups=exported.session.groups)
    next(scenes.s2.glob("*_B05.tif")).rename(scenes.s2 / "other.tif")
    with pytest.raises(InputError, match="lacks bands B02, B03, B05"):
        open_scenes(session.inputs, {"s2": [scenes.s2]}, {}, groups=session.groups)


def test_the_service_takes_tiles_without_a_resolution_and_says_so(session, exported):
    pixels = exported.pixels(1)
    s1 = geotiff(dict(zip(("VV", "VH"), pixels["s1_10m"][0], strict=True)))
    s2 = geotiff(dict(zip(("B02", "B03"), pixels["s2_10m"][0], strict=True)))
    files = {"s1": [Upload("s1.tif", s1)], "s2": [Upload("s2.tif", s2)]}
    tiles = read_tile(files, session.inputs, session.groups)
    assert set(tiles.pixels) == {"s1_10m", "s2_10m"}
    assert tiles.warnings == ("s2 has no B05: the tile is answered without them",)
    np.testing.assert_allclose(
        session.run(tiles.pixels)["embedding"], session.run(without(pixels, "s2_20m"))["embedding"], atol=1e-5
    )
    with pytest.raises(InputError, match="s2 lacks B05"):
        read_tile(files, exported.inputs)
