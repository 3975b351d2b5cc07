import shutil
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from fusmae.errors import SourceError
from fusmae.sources.sample.source import read_values


def test_values_come_by_key_and_absent_keys_are_left_out(sample_raw: Path):
    every = read_values(sample_raw / "v2_lmdb")
    key = next(iter(every))
    assert len(every) == 48
    assert read_values(sample_raw / "v2_lmdb", [key, "absent"]) == {key: every[key]}


def test_threads_may_read_at_the_same_time(sample_raw: Path):
    keys = list(read_values(sample_raw / "v2_lmdb"))
    with ThreadPoolExecutor(8) as pool:
        found = list(pool.map(lambda key: read_values(sample_raw / "v2_lmdb", [key]), keys * 4))
    assert all(len(one) == 1 for one in found)


def test_reading_leaves_no_file(sample_raw: Path):
    read_values(sample_raw / "v1_lmdb")
    assert [file.name for file in (sample_raw / "v1_lmdb").iterdir()] == ["data.mdb"]


def test_an_absent_database_is_refused_and_not_made(tmp_path: Path):
    with pytest.raises(SourceError, match="no database"):
        read_values(tmp_path / "none")
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("share", [0.0, 0.001, 0.5, 0.9])
def test_a_database_cut_short_is_refused_before_it_is_mapped(sample_raw: Path, tmp_path: Path, share):
    file = Path(shutil.copy(sample_raw / "v2_lmdb" / "data.mdb", tmp_path))
    file.write_bytes(file.read_bytes()[: int(file.stat().st_size * share)])
    with pytest.raises(SourceError):
        read_values(tmp_path)
