import os
import pickle
from pathlib import Path

import numpy as np
import pytest

from fusmae.errors import SourceError
from fusmae.sources.sen12ms.labels import CLASSES, classes_of, read_shares, shares_of_pixels

NAME = "ROIs1868_summer_s2_19_p30.tif"


def shares(**by_number: float) -> list[float]:
    return [by_number.get(f"igbp{number}", 0.0) for number in range(1, 18)]


@pytest.mark.parametrize(
    ("igbp", "expected"),
    [
        (1, "Forest"),
        (5, "Forest"),
        (6, "Shrubland"),
        (7, "Shrubland"),
        (8, "Savanna"),
        (9, "Savanna"),
        (10, "Grassland"),
        (11, "Wetlands"),
        (12, "Croplands"),
        (13, "Urban/Built-up"),
        (14, "Croplands"),
        (15, "Snow/Ice"),
        (16, "Barren"),
        (17, "Water"),
    ],
)
def test_each_igbp_number_has_its_class_and_not_its_neighbours(igbp, expected):
    found = shares_of_pixels(np.full((4, 4), igbp, dtype=np.uint8))
    assert found[igbp - 1] == 1.0
    assert classes_of(found, "multilabel") == classes_of(found, "multiclass") == (expected,)


def test_there_are_ten_classes():
    assert len(CLASSES) == 10
    assert CLASSES[0] == "Forest"
    assert CLASSES[-1] == "Water"


def test_a_class_needs_a_tenth_of_the_tile():
    assert classes_of(shares(igbp1=0.1, igbp17=0.9), "multilabel") == ("Forest", "Water")
    assert classes_of(shares(igbp1=0.0999, igbp17=0.9001), "multilabel") == ("Water",)


def test_shares_of_one_class_add_up_before_the_threshold():
    found = shares(igbp2=0.04, igbp4=0.07, igbp12=0.44, igbp14=0.45)
    assert classes_of(found, "multilabel") == ("Forest", "Croplands")
    assert classes_of(found, "multiclass") == ("Croplands",)


def test_both_readings_agree_with_the_authors_formula():
    random = np.random.default_rng(0)
    for lc in random.dirichlet(np.full(17, 0.3), 500):
        sums = [
            sum(lc[0:5]),
            sum(lc[5:7]),
            sum(lc[7:9]),
            lc[9],
            lc[10],
            lc[11] + lc[13],
            lc[12],
            lc[14],
            lc[15],
            lc[16],
        ]
        assert classes_of(lc.tolist(), "multilabel") == tuple(np.array(CLASSES)[np.array(sums) >= 0.1])
        assert classes_of(lc.tolist(), "multiclass") == (CLASSES[int(np.argmax(sums))],)


def test_unclassified_pixels_count_for_nothing():
    pixels = np.array([[0, 255, 18, 17], [17, 17, 1, 0]], dtype=np.uint16)
    found = shares_of_pixels(pixels)
    assert found[16] == 0.75
    assert found[0] == 0.25
    assert sum(found) == 1.0


def test_a_tile_of_unclassified_pixels_has_no_shares():
    assert shares_of_pixels(np.zeros((4, 4), dtype=np.uint8)) is None


@pytest.mark.parametrize("protocol", [3, 4])
@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_the_authors_pickle_is_read(tmp_path: Path, protocol, dtype):
    stored = {NAME: np.eye(17, dtype=dtype)[4], "other.tif": np.full(17, 1 / 17, dtype=dtype)}
    path = tmp_path / "labels.pkl"
    path.write_bytes(pickle.dumps(stored, protocol=protocol))
    found = read_shares(path)
    assert found.keys() == stored.keys()
    for name, expected in stored.items():
        assert found[name] == expected.tolist()


class Exploit:
    def __reduce__(self):
        return os.system, ("touch exploited",)


def test_a_pickle_that_runs_something_is_refused_and_runs_nothing(tmp_path: Path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    path = tmp_path / "labels.pkl"
    path.write_bytes(pickle.dumps({NAME: Exploit()}))
    with pytest.raises(SourceError, match=r"system.*\n(.*\n)*.*remove .*labels\.pkl: labels then come from"):
        read_shares(path)
    assert not (tmp_path / "exploited").exists()


@pytest.mark.parametrize(
    "value",
    [
        np.eye(17)[0].tolist(),
        np.zeros(17),
        np.full(17, np.nan),
        np.full(17, 1.0),
        np.eye(16)[0],
        np.eye(17, dtype=np.int64)[0],
        -np.eye(17)[0],
    ],
    ids=["a list", "zeros", "NaN", "sums to 17", "16 long", "whole numbers", "negative"],
)
def test_what_are_no_shares_is_refused_by_name(tmp_path: Path, value):
    path = tmp_path / "labels.pkl"
    path.write_bytes(pickle.dumps({NAME: value}))
    with pytest.raises(SourceError, match=NAME):
        read_shares(path)


@pytest.mark.parametrize("share", [0.0, 0.5, 0.99])
def test_a_truncated_pickle_is_refused(tmp_path: Path, share):
    path = tmp_path / "labels.pkl"
    data = pickle.dumps({NAME: np.eye(17)[0]})
    path.write_bytes(data[: int(len(data) * share)])
    with pytest.raises(SourceError, match=r"labels\.pkl is refused"):
        read_shares(path)


def test_a_pickle_of_something_else_is_refused(tmp_path: Path):
    path = tmp_path / "labels.pkl"
    path.write_bytes(pickle.dumps([NAME]))
    with pytest.raises(SourceError, match="no shares by name"):
        read_shares(path)
