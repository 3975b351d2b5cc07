"""Pairs shared out among processes: disjoint, the same each time, and resumable."""

import json
import subprocess
import sys
from itertools import chain

import pytest
import torch

from fusmae.data.datamodule import KeyedSampler, ResumableLoader, evaluation_share, training_share
from fusmae.errors import TrainingError


def flat(lists: list[list[int]]) -> list[int]:
    return list(chain.from_iterable(lists))


def orders(num_pairs: int, num_ranks: int, epoch: int = 0, *, seed: int | None = 0, skip: int = 0) -> list[list[int]]:
    found = []
    for rank in range(num_ranks):
        sampler = KeyedSampler(num_pairs, seed, rank, num_ranks)
        sampler.set_epoch(epoch)
        sampler.skip = skip
        keys = list(sampler)
        assert skip or len(keys) == len(sampler)
        found.append([key.pair for key in keys])
    return found


@pytest.mark.parametrize("num_ranks", [1, 2, 3, 8])
def test_ranks_get_disjoint_pairs_equally_many_and_nearly_all(num_ranks):
    found = orders(101, num_ranks)
    assert len({len(order) for order in found}) == 1
    together = [index for order in found for index in order]
    assert len(set(together)) == len(together) == 101 // num_ranks * num_ranks


def test_the_pairs_left_out_are_others_in_each_epoch():
    missing = [set(range(101)) - set(flat(orders(101, 8, epoch))) for epoch in range(4)]
    assert all(len(left) == 5 for left in missing)
    assert len(set.union(*missing)) > 5


def test_in_evaluation_every_pair_comes_once_in_its_own_order():
    found = orders(11, 3, seed=None)
    assert found == [[0, 3, 6, 9], [1, 4, 7, 10], [2, 5, 8]]


@pytest.mark.parametrize("num_ranks", [2, 4])
def test_a_step_of_all_ranks_holds_the_pairs_of_one_process_with_as_many_times_the_batch(num_ranks):
    batch, whole = 3, orders(96, 1, 5)[0]
    shared = orders(96, num_ranks, 5)
    for step in range(96 // (batch * num_ranks)):
        together = {index for order in shared for index in order[step * batch : (step + 1) * batch]}
        assert together == set(whole[step * batch * num_ranks : (step + 1) * batch * num_ranks])


@pytest.mark.parametrize(("before", "after"), [(1, 2), (2, 1), (2, 2), (4, 3)])
def test_another_number_of_ranks_goes_on_with_exactly_the_pairs_that_were_left(before, after):
    batch, steps = 3, 4
    given = {index for order in orders(96, before, 2) for index in order[: batch * steps]}
    rest = flat(orders(96, after, 2, skip=batch * steps * before))
    assert len(set(rest)) == len(rest)
    assert set(rest) == set(range(96)) - given


def loader_of_rank(make_data, rank: int, num_ranks: int, monkeypatch) -> ResumableLoader:
    monkeypatch.setattr("fusmae.data.datamodule._rank", lambda: (rank, num_ranks))
    return make_data(2 * num_ranks).train_dataloader()


def test_a_loader_of_two_ranks_resumes_as_one(make_data, monkeypatch):
    loaders = [loader_of_rank(make_data, rank, 2, monkeypatch) for rank in (0, 1)]
    given: list[int] = []
    for loader in loaders:
        batches = iter(loader)
        given += [*next(batches).indices.tolist(), *next(batches).indices.tolist()]
    states = [loader.state_dict() for loader in loaders]
    assert states == [{"given": 8}, {"given": 8}]
    alone = loader_of_rank(make_data, 0, 1, monkeypatch)
    alone.load_state_dict(states[0])
    rest = torch.cat([batch.indices for batch in alone]).tolist()
    assert not set(rest) & set(given)
    assert len(set(rest + given)) == 16


@pytest.mark.parametrize("num_ranks", [1, 2, 4])
def test_every_rank_drops_the_modality_that_one_process_drops_from_the_same_batch(make_data, num_ranks, monkeypatch):
    def dropped(rank: int, num_ranks: int) -> list[str]:
        monkeypatch.setattr("fusmae.data.datamodule._rank", lambda: (rank, num_ranks))
        return [batch.dropped for batch in make_data(4, modality_drop=0.6).train_dataloader()]

    alone = dropped(0, 1)
    assert len(set(alone)) > 1
    assert all(dropped(rank, num_ranks) == alone for rank in range(num_ranks))


@pytest.mark.parametrize("num_pairs", [5, 16, 17, 96, 101])
@pytest.mark.parametrize("batch_size", [1, 4, 12, 256])
@pytest.mark.parametrize("num_ranks", [1, 2, 3, 4])
def test_in_evaluation_ranks_have_equally_many_batches(num_pairs, batch_size, num_ranks):
    share = evaluation_share(num_pairs, batch_size, num_ranks)
    counts = {-(-len(order) // share) for order in orders(num_pairs, num_ranks, seed=None)}
    assert len(counts) == 1
    assert num_ranks > 1 or share == batch_size


def test_in_evaluation_fewer_pairs_than_ranks_are_refused():
    with pytest.raises(TrainingError, match="3 processes are to share 2 pairs"):
        evaluation_share(2, 4, 3)


def test_a_training_batch_is_shared_equally_or_refused():
    assert [training_share(100, 12, num_ranks) for num_ranks in (1, 2, 3)] == [12, 6, 4]
    with pytest.raises(TrainingError, match="can't be shared equally among 5 processes") as raised:
        training_share(100, 12, 5)
    assert "expected: a multiple of 5" in str(raised.value)


def test_less_than_one_batch_is_for_one_process():
    assert training_share(7, 12, 1) == 12
    with pytest.raises(TrainingError, match="2 processes are to share less than one batch"):
        training_share(7, 12, 2)


def test_checksums_are_compared_by_the_first_process_alone(make_data, monkeypatch):
    verified = []
    monkeypatch.setattr("fusmae.data.shards._verify_all", verified.append)
    for name, value in {"WORLD_SIZE": 2, "LOCAL_WORLD_SIZE": 2, "TORCHELASTIC_RUN_ID": "a"}.items():
        monkeypatch.setenv(name, str(value))
    for rank, expected in (("1", 0), ("0", 2)):
        monkeypatch.setenv("RANK", rank)
        make_data().reader("train")
        assert len(verified) == expected


SCRIPT = """
import json, os, sys
from pathlib import Path
import torch.distributed as dist
from fusmae.data.datamodule import Draws, PairDataModule

dist.init_process_group("gloo")
draws, found = Draws(0, ("s1", "s2"), 9), {}
for num_workers in (0, 1):
    loader = PairDataModule(Path(sys.argv[1]), batch_size=4, draws=draws, num_workers=num_workers).train_dataloader()
    found[num_workers] = []
    for epoch in (0, 1):
        loader.sampler.set_epoch(epoch)
        found[num_workers].append([batch.indices.tolist() for batch in loader])
(Path(sys.argv[2]) / f"{dist.get_rank()}.json").write_text(json.dumps(found))
dist.destroy_process_group()
"""


def test_two_real_processes_share_each_epoch_without_a_pair_in_common_however_many_workers_they_have(shards, tmp_path):
    script = tmp_path / "script.py"
    script.write_text(SCRIPT)
    command = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node", "2", str(script)]
    done = subprocess.run([*command, str(shards), str(tmp_path)], capture_output=True, text=True, timeout=300)
    assert done.returncode == 0, done.stderr[-3000:]
    found = [json.loads((tmp_path / f"{rank}.json").read_text()) for rank in (0, 1)]
    for num_workers in ("0", "1"):
        first, second = (rank[num_workers] for rank in found)
        for epoch in (0, 1):
            mine, others = flat(first[epoch]), flat(second[epoch])
            assert len(mine) == len(others) == 8
            assert not set(mine) & set(others)
            assert [mine, others] == orders(17, 2, epoch)
        assert first[0] != first[1]
