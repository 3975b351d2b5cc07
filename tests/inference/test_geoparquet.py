"""Tables of embeddings as other programs read them: geopandas, DuckDB, pyarrow."""

import json

import duckdb
import geopandas
import numpy as np
import pyarrow.parquet as pq
import pytest
import shapely
from pyproj import CRS

from fusmae.errors import InputError, StorageError
from fusmae.inference import geoparquet as geoparquet_module
from fusmae.inference.geoparquet import embedding_table, write_tables
from tests.inference.conftest import LEFT, TOP, UTM

DIM = 6


def vectors(count, dim=DIM, seed=0):
    return np.random.default_rng(seed).normal(0, 1, (count, dim)).astype(np.float32)


def tiles(count, first=0):
    lefts = LEFT + 240 * np.arange(first, first + count)
    return shapely.box(lefts, TOP - 240, lefts + 240, TOP)


def tables(count, rows, **options):
    for number in range(count):
        column = np.arange(number * rows, (number + 1) * rows, dtype=np.int32)
        yield embedding_table(
            {"tile_column": column}, vectors(rows, seed=number, **options), tiles(rows, number * rows)
        )


def test_geopandas_reads_back_what_was_written(tmp_path):
    path = tmp_path / "out" / "tiles.parquet"
    assert write_tables(path, tables(2, 3), UTM) == 6
    found = geopandas.read_parquet(path)
    assert found.crs == CRS(UTM)
    assert found.crs.to_epsg() == 32633
    assert found.geometry.is_valid.all()
    assert found.geometry.geom_equals(geopandas.GeoSeries(tiles(6), crs=UTM)).all()
    assert found["tile_column"].tolist() == list(range(6))
    np.testing.assert_array_equal(np.stack(found["embedding"]), np.concatenate([vectors(3), vectors(3, seed=1)]))


def test_geopandas_selects_by_the_boxes(tmp_path):
    write_tables(tmp_path / "tiles.parquet", tables(1, 6), UTM)
    found = geopandas.read_parquet(tmp_path / "tiles.parquet", bbox=(LEFT + 250, TOP - 100, LEFT + 470, TOP - 90))
    assert found["tile_column"].tolist() == [1]


def test_duckdb_reads_lists_of_floats_and_boxes(tmp_path):
    write_tables(tmp_path / "tiles.parquet", tables(1, 4), UTM)
    table = duckdb.read_parquet(str(tmp_path / "tiles.parquet"))
    types = dict(zip(table.columns, map(str, table.types), strict=True))
    assert types["embedding"] == "FLOAT[]"
    assert types["bbox"] == "STRUCT(xmin DOUBLE, ymin DOUBLE, xmax DOUBLE, ymax DOUBLE)"
    rows = table.project("embedding, bbox.xmin, bbox.ymin, bbox.xmax, bbox.ymax").fetchall()
    np.testing.assert_array_equal(np.array([row[0] for row in rows], np.float32), vectors(4))
    np.testing.assert_array_equal([row[1:] for row in rows], shapely.bounds(tiles(4)))


def test_the_file_says_what_geoparquet_asks_for(tmp_path):
    write_tables(tmp_path / "tiles.parquet", tables(1, 4), UTM)
    geo = json.loads(pq.read_metadata(tmp_path / "tiles.parquet").metadata[b"geo"])
    column = geo["columns"][geo["primary_column"]]
    assert geo["version"] == "1.1.0"
    assert (column["encoding"], column["geometry_types"]) == ("WKB", ["Polygon"])
    assert CRS.from_json_dict(column["crs"]) == CRS(UTM)
    assert column["covering"]["bbox"]["xmax"] == ["bbox", "xmax"]
    (wkb,) = pq.read_table(tmp_path / "tiles.parquet").column("geometry").to_pylist()[:1]
    assert shapely.from_wkb(wkb).equals(tiles(1)[0])


def test_points_in_degrees_are_longitude_first(tmp_path):
    points = shapely.points([[15.5, 48.25], [16.0, 48.5]])
    table = embedding_table({"key": ["a", "b"]}, vectors(2), points)
    write_tables(tmp_path / "pairs.parquet", [table], "OGC:CRS84")
    found = geopandas.read_parquet(tmp_path / "pairs.parquet")
    assert found.crs.to_authority() == ("OGC", "CRS84")
    assert (found.geometry.x.tolist(), found.geometry.y.tolist()) == ([15.5, 16.0], [48.25, 48.5])


def test_rows_without_a_place_make_a_plain_table(tmp_path):
    write_tables(tmp_path / "pairs.parquet", [embedding_table({"key": ["a", "b"]}, vectors(2))], None)
    found = pq.read_table(tmp_path / "pairs.parquet")
    assert found.column_names == ["key", "embedding"]
    assert b"geo" not in (found.schema.metadata or {})


def test_row_groups_are_bounded_and_neither_many(tmp_path):
    assert write_tables(tmp_path / "tiles.parquet", tables(11, 1000), UTM) == 11_000
    metadata = pq.read_metadata(tmp_path / "tiles.parquet")
    assert [metadata.row_group(group).num_rows for group in range(metadata.num_row_groups)] == [5000, 5000, 1000]
    found = pq.read_table(tmp_path / "tiles.parquet", columns=["tile_column"]).column(0).to_pylist()
    assert found == list(range(11_000))


def test_rows_are_on_disk_before_the_last_come(tmp_path):
    sizes = []

    def watched():
        for table in tables(12, 1000):
            sizes.append(sum(path.stat().st_size for path in tmp_path.iterdir()))
            yield table

    write_tables(tmp_path / "tiles.parquet", watched(), UTM)
    assert 0 == sizes[4] < sizes[6] < sizes[11]


def test_the_same_rows_give_the_same_bytes(tmp_path):
    for name in ("one", "two"):
        write_tables(tmp_path / name, tables(3, 50), UTM)
    assert (tmp_path / "one").read_bytes() == (tmp_path / "two").read_bytes()


@pytest.mark.parametrize("older", [b"an older table", None])
def test_an_error_in_the_middle_leaves_nothing_behind(tmp_path, monkeypatch, older):
    monkeypatch.setattr(geoparquet_module, "_GROUP_ROWS", 10)
    path = tmp_path / "tiles.parquet"
    if older:
        path.write_bytes(older)

    def broken():
        yield from tables(3, 10)
        assert (tmp_path / ".tiles.parquet.partial").stat().st_size > 0
        raise InputError("a file is cut short")

    with pytest.raises(InputError, match="cut short"):
        write_tables(path, broken(), UTM)
    assert [found.read_bytes() for found in tmp_path.iterdir()] == ([older] if older else [])


def test_a_full_disk_is_named_and_nothing_is_left_on_it(small_disk):
    with pytest.raises(StorageError, match="disk is full"):
        write_tables(small_disk / "tiles.parquet", tables(8, 5000, dim=32), UTM)
    assert not list(small_disk.iterdir())
