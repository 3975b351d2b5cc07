"""What an encoder is given in a test."""

import pytest
import torch

from fusmae.evaluation.conditions import Clouds, Condition, conditions_of, seen

CLOUDS = Clouds(seed=0, share=0.6)
BOTH = ("s1", "s2")
CLEAR, CLOUDY = Condition("s1+s2", BOTH), Condition("s1+clouded s2", BOTH, CLOUDS)


@pytest.fixture(scope="module")
def batch(tiny):
    return next(tiny.data().batches("test", range(4)))


def test_both_modalities_are_seen_together_alone_and_under_clouds():
    assert conditions_of(BOTH, BOTH, CLOUDS) == [
        CLEAR,
        Condition("s1", ("s1",)),
        Condition("s2", ("s2",)),
        CLOUDY,
    ]


def test_what_has_radar_alone_sees_no_clouds_and_nothing_of_s2():
    assert conditions_of(BOTH, ("s1",), CLOUDS) == [
        Condition("s1+s2", ("s1",)),
        Condition("s1", ("s1",)),
        Condition("s1+clouded s2", ("s1",)),
    ]


def test_what_has_s2_alone_has_no_row_of_radar_and_sees_clouds():
    assert conditions_of(BOTH, ("s2",), CLOUDS) == [
        Condition("s1+s2", ("s2",)),
        Condition("s2", ("s2",)),
        Condition("s1+clouded s2", ("s2",), CLOUDS),
    ]


def test_without_clouds_to_ask_for_there_is_each_clear_input_once():
    assert conditions_of(BOTH, BOTH) == conditions_of(BOTH, BOTH, CLOUDS)[:-1]
    assert [condition.name for condition in conditions_of(BOTH, BOTH)] == ["s1+s2", "s1", "s2"]


def test_what_is_trained_on_is_the_clear_input_of_the_same_modalities():
    assert CLOUDY.clear == CLEAR
    assert Condition("s1+s2", ("s1",)).clear == Condition("s1", ("s1",))


def test_data_of_radar_alone_has_one_condition():
    assert conditions_of(("s1",), ("s1",), CLOUDS) == [Condition("s1", ("s1",))]


def test_an_encoder_is_given_its_own_modalities_and_no_more(batch):
    assert set(seen(batch, Condition("s1+s2", ("s1",)))) == {"s1_10m"}
    assert set(seen(batch, CLEAR)) == set(batch.pixels)


def test_without_clouds_pixels_are_the_batchs(batch):
    found = seen(batch, CLEAR)
    assert all(torch.equal(found[name].float(), array.float()) for name, array in batch.pixels.items())


def test_clouds_hide_s2_and_leave_s1_untouched(batch):
    found = seen(batch, CLOUDY)
    assert torch.equal(found["s1_10m"], batch.pixels["s1_10m"])
    for name in ("s2_10m", "s2_20m", "s2_60m"):
        assert (found[name].float() != batch.pixels[name].float()).any(), name


def test_every_encoder_sees_the_same_clouds(batch):
    joint, alone = seen(batch, CLOUDY), seen(batch, Condition("s1+clouded s2", ("s2",), CLOUDS))
    assert alone.keys() == joint.keys() - {"s1_10m"}
    assert all(torch.equal(array.float(), joint[name].float()) for name, array in alone.items())
    other = seen(batch, Condition("s1+clouded s2", BOTH, Clouds(seed=1, share=0.6)))
    assert (other["s2_10m"].float() != joint["s2_10m"].float()).any()
