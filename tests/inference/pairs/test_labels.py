"""Labels lie on tiles by their ground, in any CRS and format; what can't be placed or named is refused."""

import json
from pathlib import Path

import numpy as np
import pyogrio
import pytest
import shapely
from rasterio.crs import CRS
from rasterio.warp import transform

from fusmae.errors import InputError
from fusmae.inference.pairs.label_file import LabelFile
from fusmae.inference.pairs.labels import open_labels
from fusmae.inference.scene.grid import Grid
from tests.inference.conftest import LEFT, TOP, UTM, write_raster

TILE_M, GSD_M = 240, 10
GRID = Grid(CRS.from_string(UTM), LEFT, TOP, TILE_M, TILE_M, 20, 4 * TILE_M, 3 * TILE_M)


def box(left_m, top_m, right_m, bottom_m):
    """Ground in metres right of the grid's left and below its top."""
    return shapely.box(LEFT + left_m, TOP - bottom_m, LEFT + right_m, TOP - top_m)


def write_vector(path, shapes, values, crs=UTM, column="crop", **options):
    if crs != UTM:
        shapes = [
            shapely.transform(
                shapely.segmentize(shape, 50),
                lambda xy: np.column_stack(transform(UTM, crs, xy[:, 0], xy[:, 1])),
            )
            for shape in shapes
        ]
    pyogrio.raw.write(
        path,
        shapely.to_wkb(np.array(shapes, object)),
        [np.array(values)],
        [column],
        crs=crs,
        geometry_type="Unknown",
        **options,
    )
    return path


def shares(file, grid=GRID):
    """Shares `[rows, columns]` of tiles by class name."""
    labels = open_labels(file, grid, GSD_M)
    found = np.stack([labels.shares(unit) for unit in grid.units()])
    return {name: found[:, :, number] for number, name in enumerate(labels.names)}, labels.notes()


@pytest.fixture
def fields(tmp_path):
    """Wheat on all of the first tile and half of the second, maize on a quarter of the first."""
    shapes = [box(0, 0, 240, 240), box(240, 0, 360, 240), box(0, 0, 120, 120)]
    return write_vector(tmp_path / "fields.gpkg", shapes, np.array(["wheat", "wheat", "maize"], object))


def test_polygons_cover_shares_of_tiles(fields):
    found, notes = shares(LabelFile(fields, "crop"))
    assert list(found) == ["maize", "wheat"]
    assert notes == ()
    np.testing.assert_allclose(found["wheat"][0], [1, 0.5, 0, 0])
    np.testing.assert_allclose(found["maize"][0], [0.25, 0, 0, 0])
    assert not found["wheat"][1:].any()


@pytest.mark.parametrize(
    ("name", "crs"),
    [
        ("fields.geojson", "EPSG:4326"),
        ("fields.gpkg", "EPSG:4326"),
        ("fields.gpkg", "EPSG:3857"),
        ("fields.gpkg", "EPSG:32632"),
    ],
)
def test_labels_in_another_crs_lie_on_the_same_ground(tmp_path, crs, name):
    path = write_vector(tmp_path / name, [box(240, 240, 600, 480)], np.array(["wheat"], object), crs=crs)
    found, _ = shares(LabelFile(path, "crop"))
    np.testing.assert_allclose(found["wheat"], [[0, 0, 0, 0], [0, 1, 0.5, 0], [0, 0, 0, 0]], atol=0.05)


def test_two_polygons_of_a_class_count_their_ground_once(tmp_path):
    path = write_vector(tmp_path / "a.gpkg", [box(0, 0, 120, 240), box(0, 0, 180, 240)], np.array(["a", "a"], object))
    found, _ = shares(LabelFile(path, "crop"))
    assert found["a"][0, 0] == pytest.approx(0.75)


def test_a_point_labels_the_tile_that_it_lies_in(tmp_path):
    points = [
        shapely.Point(LEFT + 250, TOP - 10),
        shapely.MultiPoint([(LEFT + 10, TOP - 700), (LEFT + 950, TOP - 500)]),
    ]
    found, _ = shares(LabelFile(write_vector(tmp_path / "p.gpkg", points, np.array(["oak", "elm"], object)), "crop"))
    assert np.argwhere(found["oak"]).tolist() == [[0, 1]]
    assert np.argwhere(found["elm"]).tolist() == [[2, 0], [2, 3]]
    assert found["elm"].max() == 1


def test_numbers_are_names_and_empty_cells_are_no_labels(tmp_path):
    shapes = [box(0, 0, 240, 240), box(240, 0, 480, 240), box(480, 0, 720, 240)]
    path = write_vector(tmp_path / "n.gpkg", shapes, np.array([311.0, 7.0, np.nan]), column="code")
    found, notes = shares(LabelFile(path, "code"))
    assert list(found) == ["311", "7"]
    assert notes == ("1 of 3 shapes have no class in code",)
    found, notes = shares(LabelFile(path, "code", names={"311": "forest"}))
    assert list(found) == ["forest"]
    assert notes[1] == "values without a name in --classes are no labels: 7"


def test_class_names_are_compared_in_composed_form(tmp_path):
    decomposed, composed = "Ackerfla\u0308che", "Ackerfl\u00e4che"
    path = write_vector(tmp_path / "a.gpkg", [box(0, 0, 99, 99)] * 2, np.array([decomposed, composed], object))
    assert list(shares(LabelFile(path, "crop"))[0]) == [composed]


def cover(tmp_path, name="cover.tif", **options):
    numbers = np.zeros((1, 72, 96), np.uint8)
    numbers[0, :24, :24], numbers[0, :12, :24], numbers[0, :24, 24:48] = 2, 1, 3
    return write_raster(tmp_path / name, numbers, **options)


def test_a_raster_of_class_numbers_covers_shares_of_tiles(tmp_path):
    found, notes = shares(LabelFile(cover(tmp_path), names={"1": "water", "2": "forest"}))
    np.testing.assert_allclose(found["water"][0], [0.5, 0, 0, 0])
    np.testing.assert_allclose(found["forest"][0], [0.5, 0, 0, 0])
    assert notes == ("numbers without a name in cover.tif are no labels: 0, 3",)


def test_two_numbers_may_be_one_class(tmp_path):
    found, _ = shares(LabelFile(cover(tmp_path), names={"1": "green", "2": "green"}))
    assert found["green"][0, 0] == pytest.approx(1)


def test_a_raster_that_ends_within_the_scene_has_no_labels_beyond(tmp_path):
    path = write_raster(tmp_path / "part.tif", np.zeros((1, 24, 24), np.uint8))
    found, _ = shares(LabelFile(path, names={"0": "zero"}))
    assert np.argwhere(found["zero"]).tolist() == [[0, 0]]


def test_stated_nodata_is_no_class(tmp_path):
    found, notes = shares(LabelFile(cover(tmp_path, nodata=0), names={"1": "water", "2": "f", "3": "town"}))
    assert notes == ()
    assert sum(map(np.sum, found.values())) == pytest.approx(2)


def test_category_names_beside_a_raster_name_its_numbers(tmp_path):
    path = cover(tmp_path, nodata=0)
    names = "".join(f"<Category>{name}</Category>" for name in ("no data", "water", "heath &amp; moor")) + "<Category/>"
    path.with_name("cover.tif.aux.xml").write_text(f"<CategoryNames>{names}</CategoryNames>", encoding="utf-8")
    found, notes = shares(LabelFile(path))
    assert list(found) == ["water", "heath & moor"]
    assert notes == ("numbers without a name in cover.tif are no labels: 3",)


def refused(file, match):
    with pytest.raises(InputError, match=rf"(?s){match}"):
        open_labels(file, GRID, GSD_M)


def test_a_missing_column_is_refused_with_those_that_there_are(fields):
    refused(LabelFile(fields, "kind"), r"no column kind.*got: +columns crop.*--class-column crop")
    refused(LabelFile(fields), r"Which column has the class\?.*columns crop")


def test_labels_elsewhere_are_refused_with_both_places(tmp_path, fields):
    far = write_vector(tmp_path / "far.gpkg", [box(90_000, 0, 90_240, 240)], np.array(["a"], object))
    refused(
        LabelFile(far, "crop"),
        r"No label of .*far.gpkg lies on the scene.*labels from \(490020, .*the scene from \(400020",
    )
    away = write_raster(tmp_path / "away.tif", np.ones((1, 9, 9), np.uint8), left=LEFT + 50_000)
    refused(LabelFile(away, names={"1": "a"}), "No label of .*away.tif lies on the scene")
    # The box of these polygons has the scene in it, but none of them does.
    around = write_vector(
        tmp_path / "c.gpkg", [box(-999, -999, -900, -900), box(5000, 5000, 5100, 5100)], np.array(["a", "b"], object)
    )
    refused(LabelFile(around, "crop"), "No label of .*c.gpkg lies on the scene")


def test_labels_without_a_crs_are_refused(tmp_path):
    bare = write_vector(tmp_path / "bare.gpkg", [box(0, 0, 99, 99)], np.array(["a"], object), crs=UTM)
    shape = tmp_path / "bare.shp"
    pyogrio.raw.write(
        shape,
        shapely.to_wkb(np.array([box(0, 0, 99, 99)], object)),
        [np.array(["a"], object)],
        ["crop"],
        crs=None,
        geometry_type="Polygon",
    )
    open_labels(LabelFile(bare, "crop"), GRID, GSD_M)
    refused(LabelFile(shape, "crop"), r"has no CRS.*ogr2ogr -a_srs")
    refused(LabelFile(cover(tmp_path, crs=None), names={"1": "a"}), r"has no CRS.*rio edit-info")


def test_lines_are_refused(tmp_path):
    path = write_vector(
        tmp_path / "l.gpkg", [shapely.LineString([(LEFT, TOP), (LEFT + 99, TOP - 99)])], np.array(["a"], object)
    )
    refused(LabelFile(path, "crop"), "has lines.*polygons or points")


def test_one_of_several_layers_must_be_named(tmp_path):
    path = tmp_path / "two.gpkg"
    for layer in ("fields", "roads"):
        write_vector(path, [box(0, 0, 99, 99)], np.array([layer], object), layer=layer, append=path.exists())
    refused(LabelFile(path, "crop"), r"2 layers.*fields, roads.*--layer fields")
    refused(LabelFile(path, "crop", layer="field"), r"no layer field\..*fields, roads")
    assert list(shares(LabelFile(path, "crop", layer="roads"))[0]) == ["roads"]


def test_names_that_would_be_two_labels_are_refused(tmp_path):
    path = write_vector(tmp_path / "a.gpkg", [box(0, 0, 99, 99)], np.array(["crop; other"], object))
    refused(LabelFile(path, "crop"), r"can't have ; or \|.*crop; other.*--classes")
    assert list(shares(LabelFile(path, "crop", names={"crop; other": "crop"}))[0]) == ["crop"]


@pytest.mark.parametrize(
    ("change", "match"),
    [
        ({"names": {}}, r"numbers 0, 1, 2, 3.*--classes 1=NAME"),
        ({"names": {"one": "water"}}, "names to whole numbers"),
        ({"class_column": "crop"}, "is a raster: it has no columns"),
    ],
)
def test_rasters_whose_numbers_have_no_names_are_refused(tmp_path, change, match):
    refused(LabelFile(cover(tmp_path), **change), match)


def test_a_raster_of_decimals_is_refused(tmp_path):
    path = write_raster(tmp_path / "f.tif", np.ones((1, 72, 96), np.float32))
    refused(LabelFile(path, names={"1": "a"}), "no raster of class numbers.*1 bands of float32")


def test_files_that_are_absent_or_no_labels_are_refused(tmp_path):
    refused(LabelFile(tmp_path / "none.gpkg", "crop"), "There are no labels at")
    path = tmp_path / "text.geojson"
    path.write_text(json.dumps({"hello": 1}), encoding="utf-8")
    refused(LabelFile(path, "crop"), "can't be read")
    Path(tmp_path / "empty.gpkg").write_bytes(b"no")
    refused(LabelFile(tmp_path / "empty.gpkg", "crop"), "can't be read")
