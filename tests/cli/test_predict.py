"""What the command line says about scenes reaches the reader as it was written."""

import pytest
import rasterio
from typer.testing import CliRunner

from fusmae.cli import app
from fusmae.errors import InputError
from tests.inference.conftest import band, make_scenes, write_raster


def predict(exported, out, *arguments):
    command = ["predict", "--model", str(exported.path), "--out", str(out), *map(str, arguments)]
    return CliRunner().invoke(app, command)


def test_an_encoder_makes_no_map_and_leaves_nothing(tmp_path, exported_encoder):
    found = predict(exported_encoder, tmp_path / "map.tif", "--s1", tmp_path / "s1.tif")
    assert "is an encoder" in str(found.exception)
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    "address", ["https://example.org/VV.tif?sig=a%2Fb", "s3://bucket//VV.tif", "/vsicurl/http://a//b.tif"]
)
def test_an_address_keeps_every_slash(tmp_path, exported, address):
    error = predict(exported, tmp_path / "map.tif", "--s1", address).exception
    assert isinstance(error, InputError)
    assert str(error).startswith(f"{address} is not on this machine.")


def test_amplitude_makes_the_map_that_its_decibels_make(tmp_path, exported):
    scenes = make_scenes(tmp_path / "in")
    with rasterio.open(scenes.s1) as dataset:
        decibels = dataset.read()
    path = write_raster(tmp_path / "amplitude.tif", 10 ** (decibels / 20), names=("VV", "VH"))
    for name, arguments in {"a": ["--s1", scenes.s1], "b": ["--s1", path, "--s1-units", "amplitude"]}.items():
        assert predict(exported, tmp_path / f"{name}.tif", *arguments).exit_code == 0
    maps = [rasterio.open(tmp_path / f"{name}.tif").read() for name in "ab"]
    assert abs(maps[0].astype(int) - maps[1]).max() <= 1


def test_what_pixels_can_not_tell_is_printed_and_the_map_is_made(tmp_path, exported):
    for name in ("B02", "B03", "B05"):
        pixels = band(name, 720, 960) + 4000
        write_raster(tmp_path / "s2" / f"{name}.tif", pixels[None], gsd_m={"B05": 20}.get(name, 10))
    done = predict(exported, tmp_path / "map.tif", "--s2", tmp_path / "s2")
    assert done.exit_code == 0
    assert "warning: Whether the s2 scene holds the offset of 1000 can't be known" in done.stderr
