import os
import resource
import shutil
from collections import namedtuple

import pytest

from fusmae.doctor import machine
from fusmae.doctor.machine import check_cores, check_disk, check_memory, check_open_files, check_shared_memory
from tests.doctor.conftest import DVC, only, run

Usage = namedtuple("Usage", ("total", "used", "free"))


@pytest.fixture
def free(monkeypatch):
    def pretend(gb):
        monkeypatch.setattr(shutil, "disk_usage", lambda _: Usage(int(gb * 1e9), 0, int(gb * 1e9)))

    return pretend


@pytest.mark.parametrize(("gb", "status"), [(500, "ok"), (9.9, "warning"), (0.5, "error")])
def test_little_space_is_a_warning_and_next_to_none_an_error(project, free, gb, status):
    free(gb)
    assert {finding.status for finding in check_disk()} == {status}


def test_a_small_disk_of_the_cache_is_found_beside_the_project_s(project, small_disk):
    run(DVC, "config", "--local", "cache.dir", small_disk)
    found = {finding.name: finding for finding in check_disk()}
    assert found["disk cache"].status == "error"
    assert "0.0 GB" in found["disk cache"].found


def test_few_inodes_are_a_warning(project, free, monkeypatch):
    free(500)
    state = os.statvfs(project)
    few = namedtuple("State", ("f_files", "f_favail"))(state.f_files or 1, 1000)
    monkeypatch.setattr(os, "statvfs", lambda _: few)
    assert "1,000 inodes" in only(check_disk()).found


def test_docker_s_shared_memory_is_too_small_for_loader_workers_and_enough_without(free):
    free(0.064)
    found = only(check_shared_memory(4))
    assert found.status == "error"
    assert "--shm-size" in found.mend
    assert only(check_shared_memory(0)).status == "ok"


def test_a_low_limit_of_open_files_is_a_warning(monkeypatch):
    monkeypatch.setattr(resource, "getrlimit", lambda _: (256, 4096))
    found = only(check_open_files())
    assert (found.status, found.mend) == ("warning", "ulimit -n 1024")
    monkeypatch.setattr(resource, "getrlimit", lambda _: (resource.RLIM_INFINITY,) * 2)
    assert only(check_open_files()).found == "no limit"


def test_more_threads_than_a_container_s_share_of_cores_are_a_warning(tmp_path, monkeypatch):
    monkeypatch.setattr(machine, "_CGROUP", tmp_path)
    monkeypatch.setenv("OMP_NUM_THREADS", "64")
    (tmp_path / "cpu.max").write_text("max 100000\n")
    assert only(check_cores()).status == "ok"
    (tmp_path / "cpu.max").write_text("200000 100000\n")
    found = only(check_cores())
    assert (found.status, found.mend) == ("warning", "export OMP_NUM_THREADS=2")


def test_a_container_s_limit_counts_as_memory(tmp_path, monkeypatch):
    monkeypatch.setattr(machine, "_CGROUP", tmp_path)
    (tmp_path / "memory.max").write_text("2000000000\n")
    (tmp_path / "memory.current").write_text("500000000\n")
    found = only(check_memory())
    assert (found.status, found.found) == ("warning", "1.5 GB free")
