"""Every variant of a study composes, as DVC composes it, to a configuration that can be trained."""

from copy import deepcopy
from pathlib import Path

import pytest
import yaml

from fusmae.config.params import parse_config
from fusmae.errors import ConfigError
from fusmae.study.variants import study_of, variant_config, variant_of

ROOT = Path(__file__).parents[2]
VARIANTS = yaml.safe_load((ROOT / "conf" / "study_parts" / "variants.yaml").read_text(encoding="utf-8"))
SIZES = sorted(path.stem for path in (ROOT / "conf" / "study_size").glob("*.yaml"))
COMMITTED = ROOT / "study" / "params.yaml"


@pytest.fixture(scope="module")
def composed(compose):
    return compose()


@pytest.fixture(scope="module")
def config(composed):
    return parse_config(composed, where="test")


def changed(composed, path, value):
    """Composed parameters with another value at a dotted path."""
    values = deepcopy(composed)
    *parents, last = path.split(".")
    inner = values
    for key in parents:
        inner = inner.setdefault(key, {})
    inner[last] = value
    return parse_config(values, where="test")


@pytest.mark.parametrize("size", SIZES)
def test_every_variant_fits_every_size(size, compose):
    config = parse_config(compose(f"study_size={size}"), where=size)
    assert set(study_of(config).variants) == set(VARIANTS)
    for name in VARIANTS:
        assert variant_config(config, name, 3).seed == 3


def test_the_committed_parameters_are_the_composed_ones(composed):
    if not COMMITTED.exists():
        pytest.skip("study/params.yaml is not there: `make study` composes it")
    assert yaml.safe_load(COMMITTED.read_text(encoding="utf-8")) == composed


def test_a_variant_without_values_of_its_own_is_the_study_itself(config):
    assert variant_config(config, "fusmae", config.seed) == config


@pytest.mark.parametrize("kind", ["multiclass", "regression"])
def test_classes_in_focus_need_several_labels_a_pair(compose, kind):
    with pytest.raises(ConfigError, match=rf"study\.focus with data\.kind {kind}(.|\n)*study\.focus=null"):
        study_of(parse_config(compose(f"data.kind={kind}"), where="test"))
    assert study_of(parse_config(compose(f"data.kind={kind}", "study.focus=null"), where="test")).focus is None
    assert study_of(parse_config(compose("data.kind=segmentation"), where="test")).focus is not None


def test_the_kind_of_a_study_is_that_of_its_data(compose):
    values = compose()
    values["study"]["kind"] = "multilabel"
    with pytest.raises(ConfigError, match=r"got kind multilabel; expected no such key: delete it, data\.kind says"):
        study_of(parse_config(values, where="test"))


def test_a_variants_values_are_laid_over_the_studys(config):
    own = variant_config(config, "early-consistent", 1)
    assert (own.model.early_fusion, own.model.feature_fusion, own.model.masking) == (True, False, "consistent")
    assert own.model.dim == config.model.dim
    assert variant_config(config, "joint-drop", 1).pretrain.modality_drop == 0.25
    contrastive = variant_config(config, "contrastive", 1).pretrain
    assert (contrastive.reconstruction_weight, contrastive.contrastive_weight) == (0.0, 1.0)


@pytest.mark.parametrize(("name", "modality"), [("s1-only", "s1"), ("s2-only", "s2")])
def test_one_modality_has_one_mask_ratio_and_nothing_to_fuse(config, name, modality):
    own = variant_config(config, name, 1)
    assert list(own.data.modalities) == [modality]
    assert own.model.mask_ratio == {modality: config.model.mask_ratio[modality]}
    assert not own.model.early_fusion
    assert not own.model.feature_fusion


def test_a_stack_has_all_bands_and_nothing_to_fuse(config):
    own = variant_config(config, "stack", 1)
    assert own.data == config.data
    assert not own.model.early_fusion
    assert not own.model.feature_fusion


def test_an_unknown_variant_is_named_beside_those_that_there_are(config):
    for ask in (lambda: variant_of(config, "nobody"), lambda: variant_config(config, "nobody", 1)):
        with pytest.raises(ConfigError, match="nobody") as raised:
            ask()
        assert "early-consistent" in str(raised.value)


@pytest.mark.parametrize(
    ("path", "value", "told"),
    [
        ("study.variants.early.model.depth", 1, ("study.variants.early", "model.depth", "got 1")),
        ("study.variants.early.model.colour", "red", ("study.variants.early", "model.colour", "unknown key")),
        ("study.variants.early.pretrain.modality_drop", 2.0, ("study.variants.early", "pretrain.modality_drop")),
        ("study.variants.early.modalities", ["radar"], ("study.variants.early", "modalities", "radar", "s1")),
        ("study.variants.early.start", "sideways", ("section study", "variants.early.start", "sideways")),
        ("study.variants.early.weight", "x", ("section study", "variants.early.weight", "unknown key")),
        ("study.shares", [2.0], ("section study", "shares.0", "got 2.0")),
        ("study.run", ["fusmae", "nobody"], ("section study", "nobody", "run", "study.variants")),
    ],
)
def test_a_wrong_value_is_told_by_its_path(composed, path, value, told):
    with pytest.raises(ConfigError) as raised:
        variant_config(changed(composed, path, value), "early", 1)
    for part in told:
        assert part in str(raised.value)


def test_contrast_between_sensors_needs_two_of_them(composed):
    config = changed(composed, "study.variants.contrastive.modalities", ["s1"])
    with pytest.raises(ConfigError, match=r"study\.variants\.contrastive.*\n.*pretrain\.contrastive_weight"):
        variant_config(config, "contrastive", 1)


def test_parameters_without_a_study_say_where_those_of_one_come_from(composed):
    values = {name: section for name, section in composed.items() if name != "study"}
    with pytest.raises(ConfigError, match="make study"):
        study_of(parse_config(values, where="test"))
