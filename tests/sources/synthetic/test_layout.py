"""The files against those of the real BigEarthNet v2, where these are at hand."""

from pathlib import Path

import numpy as np
import pyarrow.parquet as pq
import pytest
import rasterio

from fusmae.sources.patches.places import parse_patch_name, utm_corner

TABLES = ("metadata.parquet", "metadata_for_patches_with_snow_cloud_or_shadow.parquet")
REAL = Path(__file__).parents[4] / "shared" / "data" / "bigearthnet_v2"


@pytest.fixture
def real() -> Path:
    if not REAL.is_dir():
        pytest.skip(f"real files to compare with are not at {REAL}")
    return REAL


def by_kind(folder: Path) -> dict[str, Path]:
    """One file of each kind: "B02", "VV", "map"."""
    return {path.stem.rsplit("_", 1)[1]: path for path in sorted(folder.rglob("*.tif"))}


def profile(path: Path) -> dict[str, object]:
    with rasterio.open(path) as dataset:
        facts = {key: dataset.profile[key] for key in dataset.profile if key not in ("crs", "transform")}
        facts |= {
            "gsd": dataset.res,
            "crs": dataset.crs.to_wkt()[:26],
            "structure": dataset.tags(ns="IMAGE_STRUCTURE"),
        }
        return facts | {
            "descriptions": dataset.descriptions,
            "interp": dataset.colorinterp,
            "file": path.stat().st_size,
        }


def test_each_file_has_the_profile_of_the_real_one(made, real):
    ours, theirs = by_kind(made.raw), by_kind(real)
    assert ours.keys() == {*theirs, "biomass"}
    for kind in theirs:
        mine, wanted = profile(ours[kind]), profile(theirs[kind])
        # The tag SYNTHETIC takes some bytes; a compressed map's size hangs on what it shows.
        size, wanted_size = mine.pop("file"), wanted.pop("file")
        assert mine == wanted, kind
        assert kind == "map" or abs(size - wanted_size) < 600


def test_folders_are_named_and_nested_as_the_real_ones(made, real):
    def shape(folder: Path) -> set[tuple[str, ...]]:
        found = set()
        for path in folder.rglob("*.tif"):
            parts = path.relative_to(folder).parts
            assert parts[2].startswith(parts[1])
            assert parts[3].startswith(parts[2])
            found.add((parts[0], parts[3].removeprefix(parts[2])))
        return found

    assert shape(made.raw) == shape(real / "one_patch_layout") | {("Reference_Maps", "_biomass.tif")}


def test_tables_have_the_real_columns_and_types(made, real):
    for name in TABLES:
        assert pq.read_schema(made.raw / name).equals(pq.read_schema(real / name), check_metadata=True)


def test_rows_are_sorted_and_flagged_as_in_the_real_tables(made):
    clean, flagged = (pq.read_table(made.raw / name).to_pylist() for name in TABLES)
    assert len(clean) + len(flagged) == made.world.num_pairs
    for rows in (clean, flagged):
        assert [row["patch_id"] for row in rows] == sorted(row["patch_id"] for row in rows)
        assert all(row["labels"] == sorted(row["labels"]) for row in rows)
    assert not any(row["contains_seasonal_snow"] or row["contains_cloud_or_shadow"] for row in clean)
    assert all(row["contains_seasonal_snow"] or row["contains_cloud_or_shadow"] for row in flagged)
    assert {row["country"] for row in clean + flagged} == {"Synthetic"}


def test_both_sides_and_the_maps_cover_the_ground_that_the_name_says(made):
    pair = made.pairs[5]
    epsg, west, north = utm_corner(parse_patch_name(pair.key))
    reference = made.raw / pair.files["s2"].replace("BigEarthNet-S2", "Reference_Maps")
    files = [path for folder in pair.files.values() for path in (made.raw / folder).iterdir()] + [*reference.iterdir()]
    assert len(files) == 16
    for path in files:
        with rasterio.open(path) as dataset:
            assert dataset.crs.to_epsg() == epsg
            assert tuple(dataset.bounds) == (west, north - 1200, west + 1200, north)


def test_every_file_says_that_it_is_synthetic(made):
    for path in by_kind(made.raw).values():
        with rasterio.open(path) as dataset:
            assert dataset.tags()["SYNTHETIC"] == "YES"


def test_no_file_lies_beside_the_bands(made):
    names = {path.suffix for path in made.raw.rglob("*") if path.is_file()}
    assert names == {".tif", ".parquet", ".txt"}


def test_pixels_come_back_as_they_were_made(made):
    from fusmae.sources.synthetic.plan import blocks_of
    from fusmae.sources.synthetic.scene import make_scene

    block = blocks_of(made.world)[2]
    scene = make_scene(made.world.seed, block)
    for patch in block.patches:
        pair = next(pair for pair in made.pairs if pair.key == patch.s2_name)
        bands = made.source.read(made.raw, pair)
        for name, pixels in scene.cut(patch).items():
            np.testing.assert_array_equal(bands[name], pixels)
