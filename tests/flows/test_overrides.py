"""Overrides of a flow run: what dvc exp run -S takes, and nothing that reaches out of the parameters."""

import shutil
from pathlib import Path

import pytest
import yaml

from flows.workspace import lay_over
from fusmae.errors import ConfigError

ROOT = Path(__file__).parents[2]


@pytest.fixture
def checkout(tmp_path):
    shutil.copytree(ROOT / "conf", tmp_path / "conf")
    shutil.copy(ROOT / "params.yaml", tmp_path)
    return tmp_path


def params(folder):
    return yaml.safe_load((folder / "params.yaml").read_text(encoding="utf-8"))


def test_values_and_groups_are_composed_anew_from_conf(checkout):
    lay_over(checkout, ["pretrain.epochs=3", "model=small", "finetune.base_lr=1.0e-4"])
    found = params(checkout)
    assert (found["pretrain"]["epochs"], found["model"]["dim"], found["finetune"]["base_lr"]) == (3, 384, 1e-4)


def test_without_a_change_the_parameters_stay(checkout):
    before = params(checkout)
    lay_over(checkout, ["seed=0"])
    assert params(checkout) == before


@pytest.mark.parametrize(
    "override",
    [
        "pretrain.epochs",
        "--force",
        "-S=1",
        "~pretrain",
        "+pretrain.other=1",
        "hydra.searchpath=[/tmp]",
        "experiment=${oc.env:HOME}",
        "model=../../secret",
        "seed=1\nother=2",
    ],
)
def test_what_is_no_override_is_refused(checkout, override):
    before = params(checkout)
    with pytest.raises(ConfigError, match="is not an override"):
        lay_over(checkout, [override])
    assert params(checkout) == before


@pytest.mark.parametrize(
    ("override", "said"),
    [
        ("pretrain.epoch=3", "pretrain.epoch"),
        ("model=none", "none"),
        ("seed=x", "seed"),
        ("pretrain.epochs=2", "expected fewer than epochs, 2"),
    ],
)
def test_an_override_that_the_parameters_don_t_know_is_named(checkout, override, said):
    with pytest.raises(ConfigError, match=said):
        lay_over(checkout, [override])
