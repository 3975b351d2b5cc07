"""dvc.yaml lists what each stage really reads: code closed under import, and the parameters that the code names."""

import ast
from pathlib import Path

import grimp
import pytest
import yaml

ROOT = Path(__file__).parents[1]
STAGES = yaml.safe_load((ROOT / "dvc.yaml").read_text(encoding="utf-8"))["stages"]
# How a run uses the machine; no result depends on it.
NO_RESULT_DEPENDS_ON = {"runtime"}


@pytest.fixture(scope="module")
def graph():
    return grimp.build_graph("fusmae", cache_dir=None)


def file_of(module):
    path = ROOT / (module.replace(".", "/") + ".py")
    return path if path.exists() else path.with_suffix("") / "__init__.py"


@pytest.mark.parametrize("stage", list(STAGES))
def test_code_dependencies_are_closed_under_import(stage, graph):
    root = f"fusmae.stages.{stage}"
    imported = {file_of(module) for module in {root, *graph.find_upstream_modules(root)}}
    expected = {str(path.relative_to(ROOT)) for path in imported if path.stat().st_size}
    listed = {path for path in STAGES[stage]["deps"] if path.startswith("fusmae/")}
    assert listed == expected


def config_reads(stage):
    """`config.a.b` in a stage's source, as "a.b" (or "a" where the whole section is taken)."""
    tree = ast.parse((ROOT / "fusmae" / "stages" / f"{stage}.py").read_text(encoding="utf-8"))
    reads = set()
    for node in ast.walk(tree):
        names = []
        inner = node
        while isinstance(inner, ast.Attribute):
            names.append(inner.attr)
            inner = inner.value
        if isinstance(inner, ast.Name) and inner.id == "config" and names:
            reads.add(names[-1])
    return reads


@pytest.mark.parametrize("stage", list(STAGES))
def test_every_section_that_a_stage_reads_is_listed(stage):
    listed = {key.split(".")[0] for key in STAGES[stage].get("params", [])}
    assert config_reads(stage) - NO_RESULT_DEPENDS_ON == listed


def test_every_stage_has_a_module_and_a_command():
    modules = {path.stem for path in (ROOT / "fusmae" / "stages").glob("*.py")} - {"__init__"}
    # Those of a study are in study/dvc.yaml.
    assert {name for name in modules if not name.startswith("study_")} == set(STAGES)
    for name, stage in STAGES.items():
        # These two can be started as several processes.
        run = "train" if name in ("pretrain", "finetune") else "run"
        assert stage["cmd"].startswith(f"${{{run}}} {name} ")


def test_no_stage_depends_on_a_run_file():
    for stage in STAGES.values():
        assert not any("reports/runs" in dependency for dependency in stage["deps"])


def test_stages_are_short():
    for name in STAGES:
        assert len((ROOT / "fusmae" / "stages" / f"{name}.py").read_text(encoding="utf-8").splitlines()) <= 60


def test_the_lock_names_no_index_and_pins_every_package_by_hash():
    lock = (ROOT / "requirements.lock").read_text(encoding="utf-8")
    assert "http://" not in lock
    assert "https://" not in lock
    assert "--index" not in lock
    entries = [line for line in lock.splitlines() if line[:1].isalnum()]
    assert entries
    assert all(line.endswith("\\") for line in entries)


def test_the_lock_holds_the_pins_that_are_known_to_work():
    lock = (ROOT / "requirements.lock").read_text(encoding="utf-8")
    pins = dict(line.split(" ")[0].split("==") for line in lock.splitlines() if "==" in line and line[:1].isalpha())
    assert tuple(map(int, pins["fastapi"].split("."))) < (0, 155)
    assert (pins["torch"], pins["torchvision"], pins["mlflow"]) == ("2.14.1", "0.29.1", "3.17.2")
    assert (pins["prefect"], pins["dvc"]) == ("3.9.1", "3.67.1")
