"""Whatever a scene's grid, CRS and resolution, a point on the ground is read where it lies."""

import numpy as np
import pytest
from rasterio import open as opened
from rasterio.transform import Affine, rowcol
from rasterio.warp import Resampling, calculate_default_transform, reproject, transform

from fusmae.errors import InputError
from fusmae.inference.scene.grid import lay_grid
from fusmae.inference.scene.reader import SceneReader
from fusmae.inference.scene.scene import Reading, open_scenes
from tests.inference.conftest import GSD_M, LEFT, TOP, UTM, band, make_scenes, write_raster


def read_all(model, paths, **readings):
    """Every array of the scene over the whole grid, and the grid."""
    scenes = open_scenes(model.session.inputs, paths, readings)
    grid = lay_grid(scenes, model.session.inputs, None)
    with SceneReader(scenes, model.session.inputs, grid) as reader:
        return {item.name: reader.read(item, 0, 0, grid.height_m, grid.width_m) for item in reader.inputs}, grid


def test_pixels_on_the_grid_are_taken_as_they_are(scenes, model):
    found, _ = read_all(model, scenes.paths)
    for name, bands in (("s1_10m", ("VV", "VH")), ("s2_10m", ("B02", "B03")), ("s2_20m", ("B05",))):
        expected = [band(name, scenes.height_m, scenes.width_m) for name in bands]
        assert np.array_equal(found[name], np.stack(expected).astype(np.float32))


def test_s1_in_another_crs_shows_the_same_ground(tmp_path, scenes, model):
    """A ramp of eastings and northings, brought to degrees and back: no pixel is off by more than one."""
    rows, columns = np.mgrid[:120, :140]
    eastings, northings = LEFT - 195 + 10 * columns, TOP + 195 - 10 * rows
    ramp = np.stack([eastings - LEFT - 3000, northings - TOP - 3000]).astype(np.float32)
    own = write_raster(tmp_path / "ramp.tif", ramp, left=LEFT - 200, top=TOP + 200)
    bounds = (LEFT - 200, TOP - 1000, LEFT + 1200, TOP + 200)
    place, width, height = calculate_default_transform(UTM, "EPSG:4326", 140, 120, *bounds)
    degrees = np.full((2, height, width), np.nan, np.float32)
    with opened(own) as dataset:
        reproject(
            ramp,
            degrees,
            src_transform=dataset.transform,
            src_crs=UTM,
            dst_transform=place,
            dst_crs="EPSG:4326",
            dst_nodata=np.nan,
            resampling=Resampling.bilinear,
        )
    path = tmp_path / "degrees.tif"
    with opened(
        path, "w", driver="GTiff", count=2, height=height, width=width, dtype="float32", crs="EPSG:4326",
        transform=place, nodata=np.nan,
    ) as dataset:  # fmt: skip
        dataset.write(degrees)
        dataset.descriptions = ("VV", "VH")
    found, grid = read_all(model, {"s1": [path], "s2": [scenes.s2]})
    rows, columns = np.mgrid[: grid.height_m // 10, : grid.width_m // 10]
    expected = np.stack([grid.left + 5 + 10 * columns - LEFT - 3000, grid.top - 5 - 10 * rows - TOP - 3000])
    assert np.isfinite(found["s1_10m"]).all()
    assert np.abs(found["s1_10m"] - expected).max() < 10


def test_a_bright_point_stays_where_it_is(tmp_path, scenes, model):
    """S1 in the next UTM zone with its own pixel size: its only bright pixel is read at its coordinates."""
    (x,), (y,) = transform(UTM, "EPSG:32632", [LEFT + 505], [TOP - 335])
    pixels = np.full((2, 300, 300), -20, np.float32)
    row, column = 150, 160
    pixels[:, row, column] = 20
    path = write_raster(
        tmp_path / "zone.tif", pixels, names=("VV", "VH"), gsd_m=8.0, crs="EPSG:32632", left=x - 8 * column - 4,
        top=y + 8 * row + 4,
    )  # fmt: skip
    found, grid = read_all(model, {"s1": [path], "s2": [scenes.s2]})
    brightest = np.unravel_index(found["s1_10m"][0].argmax(), found["s1_10m"][0].shape)
    assert brightest == tuple(rowcol(grid.transform(10), LEFT + 505, TOP - 335))


def test_coarser_arrays_are_means_of_finer_files(tmp_path, scenes, model):
    """S2 as one stack at 10 m: B05, which the model takes at 20 m, is the mean of four pixels."""
    stack = np.stack([band("B02", 720, 960), band("B03", 720, 960), band("B02", 720, 960, seed=5)])
    path = write_raster(tmp_path / "stack.tif", stack, names=("B02", "B03", "B05"))
    found, _ = read_all(model, {"s2": [path]})
    means = stack[2].reshape(36, 2, 48, 2).mean(axis=(1, 3))
    assert np.abs(found["s2_20m"][0] - means).max() <= 0.5


def s2_stack(tmp_path, change, **options):
    """S2 as one file at 10 m."""
    pixels = np.stack([band(name, 480, 480) for name in ("B02", "B03")] + [band("B02", 480, 480, seed=2)])
    change(pixels)
    return {"s2": [write_raster(tmp_path / "s2.tif", pixels, names=("B02", "B03", "B05"), **options)]}


def test_a_zero_that_the_file_states_as_nodata_is_no_data_in_any_band(tmp_path, model):
    def change(pixels):
        pixels[1, 10:20, 5:9] = 0

    found, _ = read_all(model, s2_stack(tmp_path, change, nodata=0))
    empty = np.isnan(found["s2_10m"])
    assert empty[0].sum() == empty[1].sum() == 40
    assert empty[:, 10:20, 5:9].all()


@pytest.mark.parametrize("nodata", [None, 65535])
def test_zero_in_some_bands_is_a_value_where_the_file_does_not_state_it(tmp_path, model, nodata):
    def change(pixels):
        pixels[1, 10:20, 5:9] = pixels[2, 10:20] = 0

    found, _ = read_all(model, s2_stack(tmp_path, change, nodata=nodata))
    assert (found["s2_10m"][1, 10:20, 5:9] == 0).all()
    assert (found["s2_20m"][0, 5:10] == 0).all()
    assert not any(np.isnan(array).any() for array in found.values())


@pytest.mark.parametrize(("nodata", "is_empty"), [(None, True), (0, True), (65535, False)])
def test_zero_in_all_bands_is_no_data_unless_the_file_states_another_number(tmp_path, model, nodata, is_empty):
    def change(pixels):
        pixels[:, 10:20, 6:12] = 0

    found, _ = read_all(model, s2_stack(tmp_path, change, nodata=nodata))
    assert np.isnan(found["s2_10m"]).sum() == 2 * 60 * is_empty
    assert np.isnan(found["s2_20m"]).sum() == 15 * is_empty


@pytest.mark.parametrize("crs", [UTM, "EPSG:32632"])
def test_zero_in_all_bands_of_one_resolution_is_a_value_where_another_has_data(tmp_path, scenes, model, crs):
    """Dark water in a file a band; as the files are, and warped, with S1 giving the grid of the other zone."""
    path = scenes.s2 / "T33UUP_20200607T101031_B05.tif"
    with opened(path, "r+") as dataset:
        pixels = dataset.read()
        pixels[:, 10:20, 10:30] = 0
        dataset.write(pixels)
    for path in scenes.s2.iterdir():
        with opened(path, "r+") as dataset:
            pixels = dataset.read()
            pixels[:, : 120 // int(dataset.res[0])] = 0
            dataset.write(pixels)
    if crs != UTM:
        for path in scenes.s2.iterdir():
            with opened(path) as dataset:
                wanted = calculate_default_transform(UTM, crs, dataset.width, dataset.height, *dataset.bounds)
                moved = np.zeros((1, wanted[2], wanted[1]), np.uint16)
                reproject(dataset.read(), moved, src_transform=dataset.transform, src_crs=UTM, dst_transform=wanted[0],
                          dst_crs=crs, resampling=Resampling.nearest)  # fmt: skip
            write_raster(path, moved, transform=wanted[0], crs=crs)
        scenes.s2.rename(tmp_path / "s2_moved")
        (lon, lat) = (tmp_path / "s2_moved", scenes.s1)
        opened_scenes = open_scenes(model.session.inputs, {"s1": [lat], "s2": [lon]}, {})
        grid = lay_grid({"s1": opened_scenes["s1"]}, model.session.inputs, None)
        with SceneReader(opened_scenes, model.session.inputs, grid) as reader:
            found = {item.name: reader.read(item, 0, 0, grid.height_m, grid.width_m) for item in reader.inputs}
    else:
        found, _ = read_all(model, scenes.paths)
    # Some rows from the first, which are 0 in all bands, and well inside the water.
    assert np.isnan(found["s2_10m"][:, 2:8, 20:60]).all()
    assert np.isnan(found["s2_20m"][:, 2:4, 12:28]).all()
    assert (found["s2_20m"][:, 13:17, 14:26] == 0).all()
    assert (found["s2_10m"][:, 24:40, 20:60] > 0).all()


@pytest.mark.parametrize("shift_m", [0, 3.7])
@pytest.mark.parametrize("value", [-np.inf, np.inf, np.nan])
@pytest.mark.parametrize("stated", [None, -9999.0])
def test_what_is_not_finite_is_no_data_on_the_grid_and_off_it(tmp_path, scenes, model, shift_m, value, stated):
    pixels = np.stack([band("VV", 960, 1200), band("VH", 960, 1200)])
    pixels[1, 30:40, 30:40] = value
    place = {"left": LEFT - 100 - shift_m, "top": TOP + 100 + shift_m}
    path = write_raster(tmp_path / "s1.tif", pixels, names=("VV", "VH"), nodata=stated, **place)
    found = read_all(model, {"s1": [path], "s2": [scenes.s2]})[0]["s1_10m"]
    assert np.isnan(found[:, 20:30, 20:30]).sum() >= 2 * 9 * 9
    assert np.isnan(found[0]).sum() == np.isnan(found[1]).sum() <= 12 * 12
    assert np.isfinite(found[~np.isnan(found)]).all()
    assert np.nanmin(found) > -40


@pytest.mark.parametrize("stated", [np.nan, -9999.0, None])
def test_nan_zero_and_stated_nodata_of_s1_are_empty(tmp_path, model, stated):
    pixels = np.stack([band("VV", 480, 480), band("VH", 480, 480)])
    pixels[:, 3, 4], pixels[1, 5, 6] = 0, np.nan
    pixels[:, 20:30, 20:30] = 0 if stated is None else stated
    path = write_raster(tmp_path / "s1.tif", pixels, names=("VV", "VH"), nodata=stated)
    found, _ = read_all(model, {"s1": [path]})
    empty = np.isnan(found["s1_10m"])
    assert empty[:, 3, 4].all()
    assert empty[:, 5, 6].all()
    assert empty[:, 20:30, 20:30].all()
    # What was not warped is untouched, and nothing around is pulled towards nodata.
    assert empty.sum() <= 2 * (100 + 2 * 9)
    assert np.nanmin(found["s1_10m"]) > -40


@pytest.mark.parametrize("shift_m", [0, 3.7])
@pytest.mark.parametrize("nodata", [-9999.0, 0.0, np.nan])
def test_nodata_of_one_band_of_s1_is_mixed_into_nothing(tmp_path, scenes, model, shift_m, nodata):
    pixels = np.stack([band("VV", 960, 1200), band("VH", 960, 1200)])
    pixels[1, 30:40, 30:40] = nodata
    path = write_raster(
        tmp_path / "s1.tif",
        pixels,
        names=("VV", "VH"),
        left=LEFT - 100 - shift_m,
        top=TOP + 100 + shift_m,
        nodata=nodata,
    )
    found = read_all(model, {"s1": [path], "s2": [scenes.s2]})[0]["s1_10m"]
    assert np.isnan(found[:, 20:30, 20:30]).sum() >= 2 * 9 * 9
    assert np.isnan(found[0]).sum() == np.isnan(found[1]).sum() <= 12 * 12
    assert np.nanmin(found) > -40


@pytest.mark.parametrize("shift_m", [0, 3.7])
@pytest.mark.parametrize("nodata", [65535, 0])
def test_nodata_of_one_band_of_s2_is_mixed_into_nothing(tmp_path, model, shift_m, nodata):
    """B02, in a file of its own, sets the grid."""
    pixels = {name: np.maximum(band(name, 960, 1200), 500) for name in ("B02", "B03")}
    stack = np.stack([pixels["B03"], pixels["B02"]])
    stack[0, 30:40, 30:40] = nodata
    write_raster(tmp_path / "s2" / "B02.tif", pixels["B02"][None])
    write_raster(
        tmp_path / "s2" / "rest.tif", stack, names=("B03", "B05"), left=LEFT - shift_m, top=TOP + shift_m, nodata=nodata
    )
    found = read_all(model, {"s2": [tmp_path / "s2"]})[0]
    empty = np.isnan(found["s2_10m"])
    assert 9 * 9 <= empty[0].sum() == empty[1].sum() <= 12 * 12
    assert np.nanmin(found["s2_10m"]) >= 499
    assert not np.isnan(found["s2_20m"]).any()


def test_a_raster_that_is_stored_south_up_is_read_as_the_same_one_north_up(tmp_path, scenes, model):
    for path in (scenes.s1, *scenes.s2.iterdir()):
        with opened(path) as dataset:
            pixels, names, own = dataset.read(), dataset.descriptions, dataset.transform
        turned = Affine(own.a, 0, own.c, 0, -own.e, own.f + own.e * pixels.shape[1])
        new = tmp_path / "south" / path.relative_to(scenes.s1.parent)
        write_raster(new, pixels[:, ::-1].copy(), names=names, transform=turned)
    expected, grid = read_all(model, scenes.paths)
    found, same = read_all(model, {"s1": [tmp_path / "south" / "s1.tif"], "s2": [tmp_path / "south" / "s2"]})
    assert same == grid
    for name, array in expected.items():
        assert np.array_equal(found[name], array)


@pytest.mark.parametrize("angle", [20, -70, 135, 180.5])
def test_a_turned_raster_shows_the_ground_that_its_transform_says(tmp_path, scenes, model, angle):
    """Eastings and northings of each pixel's centre, in a raster that is turned about the scene's middle."""
    with opened(scenes.s1) as dataset:
        left, bottom, right, top = dataset.bounds
    side = 400
    place = Affine.translation((left + right) / 2, (bottom + top) / 2) * Affine.rotation(angle) * Affine.scale(10, -10)
    place = place * Affine.translation(-side / 2, -side / 2)
    rows, columns = np.mgrid[:side, :side] + 0.5
    eastings, northings = place * (columns, rows)
    ramp = np.stack([eastings - LEFT - 9000, northings - TOP - 9000]).astype(np.float32)
    path = write_raster(tmp_path / "turned.tif", ramp, names=("VV", "VH"), transform=place)
    found, grid = read_all(model, {"s1": [path], "s2": [scenes.s2]})
    rows, columns = np.mgrid[: grid.height_m // 10, : grid.width_m // 10] + 0.5
    expected = np.stack([grid.left + 10 * columns - LEFT - 9000, grid.top - 10 * rows - TOP - 9000])
    assert np.abs(found["s1_10m"] - expected).max() < 10


def test_power_becomes_decibels_and_the_offset_goes(tmp_path, model, scenes):
    decibels = np.stack([band("VV", 720, 960), band("VH", 720, 960)])
    power = write_raster(tmp_path / "power.tif", 10 ** (decibels / 10), names=("VV", "VH"))
    later = make_offset(tmp_path / "later")
    found, _ = read_all(model, {"s1": [power], "s2": [later]}, s1=Reading(units="power"), s2=Reading(offset=1000))
    plain, _ = read_all(model, scenes.paths)
    assert np.allclose(found["s1_10m"], plain["s1_10m"], atol=1e-4)
    assert np.array_equal(found["s2_10m"], plain["s2_10m"])


def make_offset(folder, height_m=720, width_m=960):
    """S2 as processing baseline 04.00 has it."""
    for name in ("B02", "B03", "B05"):
        write_raster(folder / f"{name}.tif", band(name, height_m, width_m)[None] + np.uint16(1000), gsd_m=GSD_M[name])
    return folder


def test_decibels_given_as_power_are_refused(scenes, model):
    with pytest.raises(InputError, match="no linear power"):
        read_all(model, {"s1": [scenes.s1]}, s1=Reading(units="power"))


def test_a_window_is_a_part_of_the_whole(scenes, model):
    found, grid = read_all(model, scenes.paths)
    opened = open_scenes(model.session.inputs, scenes.paths, {})
    with SceneReader(opened, model.session.inputs, grid) as reader:
        for item in reader.inputs:
            part = reader.read(item, 240, 120, 480, 600)
            step = item.gsd_m
            whole = found[item.name][:, 240 // step : 720 // step, 120 // step : 720 // step]
            assert np.array_equal(part, whole)


def test_a_file_that_is_cut_short_is_named(tmp_path, model):
    scenes = make_scenes(tmp_path / "whole", 2400, 2400, compress="deflate", tiled=True, blockxsize=64, blockysize=64)
    path = scenes.s2 / "T33UUP_20200607T101031_B03.tif"
    with path.open("r+b") as file:
        file.truncate(path.stat().st_size // 2)
    with pytest.raises(InputError, match=r"(?s)B03\.tif can't be read.*cut short.*copy it again"):
        read_all(model, scenes.paths)
