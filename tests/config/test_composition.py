"""An override changes what it names and nothing else, whatever params.yaml holds; by hand and in a flow alike."""

import copy
import itertools
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
import yaml

from fusmae.config.composition import GROUPS, compose

ROOT = Path(__file__).parents[2]
CONF = ROOT / "conf"
DVC = str(Path(sys.executable).with_name("dvc"))
# What each file of these folders sets; of the others, the section of the folder's name.
SECTIONS_OF = {"schedule": {"pretrain", "probe", "finetune", "evaluate"}}
CHOICES = [(folder, path.stem) for folder in (*GROUPS, "schedule") for path in sorted((CONF / folder).glob("*.yaml"))]


def leaves(values, path=()):
    """Each value that is no mapping, by its path; an empty mapping, too."""
    if isinstance(values, dict) and values:
        return dict(itertools.chain(*(leaves(inner, (*path, name)).items() for name, inner in values.items())))
    return {path: values}


def stated_by(group, choice):
    """What a file of a group sets, and the files that it refers to."""
    stated = yaml.safe_load((CONF / group / f"{choice}.yaml").read_text(encoding="utf-8"))
    for name in stated.pop("defaults", ()):
        stated = stated_by(group, name) | stated
    return stated


def changed(path, value):
    """Another value of the same type; a string that YAML might take for something else."""
    others = {bool: not value, int: 7, float: 0.125, str: f"1e-4 {'.'.join(path)}", list: [], dict: {}}
    if isinstance(value, int) and not isinstance(value, bool):
        return value + 7
    return others.get(type(value), value)


def changed_everywhere():
    """params.yaml with another value at every key: whatever is composed anew from conf/ is noticed."""
    params = yaml.safe_load((ROOT / "params.yaml").read_text(encoding="utf-8"))
    for path, value in leaves(params).items():
        inner = params
        for name in path[:-1]:
            inner = inner[name]
        inner[path[-1]] = changed(path, value)
    params["data"]["source"] |= {"name": "folder", "classes": ["Land, with a comma", "1e-4", "null"]}
    params["gate"]["class_floors"] = {"Land, with a comma": 0.5}
    return params


PARAMS = changed_everywhere()


@pytest.fixture
def checkout(tmp_path):
    (tmp_path / "conf").symlink_to(CONF)
    (tmp_path / "params.yaml").write_text(yaml.safe_dump(PARAMS, sort_keys=False), encoding="utf-8")
    return tmp_path


def params(folder):
    return yaml.safe_load((folder / "params.yaml").read_text(encoding="utf-8"))


def test_without_an_override_nothing_changes_and_sections_keep_their_order(checkout):
    compose(checkout, [])
    assert params(checkout) == PARAMS
    assert list(params(checkout)) == list(PARAMS)


@pytest.mark.parametrize("section", PARAMS)
def test_values_of_one_section_change_that_section_at_those_keys_only(checkout, section):
    numbers = [path for path, value in leaves({section: PARAMS[section]}).items() if isinstance(value, int | float)]
    # Hydra's grammar has no other names.
    paths = [path for path in numbers if all(name.isidentifier() for name in path)]
    expected, overrides = copy.deepcopy(PARAMS), []
    for path in paths:
        inner = expected
        for name in path[:-1]:
            inner = inner[name]
        value = inner[path[-1]]
        inner[path[-1]] = (not value) if isinstance(value, bool) else value + 1
        overrides.append(f"{'.'.join(path)}={str(inner[path[-1]]).lower()}")
    compose(checkout, overrides)
    assert params(checkout) == expected


@pytest.mark.parametrize(("group", "choice"), CHOICES)
def test_a_group_replaces_its_sections_and_no_other(checkout, group, choice):
    compose(checkout, [f"{group}={choice}"])
    own, found = SECTIONS_OF.get(group, {group}), params(checkout)
    assert {name: found[name] for name in PARAMS if name not in own} == {
        name: PARAMS[name] for name in PARAMS if name not in own
    }
    stated = stated_by(group, choice)
    for name in own:
        said = stated[name] if group in SECTIONS_OF else stated
        assert {key: found[name][key] for key in said} == said
    if group == "data":  # nothing is left of the source before
        assert found["data"] == stated


def test_a_group_and_a_value_in_it_go_together_in_any_order(checkout):
    compose(checkout, ["data.source.num_pairs=200", "data=synthetic"])
    assert params(checkout)["data"]["source"] == {
        "name": "synthetic",
        "num_pairs": 200,
        "seed": 0,
        "value_per": "pixel",
    }


def test_schedules_set_every_value_of_their_sections():
    quick, mae = (yaml.safe_load((CONF / "schedule" / f"{name}.yaml").read_text()) for name in ("quick", "mae"))
    own = {name: PARAMS[name] for name in SECTIONS_OF["schedule"]}
    assert leaves(quick).keys() == leaves(mae).keys() == leaves(own).keys()


@pytest.mark.parametrize(
    ("override", "said"),
    [("pretrain.epoch=3", "pretrain.epoch"), ("model=smal", "small\n"), ("data.source.seasons=[]", "seasons")],
)
def test_what_params_yaml_does_not_know_is_named_and_nothing_is_written(checkout, override, said):
    from hydra.errors import HydraException

    with pytest.raises(HydraException, match=said):
        compose(checkout, [override])
    assert params(checkout) == PARAMS


def test_absent_parameters_are_named(checkout):
    (checkout / "params.yaml").unlink()
    with pytest.raises(Exception, match=r"There is no params\.yaml in(.|\n)*git checkout params\.yaml"):
        compose(checkout, ["seed=1"])


@pytest.mark.parametrize("project", [".", "study"])
def test_dvc_exp_run_lays_values_over_the_parameters_that_are_there(tmp_path, project):
    def run(*command, check=True):
        named = {f"GIT_{role}_{what}": "t" for role in ("AUTHOR", "COMMITTER") for what in ("NAME", "EMAIL")}
        environment = os.environ | named | {"HOME": str(tmp_path)}
        program = DVC if command[0] == "dvc" else command[0]
        done = subprocess.run(
            [program, *command[1:]], cwd=folder, env=environment, capture_output=True, text=True, check=False
        )
        assert not check or not done.returncode, done.stdout + done.stderr
        return done.stdout + done.stderr

    shutil.copytree(CONF, tmp_path / "conf", ignore=shutil.ignore_patterns("__pycache__"))
    folder = tmp_path / project
    (folder / ".dvc").mkdir(parents=True)
    shutil.copy(ROOT / project / ".dvc" / "config", folder / ".dvc")
    own = {"study": {"run": ["random"]}} if project == "study" else {}
    (folder / "params.yaml").write_text(yaml.safe_dump(PARAMS | own, sort_keys=False), encoding="utf-8")
    stage = {"cmd": "cat params.yaml > out", "params": ["pretrain.epochs"], "outs": [{"out": {"cache": False}}]}
    (folder / "dvc.yaml").write_text(yaml.safe_dump({"stages": {"stage": stage}}), encoding="utf-8")
    (tmp_path / ".gitignore").write_text(".fusmae\n__pycache__\ntmp\n.cache\nconfig.local\n", encoding="utf-8")
    run("git", "init", "-q", "-b", "main", str(tmp_path))
    run("git", "add", str(tmp_path))
    run("git", "commit", "-q", "-m", "first")
    run("dvc", "exp", "run", "-S", "pretrain.epochs=40")
    expected = copy.deepcopy(PARAMS | own)
    expected["pretrain"]["epochs"] = 40
    assert yaml.safe_load((folder / "out").read_text(encoding="utf-8")) == expected == params(folder)
    refused = run("dvc", "exp", "run", "-S", "pretrain.epoch=41", check=False)
    assert "pretrain.epoch" in refused
    assert params(folder) == expected


DESCRIBED = {
    "kind": "multilabel",
    "source": {"name": "folder", "classes": ["1e-4", "maize, sweet"], "s2_offset": 0, "units": {}},
    "tile_m": 600,
    "shard_pairs": 10,
    "modalities": {"s2": {"units": "DN", "groups": [{"gsd_m": 10, "bands": ["B02"]}]}},
    "tolerated": {},
}


@pytest.fixture
def described(checkout):
    """A checkout whose folder of pairs describes itself."""
    path = checkout / "data" / "raw" / "folder" / "folder.yaml"
    path.parent.mkdir(parents=True)
    path.write_text(yaml.safe_dump(DESCRIBED, sort_keys=False), encoding="utf-8")
    return path


def test_data_folder_is_what_the_folder_says_of_itself(checkout, described):
    compose(checkout, ["data=folder"])
    assert params(checkout) == PARAMS | {"data": DESCRIBED}
    compose(checkout, ["data=folder", "data.tile_m=1200"])
    assert params(checkout)["data"] == DESCRIBED | {"tile_m": 1200}


def test_a_description_of_an_older_version_has_several_labels_per_pair(checkout, described):
    described.write_text(described.read_text(encoding="utf-8").replace("kind: multilabel\n", ""), encoding="utf-8")
    compose(checkout, ["data=folder"])
    assert params(checkout)["data"] == DESCRIBED


def test_a_description_states_its_kind_and_its_quantity(checkout, described):
    value = {"name": "biomass", "unit": "t/ha", "min": 0, "max": None, "per": "pixel"}
    stated = DESCRIBED | {"kind": "regression", "source": DESCRIBED["source"] | {"classes": [], "value": value}}
    described.write_text(yaml.safe_dump(stated, sort_keys=False), encoding="utf-8")
    compose(checkout, ["data=folder"])
    assert params(checkout)["data"] == stated


def test_a_described_folder_changes_nothing_unless_it_is_asked_for(checkout, described):
    compose(checkout, ["pretrain.epochs=3"])
    assert params(checkout)["data"] == PARAMS["data"]
    compose(checkout, ["data=synthetic"])
    assert params(checkout)["data"]["source"]["name"] == "synthetic"


def test_without_a_description_data_folder_is_the_file_in_conf(checkout, described):
    described.unlink()
    compose(checkout, ["data=folder"])
    assert params(checkout)["data"] == stated_by("data", "folder")


@pytest.mark.parametrize("text", ["- a list", "source: {name: folder, classes: ['${oc.env:HOME}']}"])
def test_a_description_that_is_no_section_or_reads_variables_is_refused(checkout, described, text):
    described.write_text(text, encoding="utf-8")
    with pytest.raises(Exception, match=r"holds no sections|would be replaced"):
        compose(checkout, ["data=folder"])
    assert params(checkout) == PARAMS
