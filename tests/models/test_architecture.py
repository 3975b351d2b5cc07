import pytest
from pydantic import ValidationError

from fusmae.models.architecture import Architecture, modality_settings
from fusmae.models.preprocess import Preprocessing
from tests.sections import architecture_of, model_section


@pytest.fixture
def preprocessing(inputs, statistics) -> Preprocessing:
    return Preprocessing(inputs=inputs, statistics=statistics)


def test_architecture_is_the_section_with_the_tile_and_the_band_groups(preprocessing):
    architecture = architecture_of(preprocessing, dim=32)
    assert architecture.model_dump(include=set(model_section().model_dump())) == model_section(dim=32).model_dump()
    assert architecture.tile_px == 24
    assert architecture.groups == {"s1": (2,), "s2": (3, 1, 1)}
    assert architecture.in_chans == {"s1": 2, "s2": 5}
    assert architecture.num_patches(architecture.tile_px) == 9


def test_a_stack_is_one_modality_with_the_first_ones_mask_ratio(preprocessing):
    stack = preprocessing.model_copy(update={"is_stacked": True})
    architecture = architecture_of(stack, mask_ratio={"s1": 0.25, "s2": 0.5})
    assert architecture.groups == {"s1+s2": (2, 3, 1, 1)}
    assert architecture.mask_ratio == {"s1+s2": 0.25}
    assert stack.modalities == ("s1", "s2")


@pytest.mark.parametrize(
    "change", [{"depth": 1}, {"other": 1}, {"mask_ratio": {"s1": 0.5}}, {"masking": "none"}, {"groups": None}]
)
def test_a_description_that_no_model_has_is_refused(preprocessing, change):
    values = architecture_of(preprocessing).model_dump()
    assert Architecture(**values) == architecture_of(preprocessing)
    with pytest.raises(ValidationError, match=next(iter(change))):
        Architecture(**(values | change))


def test_descriptions_are_never_changed(preprocessing):
    for described, name in ((preprocessing, "is_stacked"), (architecture_of(preprocessing), "dim")):
        with pytest.raises(ValidationError, match="frozen"):
            setattr(described, name, 1)


def test_settings_are_all_modalities_then_each_alone():
    assert modality_settings(("s1", "s2")) == [("s1", "s2"), ("s1",), ("s2",)]
    assert modality_settings(("s2",)) == [("s2",)]
