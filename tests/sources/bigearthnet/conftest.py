"""Real pairs in the layouts in which BigEarthNet is published."""

import bz2
import shutil
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import rasterio
from rasterio.transform import from_origin

from fusmae.sources.bigearthnet.source import V1_FOLDERS, V1_LISTS
from fusmae.sources.patches import v2
from fusmae.sources.patches.places import parse_patch_name, utm_corner
from fusmae.sources.sample.source import SampleSource

V1_WORDS = {"train": "train", "validation": "val", "test": "test"}


def write_band(path: Path, pixels: np.ndarray, epsg: int, left: float, top: float) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    side_px = pixels.shape[0]
    with rasterio.open(
        path,
        "w",
        driver="GTiff",
        dtype=pixels.dtype,
        count=1,
        width=side_px,
        height=side_px,
        crs=f"EPSG:{epsg}",
        transform=from_origin(left, top, 1200 / side_px, 1200 / side_px),
    ) as dataset:
        dataset.write(pixels, 1)


@pytest.fixture(scope="session")
def v2_raw(sample_raw: Path, sample_pairs, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The sample's 24 real pairs of v2 as a raw folder of v2, with their rows of the real tables."""
    raw = tmp_path_factory.mktemp("v2") / "raw"
    source = SampleSource()
    for pair in sample_pairs:
        if not pair.files["s2"].startswith("v2_lmdb:"):
            continue
        s1_name = pair.files["s1"].partition(":")[2]
        corner = utm_corner(parse_patch_name(s1_name))
        for band, pixels in source.read(sample_raw, pair).items():
            modality, name = ("s1", s1_name) if band.startswith("V") else ("s2", pair.key)
            write_band(raw / v2.patch_folder(modality, name) / f"{name}_{band}.tif", pixels, *corner)
        # The sample has none: these are made up.
        scene_and_name = Path(v2.patch_folder("s2", pair.key)).relative_to("BigEarthNet-S2")
        reference = raw / "Reference_Maps" / scene_and_name / f"{pair.key}_reference_map.tif"
        write_band(reference, np.full((120, 120), 211, np.uint16), *corner)
    for name in (v2.TABLE, v2.FLAGGED_TABLE):
        shutil.copy(sample_raw / "v2_tables" / name, raw / name)
    return raw


@pytest.fixture
def v2_copy(v2_raw: Path, tmp_path: Path) -> Path:
    """The same, for a test to damage."""
    return Path(shutil.copytree(v2_raw, tmp_path / "v2"))


@pytest.fixture(scope="session")
def v1_raw(sample_raw: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The sample's 6 real pairs of v1 as a raw folder of v1, with their lines of the real lists."""
    raw = tmp_path_factory.mktemp("v1") / "raw"
    names = pd.read_csv(sample_raw / "v1_tables" / "s1_s2_name_country_season.csv.bz2")
    for modality in ("s1", "s2"):
        shutil.copytree(
            sample_raw / "v1_geotiff" / f"BigEarthNet-{modality.upper()}-Example", raw / V1_FOLDERS[modality]
        )
    present = {folder.name for folder in (raw / V1_FOLDERS["s2"]).iterdir()}
    s1_of_s2 = {row.s2_name: row.s1_name for row in names.itertuples() if row.s2_name in present}
    for split, word in V1_WORDS.items():
        listed = bz2.decompress((sample_raw / "v1_tables" / f"{word}.csv.bz2").read_bytes()).decode().split()
        lines = [f"{name},{s1_of_s2[name]}\n" for name in listed if name in present]
        (raw / V1_LISTS[split].name).write_text("".join(lines))
    return raw


@pytest.fixture
def v1_copy(v1_raw: Path, tmp_path: Path) -> Path:
    """The same, for a test to damage."""
    return Path(shutil.copytree(v1_raw, tmp_path / "v1"))


@pytest.fixture(scope="session")
def rewrite() -> Callable[..., None]:
    """Writes a GeoTIFF anew with another profile."""

    def rewritten(path: Path, **changes) -> None:
        with rasterio.open(path) as dataset:
            profile, pixels = {**dataset.profile, **changes}, dataset.read(1)
        with rasterio.open(path, "w", **profile) as dataset:
            dataset.write(pixels[: profile["height"], : profile["width"]].astype(profile["dtype"]), 1)

    return rewritten
