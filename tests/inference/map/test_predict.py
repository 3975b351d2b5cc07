"""From files to a map, as a user meets it; killed and damaged runs included."""

import os
import re
import signal
import subprocess
import sys
import time
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import rasterio
from rasterio.enums import ColorInterp
from rasterio.transform import from_origin

from fusmae.errors import InputError, StorageError
from fusmae.inference.map.layers import STEP
from fusmae.inference.map.predict import predict_map
from fusmae.inference.scene import grid as grid_module
from fusmae.inference.scene.scene import Reading
from tests.inference.conftest import GSD_M, LEFT, TOP, band, make_scenes, write_raster

ENDINGS = (".tif", ".json", ".png", "_classes.tif", "_classes.tif.aux.xml")


def read(path):
    with rasterio.open(path) as dataset:
        return dataset.read()


def contents(folder):
    return {path.name: path.read_bytes() for path in sorted(folder.iterdir())}


def test_a_map_and_its_companions_are_all_that_is_left(tmp_path, scenes, model):
    made = predict_map(model, scenes.paths, tmp_path / "out" / "map.tif")
    assert sorted(contents(tmp_path / "out")) == sorted(f"map{ending}" for ending in ENDINGS)
    assert {path.name for path in made.files} == set(contents(tmp_path / "out"))
    assert made.num_tiles == len(made.grid.tile_tops_m) * len(made.grid.tile_lefts_m)
    assert made.contents.counts[0] == 0


def test_a_scene_of_one_tile_gets_the_models_own_answer(tmp_path, model):
    scenes = make_scenes(tmp_path / "one", 240, 240)
    predict_map(model, scenes.paths, tmp_path / "map.tif")
    pixels = {
        "s1_10m": np.stack([band("VV", 240, 240), band("VH", 240, 240)])[None],
        "s2_10m": np.stack([band("B02", 240, 240), band("B03", 240, 240)])[None],
        "s2_20m": band("B05", 240, 240)[None, None],
    }
    expected = model.session.run(pixels)["probabilities"][0]
    stored = read(tmp_path / "map.tif")[:3] * STEP
    assert np.abs(stored - expected[:, None, None]).max() <= STEP / 2 + 1e-6


@pytest.mark.parametrize("modality", ["s1", "s2"])
def test_one_sensor_alone_makes_a_map_of_its_own(tmp_path, scenes, model, modality):
    made = predict_map(model, {modality: scenes.paths[modality]}, tmp_path / "one.tif")
    assert made.contents.counts[0] == 0
    predict_map(model, scenes.paths, tmp_path / "both.tif")
    assert (read(tmp_path / "one.tif") != read(tmp_path / "both.tif")).any()


def test_where_a_sensor_has_no_data_the_other_decides_alone(tmp_path, scenes, model):
    with rasterio.open(scenes.s1, "r+") as dataset:
        pixels = dataset.read()
        pixels[:, :, :48] = np.nan
        dataset.write(pixels)
    both = predict_map(model, scenes.paths, tmp_path / "both.tif", stride_m=240)
    predict_map(model, {"s2": [scenes.s2]}, tmp_path / "s2.tif", stride_m=240)
    half = 480 // both.grid.cell_m
    found, alone = read(tmp_path / "both.tif"), read(tmp_path / "s2.tif")
    assert np.array_equal(found[:, :, :half], alone[:, :, :half])
    assert (found[:, :, half:] != alone[:, :, half:]).any()


def test_where_neither_has_data_the_map_has_none(tmp_path, scenes, model):
    paths = [scenes.s1, *scenes.s2.iterdir()]
    for path in paths:
        with rasterio.open(path, "r+") as dataset:
            pixels = dataset.read()
            pixels[:, :, : 480 // int(dataset.res[0])] = 0
            dataset.write(pixels)
    made = predict_map(model, scenes.paths, tmp_path / "map.tif")
    half = 480 // made.grid.cell_m
    assert (read(tmp_path / "map.tif")[:, :, :half] == 255).all()
    assert (read(tmp_path / "map_classes.tif")[:, :, :half] == 0).all()
    assert (read(tmp_path / "map_classes.tif")[:, :, half:] > 0).all()


def changed_s1(scenes, change):
    """S1 with other pixels."""
    with rasterio.open(scenes.s1, "r+") as dataset:
        pixels = dataset.read()
        change(pixels)
        dataset.write(pixels)


def first_rows(value):
    def change(pixels):
        pixels[:, :24] = value

    return change


@pytest.mark.parametrize("value", [-np.inf, np.inf, np.nan, 0.0])
def test_what_is_not_finite_makes_the_same_map_as_0(tmp_path, model, value):
    maps = []
    for number in (value, 0.0):
        scenes = make_scenes(tmp_path / f"{number}")
        changed_s1(scenes, first_rows(number))
        made = predict_map(model, {"s1": [scenes.s1]}, tmp_path / f"{number}.tif")
        maps.append(read(tmp_path / f"{number}.tif"))
        assert made.contents.counts[0] > 0
    assert np.array_equal(*maps)
    assert len(made.nodata) == 1


def test_one_infinite_pixel_ends_no_map_and_is_counted(tmp_path, scenes, model):
    def change(pixels):
        pixels[1, 30, 40] = -np.inf

    changed_s1(scenes, change)
    made = predict_map(model, scenes.paths, tmp_path / "map.tif")
    assert made.contents.counts[0] == 0
    assert made.nodata == (f"s1_10m: 0.0% of {72 * 96:,} pixels have no data: 1 not finite",)


def test_a_scale_that_a_file_states_gives_the_map_of_the_same_file_in_db(tmp_path, scenes, model):
    with rasterio.open(scenes.s1) as dataset:
        hundredths = np.rint(dataset.read() * 100)
    right = write_raster(tmp_path / "db.tif", (hundredths / 100).astype(np.float32), names=("VV", "VH"))
    packed = write_raster(tmp_path / "packed.tif", hundredths.astype(np.int16), names=("VV", "VH"), nodata=-32768)
    with rasterio.open(packed, "r+") as dataset:
        dataset.scales = (0.01, 0.01)
    for path in (right, packed):
        predict_map(model, {"s1": [path]}, tmp_path / f"map_{path.name}")
    assert np.array_equal(read(tmp_path / "map_db.tif"), read(tmp_path / "map_packed.tif"))


def test_a_stated_scale_and_offset_of_s2_give_the_map_without_them(tmp_path, scenes, model):
    for path in scenes.s2.iterdir():
        with rasterio.open(path) as dataset:
            pixels = dataset.read()
        new = write_raster(tmp_path / "stated" / path.name, pixels + np.uint16(1000), gsd_m=GSD_M[path.stem[-3:]])
        with rasterio.open(new, "r+") as dataset:
            dataset.scales, dataset.offsets = (0.0001,), (-0.1,)
    predict_map(model, {"s2": [scenes.s2]}, tmp_path / "right.tif")
    predict_map(model, {"s2": [tmp_path / "stated"]}, tmp_path / "found.tif")
    assert np.array_equal(read(tmp_path / "right.tif"), read(tmp_path / "found.tif"))
    with pytest.raises(InputError, match=r"(?s)states an offset itself.*leave out --offset"):
        predict_map(model, {"s2": [tmp_path / "stated"]}, tmp_path / "twice.tif", readings={"s2": Reading(offset=1000)})


@pytest.mark.parametrize("kind", ["mask", "sidecar", "alpha"])
@pytest.mark.parametrize("shift_m", [0, 3])
def test_what_a_mask_or_an_alpha_band_hides_is_nodata_in_the_map(tmp_path, scenes, model, kind, shift_m):
    with rasterio.open(scenes.s1) as dataset:
        pixels = dataset.read()
    valid = np.full(pixels.shape[1:], 255, np.uint8)
    valid[:24] = 0
    place = {"left": LEFT - shift_m, "top": TOP + shift_m}
    right = np.where(valid, pixels, np.nan).astype(np.float32)
    predict_map(
        model, {"s1": [write_raster(tmp_path / "nan.tif", right, names=("VV", "VH"), **place)]}, tmp_path / "a.tif"
    )
    pixels[:, :24] = -30
    if kind == "alpha":
        path = write_raster(
            tmp_path / "s1.tif",
            np.concatenate([pixels, valid[None].astype(np.float32)]),
            names=("VV", "VH", None),
            **place,
        )
        with rasterio.open(path, "r+") as dataset:
            dataset.colorinterp = [ColorInterp[name] for name in ("gray", "undefined", "alpha")]
    else:
        path = write_raster(tmp_path / "s1.tif", pixels, names=("VV", "VH"), **place)
        with rasterio.Env(GDAL_TIFF_INTERNAL_MASK=kind == "mask"), rasterio.open(path, "r+") as dataset:
            dataset.write_mask(valid)
    made = predict_map(model, {"s1": [path]}, tmp_path / "b.tif")
    assert made.contents.counts[0] > 0
    assert np.array_equal(read(tmp_path / "a.tif"), read(tmp_path / "b.tif"))
    assert "masked" in made.nodata[0]


def dark_water(scenes, value, nodata=None):
    """B05, and half of B03, clipped over the western part."""
    for name in ("B03", "B05"):
        path = next(scenes.s2.glob(f"*{name}*"))
        with rasterio.open(path) as dataset:
            pixels = dataset.read()
        pixels[:, :, : pixels.shape[2] * 5 // 8] = value
        write_raster(path, pixels, gsd_m=GSD_M[name], nodata=nodata)
    return {"s2": [scenes.s2]}


@pytest.mark.parametrize("nodata", [None, 65535])
def test_water_that_is_clipped_to_0_in_some_bands_is_mapped(tmp_path, scenes, model, nodata):
    made = predict_map(model, dark_water(scenes, 0, nodata), tmp_path / "map.tif")
    assert made.contents.counts[0] == 0
    assert made.nodata == ()


def test_water_of_0_that_the_files_state_as_nodata_is_told_with_the_command_that_mends_it(tmp_path, scenes, model):
    paths = dark_water(scenes, 0, 0)
    made = predict_map(model, paths, tmp_path / "hole.tif")
    assert made.contents.counts[0] > 0
    (command,) = {re.search(r"rio (edit-info FILE --unset-nodata)", line)[1] for line in made.nodata if "rio" in line}
    for path in scenes.s2.iterdir():
        rio = Path(sys.executable).with_name("rio")
        subprocess.run([rio, *command.replace("FILE", str(path)).split()], check=True)
    assert predict_map(model, paths, tmp_path / "map.tif").contents.counts[0] == 0


def test_pixels_of_1_in_all_bands_are_named(tmp_path, scenes, model):
    for path in scenes.s2.iterdir():
        with rasterio.open(path, "r+") as dataset:
            pixels = dataset.read()
            pixels[:, : 40 // int(dataset.res[0])] = 1
            dataset.write(pixels)
    made = predict_map(model, scenes.paths, tmp_path / "map.tif", is_checked=False)
    assert [line for line in made.nodata if "384 pixels are 1 in all bands" in line]


@pytest.mark.parametrize(("height_m", "width_m"), [(720, 970), (730, 960), (770, 1010), (850, 1070)])
def test_every_pixel_of_a_scene_is_in_the_map(tmp_path, model, height_m, width_m):
    scenes = make_scenes(tmp_path / "in", height_m, width_m)
    made = predict_map(model, {"s1": [scenes.s1]}, tmp_path / "map.tif")
    with rasterio.open(tmp_path / "map.tif") as dataset:
        assert dataset.bounds.right >= LEFT + width_m
        assert dataset.bounds.bottom <= TOP - height_m
        assert dataset.bounds.right - LEFT - width_m < made.grid.cell_m
    assert made.contents.counts[0] == 0
    assert made.nodata == ()


def test_a_map_does_not_depend_on_the_blocks_that_it_is_read_in(tmp_path, scenes, model, monkeypatch):
    predict_map(model, scenes.paths, tmp_path / "whole" / "map.tif")
    monkeypatch.setattr(grid_module, "_STRIP_M", 480)
    predict_map(model, scenes.paths, tmp_path / "blocks" / "map.tif")
    # Batches differ, so that the last bit of a probability may.
    difference = read(tmp_path / "whole" / "map.tif").astype(int) - read(tmp_path / "blocks" / "map.tif")
    assert np.abs(difference).max() <= 1


def test_other_grids_crs_and_folders_give_the_same_map(tmp_path, scenes, model):
    """S1 in another UTM zone, resampled there and back: the map is nearly that of the original."""
    from rasterio.warp import Resampling, calculate_default_transform, reproject

    s1, crs = np.stack([band("VV", 720, 960), band("VH", 720, 960)]), "EPSG:32632"
    place, width, height = calculate_default_transform(
        "EPSG:32633", crs, 96, 72, LEFT, TOP - 720, LEFT + 960, TOP, resolution=5
    )
    moved = np.full((2, height, width), np.nan, np.float32)
    own = from_origin(LEFT, TOP, 10, 10)
    reproject(s1, moved, src_transform=own, src_crs="EPSG:32633", dst_transform=place, dst_crs=crs,
              dst_nodata=np.nan, resampling=Resampling.nearest)  # fmt: skip
    profile = {"driver": "GTiff", "count": 1, "dtype": "float32", "crs": crs, "transform": place, "nodata": np.nan}
    (tmp_path / "moved").mkdir()
    for name, pixels in zip(("VV", "VH"), moved, strict=True):
        with rasterio.open(
            tmp_path / "moved" / f"s1_{name}.tif", "w", height=height, width=width, **profile
        ) as dataset:
            dataset.write(pixels, 1)
    predict_map(model, {"s1": [tmp_path / "moved"], "s2": [scenes.s2]}, tmp_path / "moved.tif")
    predict_map(model, scenes.paths, tmp_path / "own.tif")
    difference = read(tmp_path / "moved.tif").astype(int) - read(tmp_path / "own.tif")
    assert np.abs(difference).mean() * STEP < 0.02


def truncated(scenes):
    path = next(scenes.s2.glob("*B03*"))
    with path.open("r+b") as file:
        file.truncate(path.stat().st_size // 2)
    return scenes.paths


def without_data(scenes):
    with rasterio.open(scenes.s1, "r+") as dataset:
        dataset.write(np.zeros(dataset.read().shape, np.float32))
    return {"s1": [scenes.s1]}


def far_away(scenes):
    write_raster(scenes.s1, np.full((2, 72, 96), -12, np.float32), names=("VV", "VH"), crs="EPSG:32733")
    return scenes.paths


def without_a_band(scenes):
    next(scenes.s2.glob("*B05*")).unlink()
    return scenes.paths


@pytest.mark.parametrize(
    ("damage", "named"),
    [
        (truncated, "cut short"),
        (without_data, "no tile with data"),
        (far_away, "different hemispheres"),
        (without_a_band, "lacks band B05"),
    ],
)
@pytest.mark.parametrize("is_checked", [True, False])
def test_bad_scenes_leave_nothing_behind(tmp_path, model, damage, named, is_checked):
    scenes = make_scenes(tmp_path / "in", compress="deflate", tiled=True, blockxsize=16, blockysize=16)
    paths = damage(scenes)
    (tmp_path / "out").mkdir()
    (tmp_path / "out" / "map.tif").write_text("an older map")
    with pytest.raises(InputError, match=named):
        predict_map(model, paths, tmp_path / "out" / "map.tif", is_checked=is_checked)
    assert contents(tmp_path / "out") == {"map.tif": b"an older map"}


def test_a_full_disk_keeps_what_was_predicted(small_disk, tmp_path, model):
    scenes = make_scenes(tmp_path / "in", 1200, 1200)
    filler = small_disk / "filler"
    filler.write_bytes(b"0" * (2**20 - 60_000))
    with pytest.raises(StorageError, match=r"disk|could not be written"):
        predict_map(model, scenes.paths, small_disk / "map.tif", stride_m=40)
    assert not (small_disk / "map.tif").exists()
    filler.unlink()
    made = predict_map(model, scenes.paths, small_disk / "map.tif", stride_m=40)
    assert made.num_kept > 0
    predict_map(model, scenes.paths, tmp_path / "own" / "map.tif", stride_m=40)
    assert (small_disk / "map.tif").read_bytes() == (tmp_path / "own" / "map.tif").read_bytes()


@pytest.mark.parametrize("name", ["model", "segmentation"])
def test_a_killed_run_goes_on_and_ends_with_the_same_bits(tmp_path, exported, model_of, name):
    """A real SIGKILL, twice, at whatever it was doing; a model of tiles, and one of pixels."""
    scenes = make_scenes(tmp_path / "in", 2400, 1800)
    with rasterio.open(scenes.s1, "r+") as dataset:
        pixels = dataset.read()
        pixels[:, 70:150, 30:90] = np.nan
        dataset.write(pixels)
    path = exported.path if name == "model" else model_of(name).session.path
    command = [sys.executable, "-m", "fusmae", "predict", "--model", str(path), "--stride", "40"]
    command += ["--s1", str(scenes.s1), "--s2", str(scenes.s2)]
    command += [] if name == "model" else ["--probabilities"]

    def start(folder):
        return subprocess.Popen([*command, "--out", str(folder / "map.tif")], stderr=subprocess.PIPE, text=True)

    whole = start(tmp_path / "whole")
    assert whole.communicate()[1].count("goes on") == 0
    assert whole.returncode == 0
    for num_units in (3, 17):
        killed = start(tmp_path / "killed")
        while killed.poll() is None and len(list(tmp_path.glob("killed/.map.tif.*/unit-*.npz"))) < num_units:
            time.sleep(0.002)
        os.kill(killed.pid, signal.SIGKILL)
        killed.communicate()
        assert killed.returncode == -signal.SIGKILL
        assert not (tmp_path / "killed" / "map.tif").exists()
    resumed = start(tmp_path / "killed")
    assert "were predicted before" in resumed.communicate()[1]
    assert contents(tmp_path / "killed") == contents(tmp_path / "whole")


_MEASURED = """
import sys
from pathlib import Path
from fusmae.inference.scene import grid
from fusmae.inference.map import quicklook
from fusmae.inference.map import rasters
from fusmae.inference.scene import reader
from fusmae.inference.scene import tiles
# What bounds memory at any size, here at sizes that a test can reach.
grid._STRIP_M, reader._CACHE_BYTES, tiles.LOOK_PX, quicklook.LOOK_PX = 4_000, 8 * 2**20, 100, 100
rasters._CACHE_BYTES = 8 * 2**20
from fusmae.inference.map.predict import Model, predict_map
from fusmae.inference.session import Session
model, scenes, out = map(Path, sys.argv[1:])
session = Session(model)
has_probabilities = session.output == "map"
paths = {"s1": [scenes / "s1.tif"], "s2": [scenes / "s2"]}
predict_map(Model(session, "tiny", "0"), paths, out, stride_m=240, has_probabilities=has_probabilities)
status = Path("/proc/self/status").read_text()
print(int(next(line for line in status.splitlines() if line.startswith("VmHWM")).split()[1]) / 1024)
"""


def peaks_mb(tmp_path, model):
    """Peaks of memory for a scene, and for one of sixteen times the ground, both ways: 10 and 160 MB of pixels."""
    peaks = []
    for side_m in (8_000, 32_000):
        folder = tmp_path / str(side_m)
        for name, bands in (("s1.tif", ("VV", "VH")), ("s2/s2_10.tif", ("B02", "B03")), ("s2/s2_20.tif", ("B05",))):
            gsd_m = GSD_M[bands[0]]
            path, side_px = folder / name, side_m // gsd_m
            path.parent.mkdir(parents=True, exist_ok=True)
            dtype = "float32" if name == "s1.tif" else "uint16"
            with rasterio.open(
                path, "w", driver="GTiff", count=len(bands), dtype=dtype, height=side_px, width=side_px,
                crs="EPSG:32633", transform=from_origin(LEFT, TOP, gsd_m, gsd_m), tiled=True, sparse_ok=True,
            ) as dataset:  # fmt: skip
                dataset.descriptions = bands
                dataset.write(np.stack([band(key, side_px, side_px) for key in bands]))
        arguments = [str(model), str(folder), str(folder / "map.tif")]
        done = subprocess.run(
            [sys.executable, "-c", _MEASURED, *arguments], stdout=subprocess.PIPE, text=True, check=True
        )
        peaks.append(float(done.stdout))
    return peaks


def test_memory_does_not_grow_with_the_scene(tmp_path, exported):
    small, large = peaks_mb(tmp_path, exported.path)
    assert large - small < 60, (small, large)


def test_memory_of_a_map_at_ten_metres_does_not_grow_with_the_scene(tmp_path, model_of):
    """With the probabilities of all classes."""
    small, large = peaks_mb(tmp_path, model_of("segmentation").session.path)
    assert large - small < 60, (small, large)


def test_an_unchanged_scene_gives_the_same_bits_again(tmp_path, scenes, model):
    for name in ("a", "b"):
        predict_map(model, scenes.paths, tmp_path / name / "map.tif")
    assert contents(tmp_path / "a") == contents(tmp_path / "b")


def test_the_files_say_which_model_made_them(tmp_path, scenes, model):
    predict_map(replace(model, label="fusmae/7", sha256="ab" * 32), scenes.paths, tmp_path / "map.tif")
    with rasterio.open(tmp_path / "map.tif") as dataset:
        tags = dataset.tags()
    assert tags["MODEL"] == "fusmae/7"
    assert tags["MODEL_SHA256"] == "ab" * 32
    assert tags["MODALITIES"] == "s1, s2"
    assert "not of the pixel alone" in tags["NOTE"]


def run(*arguments):
    command = [sys.executable, "-m", "fusmae", "predict", *map(str, arguments)]
    return subprocess.run(command, capture_output=True, text=True, check=False)


def test_the_command_tells_what_it_wrote(tmp_path, scenes, exported):
    done = run("--model", exported.path, "--s2", scenes.s2, "--out", tmp_path / "map.tif", "--date", "2021-02-03")
    assert done.returncode == 0
    assert f"wrote {tmp_path / 'map.tif'}" in done.stdout
    assert '"datetime": "2021-02-03T00:00:00Z"' in (tmp_path / "map.json").read_text(encoding="utf-8")


@pytest.mark.parametrize(
    ("arguments", "named"),
    [
        (("--out", "map.tif"), "There is no scene"),
        (("--out", "map.png", "--s1", "a.tif"), "ends in .tif"),
        (("--out", "map.tif", "--s1", "absent.tif"), "no file absent.tif"),
    ],
)
def test_a_mistake_is_told_in_a_paragraph(tmp_path, exported, arguments, named):
    done = run("--model", exported.path, *arguments)
    assert done.returncode == 1
    assert named in done.stderr
    assert "Traceback" not in done.stderr
    assert not Path("map.tif").exists()
