"""`make test` and `make test-all` leave no test out, run none twice, and say why a test is of the second tier."""

import re
import subprocess
import tomllib

import pytest

from tests.tiers import BY_FIXTURE, BY_PATH, COLLECTED, LONGEST, ROOT, SECOND_TIER


def runs_of(target: str) -> list[str]:
    """What `make` runs pytest with, in order: one expression of markers per run."""
    printed = subprocess.run(["make", "-n", target], cwd=ROOT, capture_output=True, text=True, check=True).stdout
    options = "-n [23] --dist loadgroup --no-loadscope-reorder --durations=20"
    return re.findall(rf"/pytest {options} -m \"(.*)\"$", printed, re.MULTILINE)


def is_below(name: str, path: str) -> bool:
    """Whether a test is of a folder, a file or a function of tests/tiers.py."""
    return name == path or name.startswith((f"{path}/", f"{path}::", f"{path}["))


@pytest.fixture(scope="module")
def tiers(request):
    """Tests of the first tier and of the second with their markers, of a run that found all tests."""
    if request.config.args != request.config.getini("testpaths"):
        pytest.skip("only a run of all tests, as `make test` is one, knows what it leaves out")
    first, second = {}, {}
    for item in request.config.stash[COLLECTED]:
        markers = [(mark.name, mark.kwargs.get("reason")) for mark in item.iter_markers()]
        (second if SECOND_TIER.keys() & dict(markers).keys() else first)[name_of(item)] = markers
    return first, second


def name_of(item):
    """A test's name, to which pytest-xdist appends no group."""
    return f"{item.path.relative_to(ROOT)}::{item.name}"


def test_test_all_runs_the_first_tier_as_test_does_and_then_all_that_it_left_out():
    first, second = runs_of("test-all")
    assert [first] == runs_of("test")
    assert first == f"not ({second})"
    assert second.split(" or ") == list(SECOND_TIER)


def test_ci_runs_both_tiers():
    assert (ROOT / ".ci" / "run").read_text(encoding="utf-8").splitlines()[-1] == "make test-all"


def test_a_run_of_one_tier_has_all_its_tests_and_no_other(tiers, request):
    first, second = tiers
    # Most are of the first.
    assert len(first) > len(second) > 0
    run = {name_of(item) for item in request.session.items}
    (expression,) = runs_of("test")
    assert run == set({expression: first, "": first | second}[request.config.option.markexpr])


def test_nothing_that_needs_a_pipeline_or_servers_is_of_the_first_tier(tiers):
    folders = ("tests/pipeline/", "tests/team/", "tests/operations/")
    assert [name for name in tiers[0] if name.startswith(folders)] == []
    assert [folder for folder in folders if not any(name.startswith(folder) for name in tiers[1])] == []


def test_each_test_of_the_second_tier_has_its_markers_and_reasons_from_the_table(tiers):
    known = {pair for table in (BY_PATH, BY_FIXTURE) for reasons in table.values() for pair in reasons.items()}
    for name, markers in tiers[1].items():
        found = {(marker, reason) for marker, reason in markers if marker in SECOND_TIER}
        assert found, name
        assert found <= known, f"{name} is marked elsewhere than in tests/tiers.py"


def test_each_line_of_the_table_puts_a_test_into_the_second_tier(tiers):
    assert [path for path in BY_PATH if not any(is_below(name, path) for name in tiers[1])] == []
    assert [path for path in LONGEST if not (ROOT / path).exists()] == []
    used = {(marker, reason) for markers in tiers[1].values() for marker, reason in markers}
    for reasons in (*BY_PATH.values(), *BY_FIXTURE.values()):
        assert reasons
        assert all(reasons.values())
        assert reasons.keys() <= SECOND_TIER.keys()
        assert set(reasons.items()) <= used


def test_pyproject_registers_the_markers_in_the_same_words():
    options = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["tool"]["pytest"]["ini_options"]
    assert options["markers"] == [f"{name}: {what}" for name, what in SECOND_TIER.items()]
