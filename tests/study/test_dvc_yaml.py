"""study/dvc.yaml lists what each stage really reads: code closed under import, parameters that the code names."""

import ast
from itertools import product
from pathlib import Path

import grimp
import pytest
import yaml

from fusmae.config.study import StudyConfig
from tests.test_dvc_yaml import CHANGES_NO_NUMBER, NO_RESULT_DEPENDS_ON, SOURCES, given, imported_files, is_within

ROOT = Path(__file__).parents[2]
STAGES = yaml.safe_load((ROOT / "study" / "dvc.yaml").read_text(encoding="utf-8"))["stages"]
MODULES = {
    "data": ("fetch", "index", "shard", "examine"),
    "pretrain": ("study_pretrain",),
    "measure": ("study_measure",),
    "report": ("study_report",),
}
SEVERAL = ("pretrain", "measure")
# A stage sees another value of these in what it depends on: weights that were trained otherwise.
SEEN_IN_DEPS = {"measure": {"pretrain"}}


@pytest.fixture(scope="module")
def graph():
    return grimp.build_graph("fusmae", cache_dir=None)


def closure(graph, stage, source=""):
    """Files that have code and that the stage's modules import, from the repository's root."""
    return imported_files(graph, [f"fusmae.stages.{name}" for name in MODULES[stage]], source)


def code_of(stage, source=""):
    listed = [path.removeprefix("../") for path in STAGES[stage]["deps"] if path.startswith("../")]
    return [path.replace("${data.source.name}", source) for path in listed]


def sources_of(stage):
    return SOURCES if stage == "data" else [""]


def test_every_stage_of_a_study_is_listed():
    assert set(STAGES) == set(MODULES)
    own = {path.stem for path in (ROOT / "fusmae" / "stages").glob("study_*.py")}
    assert own == {name for names in MODULES.values() for name in names if name.startswith("study_")}


@pytest.mark.parametrize("stage", MODULES)
def test_commands_run_the_stages_modules_in_order(stage):
    commands = STAGES[stage]["cmd"]
    commands = commands if isinstance(commands, list) else [commands]
    assert [command.split()[1] for command in commands] == [name.replace("_", "-") for name in MODULES[stage]]
    assert all(command.startswith("${run} ") for command in commands)


@pytest.mark.parametrize("stage", MODULES)
def test_code_dependencies_are_closed_under_import(stage, graph):
    for source in sources_of(stage):
        rooms = [*code_of(stage, source), *CHANGES_NO_NUMBER]
        assert [file for file in sorted(closure(graph, stage, source)) if not is_within(file, rooms)] == []


@pytest.mark.parametrize("stage", MODULES)
def test_no_code_is_listed_that_a_stage_does_not_import(stage, graph):
    files = set().union(*(closure(graph, stage, source) for source in sources_of(stage)))
    rooms = {path for source in sources_of(stage) for path in code_of(stage, source)}
    assert [path for path in sorted(rooms) if not any(is_within(file, [path]) for file in files)] == []


def chain_of(node):
    """`own.model.dim` as ["own", "model", "dim"]; [] for anything else."""
    names = []
    while isinstance(node, ast.Attribute):
        names.append(node.attr)
        node = node.value
    return [node.id, *reversed(names)] if isinstance(node, ast.Name) else []


def keys_of_study(graph, stage):
    """Keys of section `study` that a stage's code reads."""
    files = [file for file in closure(graph, stage) if file.startswith(("fusmae/study/", "fusmae/stages/"))]
    keys = set()
    for file in files:
        for node in ast.walk(ast.parse((ROOT / file).read_text(encoding="utf-8"))):
            chain = chain_of(node)
            if "study" in chain[:-1]:
                keys.add(chain[chain.index("study") + 1])
    return keys & set(StudyConfig.model_fields)


@pytest.mark.parametrize("stage", ["pretrain", "measure", "report"])
def test_every_section_that_a_stage_is_given_is_listed_or_seen_in_what_it_depends_on(stage):
    listed = {key.split(".")[0] for key in STAGES[stage]["params"]}
    # The seed of a cell is in its command.
    sections = given(f"study_{stage}", "study.py") - {"seed"}
    assert sections - NO_RESULT_DEPENDS_ON - SEEN_IN_DEPS.get(stage, set()) == listed - {"study"}


@pytest.mark.parametrize("stage", ["pretrain", "measure", "report"])
def test_a_stage_is_given_sections_and_never_all_parameters(stage):
    assert "fusmae.config.params" not in (ROOT / "fusmae" / "stages" / f"study_{stage}.py").read_text(encoding="utf-8")


@pytest.mark.parametrize("stage", ["pretrain", "measure", "report"])
def test_every_key_of_the_study_that_a_stage_reads_is_listed(stage, graph):
    keys = keys_of_study(graph, stage)
    listed = {key for key in STAGES[stage]["params"] if key.split(".")[0] == "study"}
    if "study" in listed:
        return
    expected = {f"study.{key}" for key in keys - {"variants", "run", "seeds"}}
    assert listed == expected | {"study.variants.${item.variant}"}


@pytest.mark.parametrize("stage", SEVERAL)
def test_tiles_decide_what_is_trained_and_measured(stage):
    assert {"data.modalities", "data.tile_m"} <= set(STAGES[stage]["params"])


def test_all_of_the_data_section_makes_the_data():
    assert STAGES["data"]["params"] == ["data"]


@pytest.mark.parametrize("stage", SEVERAL)
def test_a_cell_is_a_variant_and_a_seed_of_those_that_are_run(stage):
    assert STAGES[stage]["matrix"] == {"variant": "${study.run}", "seed": "${study.seeds}"}
    for out in STAGES[stage]["outs"]:
        assert "${item.variant}-${item.seed}" in out
    assert "--variant ${item.variant} --seed ${item.seed}" in STAGES[stage]["cmd"]


def outs():
    """Of every item, where names begin alike."""
    found = []
    for stage in STAGES.values():
        items = product(("joint", "joint-drop"), ("1", "11")) if "matrix" in stage else [("", "")]
        for variant, seed in items:
            for out in stage["outs"]:
                found.append(out.replace("${item.variant}", variant).replace("${item.seed}", seed))
    return found


def test_no_out_is_another_or_lies_in_another():
    found = outs()
    assert len(found) == len(set(found))
    assert [(a, b) for a in found for b in found if a != b and is_within(a, [b])] == []


def test_outs_are_kept_out_of_git():
    ignored = [line.strip("/") for line in (ROOT / "study" / ".gitignore").read_text(encoding="utf-8").split()]
    assert [out for out in outs() if not is_within(out, ignored)] == []


@pytest.mark.parametrize("stage", MODULES)
def test_a_command_names_every_out_and_every_dependency_that_is_made(stage):
    commands = " ".join(STAGES[stage]["cmd"]) if stage == "data" else STAGES[stage]["cmd"]
    made = [path for path in STAGES[stage]["deps"] if not path.startswith("../")]
    for path in (*STAGES[stage]["outs"], *made):
        assert f"study/{path}" in commands


def test_no_stage_depends_on_a_run_file():
    for stage in STAGES.values():
        assert not any(dependency.startswith("runs") for dependency in stage["deps"])


def test_the_study_shares_the_cache_of_the_folder_above():
    text = (ROOT / "study" / ".dvc" / "config").read_text(encoding="utf-8")
    cache = (ROOT / "study" / ".dvc" / text.split("[cache]")[1].split("dir = ")[1].split()[0]).resolve()
    assert cache == ROOT / ".dvc" / "cache"
