"""Inputs from the field, run against the built product; each kind of fault is tested beside the code that it is in.

Cases that are not here need more than one command: 14 (older runtimes), 15 (DVC's temporary folders), 16 (a proxy),
17 (a folder's name) and 18 (line ends).
"""

import json
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from fusmae.cli import main

CASES = Path(__file__).parents[3] / "shared" / "cases"
STAGES = (
    "fetch --downloads data/downloads --raw data/raw --receipt data/raw.json",
    "index --raw data/raw --out data/index.parquet",
    "shard --raw data/raw --receipt data/raw.json --index data/index.parquet --out data/shards"
    " --statistics data/statistics.json",
    "examine --raw data/raw --index data/index.parquet --shards data/shards --out reports/examine"
    " --verdict data/verdict.json",
)
pytestmark = [
    pytest.mark.xdist_group("copies of the pipeline"),
    pytest.mark.timeout(900),
    pytest.mark.skipif(not CASES.is_dir(), reason="../shared/cases is not here"),
]


@pytest.fixture
def case(tmp_path, monkeypatch):
    """Makes a case's input by name and enters its folder."""

    def make(name):
        shutil.copytree(CASES / name, tmp_path / name)
        shutil.copy(CASES / "common.py", tmp_path)
        monkeypatch.chdir(tmp_path / name)
        subprocess.run([sys.executable, "make.py"], check=True)

    return make


@pytest.fixture
def run(capsys):
    """Runs `fusmae` in this process; gives its exit code and what it printed, errors with it."""

    def call(*arguments):
        with pytest.raises(SystemExit) as ended:
            main([str(argument) for argument in arguments])
        printed = capsys.readouterr()
        return ended.value.code or 0, printed.out + printed.err

    return call


@pytest.fixture
def predict(untouched, run):
    """Runs `fusmae predict` with the quick start's model."""

    def call(*arguments):
        return run("predict", "--model", untouched / "models" / "export" / "model.onnx", *arguments)

    return call


@pytest.fixture
def stages(untouched, run, monkeypatch):
    """Runs the stages up to the examination in a folder; what they printed, to the first that fails."""
    import yaml

    def call(folder):
        monkeypatch.chdir(folder)
        params = yaml.safe_load((untouched / "params.yaml").read_text(encoding="utf-8"))
        params["data"]["source"] = {"name": "folder", "classes": ["water", "land"], "s2_offset": 0}
        Path("params.yaml").write_text(yaml.safe_dump(params), encoding="utf-8")
        for stage in STAGES:
            code, printed = run(*stage.split())
            if code:
                return code, printed
        return 0, printed

    return call


def read(path):
    """A map's probabilities in whole steps of storage, NaN where there is no data."""
    import rasterio

    with rasterio.open(path) as dataset:
        return dataset.read(masked=True).astype(np.float32).filled(np.nan)


def map_of(predict, *arguments, out):
    code, printed = predict(*arguments, "--out", out)
    assert code == 0, printed
    return read(out)


def share_empty(pixels):
    return float(np.isnan(pixels[0]).mean())


def test_amplitude_is_never_mapped_as_power(case, predict):
    case("01-s1-amplitude-as-power")
    (amplitude,) = Path("in").glob("S1A*.tif")
    code, printed = predict("--s1", amplitude, "--out", "a.tif")
    assert code
    assert "amplitude" in printed
    code, printed = predict("--s1", amplitude, "--s1-units", "power", "--out", "b.tif")
    assert code
    assert "--units s1=amplitude" in printed
    assert not Path("b.tif").exists()
    right = map_of(predict, "--s1", "in/same_in_dB.tif", out="right.tif")
    converted = map_of(predict, "--s1", amplitude, "--s1-units", "amplitude", out="c.tif")
    np.testing.assert_allclose(converted, right, atol=1)


def test_minus_infinity_is_no_data(case, predict):
    case("02-s1-minus-infinity")
    unstated = map_of(predict, "--s1", "in/s1.tif", out="a.tif")
    stated = map_of(predict, "--s1", "in/s1_nodata_stated.tif", out="right.tif")
    np.testing.assert_array_equal(unstated, stated)
    assert 0 < share_empty(unstated) < 0.2


def test_a_stated_scale_is_applied(case, predict):
    case("03-stated-scale-ignored")
    scaled = map_of(predict, "--s1", "in/s1_centi_dB.tif", out="a.tif")
    np.testing.assert_allclose(scaled, map_of(predict, "--s1", "in/same_in_dB.tif", out="right.tif"), atol=1)


def test_what_a_mask_or_an_alpha_band_hides_is_no_data(case, predict):
    import rasterio

    case("04-mask-and-alpha-ignored")
    masked = map_of(predict, "--s1", "in/s1_internal_mask.tif", out="a.tif")
    alpha = map_of(predict, "--s1", "in/s1_alpha.tif", out="b.tif")
    with rasterio.open("in/s1_internal_mask.tif") as dataset:
        pixels, profile = dataset.read(masked=True).filled(np.nan), dataset.profile
    with rasterio.open("in/nan.tif", "w", **profile) as dataset:
        dataset.write(pixels)
        dataset.descriptions = ("VV", "VH")
    right = map_of(predict, "--s1", "in/nan.tif", out="right.tif")
    assert share_empty(right) > 0.3
    np.testing.assert_array_equal(masked, right)
    np.testing.assert_array_equal(alpha, right)


def test_dark_water_that_was_clipped_to_0_is_mapped(case, predict):
    case("05-dark-water-clipped-to-zero")
    zero = map_of(predict, "--s2", "in/s2_clipped_to_0", out="a.tif")
    one = map_of(predict, "--s2", "in/s2_clipped_to_1", out="right.tif")
    assert share_empty(zero) == share_empty(one) == 0
    assert (zero.argmax(0) == one.argmax(0)).mean() > 0.99


def test_stac_names_are_read_and_a_wrong_order_is_named(case, predict):
    case("06-band-names-of-stac")
    keys = map_of(predict, "--s2", "in/s2_asset_keys", out="a.tif")
    np.testing.assert_array_equal(keys, map_of(predict, "--s2", "in/s2_band_names", out="right.tif"))
    order = "B02,B03,B04,B08,B05,B06,B07,B8A,B11,B12,B01,B09"
    _, printed = predict("--s2", "in/s2_asset_keys", "--s2-bands", order, "--out", "b.tif")
    assert "warning" in printed
    assert "swir22.tif" in printed
    twins = map_of(predict, "--s1", "in/snap_linear_and_dB.tif", out="d.tif")
    assert share_empty(twins) == 0


def test_hidden_files_are_no_rasters_of_a_scene(case, predict):
    case("07-hidden-files-in-a-scene-folder")
    jupyter = map_of(predict, "--s2", "in/jupyter", out="a.tif")
    np.testing.assert_array_equal(jupyter, map_of(predict, "--s2", "in/mac", out="b.tif"))


def test_an_impossible_date_in_a_name_ends_nothing(case, predict):
    case("08-impossible-date-in-a-name")
    assert share_empty(map_of(predict, "--s2", "in/s2", out="a.tif")) == 0


def test_an_address_is_read_or_named_as_it_was_given(case, predict):
    case("09-url-as-a-scene")
    addresses = [f"https://example.org/{band}.tif" for band in ("VV", "VH")]
    code, printed = predict("--s1", addresses[0], "--s1", addresses[1], "--out", "a.tif")
    assert code
    assert addresses[0] in printed
    zipped = [f"/vsizip/in/s1.zip/{band}.tif" for band in ("VV", "VH")]
    code, printed = predict("--s1", zipped[0], "--s1", zipped[1], "--out", "b.tif")
    assert code == 0 or zipped[0] in printed


def test_stated_nodata_of_training_files_is_no_measurement(case, stages):
    case("10-folder-stated-nodata-65535")
    code, printed = stages("in")
    assert code == 0 or "nodata" in printed
    if code == 0:
        statistics = json.loads(Path("data/statistics.json").read_text(encoding="utf-8"))
        assert all(band["mean"] < 5000 for band in statistics["s2"].values())


@pytest.mark.parametrize(
    ("folder", "is_fit"), [("right", True), ("south_up", True), ("12m", False), ("degrees", False)]
)
def test_tiles_of_other_ground_are_refused(folder, is_fit, case, stages):
    case("11-folder-ground-size-unchecked")
    code, printed = stages(f"in/{folder}")
    assert (code == 0) == is_fit, printed


def test_a_turned_tile_is_refused(case, stages):
    case("11-folder-ground-size-unchecked")
    code, printed = stages("in/turned")
    assert code
    assert "turned" in printed or "rotat" in printed


@pytest.mark.parametrize("folder", ["one_split_each", "places"])
def test_a_table_that_is_not_utf_8_is_refused_by_line(folder, case, stages):
    case("12-csv-not-utf8")
    code, printed = stages(f"in/{folder}")
    assert code
    assert "UTF-8" in printed
    assert "line 2" in printed


def test_names_are_found_in_either_unicode_form(case, stages):
    case("13-nfd-file-names")
    code, printed = stages("in")
    assert code == 0, printed


def test_the_right_offset_is_advised_and_taken_over_dark_water(case, predict):
    case("19-right-offset-refused-over-dark-water")
    code, printed = predict("--s2", "in/s2", "--out", "a.tif")
    assert code
    assert "--offset s2=1000" in printed
    assert share_empty(map_of(predict, "--s2", "in/s2", "--s2-offset", "1000", out="right.tif")) == 0
