from dataclasses import replace
from pathlib import Path

import pandas as pd
import pytest

from fusmae.config.task import Task
from fusmae.data.index import read_index, validate_index, write_index
from fusmae.errors import PairError, SourceError


def test_index_comes_back_as_it_was_written_in_the_order_of_keys(tmp_path: Path, pairs):
    pairs = [*pairs, replace(pairs[0], key="a", country="Finland", is_snowy=True, labels=())]
    write_index(reversed(pairs), tmp_path / "index.parquet")
    found = read_index(tmp_path / "index.parquet")
    assert found == sorted(pairs, key=lambda pair: pair.key)
    assert {type(found[0].labels), type(found[0].is_snowy)} == {tuple, bool}
    assert found[1].date.tzinfo is not None


def test_an_unknown_position_beside_known_ones_stays_unknown(tmp_path: Path, pairs):
    known = [replace(pair, lon=10.0 + number, lat=50.0) for number, pair in enumerate(pairs)]
    write_index([*known[:-1], replace(known[-1], lon=None, lat=None)], tmp_path / "index.parquet")
    found = read_index(tmp_path / "index.parquet")
    assert [(pair.lon is None, pair.lat is None) for pair in found].count((True, True)) == 1
    assert {type(pair.lon) for pair in found} == {float, type(None)}


def test_a_modality_that_a_pair_lacks_stays_absent(tmp_path: Path, pairs):
    pairs = [replace(pairs[0], files={"s1": "s1/a"}), *pairs[1:]]
    write_index(pairs, tmp_path / "index.parquet")
    assert read_index(tmp_path / "index.parquet") == sorted(pairs, key=lambda pair: pair.key)


def test_an_index_of_an_older_version_says_how_to_make_it_anew(tmp_path: Path):
    pd.DataFrame({"key": ["a"], "s1": ["s1/a.tif"], "s2": ["s2/a.tif"]}).to_parquet(tmp_path / "index.parquet")
    with pytest.raises(SourceError, match=r"older version[\s\S]*dvc repro index"):
        read_index(tmp_path / "index.parquet")


def test_equal_pairs_give_equal_bytes_whatever_their_order(tmp_path: Path, pairs):
    write_index(pairs, tmp_path / "a.parquet")
    turned = [replace(pair, files=dict(reversed(pair.files.items()))) for pair in reversed(pairs)]
    write_index(turned, tmp_path / "b.parquet")
    assert (tmp_path / "a.parquet").read_bytes() == (tmp_path / "b.parquet").read_bytes()


def test_an_absent_index_says_how_to_make_it(tmp_path: Path):
    with pytest.raises(SourceError, match="dvc repro index"):
        read_index(tmp_path / "index.parquet")


def test_a_good_index_passes(pairs, classes):
    assert validate_index(pairs, Task(classes=classes)) is None


def test_a_key_that_stands_twice_is_named(pairs, classes):
    with pytest.raises(PairError, match=r"1 of \d+ pairs stand in the index more than once.\n.*train03"):
        validate_index([*pairs, pairs[3]], Task(classes=classes))


def test_a_pair_without_files_is_named(pairs, classes):
    with pytest.raises(PairError, match=f"1 of {len(pairs)} pairs have no file(.|\n)*{pairs[3].key}"):
        validate_index([*pairs[:3], replace(pairs[3], files={}), *pairs[4:]], Task(classes=classes))


def test_a_label_outside_the_class_table_is_named(pairs, classes):
    with pytest.raises(
        PairError,
        match=r"1 of 28 pairs have labels outside the class table: \['lava'\].\n.*train00\n.*\['water'",
    ):
        validate_index([replace(pairs[0], labels=("water", "lava")), *pairs[1:]], Task(classes=classes))


def test_a_place_in_two_splits_is_named(pairs, classes):
    moved = [replace(pair, place="lake") if pair.key in {"train01", "test02"} else pair for pair in pairs]
    with pytest.raises(SourceError, match=r"1 places are in more than one split.\n  got:      lake: test and train"):
        validate_index(moved, Task(classes=classes))


def test_a_place_may_have_many_pairs_of_one_split(pairs, classes):
    assert validate_index([replace(pair, place=pair.split) for pair in pairs], Task(classes=classes)) is None


@pytest.mark.parametrize("split", ["train", "validation", "test"])
def test_an_empty_split_is_named(pairs, classes, split):
    with pytest.raises(SourceError, match=f"no pair in {split}"):
        validate_index([pair for pair in pairs if pair.split != split], Task(classes=classes))


def test_of_many_leaking_places_some_are_named(pairs, classes):
    doubled = [replace(pair, place=f"lake {number % 6}") for number, pair in enumerate(pairs)]
    with pytest.raises(SourceError, match=r"6 places are(.|\n)*lake 2: (.|\n)* …\n(.|\n)*most held-out") as raised:
        validate_index(doubled, Task(classes=classes))
    assert "lake 3" not in str(raised.value)
