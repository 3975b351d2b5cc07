"""dvc.yaml lists what each stage really reads: rooms of code closed under import, and the parameters it is given."""

import ast
from pathlib import Path, PurePosixPath
from typing import get_args

import grimp
import pytest
import yaml

from fusmae.config.source import SourceConfig

ROOT = Path(__file__).parents[1]
# Of stages that run for each of several items, what they do.
STAGES = {
    name: stage.get("do", stage)
    for name, stage in yaml.safe_load((ROOT / "dvc.yaml").read_text(encoding="utf-8"))["stages"].items()
}
SOURCES = [get_args(kind.model_fields["name"].annotation)[0] for kind in get_args(get_args(SourceConfig)[0])]
# What no stage depends on, for it can't change a number.
CHANGES_NO_NUMBER = {
    "fusmae/cli": "hands parameters and paths over",
    "fusmae/config": "checks values, which DVC compares itself",
    "fusmae/doctor": "asks, and makes nothing",
    "fusmae/errors.py": "ends a stage without a result",
    "fusmae/files.py": "writes bytes that it is given",
    "fusmae/release/registry/model_file.py": "brings files whose checksums are known",
    "fusmae/release/registry/versions.py": "asks the registry which version a name means",
    "fusmae/release/start.py": "copies weights whose checksum is known: newer code must not look up an alias again",
    "fusmae/reports": "draws numbers that others made",
    "fusmae/runs": "keeps track of a process",
    "fusmae/sources/__init__.py": "opens the source that a parameter names",
    "fusmae/sources/transfer": "brings bytes whose checksums are known",
    "fusmae/training/checkpoint_card.py": "checks files, and refuses them or not",
}
# How a run uses the machine; no result depends on it.
NO_RESULT_DEPENDS_ON = {"runtime"}


def module_of(stage):
    return stage.replace("-", "_")


def is_within(path, rooms):
    return any(PurePosixPath(path).is_relative_to(room) for room in rooms)


@pytest.fixture(scope="module")
def graph():
    return grimp.build_graph("fusmae", cache_dir=None)


def file_of(module):
    path = ROOT / (module.replace(".", "/") + ".py")
    return path if path.exists() else path.with_suffix("") / "__init__.py"


def imported_files(graph, roots, source):
    """Files with code that modules import, and those of the source that a parameter names in place of every source."""
    graph = graph.__deepcopy__({})
    opens = "fusmae.sources"
    for found in graph.find_modules_directly_imported_by(opens):
        if found.endswith(".source") and not found.startswith("fusmae.sources.shared"):
            graph.remove_import(importer=opens, imported=found)
    roots = [*roots, f"fusmae.sources.{source}.source"] if source else roots
    modules = {module for root in roots for module in (root, *graph.find_upstream_modules(root))}
    return {str(path.relative_to(ROOT)) for path in map(file_of, modules) if path.stat().st_size}


def listed(stage, source):
    found = [path.replace("${data.source.name}", source) for path in STAGES[stage]["deps"]]
    return [path for path in found if path.startswith("fusmae/")]


def sources_of(stage):
    """Every source where a stage opens one."""
    return SOURCES if any("${data.source.name}" in path for path in STAGES[stage]["deps"]) else [""]


@pytest.mark.parametrize("stage", list(STAGES))
def test_code_dependencies_are_closed_under_import(stage, graph):
    for source in sources_of(stage):
        files = imported_files(graph, [f"fusmae.stages.{module_of(stage)}"], source)
        assert [
            file for file in sorted(files) if not is_within(file, [*listed(stage, source), *CHANGES_NO_NUMBER])
        ] == []


@pytest.mark.parametrize("stage", list(STAGES))
def test_no_code_is_listed_that_a_stage_does_not_import(stage, graph):
    files = set().union(
        *(imported_files(graph, [f"fusmae.stages.{module_of(stage)}"], name) for name in sources_of(stage))
    )
    rooms = {path for name in sources_of(stage) for path in listed(stage, name)}
    assert [room for room in sorted(rooms) if not any(is_within(file, [room]) for file in files)] == []


def test_every_source_has_a_room_of_its_name():
    assert [name for name in SOURCES if not (ROOT / "fusmae" / "sources" / name / "source.py").is_file()] == []


def test_what_changes_no_number_is_there():
    assert [path for path in CHANGES_NO_NUMBER if not (ROOT / path).exists()] == []


@pytest.mark.parametrize("file", ["config/gate.py", "reports/page.py", "serving/app.py", "sources/sen12ms/source.py"])
def test_neither_shards_nor_pretraining_depend_on_thresholds_pages_the_service_or_another_source(file):
    for stage in ("fetch", "index", "shard", "pretrain"):
        assert not is_within(f"fusmae/{file}", listed(stage, "sample"))


def test_people_can_read_the_file():
    assert len((ROOT / "dvc.yaml").read_text(encoding="utf-8").splitlines()) <= 300


def given(stage, file="stages.py"):
    """Sections of the parameters that the command line hands to a stage, as `config.a.b`, or `own.a.b` of a variant."""
    # What every training is given stands beside the pipeline's stages, for those of a study as well.
    texts = [
        (ROOT / "fusmae" / "cli" / name).read_text(encoding="utf-8") for name in dict.fromkeys(("stages.py", file))
    ]
    nodes = [node for text in texts for node in ast.parse(text).body]
    functions = {node.name: node for node in nodes if isinstance(node, ast.FunctionDef)}
    command, found = functions[module_of(stage)], set()
    helpers = [
        functions[node.id]
        for node in ast.walk(command)
        if getattr(node, "id", "") in functions.keys() - set(map(module_of, STAGES))
    ]
    for node in (node for function in (command, *helpers) for node in ast.walk(function)):
        names, inner = [], node
        while isinstance(inner, ast.Attribute):
            names.append(inner.attr)
            inner = inner.value
        if isinstance(inner, ast.Name) and inner.id in ("config", "own") and names:
            found.add(names[-1])
    return found


@pytest.mark.parametrize("stage", list(STAGES))
def test_every_section_that_a_stage_is_given_is_listed(stage):
    (name, choices), *_ = STAGES[stage].get("matrix", {"": [""]}).items()
    keys = [key.replace(f"${{item.{name}}}", one) for key in STAGES[stage].get("params", []) for one in choices]
    sections = {key.split(".")[0] for key in keys}
    assert given(stage) - NO_RESULT_DEPENDS_ON == sections


@pytest.mark.parametrize("stage", list(STAGES))
def test_a_stage_is_given_sections_and_never_all_parameters(stage):
    assert "fusmae.config.params" not in (ROOT / "fusmae" / "stages" / f"{module_of(stage)}.py").read_text(
        encoding="utf-8"
    )


def test_every_stage_has_a_module_and_a_command():
    modules = {path.stem for path in (ROOT / "fusmae" / "stages").glob("*.py")} - {"__init__"}
    # Those of a study are in study/dvc.yaml.
    assert {name for name in modules if not name.startswith("study_")} == set(map(module_of, STAGES))
    for name, stage in STAGES.items():
        # These two can be started as several processes.
        run = "train" if name in ("pretrain", "finetune") else "run"
        assert stage["cmd"].startswith(f"${{{run}}} {name} ")


def test_no_stage_depends_on_a_run_file():
    for stage in STAGES.values():
        assert not any("reports/runs" in dependency for dependency in stage["deps"])


def test_stages_are_short():
    for name in STAGES:
        assert (
            len((ROOT / "fusmae" / "stages" / f"{module_of(name)}.py").read_text(encoding="utf-8").splitlines()) <= 80
        )


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
