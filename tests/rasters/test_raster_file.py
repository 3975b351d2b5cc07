"""What a raster file says of itself, read by one set of rules."""

import numpy as np
import pytest
import rasterio
from rasterio.enums import ColorInterp
from rasterio.transform import from_origin

from fusmae.errors import InputError
from fusmae.rasters.raster_file import (
    MASKED,
    NOT_FINITE,
    STATED,
    data_bands,
    nowhere_but,
    read_bands,
    require_possible,
    statement_of,
    touched,
    zero_is_nodata,
)


def write(path, pixels, *, kinds=None, scale=None, offset=0.0, names=None, **options):
    count, height, width = pixels.shape
    options = {"crs": "EPSG:32633", "transform": from_origin(500_000, 5_000_000, 10, 10)} | options
    with rasterio.open(
        path, "w", driver="GTiff", count=count, height=height, width=width, dtype=pixels.dtype, **options
    ) as dataset:
        dataset.write(pixels)
        if names:
            dataset.descriptions = names
        if scale:
            dataset.scales, dataset.offsets = (scale,) * count, (offset,) * count
    if kinds:
        with rasterio.open(path, "r+") as dataset:
            dataset.colorinterp = [ColorInterp[kind] for kind in kinds]
    return path


def read(path, units="DN"):
    with rasterio.open(path) as dataset:
        bands = read_bands(dataset, statement_of(path, dataset, units))
    return bands.in_units(units), {reason: int(flags.sum()) for reason, flags in bands.why.items()}


def some(dtype="uint16", value=1000):
    return np.full((2, 4, 6), value, dtype)


@pytest.mark.parametrize(
    ("units", "dtype", "scale", "offset", "stored", "expected"),
    [
        ("DN", "uint16", None, 0, 1234, 1234),
        ("DN", "uint16", 1.0, 0, 1234, 1234),
        ("DN", "uint16", 0.0001, 0, 1234, 1234),
        ("DN", "uint16", 0.0001, -0.1, 1234, 234),
        ("DN", "uint16", 1.0, -1000, 1234, 234),
        ("DN", "float32", 10_000.0, 0, 0.1234, 1234),
        ("DN", "uint8", 40.0, 0, 30, 1200),
        ("DN", "uint16", 2.75e-05, -0.2, 12_000, 1300),
        ("dB", "int16", 0.01, 0, -1121, -11.21),
        ("dB", "uint8", 0.2, -50, 190, -12),
        ("dB", "float32", None, 0, -12.5, -12.5),
    ],
)
def test_scale_and_offset_give_the_modalitys_units(tmp_path, units, dtype, scale, offset, stored, expected):
    found, why = read(write(tmp_path / "a.tif", some(dtype, stored), scale=scale, offset=offset), units)
    assert found.dtype == np.float32
    assert found == pytest.approx(expected, rel=1e-5)
    assert not why


def test_an_offset_makes_dark_water_0_and_hides_no_nodata_that_is_not_stated(tmp_path):
    pixels = some("int16", 2000)
    pixels[0, 0, :2] = 900, -9999
    found, _ = read(write(tmp_path / "a.tif", pixels, scale=0.0001, offset=-0.1))
    assert found[0, 0, 0] == 0
    assert found[0, 0, 1] < -1000


@pytest.mark.parametrize("scale", [-1.0, np.nan])
def test_a_scale_that_makes_no_pixels_is_refused(tmp_path, scale):
    path = write(tmp_path / "a.tif", some(), scale=scale)
    with pytest.raises(InputError, match=r"(?s)states a scale that makes no pixels.*take the statement out"):
        read(path)


@pytest.mark.parametrize(
    ("dtype", "stated", "value", "reason"),
    [
        ("uint16", 65535, 65535, STATED),
        ("uint16", 0, 0, STATED),
        ("int16", -9999, -9999, STATED),
        ("float32", -9999, -9999, STATED),
        ("float32", float(np.finfo("float32").min), np.finfo("float32").min, STATED),
        ("float32", -3.4e38, np.float32(-3.4e38), STATED),
        ("float64", -1.7e308, -1.7e308, STATED),
        ("float32", None, np.nan, NOT_FINITE),
        ("float32", None, -np.inf, NOT_FINITE),
        ("float32", -9999, np.inf, NOT_FINITE),
        ("float32", np.nan, np.nan, NOT_FINITE),
        ("float32", 0, -np.inf, NOT_FINITE),
    ],
)
def test_stated_numbers_and_what_is_not_finite_have_no_data(tmp_path, dtype, stated, value, reason):
    pixels = some(dtype)
    pixels[1, 2, 3] = value
    found, why = read(write(tmp_path / "a.tif", pixels, nodata=stated))
    assert np.argwhere(np.isnan(found)).tolist() == [[1, 2, 3]]
    assert why[reason] == 1


def test_a_scaled_file_states_nodata_in_its_own_numbers(tmp_path):
    pixels = some("int16", -1200)
    pixels[0, 0, 0] = -32768
    found, why = read(write(tmp_path / "a.tif", pixels, nodata=-32768, scale=0.01), "dB")
    assert np.isnan(found[0, 0, 0])
    assert found[1] == pytest.approx(-12)
    assert why == {STATED: 1}


@pytest.mark.parametrize("kind", ["internal", "beside", "alpha"])
@pytest.mark.parametrize("stated", [None, 7])
def test_what_a_mask_or_alpha_hides_has_no_data(tmp_path, kind, stated):
    valid = np.full((4, 6), 255, np.uint16)
    valid[:, :2] = 0
    path = tmp_path / "a.tif"
    if kind == "alpha":
        write(path, np.concatenate([some(), valid[None]]), kinds=("gray", "undefined", "alpha"), nodata=stated)
    else:
        write(path, some(), nodata=stated)
        with rasterio.Env(GDAL_TIFF_INTERNAL_MASK=kind == "internal"), rasterio.open(path, "r+") as dataset:
            dataset.write_mask(valid.astype(np.uint8))
    found, why = read(path)
    assert found.shape == (2, 4, 6)
    assert np.isnan(found[:, :, :2]).all()
    assert (found[:, :, 2:] == 1000).all()
    assert why == {MASKED: 8}


def test_a_band_with_a_name_is_data_whatever_its_colour_is_called(tmp_path):
    pixels = np.full((4, 4, 6), 1000, np.uint16)
    kinds = ("red", "green", "blue", "alpha")
    for names, expected in (
        (("B04", "B03", "B02", "B08"), (1, 2, 3, 4)),
        (("B04", "B03", "B02", None), (1, 2, 3)),
        (("B04", "B03", "B02", "Alpha"), (1, 2, 3)),
    ):
        with rasterio.open(write(tmp_path / "a.tif", pixels, kinds=kinds, names=names)) as dataset:
            assert data_bands(dataset) == expected


def test_zero_is_a_value_only_where_every_band_states_another_number():
    assert zero_is_nodata([None, 65535], "DN")
    assert zero_is_nodata([0, 0], "DN")
    assert not zero_is_nodata([65535, np.nan], "DN")
    assert zero_is_nodata([-9999, np.nan], "dB")


def test_flags_move_to_finer_and_coarser_grids_of_the_same_ground():
    flags = np.zeros((2, 6, 6), bool)
    flags[0, 3, 4] = True
    assert np.argwhere(touched(flags, (2, 2))).tolist() == [[0, 1, 1]]
    assert touched(flags, (12, 12))[0, 6:8, 8:10].all()
    assert touched(flags, (12, 12)).sum() == 4
    assert touched(flags, (6, 6)) is flags


def test_a_value_in_all_bands_counts_only_where_all_resolutions_have_it():
    fine, coarse = np.ones((2, 6, 6)), np.ones((3, 2, 2))
    fine[:, :3] = 0
    coarse[:, 0, 0] = 0
    in_fine, in_coarse = nowhere_but(0, [fine, coarse])
    assert np.argwhere(in_coarse).tolist() == [[0, 0]]
    assert in_fine[:3, :3].all()
    assert in_fine.sum() == 9
    fine[1, 0, 0] = 5
    in_fine, in_coarse = nowhere_but(0, [fine, coarse])
    assert not in_coarse.any()
    assert in_fine.sum() == 8


@pytest.mark.parametrize(
    ("units", "dtype", "level", "scale", "offset", "is_right"),
    [
        ("dB", "int16", -1200, 0.01, 0, True),
        ("dB", "float32", -12, 0.01, 0, False),
        ("dB", "int16", -1200, 0.1, 0, False),
        ("DN", "uint16", 2200, 0.0001, -0.1, True),
        ("DN", "uint16", 1500, 0.0001, -0.1, True),
        ("DN", "uint16", 40, 0.0001, 0, True),
        ("DN", "uint16", 300, 0.0001, -0.1, False),
        ("DN", "float32", 0.2, 0.0001, 0, False),
        ("DN", "float32", 0.2, 10_000, 0, True),
        ("DN", "uint16", 2000, 0.01, 0, False),
    ],
)
def test_a_scale_that_makes_impossible_pixels_is_refused(tmp_path, units, dtype, level, scale, offset, is_right):
    noise = np.random.default_rng(0).normal(1, 0.2, (2, 40, 40)) * level
    path = write(tmp_path / "a.tif", noise.astype(dtype), scale=scale, offset=offset)
    with rasterio.open(path) as dataset:
        bands = read_bands(dataset, statement_of(path, dataset, units))
    if is_right:
        require_possible(path, [bands], units)
        return
    with pytest.raises(InputError, match=r"(?s)that its numbers can't have.*take the statement out: python -c"):
        require_possible(path, [bands], units)
