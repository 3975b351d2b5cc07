from collections import Counter

import numpy as np
import pytest
import torch

from fusmae.data.datamodule import Batch, ResumableLoader
from fusmae.data.randomness import Purpose, generator
from fusmae.data.shards import ShardReader

AUGMENT = {"flip": True, "turn": True, "min_crop": 0.8}


def epoch_of(loader: ResumableLoader, epoch: int) -> list[Batch]:
    loader.sampler.set_epoch(epoch)
    return list(loader)


def order_of(batches: list[Batch]) -> list[int]:
    return torch.cat([batch.indices for batch in batches]).tolist()


def assert_same(found: list[Batch], expected: list[Batch]) -> None:
    assert len(found) == len(expected)
    for a, b in zip(found, expected, strict=True):
        assert a.dropped == b.dropped
        assert list(a.pixels) == list(b.pixels)
        assert all(torch.equal(a.pixels[name], b.pixels[name]) for name in a.pixels)
        assert all(torch.equal(a.noise[name], b.noise[name]) for name in a.noise)
        for field in ("labels", "indices", "geometry"):
            assert torch.equal(getattr(a, field), getattr(b, field))


def test_batch_has_every_array_with_its_draws(make_data, shards):
    batch = next(iter(make_data(augment=AUGMENT).train_dataloader()))
    reader = ShardReader(shards, "train")
    rows = batch.indices.tolist()
    for name, array in reader.read(rows).items():
        assert np.array_equal(batch.pixels[name].numpy(), array)
    assert batch.labels.dtype == torch.float32
    assert np.array_equal(batch.labels.numpy(), reader.labels[rows])
    assert batch.geometry.shape == (4, 2, 3)
    assert {name: tuple(values.shape) for name, values in batch.noise.items()} == {"s1": (4, 9), "s2": (4, 9)}
    assert not torch.equal(batch.noise["s1"], batch.noise["s2"])


def test_draws_depend_on_seed_epoch_and_pair_but_not_on_the_batch(make_data):
    def noise_by_pair(batch_size: int, **draws) -> dict[int, bytes]:
        batches = epoch_of(make_data(batch_size, **draws).train_dataloader(), 1)
        return {
            int(index): batch.noise["s2"][row].numpy().tobytes() + batch.geometry[row].numpy().tobytes()
            for batch in batches
            for row, index in enumerate(batch.indices)
        }

    small, whole = noise_by_pair(3, augment=AUGMENT), noise_by_pair(17, augment=AUGMENT)
    assert len(whole) == 17
    assert all(whole[index] == draws for index, draws in small.items())
    assert not set(noise_by_pair(17, augment=AUGMENT, seed=1).values()) & set(whole.values())


def test_every_epoch_draws_masks_and_geometry_anew(make_data):
    loader = make_data(17, augment=AUGMENT).train_dataloader()
    first, second = (epoch_of(loader, epoch)[0] for epoch in (0, 1))
    back = first.indices.argsort()[second.indices.argsort().argsort()]
    assert torch.equal(first.indices[back], second.indices)
    for a, b in ((first.noise["s1"][back], second.noise["s1"]), (first.geometry[back], second.geometry)):
        assert (a != b).flatten(1).any(1).all()


def test_order_depends_on_seed_and_epoch_alone(make_data):
    data = make_data(1)
    first, second = (order_of(epoch_of(data.train_dataloader(), epoch)) for epoch in (0, 1))
    assert first != second
    assert order_of(epoch_of(make_data(17).train_dataloader(), 1)) == second
    assert order_of(epoch_of(make_data(1, modality_drop=0.5, augment=AUGMENT).train_dataloader(), 1)) == second
    assert order_of(epoch_of(make_data(1, seed=1).train_dataloader(), 1)) != second


def test_every_pair_comes_once_an_epoch(make_data):
    for epoch in range(3):
        order = order_of(epoch_of(make_data(1).train_dataloader(), epoch))
        assert sorted(order) == list(range(17))


def test_a_short_last_batch_of_training_is_dropped(make_data):
    loader = make_data(4).train_dataloader()
    assert [len(batch.indices) for batch in loader] == [4, 4, 4, 4]
    assert len(loader) == 4


def test_a_split_of_less_than_one_batch_is_kept(make_data):
    assert [len(batch.indices) for batch in make_data(100).train_dataloader()] == [17]


def test_the_short_last_batch_of_validation_is_kept(make_data):
    assert [len(batch.indices) for batch in make_data(4).loader("validation")] == [4, 1]


@pytest.mark.parametrize("epoch", [0, 1])
def test_two_workers_give_the_batches_that_none_gives(make_data, epoch):
    settings = {"augment": AUGMENT, "modality_drop": 0.5}
    expected = epoch_of(make_data(**settings).train_dataloader(), epoch)
    loader = make_data(num_workers=2, **settings).train_dataloader()
    # The workers live on from epoch to epoch: they must not keep the draws of the first.
    found = [epoch_of(loader, before) for before in range(epoch + 1)][-1]
    assert_same(found, expected)


@pytest.mark.parametrize("num_workers", [0, 2])
@pytest.mark.parametrize("given", [0, 1, 3])
def test_a_restart_gives_exactly_the_batches_that_were_left(make_data, given, num_workers):
    settings = {"augment": AUGMENT, "modality_drop": 0.5}
    whole = epoch_of(make_data(**settings).train_dataloader(), 2)
    cut = make_data(num_workers=num_workers, **settings).train_dataloader()
    cut.sampler.set_epoch(2)
    batches = iter(cut)
    for _ in range(given):
        next(batches)
    state = cut.state_dict()
    assert state == {"given": given * 4}
    restarted = make_data(num_workers=num_workers, **settings).train_dataloader()
    restarted.load_state_dict(state)
    assert_same(epoch_of(restarted, 2), whole[given:])
    assert_same(epoch_of(restarted, 3), epoch_of(make_data(**settings).train_dataloader(), 3))


def test_a_finished_epoch_leaves_a_whole_one_to_come(make_data):
    loader = make_data().train_dataloader()
    list(loader)
    assert loader.state_dict() == {"given": 0}
    assert len(list(loader)) == 4


@pytest.mark.parametrize(("modality_drop", "expected"), [(0.0, {""}), (1.0, {"s1", "s2"})])
def test_modality_drop_of_none_and_all(make_data, modality_drop, expected):
    loader = make_data(1, modality_drop=modality_drop).train_dataloader()
    dropped = [batch.dropped for batch in epoch_of(loader, 0)]
    assert set(dropped) == expected


def test_modality_drop_drops_about_its_share(make_data):
    loader = make_data(1, modality_drop=0.3).train_dataloader()
    counts = Counter(batch.dropped for epoch in range(20) for batch in epoch_of(loader, epoch))
    total = counts.total()
    assert 0.2 < 1 - counts[""] / total < 0.4
    assert 0.3 < counts["s1"] / (total - counts[""]) < 0.7


def test_a_dropped_modality_is_not_present_and_the_other_keeps_all_its_arrays(make_data):
    batch = next(iter(make_data(modality_drop=1.0).train_dataloader()))
    (kept,) = batch.present
    assert {kept, batch.dropped} == {"s1", "s2"}
    assert list(batch.only(batch.present)) == [name for name in batch.pixels if name.startswith(kept)]
    whole = next(iter(make_data().train_dataloader()))
    assert whole.present == ("s1", "s2")
    assert list(whole.only(("s2",))) == ["s2_10m", "s2_20m", "s2_60m"]


def test_one_modality_alone_is_never_dropped(make_data):
    loader = make_data(1, modalities=("s2",), modality_drop=1.0).train_dataloader()
    assert {batch.dropped for batch in epoch_of(loader, 0)} == {""}


@pytest.mark.parametrize("split", ["validation", "test", "train"])
def test_evaluation_is_in_order_unaugmented_whole_and_the_same_each_epoch(make_data, split):
    data = make_data(augment=AUGMENT, modality_drop=1.0)
    loader = data.loader(split)
    batches = epoch_of(loader, 0)
    assert order_of(batches) == list(range(len(data.reader(split))))
    assert all(torch.equal(batch.geometry, torch.eye(2, 3).expand(len(batch.indices), -1, -1)) for batch in batches)
    assert {batch.dropped for batch in batches} == {""}
    assert_same(epoch_of(loader, 5), batches)


def test_noise_is_uniform_from_0_to_1():
    draws = generator(0, Purpose.MASK, 0, 0).random(10_000, dtype=np.float32)
    assert 0 <= draws.min() < 0.01
    assert 0.99 < draws.max() < 1


def test_groups_are_hidden_by_batch_and_epoch_and_of_each_modality_one_is_left(make_data):
    loader = make_data(group_drop=0.5).train_dataloader()
    lacking = [batch.lacking for epoch in range(20) for batch in epoch_of(loader, epoch)]
    again = [
        batch.lacking for epoch in range(20) for batch in epoch_of(make_data(group_drop=0.5).train_dataloader(), epoch)
    ]
    assert lacking == again
    s2 = {"s2_10m", "s2_20m", "s2_60m"}
    assert set().union(*lacking) == s2
    assert not any(s2 <= set(names) for names in lacking)
    assert {len(names) for names in lacking} == {0, 1, 2}


def test_all_groups_but_one_are_hidden_at_most_and_none_without_the_setting_or_in_validation(make_data):
    always = make_data(group_drop=1.0)
    assert {len(batch.lacking) for batch in epoch_of(always.train_dataloader(), 0)} == {2}
    assert {batch.lacking for batch in always.loader("validation")} == {()}
    assert {batch.lacking for batch in epoch_of(make_data().train_dataloader(), 0)} == {()}


def test_hiding_groups_changes_no_other_draw(make_data):
    for one, other in zip(
        epoch_of(make_data(modality_drop=0.5).train_dataloader(), 3),
        epoch_of(make_data(modality_drop=0.5, group_drop=0.5).train_dataloader(), 3),
        strict=True,
    ):
        assert one.dropped == other.dropped
        assert torch.equal(one.indices, other.indices)
        assert torch.equal(one.noise["s2"], other.noise["s2"])
