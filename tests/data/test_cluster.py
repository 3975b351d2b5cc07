import operator
import os
import signal
import time
from pathlib import Path

import pytest

from fusmae.config.task import Task
from fusmae.data.cluster import open_cluster
from fusmae.data.shard_writer import write_shards
from fusmae.data.statistics import measure_statistics
from fusmae.errors import ClusterError, PairError, StorageError
from tests.data.conftest import address_in, start_scheduler

pytestmark = pytest.mark.xdist_group("cluster")


@pytest.fixture(scope="module")
def two_workers(tmp_path_factory):
    before = Path.cwd()
    os.chdir(tmp_path_factory.mktemp("cluster"))
    with open_cluster("", 2) as run:
        yield run
    os.chdir(before)


def contents(folder: Path) -> dict[str, bytes]:
    return {str(path.relative_to(folder)): path.read_bytes() for path in sorted(folder.rglob("*")) if path.is_file()}


def test_results_come_in_the_order_of_items(two_workers):
    items = list(range(40))
    assert list(two_workers(operator.neg, items)) == [-item for item in items]


def test_jobs_run_in_two_other_processes(two_workers):
    def slow_pid(_):
        time.sleep(0.05)
        return os.getpid()

    found = set(two_workers(slow_pid, list(range(20))))
    assert len(found) == 2
    assert os.getpid() not in found


def test_no_items_give_no_results(two_workers):
    assert list(two_workers(operator.neg, [])) == []


def test_shards_and_statistics_have_the_same_bytes_as_from_one_process(
    two_workers, tmp_path, shards, statistics, pairs, read_pair, inputs, classes
):
    write_shards(pairs, read_pair, tmp_path, inputs=inputs, task=Task(classes=classes), shard_pairs=7, run=two_workers)
    assert contents(tmp_path) == contents(shards)
    assert measure_statistics(tmp_path, run=two_workers) == statistics


def test_a_job_whose_worker_died_is_done_by_another(two_workers, tmp_path):
    def die_once(number):
        flag = tmp_path / str(number)
        if not flag.exists():
            flag.touch()
            os.kill(os.getpid(), signal.SIGKILL)
        return number

    assert list(two_workers(die_once, [7])) == [7]


def test_a_job_that_fails_for_a_moment_is_tried_again(two_workers, tmp_path):
    def fail_once(number):
        flag = tmp_path / str(number)
        if not flag.exists():
            flag.touch()
            raise OSError("network file system went away")
        return number

    assert list(two_workers(fail_once, [3, 4])) == [3, 4]


@pytest.mark.parametrize("kind", ["storage", "pair"])
def test_an_error_of_ours_arrives_with_its_text(two_workers, kind):
    def fail(_):
        if kind == "storage":
            raise StorageError("The disk is full.", got="0 MB", hint="make room")
        raise PairError("units", "Pair a: looks like linear power.", got="0.1", expected="dB")

    with pytest.raises((StorageError, PairError)) as raised:
        list(two_workers(fail, [1]))
    if kind == "storage":
        assert str(raised.value) == "The disk is full.\n  got:      0 MB\n  next:     make room"
    else:
        assert raised.value.fault == "units"
        assert "got:      0.1" in str(raised.value)


def test_a_job_that_kills_every_worker_is_named_as_such(tmp_path, monkeypatch):
    def die(_):
        os.kill(os.getpid(), signal.SIGKILL)

    monkeypatch.chdir(tmp_path)
    with (
        open_cluster("", 1) as run,
        pytest.raises(ClusterError, match=r"died under the same job(.|\n)*shard_pairs"),
    ):
        list(run(die, [1]))


def test_a_cluster_without_workers_is_named(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr("fusmae.data.cluster._CONNECT_S", 3)
    scheduler = start_scheduler(tmp_path / "scheduler.json")
    try:
        address = address_in(tmp_path / "scheduler.json")
        with pytest.raises(ClusterError, match=r"has no worker(.|\n)*dask worker"), open_cluster(address, 0):
            pass
    finally:
        scheduler.terminate()
        scheduler.wait(30)


def test_a_cluster_that_is_there_already_is_used_by_its_address_and_goes_on(tmp_path, monkeypatch, foreign_cluster):
    monkeypatch.chdir(tmp_path)
    with open_cluster(foreign_cluster.address, 0) as run:
        assert list(run(operator.neg, [1, 2, 3])) == [-1, -2, -3]
    assert all(process.poll() is None for process in foreign_cluster.processes)


def test_shards_written_on_a_cluster_of_others_have_the_same_bytes(
    tmp_path, monkeypatch, foreign_cluster, shards, pairs, read_pair, inputs, classes
):
    monkeypatch.chdir(tmp_path)
    with open_cluster(foreign_cluster.address, 0) as run:
        write_shards(
            pairs, read_pair, tmp_path / "a", inputs=inputs, task=Task(classes=classes), shard_pairs=7, run=run
        )
    assert contents(tmp_path / "a") == contents(shards)


def test_a_scheduler_that_does_not_answer_is_named(monkeypatch):
    monkeypatch.setattr("fusmae.data.cluster._CONNECT_S", 1)
    with (
        pytest.raises(ClusterError, match=r"tcp://127.0.0.1:9 does not answer(.|\n)*runtime.scheduler"),
        open_cluster("tcp://127.0.0.1:9", 0),
    ):
        pass
