"""Two tiers of tests: `make test` runs the first, `make test-all` both; what puts a test in the second stands here.

`tests/conftest.py` gives each test the markers that this table names. A test without one is of the first tier.
"""

from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
COLLECTED = pytest.StashKey[list[pytest.Item]]()
"""Key of `config.stash`: all tests that a run found, before `-m` left some out."""

SECOND_TIER = {
    "pipeline": "runs the pipeline or a study in a copy of this checkout",
    "servers": "starts a server of MLflow, Prefect, PostgreSQL or STAC as a process",
    "browser": "opens a page in Chromium",
    "installs": "installs packages from the package index",
    "slow": "takes about half a minute or more of one core",
}
"""Markers, each with what its tests need."""

BY_PATH: dict[str, dict[str, str]] = {
    "tests/pipeline": {
        "pipeline": "each file runs all stages or some, as README says, as flows, killed, or as a study"
    },
    "tests/team": {
        "pipeline": "workers run flows in a checkout of their own",
        "servers": "MLflow's and Prefect's servers on PostgreSQL",
    },
    "tests/operations": {"servers": "compose.yaml's services as processes, and the files that they are made of"},
    "tests/study/test_report_browser.py": {"browser": "charts, sorting and comparisons are the page's own code"},
    "tests/cli/test_new_modality.py": {"pipeline": "runs all stages, in its own process"},
    "tests/cli/test_serve_lock.py": {"installs": "an environment that has nothing but requirements-serve.lock"},
    "tests/examination/test_examine.py::test_the_whole_table_of_bigearthnet_is_examined_in_bounded_memory": {
        "slow": "reads and examines the table of half a million pairs, in a process of its own"
    },
    "tests/inference/map/test_predict.py::test_memory_of_a_map_at_ten_metres_does_not_grow_with_the_scene": {
        "slow": "maps ten million pixels, in a process of its own"
    },
    "tests/inference/pairs/test_cut.py::test_memory_does_not_grow_with_the_scene": {
        "slow": "cuts scenes of 640 square kilometres, in processes of their own"
    },
    "tests/release/export/test_operator_sets.py": {
        "installs": "an onnxruntime of 2024",
        "slow": "exports a graph for each of four operator sets",
    },
    "tests/sources/bigearthnet/test_official_tables.py": {
        "slow": "reads the table of half a million pairs, in a process of its own, too"
    },
    "tests/study/measure/test_cell.py": {
        "slow": "pretrains several variants of a study and measures each in every way"
    },
    "tests/training/test_distributed.py": {"slow": "torchrun trains in two processes by DDP and FSDP, and is killed"},
}
"""Reasons by marker, of the tests of a folder, a file or one function."""

BY_FIXTURE: dict[str, dict[str, str]] = {
    "new_workspace": {"pipeline": "makes a copy of this checkout to run commands in"},
    "browser": {"browser": "what a screen shows, only a browser can tell"},
    "postgres": {"servers": "PostgreSQL"},
    "tracking": {"servers": "MLflow's tracking server"},
    "scoring": {"servers": "MLflow's scoring server"},
    "stac_api": {"servers": "a STAC API to search in"},
}
"""Reasons by marker, of the tests that use a fixture, wherever they are."""


def second_tier_reasons(item: pytest.Item) -> dict[str, str]:
    """What puts a test in the second tier, by marker; empty for a test of the first.

    Args:
        item: a collected test.
    """
    path = item.path.relative_to(ROOT)
    names = [str(part) for part in (path, *path.parents)] + [f"{path}::{getattr(item, 'originalname', item.name)}"]
    fixtures = getattr(item, "fixturenames", ())
    found: dict[str, str] = {}
    for table, keys in ((BY_PATH, names), (BY_FIXTURE, fixtures)):
        for key in keys:
            found |= table.get(key, {})
    return found


LONGEST = (
    "tests/pipeline/test_pipeline.py",
    "tests/pipeline/test_flows.py",
    "tests/team",
    "tests/pipeline/test_reproduce.py",
    "tests/pipeline/test_study.py",
    # Copies of the workspace that test_pipeline.py has made by then.
    "tests/pipeline/test_readme.py",
    "tests/pipeline",
    "tests/operations",
    "tests/training/test_distributed.py",
    "tests/study/measure/test_cell.py",
    "tests/release/export/test_operator_sets.py",
    "tests/cli/test_serve_lock.py",
    "tests/release/promotion/test_champion.py",
    "tests/sources/bigearthnet/test_official_tables.py",
)
"""Files and folders whose tests begin before all others, in this order: the run ends when its last long one does."""


def place_in_run(item: pytest.Item) -> int:
    """How early a test begins: the smaller, the earlier.

    Args:
        item: a collected test.
    """
    path = item.path.relative_to(ROOT)
    names = [str(part) for part in (path, *path.parents)]
    return next((LONGEST.index(name) for name in names if name in LONGEST), len(LONGEST))
