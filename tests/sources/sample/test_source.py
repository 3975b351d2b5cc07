import json
import shutil
from collections import Counter
from dataclasses import replace
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from fusmae.config.task import Task
from fusmae.data.index import Pair, read_index, validate_index, write_index
from fusmae.errors import PairError, SourceError, StorageError
from fusmae.modalities import BIGEARTHNET
from fusmae.sources.patches.nomenclature import CLASSES, classes_of_v1_labels
from fusmae.sources.patches.places import parse_patch_name
from fusmae.sources.sample.source import SampleSource, read_values
from fusmae.sources.shared.unpickle import load_record

SOURCE = SampleSource()
SNOWY_V1 = "S2B_MSIL2A_20180204T94161_57_38"
ITS_NEIGHBOUR = "S2A_MSIL2A_20170701T093031_63_35"


@pytest.fixture(scope="module")
def by_key(sample_pairs: list[Pair]) -> dict[str, Pair]:
    return {pair.key: pair for pair in sample_pairs}


@pytest.fixture(scope="module")
def pixels(sample_raw: Path, sample_pairs: list[Pair]) -> dict[str, dict[str, np.ndarray]]:
    return {pair.key: SOURCE.read(sample_raw, pair) for pair in sample_pairs}


def store(pair: Pair) -> str:
    return pair.files["s2"].replace("/", ":").partition(":")[0]


def test_the_sample_is_24_and_30_and_6_pairs(sample_pairs):
    assert Counter(map(store, sample_pairs)) == {"v2_lmdb": 24, "v1_lmdb": 30, "v1_geotiff": 6}
    assert len({pair.key for pair in sample_pairs}) == 60
    assert sample_pairs == sorted(sample_pairs, key=lambda pair: pair.key)


def test_no_patch_stands_twice_as_v1_and_v2(sample_pairs):
    def ground(pair: Pair) -> tuple[object, ...]:
        patch = parse_patch_name(pair.key)
        return patch.column, patch.row, patch.date.date()

    assert len({ground(pair) for pair in sample_pairs}) == 60


def test_the_index_is_valid_and_its_splits_share_no_place(sample_pairs):
    validate_index(sample_pairs, Task(classes=CLASSES))
    splits: dict[str, set[str]] = {}
    for pair in sample_pairs:
        splits.setdefault(pair.place, set()).add(pair.split)
    assert all(len(found) == 1 for found in splits.values())
    assert Counter(pair.split for pair in sample_pairs) == {"train": 26, "validation": 18, "test": 16}


def test_the_index_survives_being_written(sample_pairs, tmp_path: Path):
    write_index(sample_pairs, tmp_path / "index.parquet")
    assert read_index(tmp_path / "index.parquet") == sample_pairs


def test_every_pair_has_classes_a_country_and_a_date(sample_pairs):
    for pair in sample_pairs:
        assert pair.labels
        assert set(pair.labels) <= set(CLASSES)
        assert list(pair.labels) == sorted(pair.labels, key=CLASSES.index)
        assert pair.country
        assert pair.date.year in (2017, 2018)
        assert pair.date.utcoffset().total_seconds() == 0


def test_the_neighbour_of_a_held_out_pair_is_held_out_with_it(by_key):
    assert by_key[SNOWY_V1].place == by_key[ITS_NEIGHBOUR].place
    assert by_key[SNOWY_V1].split == by_key[ITS_NEIGHBOUR].split == "validation"
    assert by_key[SNOWY_V1].is_snowy


def test_v2_pairs_are_what_the_real_table_says(by_key, shared_bigearthnet: Path):
    tables = [pd.read_parquet(file) for file in sorted(shared_bigearthnet.glob("metadata*.parquet"))]
    rows = pd.concat(tables).set_index("patch_id")
    found = [pair for pair in by_key.values() if store(pair) == "v2_lmdb"]
    assert len(found) == 24
    for pair in found:
        row = rows.loc[pair.key]
        assert set(pair.labels) == set(row["labels"])
        assert (pair.split, pair.country, pair.files["s1"]) == (
            row["split"],
            row["country"],
            f"v2_lmdb:{row['s1_name']}",
        )
        assert (pair.is_snowy, pair.is_cloudy) == (row["contains_seasonal_snow"], row["contains_cloud_or_shadow"])


def test_no_v2_pair_is_a_v1_pair_under_its_new_name(by_key, shared_bigearthnet: Path):
    names = pd.concat(pd.read_parquet(file) for file in sorted(shared_bigearthnet.glob("metadata*.parquet")))
    v1_names = names.set_index("patch_id")["s2v1_name"]
    assert not {v1_names[key] for key, pair in by_key.items() if store(pair) == "v2_lmdb"} & by_key.keys()


def test_our_map_gives_the_classes_that_the_pickles_state(sample_raw: Path, by_key):
    records = {key: load_record(value).fields for key, value in read_values(sample_raw / "v1_lmdb").items()}
    assert len(records) == 30
    for key, fields in records.items():
        assert set(classes_of_v1_labels(fields["labels"])) == set(fields["new_labels"]) == set(by_key[key].labels)


def test_geotiff_pairs_have_the_date_and_partner_of_their_json(sample_raw: Path, by_key):
    for pair in by_key.values():
        if store(pair) == "v1_geotiff":
            s1, s2 = (json.loads(next((sample_raw / side).glob("*.json")).read_text()) for side in pair.files.values())
            assert s1["corresponding_s2_patch"] == pair.key
            assert f"{pair.date:%Y-%m-%d %H:%M:%S}" == s2["acquisition_date"]
            assert s1["labels"] == s2["labels"]


def test_s1_is_float32_db_with_fractions(pixels):
    for key, bands in pixels.items():
        for name in BIGEARTHNET["s1"].bands:
            assert bands[name].dtype == np.float32
            assert np.median(bands[name]) < 0, key
            assert (bands[name] % 1 != 0).mean() > 0.9, key


def test_vv_is_stronger_than_vh_except_on_calm_sea_at_the_noise_floor(pixels, by_key):
    reversed_keys = [key for key, bands in pixels.items() if bands["VV"].mean() < bands["VH"].mean() + 3]
    assert [by_key[key].labels for key in reversed_keys] == [("Marine waters",)]
    assert max(pixels[reversed_keys[0]][band].mean() for band in ("VV", "VH")) < -25


def test_pickled_bands_state_the_name_that_they_are_read_by(sample_raw: Path):
    for value in read_values(sample_raw / "v1_lmdb").values():
        record = load_record(value)
        for modality, spec in BIGEARTHNET.items():
            for band in spec.bands:
                stored = record.fields[f"{modality}_patch"].fields[f"band{band.removeprefix('B')}"]
                assert stored.fields["name"] == band


def test_s2_is_uint16_at_native_resolution(pixels):
    sides = {10: 120, 20: 60, 60: 20}
    for bands in pixels.values():
        assert list(bands) == [band for modality in BIGEARTHNET.values() for band in modality.bands]
        for group in BIGEARTHNET["s2"].groups:
            for name in group.bands:
                assert bands[name].dtype == np.uint16
                assert bands[name].shape == (sides[group.gsd_m],) * 2


def test_every_pair_has_pixels_of_its_own(pixels):
    assert len({bands["B02"].tobytes() + bands["VV"].tobytes() for bands in pixels.values()}) == 60


def test_reading_leaves_no_file_in_raw(sample_downloads: Path, tmp_path: Path):
    def files() -> dict[Path, int]:
        return {file: file.stat().st_mtime_ns for file in raw.rglob("*")}

    raw = tmp_path / "raw"
    SOURCE.fetch(sample_downloads, raw)
    before = files()
    for pair in SOURCE.pairs(raw):
        SOURCE.read(raw, pair)
    assert files() == before


def test_raw_holds_only_what_is_read(sample_raw: Path):
    assert sorted(folder.name for folder in sample_raw.iterdir()) == [
        "v1_geotiff",
        "v1_lmdb",
        "v1_tables",
        "v2_lmdb",
        "v2_tables",
    ]
    assert not [file for file in sample_raw.rglob("*") if file.name == "lock.mdb" or file.suffix in (".py", ".bz")]


@pytest.mark.parametrize("interruption", [KeyboardInterrupt, OSError(28, "No space left on device")])
def test_an_interrupted_fetch_leaves_the_old_folder(sample_downloads: Path, tmp_path: Path, monkeypatch, interruption):
    raw = tmp_path / "raw"
    raw.mkdir()
    (raw / "old").write_text("kept")

    def interrupt(*args, **options):
        raise interruption

    monkeypatch.setattr("fusmae.sources.sample.source.tarfile.open", interrupt)
    with pytest.raises((KeyboardInterrupt, StorageError)):
        SOURCE.fetch(sample_downloads, raw)
    assert [path.name for path in tmp_path.iterdir()] == ["raw"]
    assert (raw / "old").read_text() == "kept"


def test_fetching_again_replaces_a_damaged_folder(sample_downloads: Path, tmp_path: Path):
    raw = tmp_path / "raw"
    SOURCE.fetch(sample_downloads, raw)
    (raw / "v2_lmdb" / "data.mdb").unlink()
    (raw / "stray").write_text("gone")
    SOURCE.fetch(sample_downloads, raw)
    assert (raw / "v2_lmdb" / "data.mdb").exists()
    assert not (raw / "stray").exists()


def test_absent_raw_data_say_what_to_run(tmp_path: Path):
    with pytest.raises(SourceError, match="dvc repro -f -s fetch"):
        SOURCE.pairs(tmp_path / "raw")


@pytest.mark.parametrize("side", ["s1", "s2"])
def test_an_lmdb_pair_with_one_side_only_is_refused(sample_raw: Path, by_key, side):
    whole = next(pair for pair in by_key.values() if store(pair) == "v2_lmdb")
    pair = replace(whole, files={**whole.files, side: "v2_lmdb:absent"})
    with pytest.raises(PairError, match=f"lacks a side: {side}"):
        SOURCE.read(sample_raw, pair)


def test_a_geotiff_patch_without_its_other_side_is_named(sample_raw: Path, tmp_path: Path):
    raw = Path(shutil.copytree(sample_raw, tmp_path / "raw"))
    shutil.rmtree(next(raw.glob("v1_geotiff/*S1*/*_4_55")))
    with pytest.raises(PairError, match="S2A_MSIL2A_20170617T113321_4_55"):
        SOURCE.pairs(raw)


def test_a_missing_table_is_named(sample_raw: Path, tmp_path: Path):
    raw = Path(shutil.copytree(sample_raw, tmp_path / "raw"))
    for table in ("v1_tables/val.csv.bz2", "v2_tables/metadata.parquet"):
        (raw / table).rename(raw / "away")
        with pytest.raises(SourceError, match=table):
            SOURCE.pairs(raw)
        (raw / "away").rename(raw / table)
