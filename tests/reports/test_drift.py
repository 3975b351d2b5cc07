"""The drift report: one page without the network, JSON that names what drifts, a verdict in words."""

import json
import re
from dataclasses import replace
from html.parser import HTMLParser

import numpy as np
import pytest

from fusmae.inference.drift.distance import MIXTURE, NOVELTY
from fusmae.inference.drift.tiles import SceneTiles
from fusmae.reports.drift import as_text, write_drift_report
from fusmae.reports.histograms import overlaid_histograms
from tests.reports.conftest import BANDS, measure

FAULT = "The s1 scene looks like linear power, not dB.\n  expected: dB\n  next:     --units s1=power"


@pytest.fixture
def drifted(alike):
    measures = (measure("VV", "s1", 1.4, limit=0.7), measure("B02", "s2", 6.0), *alike.drift.measures[2:])
    return replace(alike, drift=replace(alike.drift, measures=measures))


def written(folder, found):
    """The page and the parsed JSON; fails where JSON has what other languages don't read."""

    def refused(constant):
        raise AssertionError(f"{constant} is no JSON")

    write_drift_report(folder, found)
    text = (folder / "drift.json").read_text(encoding="utf-8")
    return (folder / "drift.html").read_text(encoding="utf-8"), json.loads(text, parse_constant=refused)


class Tags(HTMLParser):
    """Which tags are open; fails where one is closed that is not the last."""

    def __init__(self):
        super().__init__()
        self.open, self.seen = [], []

    def handle_starttag(self, tag, attributes):
        self.seen.append((tag, dict(attributes)))
        if tag not in ("meta", "br", "img"):
            self.open.append(tag)

    def handle_startendtag(self, tag, attributes):
        self.seen.append((tag, dict(attributes)))

    def handle_endtag(self, tag):
        assert self.open.pop() == tag


def test_the_page_stands_alone_and_closes_what_it_opens(tmp_path, drifted):
    html, _ = written(tmp_path, replace(drifted, unit_faults=FAULT))
    assert not re.search(r"https?://|@import|url\(", html)
    tags = Tags()
    tags.feed(html)
    assert not tags.open
    assert not {"script", "link", "img", "iframe"} & {tag for tag, _ in tags.seen}
    assert not {"src", "href"} & {name for _, attributes in tags.seen for name in attributes}
    assert sum(tag == "svg" for tag, _ in tags.seen) == len(BANDS)


def test_nothing_else_is_left_in_the_folder(tmp_path, alike):
    written(tmp_path, alike)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["drift.html", "drift.json"]


def test_json_says_of_each_measure_whether_it_is_beyond(tmp_path, drifted):
    _, found = written(tmp_path, drifted)
    assert found["verdict"] == "drift"
    is_beyond = {(item["modality"], item["name"]): item["is_beyond"] for item in found["measures"]}
    assert is_beyond == {("s1", "VV"): True, ("s2", "B02"): True, ("", MIXTURE): False, ("", NOVELTY): False}
    assert (found["measures"][0]["value"], found["measures"][0]["limit"]) == (1.4, 0.7)
    assert (found["model"], found["crs"], found["num_tiles"], found["num_embedded"]) == ("fusmae/3", "EPSG:32633", 4, 3)
    assert found["reference"]["num_validation_scenes"] == 4


def test_the_strangest_tiles_come_first_and_are_where_they_lie(tmp_path, alike):
    html, found = written(tmp_path, alike)
    assert found["strangest"] == [
        {"novelty": 1.5, "left": 400_240.0, "top": 5_300_000.0},
        {"novelty": 1.1, "left": 400_000.0, "top": 5_299_760.0},
        {"novelty": 0.8, "left": 400_000.0, "top": 5_300_000.0},
    ]
    assert '<td class="number">1.50</td><td class="number">400,240</td><td class="number">5,300,000</td>' in html


def test_at_most_ten_strangest_tiles_are_listed(tmp_path, alike):
    count = 25
    tiles = SceneTiles(
        np.repeat(alike.scene.quantiles[:1], count, axis=0),
        np.zeros((count, 2), np.float32),
        ("s1+s2",) * count,
        np.zeros((count, 2), np.int64),
    )
    drift = replace(alike.drift, num_tiles=count, num_embedded=count, novelty=np.arange(count, dtype=np.float64))
    _, found = written(tmp_path, replace(alike, scene=tiles, drift=drift))
    assert [tile["novelty"] for tile in found["strangest"]] == list(range(24, 14, -1))


def test_alike_and_drift_are_told_in_words(tmp_path, alike, drifted):
    html, _ = written(tmp_path, alike)
    assert "Nothing lies beyond its limit." in html
    assert as_text(alike).startswith("alike: fusmae/3, 4 tiles compared with 1,200 of 1,500 training tiles")
    html, _ = written(tmp_path, drifted)
    # The farthest beyond its limit first.
    assert "These scenes are unlike the training data: s2 B02, s1 VV." in html
    assert as_text(drifted).splitlines()[1:3] == ["  s2 B02: 6.00, limit 1.00", "  s1 VV: 1.40, limit 0.70"]


def test_a_fault_of_units_alone_is_drift(tmp_path, alike):
    found = replace(alike, unit_faults=FAULT)
    html, parsed = written(tmp_path, found)
    assert (found.is_drift, parsed["verdict"], parsed["unit_faults"]) == (True, "drift", FAULT)
    assert FAULT.splitlines()[0] in html
    assert as_text(found).startswith("DRIFT")
    assert as_text(found).splitlines()[1] == f"  {FAULT.splitlines()[0]}"


def test_limits_of_bands_are_told_in_their_units(tmp_path, alike):
    html, _ = written(tmp_path, alike)
    assert '<td class="number">2.5 dB</td>' in html
    assert '<td class="number">850 DN</td>' in html


@pytest.mark.parametrize(
    ("changes", "caveat"),
    [
        ({"num_pooled": 2.4}, "a draw pools 2.4 of them"),
        ({"num_tiles": 3, "num_embedded": 3}, "3 tiles the limits are wide"),
        ({"num_embedded": 2}, "judged by the tiles with s1+s2; 2 tiles have others"),
        ({"num_embedded": 3}, "judged by the tiles with s1+s2; 1 tile has others"),
        ({"false_alarms": 1 / 13}, "about 7.7% of scenes like them would be called drift"),
    ],
)
def test_what_the_numbers_can_not_tell_is_said_where_it_holds(tmp_path, alike, changes, caveat):
    whole = replace(alike, drift=replace(alike.drift, num_embedded=4))
    assert caveat not in as_text(whole)
    found = replace(whole, drift=replace(whole.drift, **changes))
    html, parsed = written(tmp_path, found)
    assert caveat in as_text(found)
    assert caveat in html
    assert any(caveat in told for told in parsed["caveats"])


def test_made_up_training_data_are_named_on_the_page(tmp_path, alike):
    facts = alike.reference.facts | {"warning": "SYNTHETIC data: made-up pixels."}
    html, parsed = written(tmp_path, replace(alike, reference=replace(alike.reference, facts=facts)))
    assert '<p class="synthetic">SYNTHETIC data: made-up pixels.</p>' in html
    assert parsed["reference"]["warning"] == "SYNTHETIC data: made-up pixels."


def test_names_are_escaped(tmp_path, alike):
    facts = alike.facts | {"model": "<b>&.onnx", "sources": ["<script>.tif"]}
    html, parsed = written(tmp_path, replace(alike, facts=facts))
    assert "<script>" not in html
    assert "&lt;b&gt;&amp;.onnx" in html
    assert parsed["model"] == "<b>&.onnx"


def test_bands_that_the_scene_lacks_have_no_picture(tmp_path, alike):
    one = replace(alike.drift, setting="s1", measures=(alike.drift.measures[0], *alike.drift.measures[2:]))
    quantiles = alike.scene.quantiles.copy()
    quantiles[:, 1] = np.nan
    html, _ = written(tmp_path, replace(alike, drift=one, scene=replace(alike.scene, quantiles=quantiles)))
    assert html.count("<svg") == 1
    assert "B02" not in html


def heights(path):
    """Of the steps of a drawn path."""
    return np.array([110 - float(y) for _, y in re.findall(r"L([\d.]+) ([\d.]+)", path)][:120:2])


def test_both_histograms_are_drawn_each_to_its_own_height():
    random = np.random.default_rng(0)
    train, scene = random.normal(-12, 3, 4000), random.normal(-8, 1, 500)
    chart = overlaid_histograms("VV", "dB", train.astype(np.float32), scene.astype(np.float32))
    assert chart.bars.endswith(" L300 110 Z")
    for drawn in (heights(chart.bars), heights(chart.outline)):
        assert len(drawn) == 60
        assert drawn.max() == pytest.approx(106, abs=0.1)


def test_the_same_pixels_are_drawn_alike_with_both_means_in_place():
    pixels = np.linspace(0, 1000, 2001, dtype=np.float32)
    chart = overlaid_histograms("B02", "DN", pixels, pixels)
    np.testing.assert_array_equal(heights(chart.bars), heights(chart.outline))
    assert [kind for kind, _ in chart.lines] == ["published", "measured"]
    assert [x for _, x in chart.lines] == pytest.approx([300 * (500 - 2) / (985 - 2)] * 2, abs=0.1)
    assert chart.high == "985 DN"


def test_a_constant_band_is_drawn():
    flat = np.full(100, 700, np.float32)
    assert "nan" not in str(overlaid_histograms("B02", "DN", flat, flat)).lower()
