from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from fusmae.evaluation.figures import displayed, save_images, save_precision_recall
from fusmae.units import UNITS


def read_png(path: Path) -> np.ndarray:
    with Image.open(path) as image:
        image.load()
        assert image.format == "PNG"
        return np.asarray(image.convert("RGB")).astype(int)


def near(picture: np.ndarray, colour: tuple[int, int, int]) -> int:
    """How many pixels have about this colour."""
    return int((np.abs(picture - np.array(colour)).max(-1) <= 3).sum())


def test_natural_colour_takes_red_green_and_blue_by_name_whatever_the_order():
    bands = {name: np.full((4, 4), value) for name, value in
             {"B08": 9.0, "B02": 300.0, "B05": 8.0, "B04": 1500.0, "B03": 600.0, "VV": -5.0}.items()}  # fmt: skip
    for order in (list(bands), sorted(bands), sorted(bands, reverse=True)):
        shown = displayed({name: bands[name] for name in order}, UNITS["DN"])
        assert shown.shape == (4, 4, 3)
        assert shown.dtype == np.float32
        np.testing.assert_allclose(shown[0, 0], [0.5, 0.2, 0.1])


def test_s1_is_shown_as_vv_in_decibel():
    shown = displayed({"VH": np.full((2, 2), -1.0), "VV": np.array([[-25.0, 0.0], [-12.5, -30.0]])}, UNITS["dB"])
    np.testing.assert_allclose(shown, [[0, 1], [0.5, 0]])


def test_another_modality_is_shown_as_its_first_band():
    shown = displayed({"B08": np.array([[1500.0]]), "B05": np.array([[0.0]])}, UNITS["DN"])
    np.testing.assert_allclose(shown, [[0.5]])


def test_values_beyond_the_range_are_cut():
    bands = {"B04": np.array([[9000.0, -5.0]]), "B03": np.zeros((1, 2)), "B02": np.zeros((1, 2))}
    np.testing.assert_allclose(displayed(bands, UNITS["DN"])[0, :, 0], [1, 0])


def test_reconstruction_is_a_readable_picture_with_the_images_in_it(tmp_path: Path):
    red, green, blue = (np.broadcast_to(np.eye(3, dtype=np.float32)[at], (8, 8, 3)) for at in range(3))
    grey = np.full((8, 8), 0.5, np.float32)
    images = {"s1 (dB)": (grey, grey, grey), "s2 (DN)": (red, green, blue)}
    rows = {label: dict(zip(("true", "masked", "predicted"), row, strict=True)) for label, row in images.items()}
    save_images(tmp_path / "deep" / "a.png", "a title", rows, "a note", (9, 6.7), 10)
    picture = read_png(tmp_path / "deep" / "a.png")
    counts = [near(picture, colour) for colour in ((255, 0, 0), (0, 255, 0), (0, 0, 255))]
    assert min(counts) > 5_000
    assert max(counts) < 1.1 * min(counts)
    assert near(picture, (127, 127, 127)) > 2.5 * min(counts)
    columns = [np.flatnonzero((np.abs(picture - colour).max(-1) <= 3).any(0)) for colour in
               ((255, 0, 0), (0, 255, 0), (0, 0, 255))]  # fmt: skip
    assert columns[0].max() < columns[1].min() < columns[1].max() < columns[2].min()
    assert [path.name for path in (tmp_path / "deep").iterdir()] == ["a.png"]


def test_grey_images_are_not_stretched(tmp_path: Path):
    """A nearly black tile stays nearly black: pictures can be compared."""
    dark = np.full((8, 8), 0.1, np.float32)
    dark[0, 0] = 0.12
    save_images(tmp_path / "a.png", "t", {"s1": {"true": dark, "masked": dark}}, "", (9, 3.6), 10)
    assert near(read_png(tmp_path / "a.png"), (25, 25, 25)) > 10_000


def test_precision_recall_draws_every_curve(tmp_path: Path):
    points = [{"recall": 0.0, "precision": 1.0}, {"recall": 0.5, "precision": 0.7}, {"recall": 1.0, "precision": 0.2}]
    low = [point | {"precision": point["precision"] / 2} for point in points]
    save_precision_recall(tmp_path / "one.png", {"probe/pretrained/s1+s2": points})
    save_precision_recall(tmp_path / "two.png", {"probe/pretrained/s1+s2": points, "probe/random/s1+s2": low})
    one, two = read_png(tmp_path / "one.png"), read_png(tmp_path / "two.png")
    blue, orange = (31, 119, 180), (255, 127, 14)
    assert near(one, blue) > 200
    assert near(one, orange) == 0
    assert near(two, orange) > 100


@pytest.mark.parametrize("name", ["random", "pretrained"])
def test_random_rows_are_dashed(tmp_path: Path, name):
    points = [{"recall": 0.0, "precision": 0.5}, {"recall": 1.0, "precision": 0.5}]
    save_precision_recall(tmp_path / "a.png", {f"probe/{name}/s1": points})
    picture = read_png(tmp_path / "a.png")
    is_line = np.abs(picture - np.array((31, 119, 180))).max(-1) <= 3
    row = is_line[np.argmax(is_line.sum(1))]
    gaps = int((np.diff(row.astype(int)) == -1).sum())
    assert (gaps > 10) == (name == "random")
