import csv
import json
import re
from dataclasses import replace
from html.parser import HTMLParser

import numpy as np
import pytest
from sklearn.metrics import average_precision_score

from fusmae.errors import StudyError
from fusmae.reports.study import write_report
from fusmae.study.curves import confusions, micro_curves
from fusmae.study.results import Cell, Found, Row, read_cell, write_cell
from fusmae.study.summary import summarise

ABOUT = {"data": "made-up tiles <of nothing>"}


class _Addresses(HTMLParser):
    def __init__(self):
        super().__init__()
        self.found, self.ids = [], []

    def handle_starttag(self, tag, attributes):
        self.found += [value for name, value in attributes if name in ("src", "href", "xlink:href", "data", "action")]
        self.ids += [value for name, value in attributes if name == "id"]


def _read(path):
    with path.open(encoding="utf-8") as file:
        return list(csv.DictReader(file))


@pytest.fixture(scope="module")
def report(cells, tmp_path_factory):
    folder = tmp_path_factory.mktemp("study") / "report"
    write_report(cells, folder, "A <study>", ABOUT, "fusmae")
    return folder


def test_page_asks_for_nothing_outside_itself(report):
    html = (report / "report.html").read_text(encoding="utf-8")
    addresses = _Addresses()
    addresses.feed(html)
    assert addresses.found
    assert [address for address in addresses.found if not address.startswith(("#", "data:image/", "geo:"))] == []
    assert not re.search(r"https?://|@import|url\((?!#)", html)


def test_links_inside_the_page_lead_somewhere(report):
    addresses = _Addresses()
    addresses.feed((report / "report.html").read_text(encoding="utf-8"))
    inside = {address[1:] for address in addresses.found if address.startswith("#")}
    assert inside <= set(addresses.ids)
    assert {"verdict", "origin", "cell-random-0"} <= inside


def test_names_are_escaped(report):
    html = (report / "report.html").read_text(encoding="utf-8")
    assert "A &lt;study&gt;" in html
    assert "town &amp; &lt;industry&gt;" in html
    assert "<industry>" not in html
    assert "<of nothing>" not in html


def test_warning_of_made_up_data_stands_above_all_numbers(report, cells):
    html = (report / "report.html").read_text(encoding="utf-8")
    warning = cells[0].cell.origin["warning"]
    assert html.index(f'<p class="synthetic">{warning}') < html.index('id="verdict"')
    assert (report / "table.md").read_text(encoding="utf-8").startswith(f"**{warning}**")
    assert json.loads((report / "summary.json").read_text(encoding="utf-8"))["warning"] == warning


def test_no_warning_no_banner(cells, tmp_path):
    real = [replace(found, cell=replace(found.cell, origin={**found.cell.origin, "warning": ""})) for found in cells]
    write_report(real, tmp_path / "out", "A study", {}, "fusmae")
    assert '<p class="synthetic">' not in (tmp_path / "out" / "report.html").read_text(encoding="utf-8")


def test_summary_holds_every_headline_with_its_interval(report, cells):
    summary = json.loads((report / "summary.json").read_text(encoding="utf-8"))
    study = summarise(cells, "fusmae")
    for variant in study.variants:
        for use in study.uses:
            line = study.line(variant, use)
            found = summary["scores"][variant][use[0]][f"{100 * use[1]:g} %"]
            assert (found["score"], found["low"], found["high"]) == (line.headline.mean, line.low, line.high)
    assert set(summary["verdict"]) == {"random_init", "from_scratch", "better_single", "joint_tokens"}


def test_plots_hold_what_the_page_draws(report, cells):
    efficiency = _read(report / "plots" / "label_efficiency.csv")
    assert list(efficiency[0]) == ["variant", "protocol", "share", "score", "low", "high"]
    assert len(efficiency) == 5 * 7
    assert all(float(row["low"]) < float(row["high"]) for row in efficiency)
    training = _read(report / "plots" / "training.csv")
    assert len(training) == sum(len(points) for found in cells for points in found.cell.history.values())
    assert {row["class"] for row in _read(report / "plots" / "per_class.csv")} == set(cells[0].cell.classes)
    scores = _read(report / "plots" / "scores.csv")
    assert len(scores) == sum(len(found.cell.rows) * 4 for found in cells if found.cell.seed == 0)


def test_table_holds_every_row(report, cells):
    rows = [line for line in (report / "table.md").read_text(encoding="utf-8").splitlines() if line.endswith("| 2 |")]
    assert len(rows) == sum(len(found.cell.rows) for found in cells if found.cell.seed == 0)


def test_refused_cells_leave_the_last_report_as_it_was(report, cells):
    before = (report / "report.html").read_bytes()
    spoiled = replace(cells[0], cell=replace(cells[0].cell, classes=["water"]))
    with pytest.raises(StudyError):
        write_report([spoiled, *cells[1:]], report, "Another", {}, "fusmae")
    assert (report / "report.html").read_bytes() == before


def test_picture_that_cannot_be_read_leaves_nothing_behind(cells, tmp_path):
    (tmp_path / cells[0].pictures[0].file).write_bytes(b"no picture")
    with pytest.raises(StudyError, match="can't be read"):
        write_report([replace(cells[0], folder=tmp_path)], tmp_path / "out", "A study", {}, "fusmae")
    assert not (tmp_path / "out").exists()


def test_reference_alone_makes_a_report(cells, tmp_path):
    alone = [replace(cells[0], predictions={}, pictures=[])]
    write_report(alone, tmp_path / "out", "A study", {}, "fusmae")
    html = (tmp_path / "out" / "report.html").read_text(encoding="utf-8")
    assert "no variant that fusmae could be asked to beat" in html
    assert "One seed only of fusmae" in html


def test_same_cells_make_the_same_bytes(report, cells, tmp_path):
    write_report(cells, tmp_path / "again", "A <study>", ABOUT, "fusmae")
    for path in (path for path in report.rglob("*") if path.is_file()):
        assert path.read_bytes() == (tmp_path / "again" / path.relative_to(report)).read_bytes(), path


def test_thinned_curve_keeps_the_area_under_the_whole_one(cells):
    curve = next(curve for curve in micro_curves(summarise(cells, "fusmae")) if curve.use == ("probe", 1.0))
    found = next(found for found in cells if found.cell.variant == curve.variant)
    whole = average_precision_score(found.labels.ravel(), found.predictions["probe/1/s1+s2"].ravel())
    assert len(curve.recall) <= 100
    assert (np.diff(curve.recall) > 0).all()
    assert np.trapezoid(curve.precision, curve.recall) == pytest.approx(whole, abs=0.02)


def test_labels_side_by_side_are_counted_class_by_class_over_seeds(cells):
    counted = {found.use: found for found in confusions(summarise(cells, "fusmae"))}[("probe", 1.0)]
    labels = cells[0].labels.astype(bool)
    right = sum((labels & (found.predictions["probe/1/s1+s2"] >= 0.5)).sum(axis=0) for found in cells[:2])
    np.testing.assert_array_equal(counted.counts[:, 1, 1], right)
    assert counted.seeds == (0, 1)


def test_confusion_of_a_cell_goes_before_counts_made_here(cells, tmp_path):
    counts = np.arange(16).reshape(4, 4)
    given = [replace(found, confusions={"probe/1/s1+s2": counts}) for found in cells]
    counted = {found.use: found for found in confusions(summarise(given, "fusmae"))}[("probe", 1.0)]
    np.testing.assert_array_equal(counted.counts, 2 * counts)
    write_report(given, tmp_path / "out", "A study", {}, "fusmae")
    assert 'class="matrix"' in (tmp_path / "out" / "report.html").read_text(encoding="utf-8")


def test_reconstruction_that_no_fill_loses_to_is_said_to_be_so(cells, tmp_path):
    html = []
    for model in (0.5, 1.7):
        errors = {"s1": {"model": model, "band mean": 1.0, "nearest": 0.6}}
        alone = [replace(cells[0], cell=replace(cells[0].cell, reconstruction=errors), predictions={})]
        write_report(alone, tmp_path / "out", "A study", {}, "fusmae")
        html.append((tmp_path / "out" / "report.html").read_text(encoding="utf-8"))
    assert "<td>below band mean and nearest</td>" in html[0]
    assert "<td>not below band mean or nearest</td>" in html[1]


def test_confusions_of_maps_have_the_maps_classes_for_names(tmp_path):
    maps = ("sea", "sand")
    row = Row("segment", 1.0, "s1+s2", "segmentation", {"miou": 0.5, "accuracy": 0.6}, {"sea": 0.5, "sand": 0.5}, [0.5])
    origin = {"run": "r", "commit": "c", "is_dirty": False, "data": "d", "device": "cpu", "warning": ""}
    cell = Cell("fusmae", 0, "about", [row], {"parameters": 1.0}, {}, {}, {}, origin, ["a", "b", "c"], maps)
    counts = {row.name: np.array([[3, 1], [2, 4]])}
    write_cell(Found(cell, np.zeros((4, 3)), {}, counts, [], tmp_path / "cell"))
    write_report([read_cell(tmp_path / "cell")], tmp_path / "report", "Maps", {}, "fusmae")
    page = (tmp_path / "report" / "report.html").read_text(encoding="utf-8")
    assert "sand" in page
    assert "sea" in page
