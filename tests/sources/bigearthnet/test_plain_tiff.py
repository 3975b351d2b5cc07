import struct
from pathlib import Path

import numpy as np
import pytest
import rasterio
from rasterio.transform import from_origin

from fusmae.errors import PairError
from fusmae.sources.patches.geotiff import plain_raster, read_band

PLAIN = {"driver": "GTiff", "dtype": "uint16", "count": 1, "width": 60, "height": 60, "crs": "EPSG:32633"}
PLAIN["transform"] = from_origin(384000, 5342400, 20, 20)
PIXELS = np.random.default_rng(0).integers(0, 10_000, (60, 60), dtype=np.uint16)


def written(path: Path, **changes) -> Path:
    profile = {**PLAIN, **changes}
    with rasterio.open(path, "w", **profile) as dataset:
        for band in range(1, profile["count"] + 1):
            dataset.write(PIXELS.astype(profile["dtype"]), band)
    return path


def assert_as_gdal_reads(path: Path) -> None:
    found = plain_raster(path)
    assert found is not None, path
    with rasterio.open(path) as dataset:
        assert (found.crs, found.bounds) == (dataset.crs, tuple(dataset.bounds))
        assert found.pixels.dtype == dataset.dtypes[0]
        np.testing.assert_array_equal(found.pixels, dataset.read())


def test_every_real_v1_band_is_plain_and_as_gdal_reads_it(v1_raw: Path):
    paths = list(v1_raw.glob("*/*/*.tif"))
    assert len(paths) == 6 * 14
    for path in paths:
        assert_as_gdal_reads(path)


def test_every_real_v2_band_is_plain_and_as_gdal_reads_it(shared_bigearthnet: Path):
    paths = list((shared_bigearthnet / "one_patch_layout").glob("BigEarthNet-S*/*/*/*.tif"))
    assert len(paths) == 14
    for path in paths:
        assert_as_gdal_reads(path)


@pytest.mark.parametrize("dtype", ["uint16", "float32"])
def test_pixels_can_be_written_to(tmp_path: Path, dtype):
    found = plain_raster(written(tmp_path / "a.tif", dtype=dtype))
    assert found is not None
    found.pixels[0, 0, 0] = 7
    assert found.pixels[0, 0, 0] == 7


@pytest.mark.parametrize(
    "changes",
    [
        {"compress": "deflate"},
        {"compress": "lzw", "predictor": 2},
        {"tiled": True, "blockxsize": 16, "blockysize": 16},
        {"count": 2},
        {"count": 2, "interleave": "pixel"},
        {"dtype": "int16"},
        {"dtype": "float64"},
        {"BIGTIFF": "YES"},
        {"ENDIANNESS": "BIG"},
        {"crs": "EPSG:4326", "transform": from_origin(12, 48, 0.01, 0.01)},
        {"crs": "EPSG:3035"},
        {"crs": None},
        {"transform": from_origin(384000, 5342400, 20, 20) @ rasterio.Affine.rotation(30)},
    ],
)
@pytest.mark.filterwarnings("ignore::rasterio.errors.NotGeoreferencedWarning")
def test_whatever_is_not_plain_is_left_to_gdal(tmp_path: Path, changes):
    assert plain_raster(written(tmp_path / "a.tif", **changes)) is None


def test_pixels_as_points_are_left_to_gdal(tmp_path: Path):
    with rasterio.open(tmp_path / "a.tif", "w", **PLAIN) as dataset:
        dataset.update_tags(AREA_OR_POINT="Point")
        dataset.write(PIXELS, 1)
    assert plain_raster(tmp_path / "a.tif") is None


def test_a_file_with_overviews_is_left_to_gdal(tmp_path: Path):
    written(tmp_path / "a.tif")
    with rasterio.open(tmp_path / "a.tif", "r+") as dataset:
        dataset.build_overviews([2])
    assert plain_raster(tmp_path / "a.tif") is None


def test_no_cut_of_a_plain_file_is_taken_for_a_raster(tmp_path: Path):
    path = written(tmp_path / "a.tif")
    data = path.read_bytes()
    # GDAL writes tags first, so every missing byte is a tag's or a pixel's.
    for length in range(0, len(data), 7):
        path.write_bytes(data[:length])
        assert plain_raster(path) is None, length


def test_no_damaged_header_raises(tmp_path: Path):
    path = written(tmp_path / "a.tif")
    data = path.read_bytes()
    draws = np.random.default_rng(1)
    for _ in range(3000):
        damaged = bytearray(data)
        for at in draws.integers(0, 420, 3):
            damaged[at] = draws.integers(0, 256)
        path.write_bytes(damaged)
        found = plain_raster(path)
        assert found is None or found.pixels.dtype in (np.uint16, np.float32)


def test_a_tag_of_absurd_length_costs_no_memory(tmp_path: Path):
    path = written(tmp_path / "a.tif")
    data = bytearray(path.read_bytes())
    (start,) = struct.unpack_from("<I", data, 4)
    (count,) = struct.unpack_from("<H", data, start)
    for entry in range(start + 2, start + 2 + 12 * count, 12):
        struct.pack_into("<I", data, entry + 4, 2**32 - 1)
    path.write_bytes(data)
    assert plain_raster(path) is None


def test_a_file_that_states_a_scale_is_left_to_gdal(tmp_path: Path):
    written(tmp_path / "a.tif")
    with rasterio.open(tmp_path / "a.tif", "r+") as dataset:
        dataset.scales = (0.0001,)
    assert plain_raster(tmp_path / "a.tif") is None


@pytest.mark.parametrize("nodata", [0, 7, 65535])
def test_nodata_is_read_as_gdal_reads_it(tmp_path: Path, nodata):
    written(tmp_path / "a.tif", nodata=nodata)
    assert_as_gdal_reads(tmp_path / "a.tif")
    np.testing.assert_array_equal(plain_raster(tmp_path / "a.tif").nodata, PIXELS[None] == nodata)


@pytest.mark.parametrize(("dtype", "nodata", "empty"), [("uint16", 65535, 0), ("float32", -9999, np.nan)])
@pytest.mark.parametrize("compress", ["none", "deflate"])
def test_stated_nodata_is_0_or_nan_however_a_file_is_read(tmp_path: Path, dtype, nodata, empty, compress):
    path = tmp_path / "a.tif"
    pixels = PIXELS.astype(dtype)
    pixels[3, 5] = nodata
    with rasterio.open(path, "w", **(PLAIN | {"dtype": dtype, "nodata": nodata, "compress": compress})) as dataset:
        dataset.write(pixels, 1)
    found = read_band(path, "a").pixels[0]
    expected = pixels.copy()
    expected[3, 5] = empty
    np.testing.assert_array_equal(found, expected)


def test_a_scale_that_no_file_of_the_dataset_states_is_refused(tmp_path: Path):
    written(tmp_path / "a.tif")
    with rasterio.open(tmp_path / "a.tif", "r+") as dataset:
        dataset.scales = (0.0001,)
    with pytest.raises(PairError, match=r"(?s)states a scale.*scale 0.0001, offset 0") as caught:
        read_band(tmp_path / "a.tif", "a")
    assert caught.value.fault == "units"
