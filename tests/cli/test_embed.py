"""Tables that `fusmae embed` writes, and every query of docs/embeddings.md on them."""

import re
from dataclasses import replace

import duckdb
import geopandas
import numpy as np
import onnx
import pyarrow.parquet as pq
import pytest
import rasterio
import shapely
from rasterio.transform import from_origin
from rasterio.warp import Resampling, calculate_default_transform, reproject

from fusmae.cli.scene_files import SceneFiles
from fusmae.cli.write_embeddings import write_embeddings
from fusmae.config.task import Task
from fusmae.data.index import write_index
from fusmae.data.shard_writer import write_shards
from fusmae.data.shards import ShardReader
from fusmae.errors import ExportError, InputError
from fusmae.files import file_sha256
from fusmae.inference import geoparquet as geoparquet_module
from fusmae.inference.scene.scene import Reading
from fusmae.release.drift_reference import make_reference
from fusmae.release.export.onnx_file import write_graph
from tests.cli.conftest import CLASSES, HEIGHT_M, ROOT, TILE_M, WIDTH_M, contents, fusmae
from tests.inference.conftest import LEFT, TOP, band, make_scenes, write_raster

QUERIES = re.findall(r"```sql\n(.*?)```", (ROOT / "docs" / "embeddings.md").read_text(encoding="utf-8"), re.DOTALL)
ROWS, COLUMNS = HEIGHT_M // TILE_M, WIDTH_M // TILE_M


@pytest.fixture(scope="session")
def embedded(exported):
    """`write_embeddings` with the tiny model; any argument may be given."""

    def run(out, scenes=None, **arguments):
        files = SceneFiles({"s1": (scenes.s1,), "s2": (scenes.s2,)}) if scenes else SceneFiles()
        others = {"stride": None, "is_checked": True, "shards": None, "split": None, "index": None}
        return write_embeddings(**({"model": str(exported.path), "files": files, "out": out} | others | arguments))

    return run


@pytest.fixture(scope="module")
def folder(tmp_path_factory, embedded, world):
    """A folder with the two tables that the document's queries name."""
    found = tmp_path_factory.mktemp("tables")
    embedded(found / "embeddings.parquet", make_scenes(found / "scenes", HEIGHT_M, WIDTH_M))
    embedded(found / "train.parquet", shards=world.shards, split="train", index=world.index)
    return found


@pytest.fixture
def tiles(folder):
    return geopandas.read_parquet(folder / "embeddings.parquet")


@pytest.fixture
def pairs(folder):
    return geopandas.read_parquet(folder / "train.parquet")


def cosines(one, other):
    """Cosine similarities `[N, M]` of two tables' rows."""
    one, other = (np.stack(found["embedding"]).astype(np.float64) for found in (one, other))
    return one @ other.T / np.outer(np.linalg.norm(one, axis=1), np.linalg.norm(other, axis=1))


def tiles_most_like_one(rows, tiles, pairs):
    found = cosines(tiles, tiles)[1]
    order = [row for row in np.argsort(-found) if row != 1][:5]
    assert [row[:2] for row in rows] == [divmod(row, COLUMNS) for row in order]
    assert [row[2:4] for row in rows] == [(LEFT + TILE_M * (k % COLUMNS), TOP - TILE_M * (k // COLUMNS)) for k in order]
    np.testing.assert_allclose([row[4] for row in rows], found[order], atol=1e-5)


def pairs_most_like_each(rows, tiles, pairs):
    found = cosines(tiles, pairs)
    order = np.argsort(found.max(axis=1))
    assert [row[:2] for row in rows] == [divmod(row, COLUMNS) for row in order]
    np.testing.assert_allclose([row[2] for row in rows], found.max(axis=1)[order], atol=1e-5)
    nearest = pairs.iloc[found.argmax(axis=1)[order]]
    assert [row[3] for row in rows] == nearest["key"].tolist()
    assert [row[4] for row in rows] == [list(labels) for labels in nearest["labels"]]


def tiles_in_a_box(rows, tiles, pairs):
    is_in = (tiles.bounds["maxx"] > 400_300) & (tiles.bounds["miny"] < 5_339_900)
    assert 0 < is_in.sum() < len(tiles)
    ((count, first),) = rows
    assert count == is_in.sum()
    assert first == pytest.approx(np.stack(tiles["embedding"][is_in])[:, 0].mean(), abs=1e-6)


ANSWERS = (tiles_most_like_one, pairs_most_like_each, tiles_in_a_box)


@pytest.mark.parametrize(("query", "right"), zip(QUERIES, ANSWERS, strict=True), ids=[f.__name__ for f in ANSWERS])
def test_a_query_of_the_document_gives_what_numpy_does(folder, tiles, pairs, monkeypatch, query, right):
    monkeypatch.chdir(folder)
    right(duckdb.sql(query).fetchall(), tiles, pairs)


def test_the_columns_are_those_of_the_document(folder):
    named = ["tile_row", "tile_column", "modalities", "model", "model_sha256", "embedding", "geometry", "bbox"]
    assert pq.read_schema(folder / "embeddings.parquet").names == named
    assert pq.read_schema(folder / "train.parquet").names == ["key", "labels", *named[2:]]


def test_rows_say_which_file_embedded_them_and_from_what(tiles, pairs, exported):
    for found in (tiles, pairs):
        assert set(found["model"]) == {"model.onnx"}
        assert set(found["model_sha256"]) == {file_sha256(exported.path)}
        assert set(found["modalities"]) == {"s1+s2"}


def test_tiles_lie_side_by_side_over_the_scene(tiles):
    assert tiles.crs.to_epsg() == 32633
    assert tiles.geometry.is_valid.all()
    places = [(row, column) for row in range(ROWS) for column in range(COLUMNS)]
    assert list(zip(tiles["tile_row"], tiles["tile_column"], strict=True)) == places
    assert tiles.geometry.area.tolist() == [TILE_M**2] * len(places)
    assert tiles.geometry.union_all().equals(shapely.box(LEFT, TOP - HEIGHT_M, LEFT + WIDTH_M, TOP))


def test_pairs_are_embedded_as_the_session_embeds_them(pairs, world, exported):
    reader = ShardReader(world.shards, "train")
    assert pairs["key"].tolist() == list(reader.keys)
    expected = exported.session.run(reader.read(range(len(reader))))["embedding"]
    np.testing.assert_allclose(np.stack(pairs["embedding"]), expected, atol=1e-5)


def test_pairs_have_the_labels_and_the_place_of_the_index(pairs, world):
    indexed = {pair.key: pair for pair in world.pairs}
    found = [indexed[key] for key in pairs["key"]]
    assert [set(labels) for labels in pairs["labels"]] == [set(pair.labels) for pair in found]
    assert pairs.crs.to_authority() == ("OGC", "CRS84")
    assert pairs.geometry.x.tolist() == [pair.lon for pair in found]
    assert pairs.geometry.y.tolist() == [pair.lat for pair in found]


def test_pairs_without_an_index_have_no_geometry(tmp_path, embedded, world, pairs):
    text = embedded(tmp_path / "plain.parquet", shards=world.shards, split="train")
    assert text.startswith("120 train pairs, 16 numbers each, by model.onnx")
    plain = pq.read_table(tmp_path / "plain.parquet")
    assert plain.column_names == ["key", "labels", "modalities", "model", "model_sha256", "embedding"]
    np.testing.assert_array_equal(np.stack(plain["embedding"].to_pylist()), np.stack(pairs["embedding"]))


@pytest.mark.parametrize("unknown", ["all", "one"])
def test_where_the_index_lacks_a_place_there_is_no_geometry(tmp_path, embedded, world, unknown):
    first = next(number for number, pair in enumerate(world.pairs) if pair.split == "test")
    without = [
        replace(pair, lon=None, lat=None) if unknown == "all" or number == first else pair
        for number, pair in enumerate(world.pairs)
    ]
    write_index(without, tmp_path / "index.parquet")
    text = embedded(tmp_path / "test.parquet", shards=world.shards, index=tmp_path / "index.parquet")
    assert text.startswith(f"12 test pairs without geometry: {tmp_path / 'index.parquet'} lacks the place of some, 16")
    assert "geometry" not in pq.read_schema(tmp_path / "test.parquet").names


def test_shards_of_other_bands_are_refused(tmp_path, embedded, exported, world):
    swapped = [item.model_copy(update={"bands": tuple(reversed(item.bands))}) for item in exported.inputs]
    pixels = {name: np.full((24, 24), 500, np.uint16) for name in ("B02", "B03")}
    pixels |= {"B05": np.full((12, 12), 500, np.uint16)}
    pixels |= {name: np.full((24, 24), -12, np.float32) for name in ("VV", "VH")}
    one_a_split = list({pair.split: pair for pair in world.pairs}.values())
    options = {"inputs": swapped, "task": Task(classes=CLASSES), "shard_pairs": 50}
    write_shards(one_a_split, lambda pair: pixels, tmp_path / "shards", **options)
    with pytest.raises(InputError, match="bands"):
        embedded(tmp_path / "test.parquet", shards=tmp_path / "shards")
    kept = {"train_tiles": 9, "validation_tiles": 9, "tiles_per_scene": 9, "seed": 0}
    with pytest.raises(InputError, match="bands"):
        make_reference(exported.session, "0" * 64, tmp_path / "shards", one_a_split, **kept)


def test_a_stride_makes_tiles_overlap(tmp_path, embedded, scenes, tiles):
    assert embedded(tmp_path / "dense.parquet", scenes, stride=120).startswith("35 tiles")
    dense = geopandas.read_parquet(tmp_path / "dense.parquet")
    assert (dense.geometry.area == TILE_M**2).all()
    (row,) = dense[(dense["tile_row"] == 2) & (dense["tile_column"] == 4)].itertuples()
    (same,) = tiles[(tiles["tile_row"] == 1) & (tiles["tile_column"] == 2)].itertuples()
    assert row.geometry.equals(same.geometry)
    np.testing.assert_allclose(row.embedding, same.embedding, atol=1e-5)


def test_a_tile_without_data_has_no_row_and_one_sensor_is_named(tmp_path, embedded, scenes):
    with rasterio.open(scenes.s1, "r+") as dataset:
        pixels = dataset.read()
        pixels[:, :24, :48] = np.nan
        dataset.write(pixels)
    for path in scenes.s2.iterdir():
        with rasterio.open(path, "r+") as dataset:
            pixels, side = dataset.read(), TILE_M // int(dataset.res[0])
            pixels[:, :side, :side] = 0
            dataset.write(pixels)
    embedded(tmp_path / "tiles.parquet", scenes)
    found = geopandas.read_parquet(tmp_path / "tiles.parquet")
    assert found[["tile_row", "tile_column"]].iloc[0].tolist() == [0, 1]
    assert found["modalities"].tolist() == ["s2"] + ["s1+s2"] * 10


def test_a_scene_in_degrees_gets_the_utm_zone_of_its_centre(tmp_path, embedded):
    s1 = np.stack([band("VV", HEIGHT_M, WIDTH_M), band("VH", HEIGHT_M, WIDTH_M)])
    own = from_origin(LEFT, TOP, 10, 10)
    box = (LEFT, TOP - HEIGHT_M, LEFT + WIDTH_M, TOP)
    place, width, height = calculate_default_transform("EPSG:32633", "EPSG:4326", 96, 72, *box)
    moved = np.zeros((2, height, width), np.float32)
    reproject(s1, moved, src_transform=own, src_crs="EPSG:32633", dst_transform=place, dst_crs="EPSG:4326",
              resampling=Resampling.nearest)  # fmt: skip
    path = write_raster(tmp_path / "s1.tif", moved, names=("VV", "VH"), transform=place, crs="EPSG:4326")
    embedded(tmp_path / "tiles.parquet", files=SceneFiles({"s1": (path,)}))
    found = geopandas.read_parquet(tmp_path / "tiles.parquet")
    assert found.crs.to_epsg() == 32633
    assert found.geometry.area.tolist() == [TILE_M**2] * len(found)
    tiles, ground = found.geometry.union_all(), shapely.box(*box)
    assert tiles.intersection(ground).area > 0.999 * ground.area
    # They reach beyond it by less than the pixels that all arrays have in step, of 60 m.
    assert ground.buffer(60, join_style="mitre").contains(tiles)


def test_units_are_checked_unless_asked_not_to(tmp_path, embedded, scenes):
    with rasterio.open(scenes.s1, "r+") as dataset:
        dataset.write(10 ** (dataset.read() / 10))
    with pytest.raises(InputError, match="linear power"):
        embedded(tmp_path / "out" / "tiles.parquet", scenes)
    assert not (tmp_path / "out").exists()
    assert embedded(tmp_path / "out" / "tiles.parquet", scenes, is_checked=False).startswith("12 tiles")


def truncated(scenes):
    path = next(scenes.s2.glob("*B03*"))
    with path.open("r+b") as file:
        file.truncate(path.stat().st_size // 4 * 3)


def without_data(scenes):
    for path in [scenes.s1, *scenes.s2.iterdir()]:
        with rasterio.open(path, "r+") as dataset:
            dataset.write(np.zeros_like(dataset.read()))


@pytest.mark.parametrize(("damage", "named"), [(truncated, "cut short"), (without_data, "no tile with data")])
@pytest.mark.parametrize("older", [b"an older table", None])
def test_bad_scenes_leave_nothing_behind(tmp_path, embedded, monkeypatch, damage, named, older):
    monkeypatch.setattr(geoparquet_module, "_GROUP_ROWS", 1)
    scenes = make_scenes(tmp_path / "in", 9600, 480, compress="deflate", tiled=True, blockxsize=16, blockysize=16)
    damage(scenes)
    (tmp_path / "out").mkdir()
    if older:
        (tmp_path / "out" / "tiles.parquet").write_bytes(older)
    with pytest.raises(InputError, match=named):
        embedded(tmp_path / "out" / "tiles.parquet", scenes, is_checked=False)
    assert contents(tmp_path / "out") == ({"tiles.parquet": older} if older else {})


def test_a_graph_without_an_embedding_is_refused(tmp_path, embedded, exported, scenes):
    graph = onnx.load(exported.path)
    (output,) = (item for item in graph.graph.output if item.name == "embedding")
    graph.graph.output.remove(output)
    write_graph(graph, tmp_path / "older.onnx")
    with pytest.raises(ExportError, match=r"older\.onnx gives no embedding"):
        embedded(tmp_path / "tiles.parquet", scenes, model=str(tmp_path / "older.onnx"))
    assert not (tmp_path / "tiles.parquet").exists()


def test_the_command_writes_what_the_function_does(tmp_path, world, exported, folder):
    out = tmp_path / "train.parquet"
    options = ("--shards", world.shards, "--split", "train", "--index", world.index)
    done = fusmae("embed", "--model", exported.path, *options, "--out", out)
    assert (done.returncode, done.stdout.splitlines()[-1]) == (0, f"wrote {out}")
    one, other = (pq.read_table(path).drop_columns("embedding") for path in (out, folder / "train.parquet"))
    assert one == other


@pytest.mark.parametrize("given", [(), ("--s1", "s1.tif", "--shards", "shards")])
def test_scenes_and_shards_or_neither_are_refused_in_one_paragraph(tmp_path, exported, given):
    done = fusmae("embed", "--model", exported.path, *given, "--out", tmp_path / "out" / "tiles.parquet")
    assert done.returncode == 1
    assert done.stderr.startswith("fusmae: Embeddings are of scenes or of shards.\n  expected: --scene for one")
    assert len(done.stderr.strip().splitlines()) == 2
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize("options", [{"split": "train"}, {"index": "index.parquet"}])
def test_options_of_shards_are_refused_with_scenes(tmp_path, embedded, scenes, options):
    with pytest.raises(InputError, match="--split and --index are of shards"):
        embedded(tmp_path / "tiles.parquet", scenes, **options)


@pytest.mark.parametrize("options", [{"stride": 120}, {"files": SceneFiles(readings={"s2": Reading(offset=0)})}])
def test_options_of_scenes_are_refused_with_shards(tmp_path, embedded, world, options):
    with pytest.raises(InputError, match=r"(?s)Shards say themselves.*no --stride.*--bands"):
        embedded(tmp_path / "pairs.parquet", shards=world.shards, **options)
