"""`make test` and `make test-all` leave no test out, run none twice, and say why a test is of the second tier."""

import json
import re
import subprocess
import sys
import tomllib

import pytest

from tests.tiers import BY_FIXTURE, BY_PATH, ROOT, SECOND_TIER

# On one worker: collecting every test takes half a minute.
pytestmark = pytest.mark.xdist_group("tiers")

# Collects what an expression of markers chooses and what it leaves out; prints both with markers and their reasons.
COLLECT = """
import json, sys
import pytest

def plain(items):
    return {item.nodeid: [(mark.name, mark.kwargs.get("reason")) for mark in item.iter_markers()] for item in items}

class Recorder:
    left_out = ()

    def pytest_deselected(self, items):
        self.left_out = items

    def pytest_collection_finish(self, session):
        with open(sys.argv[2], "w") as file:
            json.dump([plain(session.items), plain(self.left_out)], file)

options = ["--collect-only", "-qq", "-n0", "-p", "no:cacheprovider", "-m", sys.argv[1]]
sys.exit(pytest.main(options, plugins=[Recorder()]))
"""


def runs_of(target: str) -> list[str]:
    """What `make` runs pytest with, in order: one expression of markers per run."""
    printed = subprocess.run(["make", "-n", target], cwd=ROOT, capture_output=True, text=True, check=True).stdout
    return re.findall(r"/pytest -n 2 --dist loadgroup --durations=20 -m \"(.*)\"$", printed, re.MULTILINE)


def is_below(name: str, path: str) -> bool:
    """Whether a test is of a folder, a file or a function of tests/tiers.py."""
    return name == path or name.startswith((f"{path}/", f"{path}::", f"{path}["))


@pytest.fixture(scope="module")
def tiers(tmp_path_factory):
    """Tests that the expression of `make test` chooses, and those that it leaves out, with their markers."""
    out = tmp_path_factory.mktemp("tiers") / "collected.json"
    command = [sys.executable, "-c", COLLECT, *runs_of("test"), out]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout[-3000:] + done.stderr[-3000:]
    return json.loads(out.read_text(encoding="utf-8"))


def test_test_all_runs_the_first_tier_as_test_does_and_then_all_that_it_left_out():
    first, second = runs_of("test-all")
    assert [first] == runs_of("test")
    assert first == f"not ({second})"
    assert second.split(" or ") == list(SECOND_TIER)


def test_ci_runs_both_tiers():
    assert (ROOT / ".ci" / "run").read_text(encoding="utf-8").splitlines()[-1] == "make test-all"


def test_each_test_is_of_one_tier_the_second_by_its_markers(tiers):
    first, second = tiers
    assert first.keys() & second.keys() == set()
    assert {name for name, markers in (first | second).items() if dict(markers).keys() & SECOND_TIER} == set(second)
    # Most are of the first.
    assert len(first) > len(second) > 0


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
    used = {(marker, reason) for markers in tiers[1].values() for marker, reason in markers}
    for reasons in (*BY_PATH.values(), *BY_FIXTURE.values()):
        assert reasons
        assert all(reasons.values())
        assert reasons.keys() <= SECOND_TIER.keys()
        assert set(reasons.items()) <= used


def test_pyproject_registers_the_markers_in_the_same_words():
    options = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["tool"]["pytest"]["ini_options"]
    assert options["markers"] == [f"{name}: {what}" for name, what in SECOND_TIER.items()]
