"""What holds for every page, with names of classes, bands and models that are markup."""

import shutil
import subprocess
import sys
from dataclasses import replace
from html.parser import HTMLParser

import numpy as np
import pytest
from jinja2 import UndefinedError

from fusmae.config.task import Task
from fusmae.data.shard_writer import write_shards
from fusmae.examination.examine import examine_data
from fusmae.modalities import BandStatistics
from fusmae.release.promotion.gate import CLASS, GateCheck, Verdict
from fusmae.reports import drift, examination, study, verdict
from fusmae.reports.page import write_page
from fusmae.sources.shared.source import Facts
from tests.browser import emulate, needs_browser, open_browser
from tests.conftest import REPOSITORY
from tests.study.conftest import fake_study

NAME = '<b>&"'
LONG = "Land_principally_occupied_by_agriculture_with_significant_areas_of_natural_vegetation"
CLASSES = (NAME, LONG, "town", "ice")
PAGES = ("examination", "drift", "verdict", "study")


def write_examination(folder, pairs, read_pair, inputs):
    named = [
        replace(pair, labels=(CLASSES[at % 3],), lon=10.0 + at, lat=50.0, place=f"place-{at}")
        for at, pair in enumerate(pairs)
    ]

    def read(pair):
        bands = read_pair(pair)
        return {**bands, "VV": bands["VV"] * np.nan} if pair.key == "test00" else bands

    write_shards(named, read, folder / "shards", inputs=inputs, task=Task(classes=CLASSES), shard_pairs=7)
    facts = Facts(statistics={"s2": {"B02": BandStatistics(mean=1500, std=700)}})
    found = examine_data(named, Task(classes=CLASSES), facts, shards=folder / "shards", tolerated={})
    examination.write_report(folder, found, title=NAME, is_synthetic=True)
    return folder / "report.html"


def write_drift(folder, alike):
    bands = tuple(replace(band, name=NAME) if band.name == "B02" else band for band in alike.reference.bands)
    measures = tuple(replace(item, name=NAME) if item.name == "B02" else item for item in alike.drift.measures)
    facts = alike.facts | {"model": NAME, "sources": [LONG]}
    reference, measured = replace(alike.reference, bands=bands), replace(alike.drift, measures=measures)
    drift.write_drift_report(folder, replace(alike, drift=measured, reference=reference, facts=facts))
    return folder / "drift.html"


def write_verdict(folder):
    model = {"model": NAME, "scores": {"micro_ap": {"s1+s2": 0.7}, "macro_ap": {"s1+s2": 0.5}}}
    model |= {
        "class_metric": "AP",
        "per_class": dict.fromkeys(CLASSES, 0.4),
        "calibration_error": 0.1,
        "latency_ms": 9.0,
        "size_mb": 8.0,
    }
    checks = tuple(GateCheck(CLASS + name, "failed", "0.3", "0.4") for name in CLASSES)
    skipped = GateCheck("metric", "skipped", f"no champion {NAME}", "")
    facts = dict.fromkeys(("data", "test_set", "commit", "when"), "f" * 64) | {
        "thresholds": {NAME: 1},
        "num_pairs": 80,
        "num_places": 9,
    }
    found = Verdict(NAME, "", (*checks, skipped), {}, facts | {"models": [model, model]})
    verdict.write_verdict(folder, found, f"SYNTHETIC {NAME}")
    return folder / "verdict.html"


def write_study(folder):
    cells = fake_study(folder / "cells", classes=CLASSES, draws=20, pictures=1)
    counts = np.arange(16).reshape(4, 4)
    cells = [replace(found, confusions={"probe/1/s1+s2": counts}) for found in cells]
    study.write_report(cells, folder / "out", NAME, {NAME: NAME}, "fusmae")
    return folder / "out" / "report.html"


@pytest.fixture(scope="module")
def written(tmp_path_factory, alike, pairs, read_pair, inputs):
    """Every page's file, by name."""
    folders = {name: tmp_path_factory.mktemp(name) for name in PAGES}
    return {
        "examination": write_examination(folders["examination"], pairs, read_pair, inputs),
        "drift": write_drift(folders["drift"], alike),
        "verdict": write_verdict(folders["verdict"]),
        "study": write_study(folders["study"]),
    }


class Elements(HTMLParser):
    """Every element's tag and attributes."""

    def __init__(self, html):
        super().__init__()
        self.found = []
        self.feed(html)

    def handle_starttag(self, tag, attributes):
        self.found.append((tag, dict(attributes)))

    def of(self, tag):
        return [attributes for name, attributes in self.found if name == tag]


@pytest.mark.parametrize("name", PAGES)
def test_a_class_name_of_markup_is_escaped(written, name):
    html = written[name].read_text(encoding="utf-8")
    assert NAME not in html
    assert "&lt;b&gt;&amp;&#34;" in html


@pytest.mark.parametrize("name", PAGES)
def test_the_page_names_its_language_fits_a_phone_and_describes_its_pictures(written, name):
    page = Elements(written[name].read_text(encoding="utf-8"))
    assert page.of("html") == [{"lang": "en"}]
    assert {"name": "viewport", "content": "width=device-width, initial-scale=1"} in page.of("meta")
    assert len(page.of("title")) == 1
    assert all(image["alt"] for image in page.of("img"))
    assert all(chart["role"] == "img" and chart["aria-label"] for chart in page.of("svg"))
    assert len(page.of("img")) + len(page.of("svg")) > 0 or name == "verdict"


@pytest.mark.parametrize("name", PAGES)
def test_the_page_has_nothing_from_elsewhere_and_forbids_it(written, name):
    page = Elements(written[name].read_text(encoding="utf-8"))
    addresses = [value for _, attributes in page.found for key, value in attributes.items() if key in ("src", "href")]
    assert [address for address in addresses if not address.startswith(("#", "data:image/", "geo:"))] == []
    assert not page.of("link")
    assert any("default-src 'none'" in meta.get("content", "") for meta in page.of("meta"))


def test_a_template_that_names_no_fact_is_an_error(tmp_path):
    with pytest.raises(UndefinedError, match="'compared' is undefined"):
        write_page(tmp_path / "drift.html", "drift.html", title="drift")


def test_an_installed_package_has_templates_and_styles(tmp_path):
    for name in ("pyproject.toml", "README.md", "LICENSE"):
        shutil.copy(REPOSITORY / name, tmp_path)
    for room in ("reports", "release"):
        shutil.copytree(REPOSITORY / "fusmae" / room, tmp_path / "fusmae" / room)
    (tmp_path / "fusmae" / "__init__.py").touch()
    build = [
        sys.executable,
        "-c",
        "from setuptools import setup; setup()",
        "--quiet",
        "build_py",
        "--build-lib",
        "built",
    ]
    subprocess.run(build, cwd=tmp_path, check=True, capture_output=True)
    rooms = [folder for name in ("templates", "static") for folder in (REPOSITORY / "fusmae").rglob(name)]
    files = [path for folder in rooms for path in folder.iterdir()]
    assert {path.name for path in files} >= {"base.html", "style.css", "study.js", "card.md", "variants.md"}
    built = tmp_path / "built"
    assert [path for path in files if not (built / path.relative_to(REPOSITORY)).is_file()] == []


@pytest.fixture(scope="module")
def browser(tmp_path_factory):
    with open_browser(tmp_path_factory.mktemp("profile")) as opened:
        emulate(opened, "light", 400)
        yield opened


@needs_browser
@pytest.mark.parametrize("name", PAGES)
def test_a_phone_scrolls_tables_and_no_page_sideways(written, browser, name):
    browser.get(written[name].as_uri())
    browser.execute_script("document.querySelectorAll('details').forEach((folded) => { folded.open = true; })")
    assert browser.execute_script("return document.documentElement.scrollWidth") <= 400
    outside = "return [...document.querySelectorAll('table')].filter((table) => !table.closest('.card')).length"
    assert browser.execute_script(outside) == 0
