"""Scenes for the tiny exported model: tiles of 240 m, S1 at 10 m, S2 at 10 and 20 m."""

from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pytest
import rasterio
from rasterio.transform import from_origin

from fusmae.inference.map.predict import Model

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
