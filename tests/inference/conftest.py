"""Scenes for the tiny exported model: tiles of 240 m, S1 at 10 m, S2 at 10 and 20 m."""

from dataclasses import dataclass
from functools import cache
from pathlib import Path

import numpy as np
import onnx
import onnx.parser
import pytest
import rasterio
from rasterio.transform import from_origin

from fusmae.config.task import Task, Value
from fusmae.inference.map.predict import Model
from fusmae.inference.session import Session
from fusmae.modalities import modality_inputs
from fusmae.release.export.onnx_file import save_onnx
from tests.conftest import EXPORTED_MODALITIES

UTM = "EPSG:32633"
LEFT, TOP = 400_020.0, 5_340_060.0
GSD_M = {"VV": 10, "VH": 10, "B02": 10, "B03": 10, "B05": 20}


def write_raster(path, pixels, *, names=None, gsd_m=10.0, left=LEFT, top=TOP, crs=UTM, **options):
    """Write `[C, h, w]` pixels with bands named by description."""
    path.parent.mkdir(parents=True, exist_ok=True)
    profile = {"driver": "GTiff", "transform": from_origin(left, top, gsd_m, gsd_m), "crs": crs} | options
    count, height, width = pixels.shape
    with rasterio.open(path, "w", count=count, height=height, width=width, dtype=pixels.dtype, **profile) as dataset:
        dataset.write(pixels)
        if names:
            dataset.descriptions = names
    return path


def band(name, height_m, width_m, seed=0):
    """Pixels of a band with something to see in them, `[h, w]`."""
    gsd_m = GSD_M[name]
    rows, columns = np.mgrid[: height_m // gsd_m, : width_m // gsd_m] * gsd_m
    wave = np.sin(rows / 170 + len(name)) + np.cos(columns / 230)
    noise = np.random.default_rng([seed, *name.encode()]).normal(0, 1, rows.shape)
    if name in ("VV", "VH"):
        return ({"VV": -11, "VH": -18}[name] + 2 * wave + noise).astype(np.float32)
    return np.clip(900 + 350 * wave + 60 * noise, 30, None).astype(np.uint16)


@dataclass
class Scenes:
    """Files of a scene of both sensors."""

    s1: Path
    s2: Path
    height_m: int
    width_m: int

    @property
    def paths(self):
        return {"s1": [self.s1], "s2": [self.s2]}


def make_scenes(folder, height_m=720, width_m=960, **options):
    """S1 as one file of two bands, S2 as a folder with a file a band at its own resolution."""
    pixels = {name: band(name, height_m, width_m) for name in GSD_M}
    s1 = write_raster(folder / "s1.tif", np.stack([pixels["VV"], pixels["VH"]]), names=("VV", "VH"), **options)
    for name in ("B02", "B03", "B05"):
        path = folder / "s2" / f"T33UUP_20200607T101031_{name}.tif"
        write_raster(path, pixels[name][None], gsd_m=GSD_M[name], **options)
    return Scenes(s1, folder / "s2", height_m, width_m)


@pytest.fixture
def scenes(tmp_path):
    return make_scenes(tmp_path / "scenes")


@pytest.fixture(scope="session")
def model(exported):
    return Model(exported.session, "tiny/1", "0" * 64)


VALUE = {"name": "biomass", "unit": "t/ha", "min": 0.0, "max": 500.0}
TASKS = {
    "segmentation": Task(kind="segmentation", classes=("water", "forest", "town")),
    "values": Task(kind="regression", value=Value(**VALUE, per="pixel")),
    "value": Task(kind="regression", value=Value(**VALUE)),
    "multiclass": Task(kind="multiclass", classes=("water", "forest", "town")),
}


# One number per pixel from each modality's first band, and from the sensors that are there their mean.
_GRAPH = """
<ir_version: 8, opset_import: ["": 17]>
made (float[B,2,24,24] s1_10m, float[B,2,24,24] s2_10m, float[B,1,12,12] s2_20m, float[B,2] presence)
=> ({outputs})
{{
    first = Constant <value_ints: ints = [1, 1]> ()
    s1, s1_rest = Split <axis: int = 1> (s1_10m, first)
    s2, s2_rest = Split <axis: int = 1> (s2_10m, first)
    p1_flat, p2_flat = Split <axis: int = 1> (presence, first)
    axes = Constant <value_ints: ints = [2, 3]> ()
    p1 = Unsqueeze (p1_flat, axes)
    p2 = Unsqueeze (p2_flat, axes)
    s1_mean = Constant <value_float: float = -12.0> ()
    s1_std = Constant <value_float: float = 5.0> ()
    s2_mean = Constant <value_float: float = 900.0> ()
    s2_std = Constant <value_float: float = 400.0> ()
    s1_off = Sub (s1, s1_mean)
    s1_unit = Div (s1_off, s1_std)
    s2_coarse = ReduceMean <axes: ints = [2, 3]> (s2_20m)
    s2_both = Add (s2, s2_coarse)
    s2_two = Add (s2_mean, s2_mean)
    s2_off = Sub (s2{both}, s2_{means})
    s2_unit = Div (s2_off, s2_std)
    s1_there = Mul (s1_unit, p1)
    s2_there = Mul (s2_unit, p2)
    sum = Add (s1_there, s2_there)
    count = Add (p1, p2)
    pixel = {pixel}
    scaled = Mul (pixel, slope)
    raw = Add (scaled, place)
    {answer}
}}
"""
_ANSWERS = {
    "map": "map = Softmax <axis: int = 1> (raw)",
    "pixels": "value = Clip (raw, low, high)",
    "value": "tile = ReduceMean <axes: ints = [2, 3], keepdims: int = 0> (raw)\n    value = Clip (tile, low, high)",
    "probabilities": "logits = ReduceMean <axes: ints = [2, 3], keepdims: int = 0> (raw)\n"
    "    probabilities = Softmax <axis: int = 1> (logits)",
}


def graph_of(task, follows=""):
    """A graph whose answers depend on the pixels and on the place in the tile, made in no time.

    With `follows`, a modality, they depend on the pixels of its first band alone: those below the mean have the first
    class, those above it the second.
    """
    num = task.num_outputs
    shape = f"{num},24,24" if task.is_dense else f"{num}"
    names = ["logits", "probabilities"] if task.kind == "multiclass" else ["value" if task.value else "map"]
    outputs = ", ".join(f"float[B,{shape}] {name}" for name in names)
    kind = "pixels" if task.value and task.is_dense else names[-1]
    pixel = f"Identity ({follows}_unit)" if follows else "Div (sum, count)"
    both, means = ("", "mean") if follows else ("_both", "two")
    text = _GRAPH.format(outputs=outputs, pixel=pixel, both=both, means=means, answer=_ANSWERS[kind])
    graph = onnx.parser.parse_model(text)
    rows, columns = np.mgrid[:24, :24] / 24
    slope = np.array([-50.0, 50.0] if follows else np.linspace(0.5, 1.0, num) * (40 if task.value else 1))
    place = np.array([(np.sin(3 * rows + number) + columns**2) for number in range(num)]) * (0 if follows else 1)
    arrays = {"slope": slope.reshape(1, num, 1, 1), "place": place[None] * (40 if task.value else 1)}
    if task.value:
        arrays = {**arrays, "place": arrays["place"] + 100, "low": np.array(0.0), "high": np.array(500.0)}
    for name, array in arrays.items():
        graph.graph.initializer.append(onnx.numpy_helper.from_array(array.astype(np.float32), name))
    return graph


@pytest.fixture(scope="session")
def model_of(tmp_path_factory):
    """Models of other tasks than `model`'s by name: those of `TASKS`, and `follows_s1` and `follows_s2`."""

    @cache
    def make(name):
        follows = name.removeprefix("follows_") if name not in TASKS else ""
        task = TASKS.get(name, Task(kind="segmentation", classes=("below", "above")))
        inputs = [item.model_dump(mode="json") for item in modality_inputs(EXPORTED_MODALITIES, 240)]
        metadata = {"inputs": inputs, "modalities": ["s1", "s2"]}
        metadata |= {"task": task.model_dump(mode="json"), "classes": list(task.classes)}
        path = tmp_path_factory.mktemp(name) / "model.onnx"
        save_onnx(graph_of(task, follows), metadata, path)
        return Model(Session(path), f"{name}/1", "0" * 64)

    return make
