import json
import re

import numpy as np
import pytest

from fusmae.data.index import SPLITS
from fusmae.errors import StorageError
from fusmae.examination.examine import summarise
from fusmae.modalities import BandStatistics
from fusmae.reports.examination import write_report
from fusmae.sources.shared.source import Facts

FACTS = Facts(statistics={"s2": {"B02": BandStatistics(mean=1500, std=700)}})
FAR = Facts(statistics={"s2": {"B02": BandStatistics(mean=500, std=700)}})


@pytest.fixture
def broken(diagnose, changed):
    """A diagnosis with a blocking, a tolerated and a warning check, and a pair left out."""

    def change(bands):
        empty = {name: np.where(np.arange(24) < 6, 0, bands[name]).astype(np.float32) for name in ("VV", "VH")}
        return {"B05": np.full_like(bands["B05"], 700)} | empty

    def read(pair):
        bands = changed(change, only=lambda pair: pair.key == "train01")(pair)
        return {**bands, "VV": bands["VV"] * np.nan} if pair.key == "test00" else bands

    return diagnose(read=read, facts=FACTS, tolerated={"constant": 1})


def _page(folder):
    return (folder / "report.html").read_text(encoding="utf-8")


def test_every_check_stands_in_the_page_with_its_reason(tmp_path, broken):
    write_report(tmp_path / "out", broken, title="tiny <data>", is_synthetic=False)
    page = _page(tmp_path / "out")
    for check in broken.checks:
        assert f'<span class="name">{check.name}</span>' in page
    assert "Training is blocked by nodata." in page
    assert "1 pair with more than 10% nodata" in page
    assert 'class="status tolerated">tolerated' in page
    assert "tiny &lt;data&gt;" in page
    assert "test00" in page


def test_a_band_far_from_what_is_published_is_shown_as_a_warning(tmp_path, diagnose):
    diagnosis = diagnose(facts=FAR)
    write_report(tmp_path / "out", diagnosis, title="tiny", is_synthetic=False)
    page = _page(tmp_path / "out")
    assert "Nothing blocks training." in page
    rows = {name: status for status, name in re.findall(r'class="status (\w+)".*?class="name">(\w+)<', page)}
    assert (rows["histograms"], rows["typical"]) == ("passed", "warns")


def test_the_page_needs_no_network(tmp_path, broken):
    write_report(tmp_path / "out", broken, title="tiny", is_synthetic=False)
    page = _page(tmp_path / "out")
    assert not re.search(r"(?:src|href)=\"(?!data:)|@import|url\(", page)


def test_every_band_is_drawn_with_what_is_published(tmp_path, broken):
    write_report(tmp_path / "out", broken, title="tiny", is_synthetic=False)
    page = _page(tmp_path / "out")
    assert page.count("<svg") == 7
    assert page.count('class="published"') == 1
    assert "published 1,500 ± 700" in page
    assert page.count("nothing published") == 6


@pytest.mark.parametrize("is_synthetic", [True, False])
def test_made_up_data_is_called_so_on_top(tmp_path, broken, is_synthetic):
    write_report(tmp_path / "out", broken, title="tiny", is_synthetic=is_synthetic)
    assert ("SYNTHETIC data: made-up pixels" in _page(tmp_path / "out")) is is_synthetic
    assert json.loads((tmp_path / "out" / "report.json").read_text())["is_synthetic"] is is_synthetic


def test_json_says_what_the_page_says(tmp_path, broken):
    write_report(tmp_path / "out", broken, title="tiny", is_synthetic=False)
    report = json.loads((tmp_path / "out" / "report.json").read_text())
    assert report["blocks"] is True
    checks = {check["name"]: check for check in report["checks"]}
    assert checks["nodata"]["status"] == "blocks"
    assert checks["nodata"]["examples"] == ["test00", "train01"]
    assert report["pairs"] == {"train": 17, "validation": 5, "test": 6}
    assert report["classes"]["ice"] == dict.fromkeys(SPLITS, 0)
    assert report["bands"]["s2"]["B02"]["reference"] == {"mean": 1500.0, "std": 700.0}
    assert report["left_out"][0]["key"] == "test00"


def test_a_dataset_without_a_usable_pair_has_a_report(tmp_path, diagnose, changed):
    diagnosis = diagnose(read=changed(lambda bands: {"VV": bands["VV"] * np.nan}))
    write_report(tmp_path / "out", diagnosis, title="tiny", is_synthetic=False)
    assert "The shards contain no pair." in _page(tmp_path / "out")
    assert "28 pairs left out: Pair train00, band VV: 576 of 576 pixels are NaN or infinite" in summarise(
        diagnosis.checks
    )


def test_a_full_disk_is_said_and_leaves_no_half_report(small_disk, broken):
    (small_disk / "ballast").write_bytes(b"0" * 1_030_000)
    with pytest.raises(StorageError, match="disk is full"):
        write_report(small_disk / "out", broken, title="tiny", is_synthetic=False)
    assert not list(small_disk.rglob("report.html"))
