"""The study's page in a real browser, without a network."""

import json

import pytest
from selenium.webdriver.common.by import By
from selenium.webdriver.common.keys import Keys
from selenium.webdriver.support.ui import Select

from fusmae.reports.study import write_report
from fusmae.study.comparisons import compare
from fusmae.study.summary import summarise
from tests.browser import emulate, needs_browser, open_browser

pytestmark = needs_browser


@pytest.fixture(scope="module")
def study(cells, tmp_path_factory):
    folder = tmp_path_factory.mktemp("study") / "out"
    write_report(cells, folder, "A study", {"data": "made up"}, "fusmae")
    return summarise(cells, "fusmae"), (folder / "report.html").as_uri()


@pytest.fixture(scope="module")
def driver(tmp_path_factory):
    with open_browser(tmp_path_factory.mktemp("profile")) as browser:
        yield browser


@pytest.fixture
def page(study, driver):
    emulate(driver, "light", 1200)
    driver.get(study[1])
    return driver


def _column(page, at):
    rows = page.find_elements(By.CSS_SELECTOR, "#scores ~ .card tbody tr")
    return [float(row.find_elements(By.XPATH, "./*")[at].get_attribute("data-value")) for row in rows]


def test_page_loads_without_an_error_or_a_request(study, driver):
    driver.get_log("performance")
    driver.get(study[1])
    errors = [entry for entry in driver.get_log("browser") if entry["level"] == "SEVERE"]
    assert errors == []
    events = [json.loads(entry["message"])["message"] for entry in driver.get_log("performance")]
    sent = [event["params"] for event in events if event["method"] == "Network.requestWillBeSent"]
    # The browser's own first tab asks for its parts too.
    asked = {request["request"]["url"] for request in sent if request["documentURL"] == study[1]}
    assert {url for url in asked if not url.startswith("data:")} == {study[1]}


def test_every_picture_is_drawn_and_described(page):
    drawn = page.execute_async_script(
        """
        const done = arguments[0], images = [...document.images];
        images.forEach((image) => { image.loading = "eager"; });
        Promise.allSettled(images.map((image) => image.decode())).then(() =>
          done(images.map((image) => [image.naturalWidth, image.alt])));
        """
    )
    assert len(drawn) == 6
    assert all(width > 0 and alt for width, alt in drawn)


def test_charts_take_their_colours_from_the_page(page):
    strokes = "return [...document.querySelectorAll('.chart path')].map((path) => getComputedStyle(path).stroke)"
    light = page.execute_script(strokes)
    emulate(page, "dark", 1200)
    dark = page.execute_script(strokes)
    assert "rgb(31, 111, 196)" in light
    assert "rgb(31, 111, 196)" not in dark
    assert "rgb(108, 176, 247)" in dark


def test_head_sorts_both_ways_by_click(page):
    head = page.find_element(By.CSS_SELECTOR, "#scores ~ .card th[data-column='2']")
    before = _column(page, 2)
    head.find_element(By.TAG_NAME, "button").click()
    assert (_column(page, 2), head.get_attribute("aria-sort")) == (sorted(before), "ascending")
    head.find_element(By.TAG_NAME, "button").click()
    assert (_column(page, 2), head.get_attribute("aria-sort")) == (sorted(before, reverse=True), "descending")
    assert before not in (sorted(before), sorted(before, reverse=True))


def test_head_sorts_by_keyboard_and_only_one_is_sorted(page):
    first, second = (
        page.find_element(By.CSS_SELECTOR, f"#scores ~ .card th[data-column='{at}'] button") for at in (2, 4)
    )
    first.send_keys(Keys.ENTER)
    second.send_keys(Keys.SPACE)
    assert _column(page, 4) == sorted(_column(page, 4))
    assert len(page.find_elements(By.CSS_SELECTOR, "#scores ~ .card th[aria-sort]")) == 1


def test_missing_numbers_stand_last_whichever_way(page):
    # Random weights were not pretrained: they have no speed of it.
    heads = page.find_elements(By.CSS_SELECTOR, "#scores ~ .card th[data-column]")
    for _ in range(2):
        heads[-1].find_element(By.TAG_NAME, "button").click()
        names = [row.text for row in page.find_elements(By.CSS_SELECTOR, "#scores ~ .card tbody th a")]
        assert names[-1] == "random"


def test_page_compares_any_two_rows_as_python_does(study, page):
    lines = study[0].lines
    output = page.find_element(By.ID, "difference")
    for one, other in ((0, 60), (60, 0), (5, 90), (33, 33)):
        Select(page.find_element(By.ID, "row-a")).select_by_value(str(one))
        Select(page.find_element(By.ID, "row-b")).select_by_value(str(other))
        expected = compare(lines[one], lines[other])
        shown = [float(output.get_attribute(f"data-{name}")) for name in ("mean", "low", "high")]
        assert shown == pytest.approx([expected.difference, expected.low, expected.high], abs=1e-9)
        for value in (expected.difference, expected.low, expected.high):
            assert f"{abs(value):.4f}" in output.text


def test_comparison_says_which_way_it_goes(study, page):
    at = {line.label: str(number) for number, line in enumerate(study[0].lines)}
    output = page.find_element(By.ID, "difference")
    for one, other, words in (("fusmae", "s1-only", "A is higher"), ("s1-only", "fusmae", "A is lower")):
        for element, variant in (("row-a", one), ("row-b", other)):
            Select(page.find_element(By.ID, element)).select_by_value(at[f"{variant} · probe · 1 % · s1+s2"])
        assert words in output.text


def test_phone_scrolls_no_page_sideways_and_keeps_the_contents_in_sight(study, page):
    emulate(page, "light", 390)
    page.get(study[1])
    for folded in page.find_elements(By.TAG_NAME, "details"):
        page.execute_script("arguments[0].open = true", folded)
    assert page.execute_script("return document.documentElement.scrollWidth") <= 390
    page.execute_script("document.getElementById('origin').scrollIntoView()")
    assert page.execute_script("return document.querySelector('nav').getBoundingClientRect().top") == 0
    assert page.execute_script("return document.getElementById('origin').getBoundingClientRect().top") > 0


def test_dark_system_makes_a_dark_page(page):
    background = "return getComputedStyle(document.body).backgroundColor"
    light = page.execute_script(background)
    emulate(page, "dark", 1200)
    assert page.execute_script(background) != light


@pytest.mark.parametrize("kind", ["multiclass", "segmentation", "value", "value_map"])
def test_a_page_of_any_kind_loads_without_an_error_fits_a_phone_and_compares(measured, driver, tmp_path, kind):
    cells = measured(kind)
    write_report(cells, tmp_path / "out", "A study", {"data": "made up"}, "fusmae")
    emulate(driver, "light", 390)
    driver.get((tmp_path / "out" / "report.html").as_uri())
    assert [entry for entry in driver.get_log("browser") if entry["level"] == "SEVERE"] == []
    for folded in driver.find_elements(By.TAG_NAME, "details"):
        driver.execute_script("arguments[0].open = true", folded)
    assert driver.execute_script("return document.documentElement.scrollWidth") <= 390
    lines = summarise(cells, "fusmae").lines
    Select(driver.find_element(By.ID, "row-a")).select_by_value("0")
    Select(driver.find_element(By.ID, "row-b")).select_by_value(str(len(lines) - 1))
    output = driver.find_element(By.ID, "difference")
    if lines[0].metric == lines[-1].metric:
        expected = compare(lines[0], lines[-1])
        shown = [float(output.get_attribute(f"data-{name}")) for name in ("mean", "low", "high")]
        assert shown == pytest.approx([expected.difference, expected.low, expected.high], abs=1e-9)
    charts = [chart.get_attribute("aria-label") for chart in driver.find_elements(By.CSS_SELECTOR, ".chart svg")]
    scatters = [label for label in charts if "predicted biomass (t/ha) over true biomass (t/ha)" in label]
    assert len(scatters) == {"value": 3, "value_map": 2}.get(kind, 0)
    matrices = driver.find_elements(By.CSS_SELECTOR, "table.matrix")
    assert len(matrices) == {"multiclass": 4, "segmentation": 2}.get(kind, 0)
    assert ("There are no scores of classes." in driver.page_source) == kind.startswith("value")
