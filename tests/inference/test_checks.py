"""Pixels in other units are refused with the option that mends them, and right ones are not."""

import re
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from fusmae.errors import InputError
from fusmae.inference.checks import check_pixels
from fusmae.inference.grid import lay_grid
from fusmae.inference.reader import SceneReader
from fusmae.inference.scene import Reading, open_scenes

from .conftest import GSD_M, band, write_raster


def check(model, paths, **readings):
    scenes = open_scenes(model.session.inputs, paths, readings)
    with SceneReader(scenes, model.session.inputs, lay_grid(scenes, model.session.inputs, None)) as reader:
        check_pixels(reader, scenes)


def s1_of(tmp_path, change, names=("VV", "VH")):
    pixels = np.stack([band("VV", 720, 960), band("VH", 720, 960)])
    return {"s1": [write_raster(tmp_path / "s1.tif", change(pixels), names=names)]}


def s2_of(tmp_path, change):
    for name in ("B02", "B03", "B05"):
        pixels = change(band(name, 720, 960)[None])
        write_raster(tmp_path / "s2" / f"{name}.tif", pixels, gsd_m=GSD_M[name])
    return {"s2": [tmp_path / "s2"]}


def test_right_pixels_pass(model, scenes):
    check(model, scenes.paths)


def test_linear_power_is_refused_unless_it_is_said(tmp_path, model):
    paths = s1_of(tmp_path, lambda pixels: 10 ** (pixels / 10))
    with pytest.raises(InputError, match=r"(?s)linear power, not dB.*--s1-units power"):
        check(model, paths)
    check(model, paths, s1=Reading(units="power"))


def test_uncalibrated_amplitudes_are_refused_either_way(tmp_path, model):
    paths = s1_of(tmp_path, lambda pixels: (300 + 10 * np.abs(pixels)).astype(np.float32))
    with pytest.raises(InputError, match="calibrated"):
        check(model, paths)
    with pytest.raises(InputError, match=r"(?s)no backscatter in dB.*after conversion from power"):
        check(model, paths, s1=Reading(units="power"))


def test_swapped_polarisations_are_refused_unless_named(tmp_path, model):
    paths = s1_of(tmp_path, lambda pixels: pixels[::-1])
    with pytest.raises(InputError, match=r"(?s)look swapped.*--s1-bands VH,VV"):
        check(model, paths)
    check(model, paths, s1=Reading(bands=("VH", "VV")))


def test_the_offset_of_baseline_0400_is_refused_unless_it_is_said(tmp_path, model):
    paths = s2_of(tmp_path, lambda pixels: pixels + np.uint16(1000))
    with pytest.raises(InputError, match=r"(?s)offset of 1000.*--s2-offset 1000 takes it off.*--s2-offset 0"):
        check(model, paths)
    check(model, paths, s2=Reading(offset=1000))
    check(model, paths, s2=Reading(offset=0))


def test_an_offset_that_is_not_there_is_refused(model, scenes):
    with pytest.raises(InputError, match=r"(?s)does not hold an offset of 1000.*leave out --s2-offset"):
        check(model, scenes.paths, s2=Reading(offset=1000))


@pytest.mark.parametrize(
    ("change", "named"),
    [
        (lambda pixels: (pixels / 10_000).astype(np.float32), "reflectance from 0 to 1"),
        (lambda pixels: (pixels // 8).astype(np.uint8), "8-bit picture"),
    ],
)
def test_other_scales_of_s2_are_refused(tmp_path, model, change, named):
    with pytest.raises(InputError, match=named):
        check(model, s2_of(tmp_path, change))


@pytest.mark.parametrize("value", [-9999.0, -32768.0, -3.4028235e38])
def test_nodata_of_s1_that_the_file_does_not_state_is_refused_until_it_does(tmp_path, model, value):
    def change(pixels):
        pixels[:, :22] = value
        return pixels

    paths = s1_of(tmp_path, change)
    with pytest.raises(
        InputError, match=r"(?s)no measurements.*from -80 to 40 dB.*rio edit-info FILE --nodata"
    ) as error:
        check(model, paths)
    number = re.search(r"most often (\S+)", str(error.value))[1]
    rio = Path(sys.executable).with_name("rio")
    subprocess.run([rio, "edit-info", paths["s1"][0], "--nodata", number], check=True)
    check(model, paths)


@pytest.mark.parametrize(("value", "kind"), [(65535, np.uint16), (-9999, np.int16)])
def test_nodata_of_s2_that_the_files_do_not_state_is_refused(tmp_path, model, value, kind):
    def change(pixels, offset=0):
        pixels = (pixels + offset).astype(kind)
        pixels[:, : pixels.shape[1] // 3] = value
        return pixels

    with pytest.raises(InputError, match=rf"(?s)s2 scene has pixels that are no measurements.*most often {value}"):
        check(model, s2_of(tmp_path, change))
    with pytest.raises(InputError, match=r"(?s)rio edit-info FILE --nodata"):
        check(model, s2_of(tmp_path, lambda pixels: change(pixels, 1000)), s2=Reading(offset=1000))


def test_a_few_pixels_that_are_no_measurements_are_let_pass(tmp_path, model):
    def change(pixels):
        pixels[:, 5, 5:8] = -120
        return pixels

    check(model, s1_of(tmp_path, change))


def test_a_scene_that_is_mostly_empty_is_judged_by_what_is_there(tmp_path, model):
    def keep_a_corner(pixels):
        power = 10 ** (pixels / 10)
        power[:, 12:] = power[:, :, 12:] = np.nan
        return power

    with pytest.raises(InputError, match="linear power"):
        check(model, s1_of(tmp_path, keep_a_corner))
