import pytest

from fusmae.errors import TrainingError
from fusmae.runs.distributed import Ranks, ranks, require_one_process


@pytest.fixture
def torchrun(monkeypatch):
    """Sets what torchrun tells a process."""

    def tell(rank: int, num_ranks: int, num_local: int) -> None:
        told = {"RANK": rank, "WORLD_SIZE": num_ranks, "LOCAL_WORLD_SIZE": num_local, "TORCHELASTIC_RUN_ID": "a"}
        for name, value in told.items():
            monkeypatch.setenv(name, str(value))

    return tell


@pytest.fixture(autouse=True)
def _alone(monkeypatch):
    for name in ("RANK", "WORLD_SIZE", "LOCAL_WORLD_SIZE", "TORCHELASTIC_RUN_ID"):
        monkeypatch.delenv(name, raising=False)


def test_without_torchrun_there_is_one_process():
    assert ranks() == Ranks(0, 1, 1)
    assert ranks().is_first
    require_one_process("probe")


def test_torchrun_says_which_of_how_many_on_how_many_hosts(torchrun):
    torchrun(5, 8, 4)
    assert ranks() == Ranks(5, 8, 4)
    assert ranks().num_hosts == 2
    assert not ranks().is_first


def test_torchrun_with_one_process_is_as_without(torchrun):
    torchrun(0, 1, 1)
    assert ranks() == Ranks()


def test_several_processes_that_torchrun_did_not_start_are_refused(monkeypatch):
    monkeypatch.setenv("WORLD_SIZE", "4")
    with pytest.raises(TrainingError, match="torchrun did not start it") as raised:
        ranks()
    assert "got:      WORLD_SIZE=4 in the environment" in str(raised.value)


def test_hosts_with_differently_many_processes_are_refused(torchrun):
    torchrun(0, 3, 2)
    with pytest.raises(TrainingError, match="different numbers"):
        ranks()


def test_a_stage_without_use_for_several_processes_refuses_them(torchrun):
    torchrun(1, 2, 2)
    with pytest.raises(TrainingError, match="Stage probe runs in one process") as raised:
        require_one_process("probe")
    assert "start `fusmae probe` without torchrun" in str(raised.value)
