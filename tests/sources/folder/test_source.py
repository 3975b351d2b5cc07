import re
import shlex
import subprocess
import sys
import unicodedata
from collections import Counter
from datetime import UTC, datetime
from pathlib import Path

import numpy as np
import pytest
import rasterio
from rasterio import Affine
from rasterio.control import GroundControlPoint
from rasterio.crs import CRS
from rasterio.enums import ColorInterp

from fusmae.config.task import Task
from fusmae.data.index import Pair, validate_index
from fusmae.data.pixels import stack_bands
from fusmae.errors import PairError, SourceError
from fusmae.modalities import BandGroup, Modality, modality_inputs
from fusmae.sources import open_source
from fusmae.sources.folder.source import FolderSource

CLASSES = ("water", "land")
BANDS = {"s1": ("VV", "VH"), "s2": ("B02", "B03"), "s2_20m": ("B05", "B8A"), "s2_60m": ("B01",)}
TABLE = "key,labels,split,place,date,country\na,water,train,north,2017-06-13,Finland\n"
KEY, TILE_M = "a", 1200
MODALITIES = {
    "s1": Modality(units="dB", groups=(BandGroup(gsd_m=10, bands=BANDS["s1"]),)),
    "s2": Modality(
        units="DN",
        groups=(
            BandGroup(gsd_m=10, bands=BANDS["s2"]),
            BandGroup(gsd_m=20, bands=BANDS["s2_20m"]),
            BandGroup(gsd_m=60, bands=BANDS["s2_60m"]),
        ),
    ),
}
SOURCE = FolderSource(CLASSES, inputs=modality_inputs(MODALITIES, TILE_M))


def write_raster(path: Path, names: tuple[str, ...], *, gsd_m: int = 10, **changes) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    side_px = TILE_M // gsd_m
    is_s1 = path.parent.name == "s1"
    profile = {"count": len(names), "dtype": "float32" if is_s1 else "uint16", "crs": "EPSG:32635"}
    profile |= {"transform": Affine(gsd_m, 0, 400_000, 0, -gsd_m, 6_700_000), "width": side_px, "height": side_px}
    profile |= {key: value for key, value in changes.items() if key != "pixels"}
    random = np.random.default_rng(list(path.name.encode()))
    shape = (len(names), profile["height"], profile["width"])
    made = random.normal(-14, 3, shape) if is_s1 else random.integers(0, 9000, shape)
    with rasterio.open(path, "w", driver="GTiff", **profile) as dataset:
        dataset.write(changes.get("pixels", made).astype(profile["dtype"]))
        for number, name in enumerate(names, start=1):
            dataset.set_band_description(number, name)
    return path


def write_pair(raw: Path, key: str, **changes) -> None:
    write_raster(raw / "s1" / f"{key}.tif", BANDS["s1"], **changes)
    write_raster(raw / "s2" / f"{key}.tif", BANDS["s2"], **changes)


@pytest.fixture
def raw(tmp_path: Path) -> Path:
    """One pair at three resolutions."""
    raw = tmp_path / "raw"
    write_pair(raw, KEY)
    write_raster(raw / "s2" / "a_20m.tif", BANDS["s2_20m"], gsd_m=20)
    write_raster(raw / "s2" / "a_60m.tif", BANDS["s2_60m"], gsd_m=60)
    (raw / "pairs.csv").write_text(TABLE, encoding="utf-8")
    return raw


def only_pair(raw: Path) -> Pair:
    (pair,) = SOURCE.pairs(raw)
    return pair


def refused_pair(raw: Path) -> PairError:
    with pytest.raises(PairError) as caught:
        SOURCE.read(raw, only_pair(raw))
    assert "Pair a" in str(caught.value)
    return caught.value


def refused_table(raw: Path, table: str) -> str:
    (raw / "pairs.csv").write_text(table, encoding="utf-8")
    with pytest.raises(SourceError) as caught:
        SOURCE.pairs(raw)
    assert "docs/folder.md" in str(caught.value)
    return str(caught.value)


# Reading


def test_bands_are_read_by_their_descriptions_at_their_own_resolution(raw):
    bands = SOURCE.read(raw, only_pair(raw))
    assert set(bands) == {name for names in BANDS.values() for name in names}
    assert {pixels.shape for pixels in bands.values()} == {(120, 120), (60, 60), (20, 20)}
    with rasterio.open(raw / "s2" / "a_20m.tif") as dataset:
        np.testing.assert_array_equal(bands["B8A"], dataset.read(2))


def test_the_position_of_a_band_in_its_file_does_not_matter(raw):
    before = SOURCE.read(raw, only_pair(raw))
    path = raw / "s1" / "a.tif"
    with rasterio.open(path) as dataset:
        swapped = dataset.read()[::-1]
    write_raster(path, ("VH", "VV"), pixels=swapped)
    after = SOURCE.read(raw, only_pair(raw))
    for name, pixels in before.items():
        np.testing.assert_array_equal(after[name], pixels)


@pytest.mark.parametrize(("stored", "dtype"), [("float32", np.float32), ("float64", np.float32)])
def test_s1_becomes_float32(raw, stored, dtype):
    write_raster(raw / "s1" / "a.tif", BANDS["s1"], dtype=stored)
    assert SOURCE.read(raw, only_pair(raw))["VV"].dtype == dtype


@pytest.mark.parametrize("stored", ["uint16", "int16", "int32", "float32"])
def test_whole_digital_numbers_of_any_type_become_uint16(raw, stored):
    before = SOURCE.read(raw, only_pair(raw))
    with rasterio.open(raw / "s2" / "a.tif") as dataset:
        pixels = dataset.read()
    write_raster(raw / "s2" / "a.tif", BANDS["s2"], dtype=stored, pixels=pixels)
    after = SOURCE.read(raw, only_pair(raw))
    assert after["B02"].dtype == np.uint16
    np.testing.assert_array_equal(after["B02"], before["B02"])


def test_files_of_the_other_resolutions_may_be_left_out(raw):
    (raw / "s2" / "a_20m.tif").unlink()
    (raw / "s2" / "a_60m.tif").unlink()
    assert set(SOURCE.read(raw, only_pair(raw))) == {"VV", "VH", "B02", "B03"}


def test_a_band_of_the_parameters_that_no_file_has_is_named(raw):
    modality = Modality(units="DN", groups=(BandGroup(gsd_m=10, bands=("B02", "B04")),))
    inputs = modality_inputs({"s2": modality}, TILE_M)
    with pytest.raises(PairError, match="no band B04"):
        stack_bands(KEY, SOURCE.read(raw, only_pair(raw)), inputs)


def test_bands_without_a_name_are_refused_with_the_command_that_names_them(raw):
    path = write_raster(raw / "s2" / "a.tif", ("B02", ""))
    error = refused_pair(raw)
    assert error.fault == "incomplete"
    assert f"{path} has bands without a name" in str(error)
    assert f"rio edit-info {path} --bidx 1 --description B02" in str(error)


def test_the_command_of_that_hint_names_the_band(raw):
    from click.testing import CliRunner
    from rasterio.rio.main import main_group

    path = write_raster(raw / "s2" / "a.tif", ("", "B03"))
    (command,) = re.findall(r"`rio (.*?)`", str(refused_pair(raw)))
    done = CliRunner().invoke(main_group, command.split())
    assert done.exit_code == 0, done.output
    assert SOURCE.read(raw, only_pair(raw))["B02"].shape == (120, 120)
    assert path.exists()


@pytest.mark.parametrize(("file", "names"), [("a.tif", ("B02", "B02")), ("a_20m.tif", ("B02", "B8A"))])
def test_a_band_that_stands_twice_is_refused(raw, file, names):
    write_raster(raw / "s2" / file, names, gsd_m=20 if "20m" in file else 10)
    error = refused_pair(raw)
    assert error.fault == "incomplete"
    assert "names B02 twice" in str(error)


@pytest.mark.parametrize("side", ["s1", "s2"])
def test_a_missing_side_is_incomplete(raw, side):
    (raw / side / "a.tif").unlink()
    error = refused_pair(raw)
    assert error.fault == "incomplete"
    assert f"{side}/a.tif is absent" in str(error)


@pytest.mark.parametrize("share", [0.0, 0.02, 0.5, 0.95])
def test_a_truncated_file_is_unreadable(raw, share):
    path = raw / "s1" / "a.tif"
    path.write_bytes(path.read_bytes()[: int(path.stat().st_size * share)])
    error = refused_pair(raw)
    assert error.fault == "unreadable"
    assert str(path) in str(error)


@pytest.mark.parametrize("file", ["s1/a.tif", "s2/a_60m.tif"])
@pytest.mark.parametrize("change", ["crs", "shift"])
def test_files_of_another_ground_are_refused(raw, file, change):
    gsd_m = 60 if "60m" in file else 10
    moved = Affine(gsd_m, 0, 400_005, 0, -gsd_m, 6_700_000)
    changes = {"crs": {"crs": "EPSG:32634"}, "shift": {"transform": moved}}[change]
    write_raster(raw / file, BANDS["s2_60m"] if gsd_m == 60 else BANDS["s1"], gsd_m=gsd_m, **changes)
    error = refused_pair(raw)
    assert error.fault == "georeference"
    assert "don't cover the same ground" in str(error)


def test_degrees_are_compared_as_closely_as_metres(raw):
    for file, names, shift in (("s1/a.tif", BANDS["s1"], 0.0001), ("s2/a.tif", BANDS["s2"], 0.0)):
        ground = {"crs": "EPSG:4326", "transform": Affine(0.0001, 0, 24 + shift, 0, -0.0001, 60)}
        write_raster(raw / file, names, **ground)
    assert refused_pair(raw).fault == "georeference"


@pytest.mark.filterwarnings("ignore::rasterio.errors.NotGeoreferencedWarning")
def test_a_file_without_a_georeference_is_refused(raw):
    write_raster(raw / "s2" / "a.tif", BANDS["s2"], crs=None)
    assert refused_pair(raw).fault == "georeference"


def test_s1_in_whole_numbers_is_refused(raw):
    write_raster(raw / "s1" / "a.tif", BANDS["s1"], dtype="int16")
    error = refused_pair(raw)
    assert error.fault == "units"
    assert "int16" in str(error)
    assert "store s1 as float32" in str(error)


@pytest.mark.parametrize("value", [0.25, -3.0, 70_000.0])
def test_s2_that_is_no_digital_number_is_refused(raw, value):
    pixels = np.full((2, 120, 120), 1000.0)
    pixels[1, 5, 6] = value
    write_raster(raw / "s2" / "a.tif", BANDS["s2"], dtype="float32", pixels=pixels)
    error = refused_pair(raw)
    assert error.fault == "units"
    assert "store digital numbers (reflectance times 10,000) as uint16" in str(error)


# What files say of themselves


def s2_pixels(value, where=(1, 6, 7)):
    pixels = np.full((2, 120, 120), 1000.0)
    pixels[where] = value
    return pixels


@pytest.mark.parametrize(
    ("dtype", "stated", "value"),
    [
        ("float32", None, np.nan),
        ("float32", None, -np.inf),
        ("float32", np.nan, np.inf),
        ("float32", -9999, -9999),
        ("uint16", 65535, 65535),
        ("int16", -9999, -9999),
        ("uint16", 0, 0),
    ],
)
def test_nodata_of_s2_is_0_in_all_bands_over_all_resolutions(raw, dtype, stated, value):
    write_raster(raw / "s2" / "a.tif", BANDS["s2"], dtype=dtype, nodata=stated, pixels=s2_pixels(value))
    for end, gsd_m in (("_20m", 20), ("_60m", 60)):
        pixels = np.full((len(BANDS[f"s2{end}"]), 1200 // gsd_m, 1200 // gsd_m), 700)
        write_raster(raw / "s2" / f"a{end}.tif", BANDS[f"s2{end}"], gsd_m=gsd_m, pixels=pixels)
    bands = SOURCE.read(raw, only_pair(raw))
    for names, (row, column), count in (("B02 B03", (6, 7), 1), ("B05 B8A", (3, 3), 1), ("B01", (1, 1), 1)):
        for name in names.split():
            assert bands[name].dtype == np.uint16
            assert bands[name][row, column] == 0
            assert (bands[name] == 0).sum() == count


@pytest.mark.parametrize("stated", [None, 65535])
def test_zero_in_one_band_of_s2_is_a_value(raw, stated):
    write_raster(raw / "s2" / "a.tif", BANDS["s2"], nodata=stated, pixels=s2_pixels(0))
    bands = SOURCE.read(raw, only_pair(raw))
    assert bands["B03"][6, 7] == 0
    assert bands["B02"][6, 7] == 1000
    assert (bands["B05"] > 0).sum() >= 3590


@pytest.mark.parametrize(("stated", "value"), [(-9999, -9999), (None, -np.inf), (np.nan, np.inf), (None, 0)])
def test_nodata_of_s1_is_nan_and_refused_as_nodata(raw, stated, value):
    pixels = np.full((2, 120, 120), -12.0)
    pixels[:, 3, 4] = value
    write_raster(raw / "s1" / "a.tif", BANDS["s1"], nodata=stated, pixels=pixels)
    bands = SOURCE.read(raw, only_pair(raw))
    assert np.isnan(bands["VV"]).sum() == 1
    inputs = modality_inputs({"s1": Modality(units="dB", groups=(BandGroup(gsd_m=10, bands=("VV",)),))}, TILE_M)
    with pytest.raises(PairError, match="1 of 14400 pixels") as caught:
        stack_bands(KEY, bands, inputs)
    assert caught.value.fault == "nodata"


@pytest.mark.parametrize("kind", ["internal", "beside", "alpha"])
def test_what_a_mask_or_an_alpha_band_hides_is_nodata_and_alpha_is_no_band(raw, kind):
    valid = np.full((120, 120), 255, np.uint8)
    valid[6, 7] = 0
    path = raw / "s2" / "a.tif"
    if kind == "alpha":
        write_raster(path, (*BANDS["s2"], ""), pixels=np.concatenate([s2_pixels(3), valid[None]]))
        with rasterio.open(path, "r+") as dataset:
            dataset.colorinterp = tuple(ColorInterp[name] for name in ("gray", "undefined", "alpha"))
    else:
        write_raster(path, BANDS["s2"], pixels=s2_pixels(3))
        with rasterio.Env(GDAL_TIFF_INTERNAL_MASK=kind == "internal"), rasterio.open(path, "r+") as dataset:
            dataset.write_mask(valid)
        assert path.with_name("a.tif.msk").exists() == (kind == "beside")
    bands = SOURCE.read(raw, only_pair(raw))
    assert (bands["B02"] == 0).sum() == (bands["B03"] == 0).sum() == 1
    assert bands["B02"][6, 7] == 0


def stating(path: Path, scale: float, offset: float) -> None:
    with rasterio.open(path, "r+") as dataset:
        dataset.scales, dataset.offsets = (scale,) * dataset.count, (offset,) * dataset.count


@pytest.mark.parametrize(
    ("scale", "offset", "stored", "expected"),
    [
        (0.0001, 0, 1234, 1234),
        (0.0001, -0.1, 2234, 1234),
        (0.0001, -0.1, 900, 0),
        (1, -1000, 2234, 1234),
        (2.75e-05, -0.2, 10_000, 750),
        (10, 0, 123, 1230),
    ],
)
def test_a_scale_that_s2_states_gives_digital_numbers(raw, scale, offset, stored, expected):
    pixels = s2_pixels(stored)
    pixels[:] = 11_000 if scale < 1 else 3000
    pixels[0, 6, 7] = stored
    write_raster(raw / "s2" / "a.tif", BANDS["s2"], pixels=pixels)
    stating(raw / "s2" / "a.tif", scale, offset)
    assert SOURCE.read(raw, only_pair(raw))["B02"][6, 7] == expected


def test_a_scale_that_s1_states_gives_decibels(raw):
    decibels = np.random.default_rng(0).normal(-14, 3, (2, 120, 120))
    write_raster(raw / "s1" / "a.tif", BANDS["s1"], dtype="int16", pixels=np.rint(decibels * 100))
    stating(raw / "s1" / "a.tif", 0.01, 0)
    bands = SOURCE.read(raw, only_pair(raw))
    assert bands["VV"].dtype == np.float32
    assert np.abs(bands["VV"] - decibels[0]).max() <= 0.0051


@pytest.mark.parametrize(
    ("file", "dtype", "scale", "offset", "level"),
    [
        ("s1", "float32", 0.01, 0, -14),  # dB already
        ("s2", "float32", 0.0001, -0.1, 0.12),  # reflectance already
        ("s2", "uint16", 0.01, 0, 1200),  # reflectance in per cent
        ("s2", "float32", 0.0001, -0.1, 300),  # the offset was taken off before
    ],
)
def test_a_scale_that_the_numbers_cant_have_is_refused_with_the_command_that_takes_it_out(
    raw, file, dtype, scale, offset, level
):
    noise = np.random.default_rng(0).normal(level, abs(level) / 5, (2, 120, 120))
    path = write_raster(raw / file / "a.tif", BANDS[file], dtype=dtype, pixels=np.abs(noise) if file == "s2" else noise)
    stating(path, scale, offset)
    error = refused_pair(raw)
    assert error.fault == "units"
    assert f"scale {scale:g}, offset {offset:g}" in str(error)
    (command,) = re.findall(r"take the statement out: python (.*?); else", str(error))
    subprocess.run([sys.executable, *shlex.split(command)], check=True)
    with rasterio.open(path) as dataset:
        assert set(dataset.scales) == {1.0}
        assert set(dataset.offsets) == {0.0}


# The ground


INPUTS = modality_inputs(
    {
        "s1": Modality(units="dB", groups=(BandGroup(gsd_m=10, bands=("VV", "VH")),)),
        "s2": Modality(units="DN", groups=(BandGroup(gsd_m=10, bands=("B02", "B03")),)),
    },
    TILE_M,
)


def read_checked(raw: Path):
    return FolderSource(CLASSES, inputs=INPUTS).read(raw, only_pair(raw))


@pytest.fixture
def pair_of(tmp_path: Path):
    """A pair whose files all have the same transform and CRS."""

    def make(transform: Affine, sides=("s1", "s2"), **changes) -> Path:
        raw = tmp_path / "pair"
        (raw / "s1").mkdir(parents=True, exist_ok=True)
        (raw / "pairs.csv").write_text(TABLE, encoding="utf-8")
        write_pair(raw, KEY)
        for side in sides:
            write_raster(raw / side / "a.tif", BANDS[side], transform=transform, **changes)
        return raw

    return make


NORTH_UP = Affine(10, 0, 400_000, 0, -10, 6_700_000)


@pytest.mark.parametrize(
    ("transform", "changes", "fault", "said"),
    [
        (Affine(12, 0, 400_000, 0, -12, 6_700_000), {}, "grid", "1440 x 1440 m, pixels of 12 x 12 m"),
        (Affine(8, 0, 400_000, 0, -8, 6_700_000), {}, "grid", "960 x 960 m"),
        (Affine(10, 0, 400_000, 0, -12, 6_700_000), {"height": 100}, "grid", "pixels of 10 x 12 m"),
        (Affine(10, 0, 400_000, 0, -10, 6_700_000), {"width": 240, "height": 240}, "grid", "2400 x 2400 m"),
        (NORTH_UP @ Affine.rotation(30), {}, "georeference", "turned by"),
        (NORTH_UP @ Affine.shear(10), {}, "georeference", "turned by"),
        (Affine(9e-5, 0, 10, 0, -9e-5, 60), {"crs": "EPSG:4326"}, "georeference", "degrees"),
        (Affine(10, 0, 1_100_000, 0, -10, 8_400_000), {"crs": "EPSG:3857"}, "georeference", "no metres on the ground"),
        (Affine(33, 0, 980_000, 0, -33, 200_000), {"crs": "EPSG:2263"}, "georeference", "no metres on the ground"),
    ],
)
@pytest.mark.parametrize("sides", [("s1", "s2"), ("s1",), ("s2",)])
def test_other_ground_than_a_tiles_is_refused_with_the_command_that_cuts_one(
    pair_of, transform, changes, fault, said, sides
):
    raw = pair_of(transform, sides, **changes)
    with pytest.raises(PairError) as caught:
        read_checked(raw)
    assert caught.value.fault == fault
    assert said in str(caught.value)
    assert "expected: 1200 x 1200 m (data.tile_m) with pixels of 10 m, north up" in str(caught.value)
    found = re.search(r"gdalwarp -t_srs EPSG:(\d+) -te (\d+) (\d+) (\d+) (\d+) -tr 10 10", str(caught.value))
    code, left, bottom, right, top = map(int, found.groups())
    assert CRS.from_epsg(code).linear_units == "metre"
    assert (right - left, top - bottom) == (1200, 1200)
    # A file that is cut so is a tile.
    cut = {"crs": f"EPSG:{code}", "transform": Affine(10, 0, left, 0, -10, top)}
    for side in ("s1", "s2"):
        write_raster(raw / side / "a.tif", BANDS[side], **cut)
    assert read_checked(raw)["B02"].shape == (120, 120)


@pytest.mark.parametrize("sides", [("s1", "s2"), ("s1",), ("s2",)])
@pytest.mark.parametrize(
    ("transform", "rows", "columns"),
    [
        (Affine(10, 0, 400_000, 0, 10, 6_698_800), -1, 1),
        (Affine(-10, 0, 401_200, 0, -10, 6_700_000), 1, -1),
        (Affine(-10, 0, 401_200, 0, 10, 6_698_800), -1, -1),
    ],
)
def test_tiles_stored_south_up_or_mirrored_are_read_north_up(pair_of, transform, rows, columns, sides):
    raw = pair_of(NORTH_UP)
    expected = read_checked(raw)
    for side in sides:
        with rasterio.open(raw / side / "a.tif") as dataset:
            pixels = dataset.read()
        write_raster(raw / side / "a.tif", BANDS[side], transform=transform, pixels=pixels[:, ::rows, ::columns])
    found = read_checked(raw)
    for name, band in expected.items():
        np.testing.assert_array_equal(found[name], band)
    assert (only_pair(raw).lon, only_pair(raw).lat) == (
        pytest.approx(25.195, abs=0.002),
        pytest.approx(60.419, abs=0.002),
    )


@pytest.mark.filterwarnings("ignore::rasterio.errors.NotGeoreferencedWarning")
def test_control_points_alone_are_no_georeference(pair_of):
    raw = pair_of(NORTH_UP)
    points = [GroundControlPoint(row, column, 400_000 + 10 * column, 6_700_000 - 10 * row) for row, column in
              ((0, 0), (0, 120), (120, 0))]  # fmt: skip
    with rasterio.open(
        raw / "s2" / "a.tif", "w", driver="GTiff", count=2, width=120, height=120, dtype="uint16"
    ) as dataset:
        dataset.write(np.ones((2, 120, 120), np.uint16))
        dataset.gcps = points, CRS.from_epsg(32635)
    error = refused_pair(raw)
    assert error.fault == "georeference"
    assert "3 ground control points" in str(error)


def test_nan_in_s1_is_left_to_the_check_of_pixels(raw):
    pixels = np.full((2, 120, 120), np.nan)
    write_raster(raw / "s1" / "a.tif", BANDS["s1"], pixels=pixels)
    assert np.isnan(SOURCE.read(raw, only_pair(raw))["VV"]).all()


# The table


def test_a_row_says_everything_of_a_pair(raw):
    pair = only_pair(raw)
    assert (pair.key, pair.files) == ("a", {"s1": "s1/a.tif", "s2": "s2/a.tif"})
    assert (pair.labels, pair.split, pair.place) == (("water",), "train", "north")
    assert (pair.date, pair.country) == (datetime(2017, 6, 13, tzinfo=UTC), "Finland")
    assert (pair.lon, pair.lat) == (pytest.approx(25.195, abs=0.002), pytest.approx(60.419, abs=0.002))


def test_only_keys_and_labels_are_needed(raw):
    (raw / "pairs.csv").write_text("key,labels\na,\n", encoding="utf-8")
    pair = only_pair(raw)
    assert pair.labels == ()
    assert pair.date == datetime(1970, 1, 1, tzinfo=UTC)
    assert pair.place.startswith("10km_")


@pytest.mark.parametrize("cell", ["water|land", "water; land", "water ;land", " water | land "])
def test_labels_may_be_separated_in_two_ways(raw, cell):
    (raw / "pairs.csv").write_text(f"key,labels\na,{cell}\n", encoding="utf-8")
    assert only_pair(raw).labels == ("water", "land")


def test_a_table_as_spreadsheets_write_it_is_read(raw):
    (raw / "pairs.csv").write_bytes(b"\xef\xbb\xbfkey,labels\r\na,water\r\n")
    assert only_pair(raw).labels == ("water",)


@pytest.mark.parametrize(
    ("table", "said"),
    [
        ("key:labels\na:water\n", r"other columns.*\n.*key:labels\n.*key, labels and, if you like, split, place"),
        ("key,labels,key\na,water,b\n", r"other columns.*\n.*key,labels,key\n.*each once"),
        ("key,labels,Split\na,water,train\n", r"other columns.*\n.*Split"),
        ("", r"other columns"),
        ("key,labels,split\na,water,val\n", r"line 2: the split can't be used.\n.*'val'\n.*train, validation, test"),
        ("key,labels\na,water\nb,ice\n", r"line 3: the labels can't be used.\n.*'ice'\n.*water.*data.source.classes"),
        ("key,labels,date\na,water,13.6.2017\n", r"line 2: the date can't be used.\n.*'13.6.2017'\n.*2017-06-13"),
        ("key,labels\n,water\n", r"line 2: the key can't be used"),
        ("key,labels\n../a,water\n", r"line 2: the key can't be used"),
        ("key,labels\n/a,water\n", r"line 2: the key can't be used"),
        ("key,labels,split\na,water,land,train\n", r"line 2: the row can't be used.\n.*\n.*3 cells; .*in quotes"),
        ("key,labels,split\na,water\n", r"line 2: the row can't be used"),
    ],
)
def test_a_bad_table_says_which_line_and_what_is_right(raw, table, said):
    assert re.search(said, refused_table(raw, table))


# Names


@pytest.mark.parametrize(("in_table", "on_disk"), [("NFC", "NFD"), ("NFD", "NFC"), ("NFD", "NFD")])
def test_names_in_either_form_of_unicode_are_one_name(raw, in_table, on_disk):
    name = "Zürich_é"
    for file in [*raw.glob("s?/a*.tif")]:
        file.rename(file.with_name(unicodedata.normalize(on_disk, file.name.replace("a", name, 1))))
    table = f"key,labels,place\n{name},Gewässer,Genève\n"
    (raw / "pairs.csv").write_text(unicodedata.normalize(in_table, table), encoding="utf-8")
    source = FolderSource([unicodedata.normalize("NFD", "Gewässer"), "land"], 0, modality_inputs(MODALITIES, TILE_M))
    (pair,) = source.pairs(raw)
    assert (pair.key, pair.labels, pair.place) == (name, ("Gewässer",), "Genève")
    assert pair.lon is not None
    assert all((raw / file).is_file() for file in pair.files.values())
    assert set(source.read(raw, pair)) == {band for bands in BANDS.values() for band in bands}


def test_two_files_whose_names_look_the_same_are_refused_before_any_is_read(raw):
    for form in ("NFC", "NFD"):
        write_raster(raw / "s2" / f"{unicodedata.normalize(form, 'é')}_20m.tif", BANDS["s2_20m"], gsd_m=20)
    (raw / "pairs.csv").write_text("key,labels\né,water\n", encoding="utf-8")
    with pytest.raises(SourceError, match=r"2 files for the key 'é_20m'"):
        SOURCE.pairs(raw)


@pytest.mark.parametrize("ending", [".TIF", ".tiff"])
def test_files_with_another_ending_are_read_and_belong_to_the_receipt(raw, ending):
    before = SOURCE.read(raw, only_pair(raw))
    receipt = SOURCE.fetch(raw, raw)
    (raw / "s2" / "a.tif").rename(raw / "s2" / f"a{ending}")
    np.testing.assert_array_equal(SOURCE.read(raw, only_pair(raw))["B02"], before["B02"])
    assert SOURCE.fetch(raw, raw)["rasters"] != receipt["rasters"]


def test_a_key_with_an_ending_is_told_from_its_file(raw):
    (raw / "pairs.csv").write_text("key,labels\na.tif,water\n", encoding="utf-8")
    with pytest.raises(PairError, match=r"s1/a.tif is there: give the file and the key the same name"):
        SOURCE.read(raw, only_pair(raw))


# Each key once


@pytest.mark.parametrize("twin", ["a", "e\u0301"])
def test_a_key_that_stands_twice_is_refused_with_both_lines(raw, twin):
    first = unicodedata.normalize("NFC", twin)
    said = refused_table(raw, f"key,labels\n{first},water\nb,land\n{twin},water\nb,land\n")
    assert "lines 2, 4: the key can't be used" in said
    assert "stands there more than once; so do 1 other keys" in said


# Places and splits


def write_many(raw: Path, eastings: list[int], table: str, northing: int = 6_700_000) -> None:
    """Pairs p0, p1, … of which only the S2 side is there; `table` may use `{key}`."""
    header, row = table.splitlines()
    rows = [row.format(key=f"p{number}") for number in range(len(eastings))]
    raw.mkdir(parents=True, exist_ok=True)
    (raw / "pairs.csv").write_text("\n".join([header, *rows]), encoding="utf-8")
    for number, easting in enumerate(eastings):
        transform = Affine(300, 0, easting, 0, -300, northing)
        write_raster(raw / "s2" / f"p{number}.tif", ("B02",), gsd_m=300, transform=transform)


def test_places_that_the_table_does_not_name_are_cells_of_ten_kilometres(tmp_path):
    write_many(tmp_path, list(range(400_000, 600_000, 2_000)), "key,labels\n{key},water")
    sizes = Counter(pair.place for pair in SOURCE.pairs(tmp_path))
    assert len(sizes) == pytest.approx(20, abs=2)
    assert max(sizes.values()) == pytest.approx(5, abs=1)


def test_one_cell_spans_two_utm_zones(tmp_path):
    # 30°E is the border of zones 35 and 36; both tiles lie on it, a few hundred metres from one another.
    write_raster(tmp_path / "s2/a.tif", ("B02",), gsd_m=300, transform=Affine(300, 0, 666_700, 0, -300, 6_653_000))
    write_raster(
        tmp_path / "s2/b.tif",
        ("B02",),
        gsd_m=300,
        crs="EPSG:32636",
        transform=Affine(300, 0, 332_100, 0, -300, 6_653_000),
    )
    (tmp_path / "pairs.csv").write_text("key,labels\na,\nb,\n", encoding="utf-8")
    first, second = SOURCE.pairs(tmp_path)
    assert abs(first.lon - second.lon) < 0.01
    assert first.place == second.place


def test_a_split_that_shares_a_cell_is_found(tmp_path):
    write_many(tmp_path, [400_000, 400_300], "key,labels,split\n{key},water,train")
    table = (tmp_path / "pairs.csv").read_text(encoding="utf-8").replace("p1,water,train", "p1,water,test")
    (tmp_path / "pairs.csv").write_text(table, encoding="utf-8")
    with pytest.raises(SourceError, match="1 places are in more than one split"):
        validate_index(SOURCE.pairs(tmp_path), Task(classes=CLASSES))


def test_splits_are_drawn_by_place_and_never_cut_one(tmp_path):
    write_many(tmp_path, list(range(300_000, 700_000, 4_000)), "key,labels\n{key},water")
    pairs = SOURCE.pairs(tmp_path)
    validate_index(pairs, Task(classes=CLASSES))
    assert pairs == SOURCE.pairs(tmp_path)


def test_seven_tenths_of_the_places_are_drawn_for_training(tmp_path):
    rows = "".join(f"p{number},water,place {number}\n" for number in range(2000))
    (tmp_path / "pairs.csv").write_text(f"key,labels,place\n{rows}", encoding="utf-8")
    counts = Counter(pair.split for pair in SOURCE.pairs(tmp_path))
    assert counts["train"] == pytest.approx(1400, abs=60)
    assert counts["validation"] == pytest.approx(300, abs=50)
    assert counts["test"] == pytest.approx(300, abs=50)


def test_new_pairs_move_no_older_one_to_another_split(tmp_path):
    def splits(count: int) -> dict[str, str]:
        rows = "".join(f"p{number},water,place {number}\n" for number in range(count))
        (tmp_path / "pairs.csv").write_text(f"key,labels,place\n{rows}", encoding="utf-8")
        return {pair.key: pair.split for pair in SOURCE.pairs(tmp_path)}

    assert splits(50).items() <= splits(80).items()


# Fetching


def test_fetching_names_what_makes_the_data_what_it_is(raw, tmp_path):
    first = SOURCE.fetch(tmp_path / "downloads", raw)
    assert set(first) == {"pairs.csv", "rasters"}
    assert all(value.startswith("sha256:") for value in first.values())
    assert SOURCE.fetch(tmp_path / "downloads", raw) == first
    write_pair(raw, "b")
    more = SOURCE.fetch(tmp_path / "downloads", raw)
    assert more["rasters"] != first["rasters"]
    assert more["pairs.csv"] == first["pairs.csv"]
    assert not (tmp_path / "downloads").exists()


@pytest.mark.parametrize("side", ["s1", "s2"])
def test_a_missing_folder_is_refused_with_the_layout(raw, tmp_path, side):
    (raw / side).rename(tmp_path / "elsewhere")
    with pytest.raises(SourceError, match=f"no GeoTIFF in .*{side}\\.\n.*{side}/<key>.tif\n.*docs/folder.md"):
        SOURCE.fetch(tmp_path, raw)


def test_a_missing_table_is_refused_with_the_layout(tmp_path):
    for call in (lambda: SOURCE.fetch(tmp_path, tmp_path / "raw"), lambda: SOURCE.pairs(tmp_path / "raw")):
        with pytest.raises(SourceError, match=r"no table .*pairs.csv\.\n.*s1/<key>.tif.*\n.*docs/folder.md"):
            call()


def test_nothing_is_known_of_a_users_data(raw):
    facts = SOURCE.facts(raw)
    assert facts.counts is None
    assert not facts.labels
    assert not facts.statistics
    assert facts.s2_offset == 0


def test_offset_is_what_the_user_states(raw):
    source = open_source("folder", {"classes": list(CLASSES), "s2_offset": 1000})
    assert source.facts(raw).s2_offset == 1000


def test_the_example_of_the_documentation_is_read(tmp_path):
    text = (Path(__file__).parents[3] / "docs" / "folder.md").read_text(encoding="utf-8")
    (table,) = re.findall(r"```\n(key,.*?)```", text, flags=re.DOTALL)
    (tmp_path / "pairs.csv").write_text(table, encoding="utf-8")
    assert [(pair.key, pair.labels, pair.split) for pair in SOURCE.pairs(tmp_path)] == [
        ("delta_1", ("water", "land"), "test"),
        ("lake_north", ("water",), "train"),
        ("lake_south", ("water", "land"), "train"),
    ]


def test_the_source_opens_by_its_name():
    assert open_source("folder", {"classes": list(CLASSES)}).task.classes == CLASSES


LOCAL_GRID = 'LOCAL_CS["a building site",UNIT["metre",1]]'


@pytest.mark.parametrize("changes", [{"crs": LOCAL_GRID}, {"transform": Affine(10, 0, 9e9, 0, -10, 9e9)}])
def test_a_tile_that_lies_nowhere_on_earth_has_no_position(raw: Path, changes):
    write_pair(raw, "a", **changes)
    pair = only_pair(raw)
    assert (pair.lon, pair.lat) == (None, None)


def test_a_table_that_is_no_csv_is_named_with_its_line(raw: Path):
    (raw / "pairs.csv").write_text("key,labels\na," + "w" * 200_000 + "\n", encoding="utf-8")
    with pytest.raises(SourceError, match=r"pairs.csv, line 2: no CSV: field larger than"):
        SOURCE.pairs(raw)


def test_reflectance_of_which_no_scale_is_stated_is_refused_with_the_command_that_states_it(raw):
    path = raw / "s2" / "a.tif"
    numbers = np.random.default_rng(0).integers(1, 9000, (2, 120, 120))
    write_raster(path, BANDS["s2"], dtype="float32", pixels=numbers / 10_000)
    with pytest.raises(PairError, match=r"d\.scales = \(10000,\)") as refusal:
        SOURCE.read(raw, only_pair(raw))
    command = re.search(r"state the scale in each file: python (-c .*)$", str(refusal.value), re.MULTILINE)[1]
    subprocess.run([sys.executable, *shlex.split(command)], check=True)
    np.testing.assert_array_equal(SOURCE.read(raw, only_pair(raw))["B03"], numbers[1])
