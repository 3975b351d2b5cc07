import shutil
from pathlib import Path

import numpy as np
import pytest
import rasterio

from fusmae.errors import PairError
from fusmae.modalities import BIGEARTHNET
from fusmae.sources.patches.geotiff import read_pair_folders

KEY = "S2A_MSIL2A_20170617T113321_4_55"


@pytest.fixture
def folders(sample_raw: Path, tmp_path: Path) -> dict[str, Path]:
    """A copy of one real pair that a test may damage."""
    found = {"s1": "BigEarthNet-S1-Example/S1A_IW_GRDH_1SDV_20170617T064724_29UPU_4_55"}
    found["s2"] = f"BigEarthNet-S2-Example/{KEY}"
    return {
        modality: Path(shutil.copytree(sample_raw / "v1_geotiff" / name, tmp_path / Path(name).name))
        for modality, name in found.items()
    }


def band_path(folder: Path, band: str) -> Path:
    return folder / f"{folder.name}_{band}.tif"


def rewritten(path: Path, **changes) -> None:
    with rasterio.open(path) as dataset:
        profile, pixels = {**dataset.profile, **changes}, dataset.read()
    with rasterio.open(path, "w", **profile) as dataset:
        dataset.write(pixels[: profile["count"]] if profile["count"] == 1 else np.repeat(pixels, 2, axis=0))


def test_a_real_pair_is_read_band_by_band(folders):
    bands = read_pair_folders(KEY, folders)
    assert list(bands) == [band for modality in BIGEARTHNET.values() for band in modality.bands]
    for modality, folder in folders.items():
        for band in BIGEARTHNET[modality].bands:
            with rasterio.open(band_path(folder, band)) as dataset:
                np.testing.assert_array_equal(bands[band], dataset.read(1))
                assert bands[band].dtype == dataset.dtypes[0]


def test_the_v2_layout_is_read_by_the_same_reader(shared_bigearthnet: Path):
    layout = shared_bigearthnet / "one_patch_layout"
    (s1,) = layout.glob("BigEarthNet-S1/*/*")
    (s2,) = layout.glob("BigEarthNet-S2/*/*")
    radar, optics = (read_pair_folders(side.name, {name: side}) for name, side in (("s1", s1), ("s2", s2)))
    assert {band: pixels.shape for band, pixels in radar.items()} == {"VV": (120, 120), "VH": (120, 120)}
    assert all(pixels.dtype == np.float32 for pixels in radar.values())
    assert radar["VV"].mean() > radar["VH"].mean()
    assert {pixels.shape[0] for pixels in optics.values()} == {120, 60, 20}
    assert all(pixels.dtype == np.uint16 for pixels in optics.values())


@pytest.mark.parametrize("share", [0.0, 0.02, 0.5, 0.95])
def test_a_truncated_geotiff_is_named_with_its_band(folders, share):
    path = band_path(folders["s2"], "B08")
    path.write_bytes(path.read_bytes()[: int(path.stat().st_size * share)])
    with pytest.raises(PairError) as caught:
        read_pair_folders(KEY, folders)
    assert KEY in str(caught.value)
    assert "B08" in str(caught.value)
    assert str(path) in str(caught.value)


def test_a_missing_band_file_is_named(folders):
    band_path(folders["s1"], "VH").unlink()
    with pytest.raises(PairError, match=rf"{KEY} lacks a file: .*VH\.tif is absent"):
        read_pair_folders(KEY, folders)


@pytest.mark.parametrize("modality", ["s1", "s2"])
def test_a_pair_with_one_side_only_is_refused(folders, modality):
    shutil.rmtree(folders[modality])
    with pytest.raises(PairError, match=f"lacks a side: {modality}"):
        read_pair_folders(KEY, folders)


def test_bands_of_another_place_are_refused(folders):
    path = band_path(folders["s1"], "VV")
    with rasterio.open(path) as dataset:
        moved = dataset.transform @ rasterio.Affine.translation(120, 0)
    rewritten(path, transform=moved)
    with pytest.raises(PairError, match="same ground"):
        read_pair_folders(KEY, folders)


def test_bands_in_another_crs_are_refused(folders):
    rewritten(band_path(folders["s2"], "B01"), crs="EPSG:32630")
    with pytest.raises(PairError, match=r"B01.*same ground"):
        read_pair_folders(KEY, folders)


def test_a_file_of_two_bands_is_refused(folders):
    rewritten(band_path(folders["s2"], "B01"), count=2)
    with pytest.raises(PairError, match="2 bands"):
        read_pair_folders(KEY, folders)
