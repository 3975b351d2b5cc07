"""A scene becomes pairs that `data=folder` reads as they are; killed and refused runs leave nothing half-done."""

import json
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import rasterio
import yaml

from fusmae.config.data import DataConfig
from fusmae.config.params import checked
from fusmae.data.index import SPLITS, validate_index
from fusmae.data.pixels import stack_bands
from fusmae.errors import InputError, StorageError
from fusmae.files import file_sha256
from fusmae.inference.map.progress import Work
from fusmae.inference.pairs.cut import cut_pairs
from fusmae.inference.pairs.label_file import LabelFile
from fusmae.inference.pairs.settings import CutSettings
from fusmae.inference.scene.scene import Reading
from fusmae.modalities import BandGroup, Modality
from fusmae.sources import open_source
from tests.inference.conftest import GSD_M, LEFT, TOP, band, make_scenes, write_raster

TILE_M, SIDE_M, NAME = 240, 3600, "T33UUP_20200607T101031"
MODALITIES = {
    "s1": Modality(units="dB", groups=(BandGroup(gsd_m=10, bands=("VV", "VH")),)),
    "s2": Modality(units="DN", groups=(BandGroup(gsd_m=10, bands=("B02", "B03")), BandGroup(gsd_m=20, bands=("B05",)))),
}
SETTINGS = {"name": "", "modalities": MODALITIES, "tile_m": TILE_M, "seed": 0, "block_m": 1200}


def cover(folder):
    """Water in the west, forest in the east, nothing in the south."""
    numbers = np.ones((1, SIDE_M // 10, SIDE_M // 10), np.uint8)
    numbers[0, :, 180:], numbers[0, 240:] = 2, 0
    return LabelFile(write_raster(folder / "cover.tif", numbers, nodata=0), names={"1": "water", "2": "forest"})


@pytest.fixture(scope="module")
def scene(tmp_path_factory):
    return make_scenes(tmp_path_factory.mktemp("scene"), SIDE_M, SIDE_M)


@pytest.fixture(scope="module")
def small(tmp_path_factory):
    """A scene of five rows of five tiles."""
    return make_scenes(tmp_path_factory.mktemp("small"), 1200, 1200)


@pytest.fixture(scope="module")
def labels(tmp_path_factory):
    return cover(tmp_path_factory.mktemp("labels"))


def cut(scene, out, readings=None, paths=None, **changes):
    return cut_pairs(paths or scene.paths, readings or {}, out, CutSettings(**(SETTINGS | changes)))


@pytest.fixture(scope="module")
def done(scene, labels, tmp_path_factory):
    """A scene that was cut with labels, and its folder."""
    out = tmp_path_factory.mktemp("raw") / "folder"
    return cut(scene, out, labels=labels), out


def source_of(out):
    data = checked(DataConfig, yaml.safe_load((out / "folder.yaml").read_text(encoding="utf-8")), "folder.yaml")
    return open_source(data.source.name, data.source.settings, data.inputs, data.kind), data.inputs


def hashes(folder):
    return {
        path.relative_to(folder).as_posix(): file_sha256(path) for path in sorted(folder.rglob("*")) if path.is_file()
    }


def test_the_source_folder_takes_pairs_classes_and_bands_as_they_are(done):
    made, out = done
    source, inputs = source_of(out)
    assert source.task.classes == ("water", "forest")
    assert {path.name for path in out.iterdir()} == {
        "pairs.csv", "folder.yaml", "tiles.json", "tiles.md", f"tiles_{NAME}.png", "s1", "s2",
    }  # fmt: skip
    source.fetch(out, out)
    pairs = source.pairs(out)
    validate_index(pairs, source.task)
    assert len(pairs) == made.scene.num_pairs > 60
    assert {pair.date.isoformat() for pair in pairs} == {"2020-06-07T10:10:31+00:00"}
    stack_bands("p", source.read(out, pairs[0]), inputs)


def test_pixels_are_those_of_the_scene(done):
    _, out = done
    source, inputs = source_of(out)
    for pair in source.pairs(out)[::20]:
        row, column = (int(part) for part in pair.key.split("_")[-2:])
        bands = source.read(out, pair)
        for item in inputs:
            for name in item.bands:
                side = TILE_M // GSD_M[name]
                place = np.s_[row * side : (row + 1) * side, column * side : (column + 1) * side]
                np.testing.assert_array_equal(bands[name], band(name, SIDE_M, SIDE_M)[place])


def test_labels_are_classes_that_cover_enough_of_a_tile(done):
    _, out = done
    for pair in source_of(out)[0].pairs(out):
        row, column = (int(part) for part in pair.key.split("_")[-2:])
        assert row < 10  # south of it there are no labels
        assert pair.labels == (("water",) if column < 7 else ("water", "forest") if column == 7 else ("forest",))


def test_splits_are_far_from_one_another_and_places_have_one_each(done):
    _, out = done
    pairs = source_of(out)[0].pairs(out)
    numbers = {pair.key: [int(part) for part in pair.key.split("_")[-2:]] for pair in pairs}
    steps = [
        max(abs(a - b) for a, b in zip(numbers[one.key], numbers[other.key], strict=True))
        for one in pairs
        for other in pairs
        if one.split < other.split
    ]
    assert min(steps) == 2  # a tile between them
    assert {pair.split for pair in pairs} == set(SPLITS)


def test_the_report_counts_what_the_table_has(done):
    made, out = done
    counts, pairs = json.loads((out / "tiles.json").read_text(encoding="utf-8")), source_of(out)[0].pairs(out)
    for split in SPLITS:
        own = [pair for pair in pairs if pair.split == split]
        assert counts["pairs"][split] == len(own)
        assert counts["places"][split] == len({pair.place for pair in own})
        assert counts["labels"]["forest"][split] == sum("forest" in pair.labels for pair in own)
    left_out = counts["scenes"][0]["left_out"]
    assert left_out["without a label"] == 15 * 5
    assert left_out["without data"] == 0
    assert sum(left_out.values()) + made.scene.num_pairs == 15 * 15
    table = (out / "tiles.md").read_text(encoding="utf-8")
    assert f"| pairs | {counts['pairs']['train']} | {counts['pairs']['validation']} |" in table


def test_the_picture_has_every_panel(done):
    from PIL import Image

    made, _ = done
    with Image.open(made.picture) as picture:
        assert picture.width > 1500
        assert picture.height > 500


def test_a_killed_run_goes_on_to_the_same_bytes(small, tmp_path, monkeypatch):
    out, save, saved = tmp_path / "folder", Work.save, []

    def killed(self, unit, result):
        if len(saved) == 2:
            raise KeyboardInterrupt
        save(self, unit, result)
        saved.append(unit)

    monkeypatch.setattr(Work, "save", killed)
    with pytest.raises(KeyboardInterrupt):
        cut(small, out)
    assert not [path for path in out.iterdir() if not path.name.startswith(".")]
    monkeypatch.undo()
    assert cut(small, out).num_kept == 2
    assert cut(small, tmp_path / "whole").num_kept == 0
    assert hashes(out) == hashes(tmp_path / "whole")


def test_a_full_disk_keeps_what_was_cut(small, tmp_path, monkeypatch):
    out = tmp_path / "folder"

    def full(*_):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("fusmae.inference.pairs.cut.write_content", full)
    with pytest.raises(StorageError, match="what was cut is kept"):
        cut(small, out)
    assert not (out / "pairs.csv").exists()
    monkeypatch.undo()
    assert cut(small, out).num_kept == 5


def test_a_run_without_a_tile_leaves_nothing_behind(small, tmp_path):
    empty = write_raster(tmp_path / "none.tif", np.zeros((1, 120, 120), np.uint8))
    with pytest.raises(InputError, match=r"(?s)No tile is left.*25 without a label.*--keep-unlabelled"):
        cut(small, tmp_path / "out", labels=LabelFile(empty, names={"1": "water"}))
    assert list((tmp_path / "out").rglob("*")) == []


def test_without_labels_every_tile_is_a_pair_and_there_are_no_classes(small, tmp_path):
    made = cut(small, tmp_path, gap_m=0)
    source, _ = source_of(tmp_path)
    assert made.scene.num_pairs == 25
    assert source.task.classes == ()
    assert not any(pair.labels for pair in source.pairs(tmp_path))


def test_tiles_without_a_label_can_be_kept(small, tmp_path):
    part = LabelFile(write_raster(tmp_path / "part.tif", np.ones((1, 48, 120), np.uint8)), names={"1": "water"})
    made = cut(small, tmp_path / "out", gap_m=0, labels=part, keeps_unlabelled=True)
    assert made.scene.num_pairs == 25
    assert sum(not pair.labels for pair in source_of(tmp_path / "out")[0].pairs(tmp_path / "out")) == 15


def test_nodata_leaves_a_tile_out_or_is_stored_as_the_layout_says(tmp_path):
    pixels = {name: band(name, 720, 960) for name in GSD_M}
    pixels["VV"][:12, :24], pixels["VV"][24:26, :24] = np.nan, np.nan  # half of the first tile, a twelfth of that below
    pixels["B05"][:, 46:48] = 65535  # a sixth of the last tile of each row
    pixels["B02"][:2, 24:48] = pixels["B03"][:2, 24:48] = pixels["B05"][:1, 12:24] = 0  # a twelfth of the second tile
    s1 = write_raster(tmp_path / "s1.tif", np.stack([pixels["VV"], pixels["VH"]]), names=("VV", "VH"))
    write_raster(tmp_path / "s2" / "a.tif", np.stack([pixels["B02"], pixels["B03"]]), names=("B02", "B03"))
    write_raster(tmp_path / "s2" / "b.tif", pixels["B05"][None], names=("B05",), gsd_m=20, nodata=65535)
    out = tmp_path / "out"
    made = cut(None, out, paths={"s1": [s1], "s2": [tmp_path / "s2"]}, gap_m=0, name="n")
    assert made.scene.left_out["without data"] == 1 + 3
    source, inputs = source_of(out)
    pairs = {pair.key: stack_bands(pair.key, source.read(out, pair), inputs) for pair in source.pairs(out)}
    filled = pairs["n_0001_0000"]["s1_10m"]
    assert filled[0, 0, 0] == pytest.approx(np.nanmean(pixels["VV"][26:48, :24]), rel=1e-5)
    for name, rows in (("s2_10m", 2), ("s2_20m", 1)):
        empty = (pairs["n_0000_0001"][name] == 0).all(axis=0)
        assert empty[:rows].all()
        assert not empty[rows:].any()


def test_another_date_is_added_in_another_unit_and_splits_agree(scene, labels, done, tmp_path):
    first = source_of(done[1])[0].pairs(done[1])
    out = shutil.copytree(done[1], tmp_path / "folder")
    pixels = np.stack([band("VV", SIDE_M, SIDE_M), band("VH", SIDE_M, SIDE_M)])
    power = write_raster(tmp_path / "s1.tif", (10 ** (pixels / 10)).astype(np.float32), names=("VV", "VH"))
    other = LabelFile(labels.path, names={"2": "wood", "1": "water"})
    made = cut(
        scene, out, {"s1": Reading(units="power")}, {**scene.paths, "s1": [power]}, name="may", labels=other,
        appends=True, seed=7, block_m=None,
    )  # fmt: skip
    source, _ = source_of(out)
    pairs = {pair.key: pair for pair in source.pairs(out)}
    assert len(pairs) == 2 * len(first)
    assert source.task.classes == ("water", "forest", "wood")
    for pair in first:
        again = pairs[pair.key.replace(NAME, "may")]
        assert (again.split, again.place) == (pair.split, pair.place)
        assert set(again.labels) == {name.replace("forest", "wood") for name in pair.labels}
        found, expected = (source.read(out, one)["VV"] for one in (again, pairs[pair.key]))
        np.testing.assert_allclose(found, expected, atol=2e-5)
    assert [scene.name for scene in made.content.tiles.scenes] == [NAME, "may"]


@pytest.mark.parametrize(
    ("changes", "match"),
    [
        ({}, r"holds \d+ pairs already.*--append"),
        ({"appends": True}, "holds pairs of T33UUP_20200607T101031 already.*--name"),
        ({"appends": True, "name": "b", "block_m": 2400}, "--block differs.*expected: 1200 m"),
        ({"appends": True, "name": "b", "gap_m": 0}, "--gap differs"),
    ],
)
def test_pairs_that_are_there_are_not_mixed_with_others(scene, done, changes, match):
    before = hashes(done[1])
    with pytest.raises(InputError, match=f"(?s){match}"):
        cut(scene, done[1], **changes)
    assert hashes(done[1]) == before


def test_a_modality_that_the_other_pairs_have_must_be_given(scene, done):
    with pytest.raises(InputError, match=r"have s1, too.*--scene s1=PATH".replace(".*", "(?s:.*)")):
        cut(scene, done[1], paths={"s2": [scene.s2]}, appends=True, name="b")


def test_pairs_that_were_made_by_hand_are_left_alone(scene, tmp_path):
    (tmp_path / "pairs.csv").write_text("key,labels\na,\n", encoding="utf-8")
    with pytest.raises(InputError, match="did not cut"):
        cut(scene, tmp_path, appends=True)
    assert [path.name for path in tmp_path.iterdir()] == ["pairs.csv"]


@pytest.mark.parametrize(
    ("changes", "match"),
    [
        ({"tile_m": 250}, r"Tiles of 250 m can't be cut.*a multiple of 20 m.*--side 240"),
        ({"paths": {}}, "There is no scene"),
        ({"paths": {"dem": ["dem.tif"]}}, "No bands of dem are known.*data.modalities.*CONTRIBUTING"),
        ({"paths": {"s2": ["nowhere.tif"]}}, "There is no file nowhere.tif"),
        ({"readings": {"s1": Reading(units="power")}}, r"no linear power: it has negative pixels"),
        ({"tile_m": 4800}, "The scenes have less ground in common than a tile"),
    ],
)
def test_what_can_t_be_cut_is_refused_and_nothing_is_written(scene, tmp_path, changes, match):
    paths = changes.pop("paths", scene.paths)
    with pytest.raises(InputError, match=f"(?s){match}"):
        cut_pairs(paths, changes.pop("readings", {}), tmp_path / "out", CutSettings(**(SETTINGS | changes)))
    assert not (tmp_path / "out").exists()


def test_a_scene_without_a_crs_is_refused(tmp_path):
    bare = make_scenes(tmp_path / "scene", crs=None)
    with pytest.raises(InputError, match="no georeference"):
        cut(bare, tmp_path / "out")


def test_a_scene_in_degrees_is_cut_in_metres(tmp_path):
    scene = make_scenes(tmp_path / "scene")
    warped = tmp_path / "s2.tif"
    place = rasterio.transform.from_origin(13.66, 48.21, 1e-4, 1e-4)
    pixels = np.random.default_rng(0).integers(100, 3000, (3, 150, 250)).astype(np.uint16)
    write_raster(warped, pixels, names=("B02", "B03", "B05"), crs="EPSG:4326", transform=place)
    made = cut(scene, tmp_path / "out", paths={"s2": [warped]}, gap_m=0)
    (only,) = made.content.tiles.scenes
    assert rasterio.crs.CRS.from_wkt(only.crs).to_epsg() == 32633
    source, _ = source_of(tmp_path / "out")
    assert len(source.pairs(tmp_path / "out")) == made.scene.num_pairs > 10


def test_any_modality_of_the_parameters_is_cut(small, tmp_path):
    dem = Modality(units="m", groups=(BandGroup(gsd_m=30, bands=("height",)),))
    heights = np.random.default_rng(0).uniform(200, 900, (1, 40, 40)).astype(np.float32)
    path = write_raster(tmp_path / "dem.tif", heights, names=("height",), gsd_m=30)
    cut(
        small, tmp_path / "out", paths={**small.paths, "dem": [path]}, modalities={**MODALITIES, "dem": dem}, gap_m=0
    )  # fmt: skip
    source, _ = source_of(tmp_path / "out")
    pair = source.pairs(tmp_path / "out")[6]
    assert pair.key.endswith("0001_0001")
    np.testing.assert_array_equal(source.read(tmp_path / "out", pair)["height"], heights[0, 8:16, 8:16])


def test_tiles_begin_at_the_first_whole_pixel_of_the_common_ground(tmp_path):
    scene = make_scenes(tmp_path / "scene")
    shifted = np.stack([band("VV", 720, 960), band("VH", 720, 960)])
    s1 = write_raster(tmp_path / "s1.tif", shifted, names=("VV", "VH"), left=LEFT + 30, top=TOP - 50)
    made = cut(scene, tmp_path / "out", paths={**scene.paths, "s1": [s1]}, gap_m=0)
    (only,) = made.content.tiles.scenes
    assert (only.left, only.top) == (LEFT + 40, TOP - 60)
    assert made.scene.left_out["without data"] == 0
    assert made.scene.num_pairs == 2 * 3


_MEASURED = """
import sys
from pathlib import Path
from fusmae.inference.scene import grid, reader
from fusmae.inference.pairs import picture
# What bounds memory at any size, here at sizes that a test can reach.
grid._STRIP_M, reader._CACHE_BYTES, picture.LOOK_PX = 4_000, 8 * 2**20, 100
from tests.inference.pairs.test_cut import SETTINGS
from fusmae.inference.pairs.cut import cut_pairs
from fusmae.inference.pairs.settings import CutSettings
folder = Path(sys.argv[1])
# Few tiles become pairs: writing them takes time, not memory.
settings = CutSettings(**(SETTINGS | {"tile_m": 480, "gap_m": 2400}))
cut_pairs({"s1": [folder / "s1.tif"], "s2": [folder / "s2"]}, {}, folder / "out", settings)
status = Path("/proc/self/status").read_text()
print(int(next(line for line in status.splitlines() if line.startswith("VmHWM")).split()[1]) / 1024)
"""


def test_memory_does_not_grow_with_the_scene(tmp_path):
    """Nine times the ground: 60 MB of pixels against 7, and memory stays."""
    peaks = []
    for side_m in (8_000, 24_000):
        folder = tmp_path / str(side_m)
        for name, bands in (("s1.tif", ("VV", "VH")), ("s2/s2_10.tif", ("B02", "B03")), ("s2/s2_20.tif", ("B05",))):
            gsd_m = GSD_M[bands[0]]
            pixels = np.stack([np.tile(band(key, 8_000, 8_000), (side_m // 8_000,) * 2) for key in bands])
            write_raster(folder / name, pixels, names=bands, gsd_m=gsd_m, tiled=True)
        root = Path(__file__).parents[3]
        done = subprocess.run(
            [sys.executable, "-c", _MEASURED, str(folder)], stdout=subprocess.PIPE, text=True, check=True, cwd=root
        )
        peaks.append(float(done.stdout.split()[-1]))
    assert peaks[1] - peaks[0] < 40, peaks
