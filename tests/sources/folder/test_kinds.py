"""Labels of every kind that a user brings: one class or a number per row, maps of classes and of values."""

import re
import shlex
from pathlib import Path

import numpy as np
import pytest
import rasterio
from rasterio import Affine
from rasterio.warp import Resampling, reproject

from fusmae.config.task import Kind, Task
from fusmae.data.index import Pair, validate_index
from fusmae.data.pixels import NO_CLASS
from fusmae.errors import PairError, SourceError
from fusmae.modalities import BandGroup, Modality, modality_inputs
from fusmae.sources.folder.pairs_table import read_pairs_table
from fusmae.sources.folder.source import FolderSource

CLASSES = ("water", "forest", "town")
BIOMASS = {"name": "biomass", "unit": "t/ha", "min": 0.0, "max": 400.0}
INPUTS = modality_inputs({"s1": Modality(units="dB", groups=(BandGroup(gsd_m=10, bands=("VV",)),))}, 240)
SIDE_PX, LEFT, TOP = 24, 400_000, 6_700_000
GROUND = {"crs": "EPSG:32635", "transform": Affine(10, 0, LEFT, 0, -10, TOP)}


def source_of(kind: Kind, **settings) -> FolderSource:
    classes = () if kind == "regression" else CLASSES
    return FolderSource(classes, inputs=INPUTS, kind=kind, **settings)


# The table


def rows_of(folder: Path, task: Task, text: str):
    (folder / "pairs.csv").write_text(text, encoding="utf-8")
    return read_pairs_table(folder / "pairs.csv", task)


def refused(folder: Path, task: Task, text: str) -> str:
    with pytest.raises(SourceError) as caught:
        rows_of(folder, task, text)
    assert "next:     docs/folder.md" in str(caught.value)
    return str(caught.value)


MULTICLASS = Task(kind="multiclass", classes=CLASSES)
PER_TILE = Task(kind="regression", value=BIOMASS)
PER_PIXEL = Task(kind="regression", value={**BIOMASS, "per": "pixel"})
MAPPED = Task(kind="segmentation", classes=CLASSES)


def test_a_row_has_one_class_or_no_row_has_one(tmp_path):
    rows = rows_of(tmp_path, MULTICLASS, "key,labels\na,water\nb,town\n")
    assert [row.labels for row in rows] == [("water",), ("town",)]
    assert [row.labels for row in rows_of(tmp_path, MULTICLASS, "key,labels\na,\nb,\n")] == [(), ()]


@pytest.mark.parametrize(
    ("cells", "lines", "got"),
    [
        (["water|town", "town", "forest"], "line 2", "'water|town'"),
        (["water", "", "forest; town"], "lines 3, 4", "''"),
        (["lava", "town", "town"], "line 2", "'lava'"),
        (["water", ";", "town"], "line 3", "';'"),
    ],
)
def test_other_than_one_class_is_refused_with_its_lines(tmp_path, cells, lines, got):
    table = "key,labels\n" + "".join(f"{key},{cell}\n" for key, cell in zip("abc", cells, strict=True))
    text = refused(tmp_path, MULTICLASS, table)
    assert f"pairs.csv, {lines}: the labels can't be used.\n  got:      {got}\n" in text
    assert "one of ['water', 'forest', 'town'], as in `data.source.classes`, since data.kind is multiclass" in text


def test_a_row_has_a_number_or_no_row_has_one(tmp_path):
    rows = rows_of(tmp_path, PER_TILE, "key;value;split\na;12.5;train\nb; 0;test\nc;4e2;test\n")
    assert [row.value for row in rows] == [12.5, 0.0, 400.0]
    assert [row.value for row in rows_of(tmp_path, PER_TILE, "key,value\na,\nb,\n")] == [None, None]


@pytest.mark.parametrize(
    ("cells", "lines", "got"),
    [
        (["1", "-3.5", "2"], "line 3", "'-3.5'"),
        (["401", "1", "500"], "lines 2, 4", "'401'"),
        (["1", "", "2"], "line 3", "''"),
        (["1", "nan", "inf"], "lines 3, 4", "'nan'"),
        (["high", "1", "2"], "line 2", "'high'"),
        (['"1,5"', "1", "2"], "line 2", "'1,5'"),
    ],
)
def test_a_number_that_the_quantity_can_t_have_is_refused_with_its_lines(tmp_path, cells, lines, got):
    table = "key,value\n" + "".join(f"{key},{cell}\n" for key, cell in zip("abc", cells, strict=True))
    text = refused(tmp_path, PER_TILE, table)
    assert f"pairs.csv, {lines}: the value can't be used.\n  got:      {got}\n" in text
    assert "a number, at least 0 and at most 400, with a point for decimals (biomass (t/ha)); in each row, or" in text


@pytest.mark.parametrize(
    ("task", "needed"),
    [(MULTICLASS, "key, labels"), (PER_TILE, "key, value"), (PER_PIXEL, "key"), (MAPPED, "key")],
)
def test_columns_that_a_kind_needs_are_asked_for_and_others_are_not_read(tmp_path, task, needed):
    assert f"expected: {needed} and, if you like, " in refused(tmp_path, task, "name,label\na,water\n")
    (row,) = rows_of(tmp_path, task, "key,labels,value\na,water,7\n")
    assert row.value == (7.0 if task.value is not None else None)
    assert row.labels == (("water",) if task.classes else ())
    if needed == "key":
        assert rows_of(tmp_path, task, "key\na\n")[0].labels == ()


# Maps


def write_raster(path: Path, pixels: np.ndarray, **changes) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    pixels = pixels if pixels.ndim == 3 else pixels[None]
    profile = {"count": len(pixels), "dtype": pixels.dtype, "height": pixels.shape[1], "width": pixels.shape[2]}
    statement = {name: changes.pop(name) for name in ("scales", "offsets") if name in changes}
    with rasterio.open(path, "w", driver="GTiff", **{**profile, **GROUND, **changes}) as dataset:
        dataset.write(pixels)
        for name, value in statement.items():
            setattr(dataset, name, (value,))
        dataset.set_band_description(1, "VV")
    return path


@pytest.fixture
def raw(tmp_path: Path) -> Path:
    """One pair without its map."""
    write_raster(tmp_path / "s1" / "a.tif", np.random.default_rng(0).normal(-14, 3, (24, 24)).astype(np.float32))
    (tmp_path / "pairs.csv").write_text("key,split\na,train\n", encoding="utf-8")
    return tmp_path


def pair_of(source: FolderSource, raw: Path) -> Pair:
    (pair,) = source.pairs(raw)
    return pair


def read_map(source: FolderSource, raw: Path) -> np.ndarray:
    return source.read_map(raw, pair_of(source, raw))


def refused_map(source: FolderSource, raw: Path, fault: str) -> str:
    with pytest.raises(PairError) as caught:
        read_map(source, raw)
    assert caught.value.fault == fault
    assert "Pair a: " in str(caught.value) or "Pair a " in str(caught.value)
    return str(caught.value)


def blocks(*numbers: float, dtype: str = "uint8") -> np.ndarray:
    """A map of equal columns, from west to east."""
    return np.repeat(np.array(numbers, dtype), SIDE_PX // len(numbers))[None].repeat(SIDE_PX, axis=0)


def test_numbers_are_the_classes_in_their_order_unless_others_are_stated(raw):
    write_raster(raw / "maps" / "a.tif", blocks(0, 1, 2, 255))
    found = read_map(source_of("segmentation", ignore_values=[255]), raw)
    assert (found.dtype, found.shape) == (np.uint8, (24, 24))
    np.testing.assert_array_equal(found, blocks(0, 1, 2, NO_CLASS))
    write_raster(raw / "maps" / "a.tif", blocks(10, 80, 50, 0, dtype="int16"))
    stated = source_of("segmentation", class_values=[80, 10, 50], ignore_values=[0])
    np.testing.assert_array_equal(read_map(stated, raw), blocks(1, 0, 2, NO_CLASS))


def test_the_maps_classes_are_those_of_the_table_and_maps_are_no_modality(raw):
    write_raster(raw / "maps" / "a.tif", blocks(0, 1))
    source = source_of("segmentation")
    assert source.map_classes == source.task.classes == CLASSES
    assert pair_of(source, raw).files == {"s1": "s1/a.tif"}
    assert source_of("multilabel").map_classes == ()


@pytest.mark.parametrize("dtype", ["uint8", "int32", "float32", "float64"])
def test_nodata_of_the_file_is_no_class_in_any_type(raw, dtype):
    write_raster(raw / "maps" / "a.tif", blocks(1, 2, 0, 0, dtype=dtype), nodata=0)
    np.testing.assert_array_equal(read_map(source_of("segmentation"), raw), blocks(1, 2, NO_CLASS, NO_CLASS))


def test_rows_stored_from_south_to_north_are_turned(raw):
    pixels = blocks(0, 1).T.copy()
    write_raster(raw / "maps" / "a.tif", pixels[::-1], transform=Affine(10, 0, LEFT, 0, 10, TOP - 240))
    np.testing.assert_array_equal(read_map(source_of("segmentation"), raw), pixels)


def test_a_number_that_the_class_table_lacks_is_named_with_its_file_and_count(raw):
    write_raster(raw / "maps" / "a.tif", blocks(0, 7, 9, 1))
    text = refused_map(source_of("segmentation", ignore_values=[255]), raw, "labels")
    assert f"Pair a: {raw}/maps/a.tif has numbers of no class.\n" in text
    assert "got:      7 in 144 px, 9 in 144 px\n" in text
    assert "expected: 0 water, 1 forest, 2 town; 255 or nodata for no class\n" in text
    assert "data.source.class_values, or the number to data.source.ignore_values" in text
    advised = source_of("segmentation", ignore_values=[255, 7, 9])
    np.testing.assert_array_equal(read_map(advised, raw), blocks(0, NO_CLASS, NO_CLASS, 1))


def test_classes_that_were_resampled_as_if_they_were_values_are_refused(raw):
    write_raster(raw / "maps" / "a.tif", blocks(0, 0.5, 1, 1, dtype="float32"))
    text = refused_map(source_of("segmentation"), raw, "labels")
    assert re.search(r"got:      0\.5 in 144 px\n(.|\n)*nearest pixel, such as with `gdalwarp -r near`", text)


@pytest.mark.parametrize("changes", [{}, {"nodata": 4}])
def test_a_map_without_any_class_is_named_with_its_numbers(raw, changes):
    write_raster(raw / "maps" / "a.tif", blocks(255, 4) if changes else blocks(255), **changes)
    text = refused_map(source_of("segmentation", ignore_values=[255]), raw, "labels")
    assert f"Pair a: no pixel of {raw}/maps/a.tif has a class.\n" in text
    assert ("4 in 288 px, 255 in 288 px" if changes else "255 in 576 px") in text
    assert "data.tolerated.labels" in text


def test_a_missing_map_is_named_and_so_is_one_of_a_similar_name(raw):
    write_raster(raw / "maps" / "A.tif", blocks(0, 1))
    text = refused_map(source_of("segmentation"), raw, "incomplete")
    assert f"Pair a lacks a file: {raw}/maps/a.tif is absent.\n  got:      A.tif" in text


def test_no_maps_at_all_are_refused_where_the_layout_is_checked(raw):
    for source in (source_of("segmentation"), source_of("regression", value={**BIOMASS, "per": "pixel"})):
        with pytest.raises(
            SourceError, match=r"There is no GeoTIFF in .*/maps, where the labels(.|\n)*maps/<key>\.tif"
        ):
            source.fetch(raw, raw)


def test_the_receipt_follows_maps_where_labels_are_maps(raw):
    source = source_of("segmentation")
    write_raster(raw / "maps" / "a.tif", blocks(0, 1))
    before, others = source.fetch(raw, raw), source_of("multilabel")
    (raw / "pairs.csv").write_text("key,labels,split\na,,train\n", encoding="utf-8")
    unmapped = others.fetch(raw, raw)
    write_raster(raw / "maps" / "a.tif", blocks(1, 0))
    assert source.fetch(raw, raw)["rasters"] != before["rasters"]
    assert others.fetch(raw, raw) == unmapped


def warped(command: str, path: Path) -> None:
    """Do with rasterio what a `gdalwarp` command in an error says, and put the result in the map's place."""
    words = shlex.split(command)
    options = {word: words[place + 1] for place, word in enumerate(words) if word in ("-t_srs", "-r", "-dstnodata")}
    left, bottom, right, top = (float(word) for word in words[words.index("-te") + 1 :][:4])
    gsd_m = float(words[words.index("-tr") + 1])
    with rasterio.open(path) as dataset:
        pixels, old = dataset.read(1), {"src_crs": dataset.crs, "src_transform": dataset.transform}
        nodata = dataset.nodata if dataset.nodata is not None else float(options["-dstnodata"])
    made = np.full((round((top - bottom) / gsd_m), round((right - left) / gsd_m)), nodata, pixels.dtype)
    place = Affine(gsd_m, 0, left, 0, -gsd_m, top)
    how = {"near": Resampling.nearest, "bilinear": Resampling.bilinear, "average": Resampling.average}[options["-r"]]
    reproject(pixels, made, **old, dst_crs=options["-t_srs"], dst_transform=place, resampling=how, dst_nodata=nodata)
    write_raster(path, made, crs=options["-t_srs"], transform=place, nodata=nodata)


OTHER_GRIDS = {
    "finer": {"scale": 0.5},
    "coarser": {"scale": 2},
    "moved by half a pixel": {"move_m": 5},
    "moved by a tile": {"move_m": 240},
    "turned": {"turn": 10},
    "in another zone": {"crs": "EPSG:32636"},
    "in degrees": {"crs": "EPSG:4326"},
}


@pytest.mark.parametrize("kind", ["segmentation", "regression"])
@pytest.mark.parametrize("other", OTHER_GRIDS.values(), ids=OTHER_GRIDS)
def test_a_map_on_another_grid_is_refused_with_the_command_that_mends_it(raw, kind, other):
    from rasterio.warp import calculate_default_transform

    gsd_m = 10 * other.get("scale", 1)
    side = round(240 / gsd_m) + 12  # with some ground around the tile
    left, top = LEFT - 6 * gsd_m + other.get("move_m", 0), TOP + 6 * gsd_m
    place = Affine(gsd_m, 0, left, 0, -gsd_m, top) @ Affine.rotation(other.get("turn", 0))
    crs = other.get("crs", "EPSG:32635")
    numbers = np.repeat([0, 1], [side // 2, side - side // 2])[None].repeat(side, axis=0)
    pixels = numbers.astype("uint8" if kind == "segmentation" else "float32")
    if crs != "EPSG:32635":
        box = (left, top - side * gsd_m, left + side * gsd_m, top)
        target, width, height = calculate_default_transform("EPSG:32635", crs, side, side, *box)
        moved = np.zeros((height, width), pixels.dtype)
        reproject(pixels, moved, src_crs="EPSG:32635", src_transform=place, dst_crs=crs, dst_transform=target)
        pixels, place = moved, target
    path = write_raster(raw / "maps" / "a.tif", pixels, crs=crs, transform=place)
    source = source_of(kind, **({"value": {**BIOMASS, "per": "pixel"}} if kind == "regression" else {}))
    text = refused_map(source, raw, "grid")
    assert f"Pair a: {path} is not on the 10 m grid of the pair." in text
    assert f"{pixels.shape[0]} x {pixels.shape[1]} px, {crs}" in text
    assert "expected: 24 x 24 px, EPSG:32635 from (400000, 6699760) to (400240, 6700000) in " in text
    command = re.search(r"next:     (gdalwarp .*?); put NEW\.tif in its place", text)[1]
    assert ("-r near" in command) == (kind == "segmentation")
    warped(command, path)
    found = read_map(source, raw)
    if not other.keys() & {"move_m", "turn"}:
        # What stood in the west still does, and nothing is moved by more than the pixels of the other map.
        assert (found[:, :9] == 0).all()
        assert (found[:, -9:] == 1).all()


def test_a_map_of_several_bands_is_refused(raw):
    write_raster(raw / "maps" / "a.tif", np.zeros((3, 24, 24), np.uint8))
    assert "a.tif has 3 bands" in refused_map(source_of("segmentation"), raw, "grid")


def test_a_damaged_map_and_one_without_a_place_are_named(raw):
    path = write_raster(raw / "maps" / "a.tif", blocks(0, 1), crs=None)
    assert "has no georeference" in refused_map(source_of("segmentation"), raw, "georeference")
    path.write_bytes(path.read_bytes()[:200])
    assert "cannot be read" in refused_map(source_of("segmentation"), raw, "unreadable")


# Values


@pytest.fixture
def values_per_pixel() -> FolderSource:
    return source_of("regression", value={**BIOMASS, "per": "pixel"})


def test_values_are_numbers_of_the_file_with_nan_where_it_has_none(raw, values_per_pixel):
    write_raster(raw / "maps" / "a.tif", blocks(0, 12.5, np.nan, -9999, dtype="float32"), nodata=-9999)
    found = read_map(values_per_pixel, raw)
    assert (found.dtype, found.shape) == (np.float32, (24, 24))
    np.testing.assert_array_equal(found, blocks(0, 12.5, np.nan, np.nan, dtype="float32"))


def test_infinity_is_no_value(raw, values_per_pixel):
    write_raster(raw / "maps" / "a.tif", blocks(1, np.inf, dtype="float64"))
    np.testing.assert_array_equal(read_map(values_per_pixel, raw), blocks(1, np.nan, dtype="float32"))


def test_scale_and_offset_of_the_file_are_applied(raw, values_per_pixel):
    write_raster(raw / "maps" / "a.tif", blocks(0, 30, 255, 9), nodata=255, scales=0.5, offsets=10)
    np.testing.assert_array_equal(read_map(values_per_pixel, raw), blocks(10, 25, np.nan, 14.5, dtype="float32"))


@pytest.mark.parametrize(
    ("numbers", "got"), [((-5, 1, -2, 3), "288 of 576, such as -5"), ((1, 401, 2, 3), "144 of 576, such as 401")]
)
def test_a_value_that_the_quantity_can_t_have_is_named_with_its_file_and_count(raw, values_per_pixel, numbers, got):
    write_raster(raw / "maps" / "a.tif", blocks(*numbers, dtype="float32"))
    text = refused_map(values_per_pixel, raw, "labels")
    assert f"Pair a: {raw}/maps/a.tif has numbers that biomass can't have.\n  got:      {got}\n" in text
    assert "expected: at least 0 and at most 400 t/ha, as data.source.value states" in text


def test_a_map_without_any_value_is_named(raw, values_per_pixel):
    write_raster(raw / "maps" / "a.tif", blocks(-1, dtype="float32"), nodata=-1)
    text = refused_map(values_per_pixel, raw, "labels")
    assert f"no pixel of {raw}/maps/a.tif has a value.\n  got:      -1 in 576 px" in text


def test_values_of_rows_are_in_the_index_and_maps_are_not_read(tmp_path):
    for key in "abc":
        write_raster(tmp_path / "s1" / f"{key}.tif", np.full((24, 24), -14, np.float32))
    table = "key,value,split\na,1.5,train\nb,2,validation\nc,3,test\n"
    (tmp_path / "pairs.csv").write_text(table, encoding="utf-8")
    source = source_of("regression", value=BIOMASS)
    pairs = source.pairs(tmp_path)
    assert [pair.value for pair in pairs] == [1.5, 2.0, 3.0]
    with pytest.raises(PairError, match="has no map"):
        source.read_map(tmp_path, pairs[0])
    with pytest.raises(PairError, match="are all of train and have one biomass"):
        validate_index(pairs, source.task)
