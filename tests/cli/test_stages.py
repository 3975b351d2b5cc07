"""The commands of stages hand over what the functions of the same names take."""

import inspect
from importlib import import_module
from pathlib import Path

import pytest
import yaml

from fusmae.cli import stages
from fusmae.config.params import load_config
from tests.cli.conftest import ROOT

STAGES = yaml.safe_load((ROOT / "dvc.yaml").read_text(encoding="utf-8"))["stages"]


@pytest.mark.parametrize("name", list(STAGES))
def test_a_stage_gets_its_sections_and_every_option_of_its_command(name, monkeypatch):
    module, command = import_module(f"fusmae.stages.{name}"), getattr(stages, name)
    takes = inspect.signature(getattr(module, name))
    given = {}
    monkeypatch.setattr(module, name, lambda *sections, **paths: given.update(sections=sections, paths=paths))
    monkeypatch.setattr(stages, "stage_params", lambda: load_config(ROOT / "params.yaml"))
    command(**{option: Path(option) for option in inspect.signature(command).parameters})
    takes.bind(*given["sections"], **given["paths"])
    by_position = [one for one in takes.parameters.values() if one.kind is one.POSITIONAL_OR_KEYWORD]
    assert [one.annotation for one in by_position] == [type(section) for section in given["sections"]]
    assert all(takes.parameters[option].kind is inspect.Parameter.KEYWORD_ONLY for option in given["paths"])
