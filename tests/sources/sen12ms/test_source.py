import pickle
import shutil
from collections import Counter
from pathlib import Path

import numpy as np
import pytest
from rasterio import Affine

from fusmae.config.task import Task
from fusmae.data.index import Pair, validate_index
from fusmae.data.pixels import stack_bands
from fusmae.errors import PairError, SourceError
from fusmae.modalities import SEN12MS, modality_inputs
from fusmae.sources.sen12ms import labels
from fusmae.sources.sen12ms.labels import CLASSES, LABELS_FILE
from fusmae.sources.sen12ms.source import Sen12msSource

NAME = "ROIs1868_summer_s2_19_p30.tif"
SOURCE = Sen12msSource([], 0.1)
INPUTS = modality_inputs(SEN12MS, 2560)


@pytest.fixture
def raw(tmp_path: Path, tile_writer, list_writer) -> Path:
    """One whole triplet that a test may damage, in the test list."""
    raw = tmp_path / "raw"
    list_writer(raw, train=[], test=[NAME])
    for kind in ("s1", "s2", "lc"):
        tile_writer(raw, NAME, kind)
    return raw


def only_pair(raw: Path) -> Pair:
    (pair,) = SOURCE.pairs(raw)
    return pair


def refused(raw: Path, pair: Pair) -> PairError:
    with pytest.raises(PairError) as caught:
        SOURCE.read(raw, pair)
    assert pair.key in str(caught.value)
    return caught.value


# The index


def test_the_index_is_valid_and_in_the_order_of_keys(raw_land_cover):
    pairs = SOURCE.pairs(raw_land_cover)
    validate_index(pairs, Task(classes=CLASSES))
    assert [pair.key for pair in pairs] == sorted(pair.key for pair in pairs)
    assert Counter(pair.split for pair in pairs) == {"train": 108, "validation": 12, "test": 4}
    assert all(pair.labels and pair.place in pair.key.replace("_s2_", "_") for pair in pairs)


def test_a_pair_names_its_files_labels_season_and_position(raw):
    pair = only_pair(raw)
    assert pair.key == "ROIs1868_summer_s2_19_p30"
    assert (raw / pair.files["s1"]).is_file()
    assert (raw / pair.files["s2"]).is_file()
    assert pair.labels == ("Forest",)
    assert pair.place == "ROIs1868_summer_19"
    assert (pair.date.year, pair.date.month) == (2017, 7)
    assert (pair.lon, pair.lat) == (pytest.approx(4.960, abs=0.002), pytest.approx(11.639, abs=0.002))


def test_the_chosen_seasons_alone_are_in_the_index(raw_land_cover):
    pairs = Sen12msSource(["winter", "fall"], 0.1).pairs(raw_land_cover)
    assert {pair.key.split("_")[1] for pair in pairs} == {"fall", "winter"}


def test_single_labels_are_one_class_each(raw_land_cover):
    pairs = Sen12msSource([], 0.1, "multiclass").pairs(raw_land_cover)
    assert {len(pair.labels) for pair in pairs} == {1}


def test_land_cover_read_by_many_processes_is_the_same(raw_land_cover, monkeypatch):
    alone = SOURCE.pairs(raw_land_cover)
    monkeypatch.setattr(labels, "_MIN_TILES_FOR_POOL", 1)
    monkeypatch.setattr(labels.os, "cpu_count", lambda: 2)
    assert SOURCE.pairs(raw_land_cover) == alone


def test_the_authors_shares_win_over_the_land_cover_tiles(raw):
    (raw / LABELS_FILE).write_bytes(pickle.dumps({NAME: np.eye(17)[16]}, protocol=3))
    pair = only_pair(raw)
    assert pair.labels == ("Water",)
    assert pair.lon is not None


def test_with_the_authors_shares_no_land_cover_tile_is_needed(raw):
    (raw / LABELS_FILE).write_bytes(pickle.dumps({NAME: np.eye(17)[16]}, protocol=3))
    shutil.rmtree(raw / "ROIs1868_summer" / "lc_19")
    pair = only_pair(raw)
    assert pair.labels == ("Water",)
    assert pair.lon is None


def test_shares_that_lack_a_pair_are_refused(raw):
    (raw / LABELS_FILE).write_bytes(pickle.dumps({"other.tif": np.eye(17)[16]}, protocol=3))
    with pytest.raises(SourceError, match=f"no labels of 1 of 1 pairs.\n.*{NAME}"):
        SOURCE.pairs(raw)


def test_missing_and_broken_land_cover_tiles_are_named_all_at_once(raw, tile_writer, list_writer):
    names = [f"ROIs1868_summer_s2_19_p{patch}.tif" for patch in (30, 31, 32, 33)]
    list_writer(raw, train=[], test=names)
    tile_writer(raw, names[1], "lc").write_bytes(b"no GeoTIFF")
    tile_writer(raw, names[2], "lc", count=1)
    with pytest.raises(SourceError) as caught:
        SOURCE.pairs(raw)
    text = str(caught.value)
    assert "labels of 3 of 4 pairs" in text
    assert "lc_19_p31.tif cannot be read" in text
    assert "lc_19_p32.tif has 1 channels" in text
    assert "lc_19_p33.tif is absent" in text
    assert LABELS_FILE in text


def test_absent_raw_data_says_what_to_run(tmp_path):
    with pytest.raises(SourceError, match=r"no raw data.*\n.*dvc repro -f -s fetch"):
        SOURCE.pairs(tmp_path / "raw")


# Reading


def test_bands_have_their_names_types_and_sizes(raw):
    bands = SOURCE.read(raw, only_pair(raw))
    assert tuple(bands) == SEN12MS["s1"].bands + SEN12MS["s2"].bands
    for name, pixels in bands.items():
        assert pixels.shape == (256, 256)
        assert pixels.dtype == (np.float32 if name in SEN12MS["s1"].bands else np.uint16)
    arrays = stack_bands("pair", bands, INPUTS)
    for item in INPUTS:
        assert arrays[item.name].shape == (len(item.bands), 256, 256)


@pytest.mark.parametrize("kind", ["s1", "s2"])
def test_a_missing_side_is_incomplete(raw, kind):
    pair = only_pair(raw)
    (raw / pair.files[kind]).unlink()
    error = refused(raw, pair)
    assert error.fault == "incomplete"
    assert f"{kind}_19_p30.tif is absent" in str(error)
    assert "dvc repro -f -s fetch" in str(error)


@pytest.mark.parametrize("kind", ["s1", "s2"])
@pytest.mark.parametrize("share", [0.0, 0.0001, 0.02, 0.5, 0.95])
def test_a_truncated_side_is_unreadable(raw, kind, share):
    pair = only_pair(raw)
    path = raw / pair.files[kind]
    path.write_bytes(path.read_bytes()[: int(path.stat().st_size * share)])
    error = refused(raw, pair)
    assert error.fault == "unreadable"
    assert str(path) in str(error)


def test_twelve_bands_are_named_as_l2a(raw, tile_writer):
    pair = only_pair(raw)
    tile_writer(raw, NAME, "s2", count=12)
    error = refused(raw, pair)
    assert error.fault == "incomplete"
    assert "12 bands are L2A's, which lack B10; SEN12MS is L1C" in str(error)


@pytest.mark.parametrize(("kind", "count"), [("s1", 1), ("s1", 3), ("s2", 14)])
def test_another_number_of_bands_is_incomplete(raw, tile_writer, kind, count):
    pair = only_pair(raw)
    tile_writer(raw, NAME, kind, count=count)
    error = refused(raw, pair)
    assert error.fault == "incomplete"
    assert f"{count} bands" in str(error)


def test_another_size_is_a_wrong_grid(raw, tile_writer):
    pair = only_pair(raw)
    tile_writer(raw, NAME, "s1", side_px=128)
    error = refused(raw, pair)
    assert error.fault == "grid"
    assert "float32 [2, 128, 128]" in str(error)


@pytest.mark.parametrize(("kind", "dtype"), [("s1", "int16"), ("s1", "float64"), ("s2", "float32"), ("s2", "uint8")])
def test_another_type_of_pixels_is_refused_and_not_guessed_at(raw, tile_writer, kind, dtype):
    pair = only_pair(raw)
    tile_writer(raw, NAME, kind, dtype=dtype)
    error = refused(raw, pair)
    assert error.fault == "units"
    assert dtype in str(error)


@pytest.mark.parametrize(
    "changes",
    [{"crs": "EPSG:32632"}, {"transform": Affine(10, 0, 712394.29, 0, -10, 1288830.13)}],
    ids=["crs", "shift"],
)
def test_sides_of_another_ground_are_refused(raw, tile_writer, changes):
    pair = only_pair(raw)
    tile_writer(raw, NAME, "s1", **changes)
    error = refused(raw, pair)
    assert error.fault == "georeference"
    assert "don't cover the same ground" in str(error)


@pytest.mark.filterwarnings("ignore::rasterio.errors.NotGeoreferencedWarning")
def test_a_side_without_a_georeference_is_refused(raw, tile_writer):
    pair = only_pair(raw)
    tile_writer(raw, NAME, "s2", crs=None)
    assert refused(raw, pair).fault == "georeference"


def test_nan_in_s1_is_left_to_the_check_of_pixels(raw, tile_writer):
    pixels = np.full((2, 256, 256), -12.0)
    pixels[1, 3, 4] = np.nan
    tile_writer(raw, NAME, "s1", pixels=pixels)
    bands = SOURCE.read(raw, only_pair(raw))
    with pytest.raises(PairError, match="band VH: 1 of 65536 pixels are NaN"):
        stack_bands("pair", bands, INPUTS[:1])


# What the authors state


def test_counts_are_the_authors_with_the_carved_part_taken_off_train(raw_lists):
    assert SOURCE.facts(raw_lists).counts == {"train": 162_555 - 12, "validation": 12, "test": 18_106}


@pytest.mark.parametrize("kept", [[], ["train_list.txt"]])
def test_without_the_lists_there_are_no_counts_and_the_rest_is_stated(raw_lists, tmp_path, kept):
    raw = tmp_path / "raw"
    for name in kept:
        raw.mkdir()
        shutil.copy(raw_lists / name, raw / name)
    facts = SOURCE.facts(raw)
    assert facts.counts is None
    assert facts.labels == SOURCE.facts(raw_lists).labels
    assert facts.statistics


def test_of_single_seasons_the_authors_state_no_counts(raw_lists):
    assert Sen12msSource(["fall"], 0.1).facts(raw_lists).counts is None


def test_statistics_are_stated_for_the_bands_that_the_authors_use(raw_lists):
    facts = SOURCE.facts(raw_lists)
    assert facts.s2_offset == 0
    assert tuple(facts.statistics["s1"]) == SEN12MS["s1"].bands
    assert set(SEN12MS["s2"].bands) - set(facts.statistics["s2"]) == {"B01", "B09", "B10"}
    assert facts.statistics["s1"]["VV"].mean > facts.statistics["s1"]["VH"].mean
