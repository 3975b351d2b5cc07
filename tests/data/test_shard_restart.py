"""Writing shards is killed in the middle, driver and all, and goes on."""

import json
import os
import re
import shutil
import signal
import subprocess
import sys
import time
from multiprocessing import get_context
from pathlib import Path
from typing import get_args

import numpy as np
import pytest
import yaml

from fusmae.config.task import Task
from fusmae.data.shard_writer import ShardJob, require_tolerated, write_shard, write_shards
from fusmae.data.shards import LeftOut, ShardReader
from fusmae.errors import CHECK_OF_FAULT, Fault, SourceError

pytestmark = pytest.mark.xdist_group("cluster")

SCRIPT = """
import sys, time
from datetime import UTC, datetime
from pathlib import Path
import numpy as np
from fusmae.config.task import Task
from fusmae.data.cluster import open_cluster
from fusmae.data.index import Pair
from fusmae.data.shard_writer import write_shards
from fusmae.modalities import BandGroup, Modality, modality_inputs

DELAY_S = float(sys.argv[3])  # here: a worker of others has arguments of its own
INPUTS = modality_inputs({"s1": Modality(units="dB", groups=(BandGroup(gsd_m=10, bands=("VV", "VH")),))}, 240)


def read(pair):
    time.sleep(DELAY_S)
    random = np.random.default_rng(list(pair.key.encode()))
    return {band: random.normal(-14, 4, (24, 24)).astype(np.float32) for band in ("VV", "VH")}


if __name__ == "__main__":
    splits = ("train", "validation", "test")
    date = datetime(2017, 6, 1, tzinfo=UTC)
    pairs = [Pair(f"p{n:03d}", {}, ("a",), splits[n % 3], f"{n % 3}", date) for n in range(48)]
    address = sys.argv[4] if len(sys.argv) > 4 else ""
    with open_cluster(address, int(sys.argv[2])) as run:
        write_shards(pairs, read, Path(sys.argv[1]), inputs=INPUTS, task=Task(classes=("a",)), shard_pairs=4, run=run)
"""


def start(folder: Path, *arguments: object) -> "subprocess.Popen[bytes]":
    script = folder.parent / "script.py"
    script.write_text(SCRIPT)
    return subprocess.Popen([sys.executable, str(script), str(folder), *map(str, arguments)], cwd=folder.parent)


def contents(folder: Path) -> dict[str, bytes]:
    return {str(path.relative_to(folder)): path.read_bytes() for path in sorted(folder.rglob("*")) if path.is_file()}


def processes_of(folder: Path) -> list[str]:
    """Processes that work in a folder."""
    found = []
    for process in Path("/proc").iterdir():
        if process.name.isdigit():
            try:
                if (process / "cwd").resolve() == folder:
                    found.append((process / "cmdline").read_bytes().replace(b"\0", b" ").decode())
            except OSError:
                continue  # it has ended, or is another user's
    return found


def test_a_killed_run_goes_on_with_the_shards_that_it_had_finished(tmp_path):
    cut, whole = tmp_path / "cut" / "shards", tmp_path / "whole" / "shards"
    for folder in (cut, whole):
        folder.parent.mkdir()
    process = start(cut, 2, 0.1)
    deadline = time.monotonic() + 120
    while len(list(cut.glob("*/*/manifest.json"))) < 4 and time.monotonic() < deadline:
        time.sleep(0.02)
    os.kill(process.pid, signal.SIGKILL)
    process.wait()
    deadline = time.monotonic() + 60
    while processes_of(cut.parent) and time.monotonic() < deadline:
        time.sleep(0.1)
    assert processes_of(cut.parent) == [], "workers end with the process that started them"
    finished = {path: path.stat().st_mtime_ns for path in cut.glob("*/[0-9]*/pixels.npy")}
    assert 4 <= len(finished) < 12
    assert not (cut / "manifest.json").exists()

    assert start(cut, 1, 0).wait() == 0
    assert {path: path.stat().st_mtime_ns for path in finished} == finished
    assert start(whole, 2, 0).wait() == 0
    assert contents(cut) == contents(whole)
    assert len(ShardReader(cut, "train")) == 16


def test_a_driver_that_was_killed_goes_on_while_the_cluster_still_writes_its_jobs(tmp_path, foreign_cluster):
    cut, whole = tmp_path / "cut" / "shards", tmp_path / "whole" / "shards"
    for folder in (cut, whole):
        folder.parent.mkdir()
    process = start(cut, 0, 0.1, foreign_cluster.address)
    deadline = time.monotonic() + 120
    while len(list(cut.glob("*/*/manifest.json"))) < 2 and time.monotonic() < deadline:
        time.sleep(0.02)
    os.kill(process.pid, signal.SIGKILL)
    process.wait()
    assert start(cut, 0, 0.1, foreign_cluster.address).wait() == 0
    assert start(whole, 1, 0).wait() == 0
    assert contents(cut) == contents(whole)


def test_a_finished_shard_that_was_damaged_is_written_again(tmp_path, pairs, read_pair, inputs, classes, shards):
    def write():
        write_shards(pairs, read_pair, tmp_path, inputs=inputs, task=Task(classes=classes), shard_pairs=7)

    write()
    file, other = tmp_path / "train/00001/pixels.npy", tmp_path / "train/00000/pixels.npy"
    before = other.stat().st_mtime_ns
    file.write_bytes(file.read_bytes()[:-1] + b"\x7f")
    write()
    assert contents(tmp_path) == contents(shards)
    assert other.stat().st_mtime_ns == before


@pytest.mark.parametrize("content", ["", "{", "{}", '{"format": 1}'])
def test_a_manifest_that_a_crash_left_empty_is_written_again(
    tmp_path, pairs, read_pair, inputs, classes, shards, content
):
    settings = {"inputs": inputs, "task": Task(classes=classes), "shard_pairs": 7}
    write_shards(pairs, read_pair, tmp_path, **settings)
    (tmp_path / "train/00001/manifest.json").write_text(content)
    write_shards(pairs, read_pair, tmp_path, **settings)
    assert contents(tmp_path) == contents(shards)


def test_a_shard_of_other_labels_is_written_again(tmp_path, pairs, read_pair, inputs, classes):
    from dataclasses import replace

    settings = {"inputs": inputs, "task": Task(classes=classes), "shard_pairs": 7}
    write_shards(pairs, read_pair, tmp_path, **settings)
    write_shards([replace(pair, labels=("ice",)) for pair in pairs], read_pair, tmp_path, **settings)
    assert ShardReader(tmp_path, "train").labels.tolist() == [[0, 0, 0, 1]] * 17


def test_only_the_shard_of_a_pair_that_was_left_out_is_tried_again(tmp_path, pairs, read_pair, inputs, classes, shards):
    tried = []

    def read(pair):
        tried.append(pair.key)
        return read_pair(pair)

    def read_broken(pair):
        return read_pair(pair) | ({"VV": np.full((24, 24), np.nan, np.float32)} if pair.key == "train08" else {})

    settings = {"inputs": inputs, "task": Task(classes=classes), "shard_pairs": 7}
    left_out = write_shards(pairs, read_broken, tmp_path, **settings)
    assert [(item.key, item.fault) for item in left_out] == [("train08", "nodata")]
    assert write_shards(pairs, read, tmp_path, **settings) == []
    assert tried == [f"train{number:02d}" for number in range(7, 14)]
    assert contents(tmp_path) == contents(shards)


def test_pairs_left_out_without_leave_stop_the_stage_and_are_listed(tmp_path):
    left_out = [
        LeftOut("a", "unreadable", "Pair a, band VV: a_VV.tif cannot be read."),
        LeftOut("b", "units", "Pair b: int16\n  next:     export S1 as float32"),
    ]
    listing = tmp_path / "left_out.json"
    with pytest.raises(SourceError) as raised:
        require_tolerated(left_out, {"complete": 1}, listing, num_pairs=9)
    assert str(raised.value) == (
        "2 pairs can't be taken into the shards.\n"
        "units: 1 of 9 pairs, 0 tolerated; the first:\n"
        "    Pair b: int16\n"
        "      next:     export S1 as float32\n"
        f"  next:     mend them ({listing} lists all), or go on without them by data.tolerated: "
        "{complete: 1, units: 1} in params.yaml; then `dvc repro`, which keeps the finished shards"
    )
    assert [item["key"] for item in json.loads(listing.read_text())] == ["a", "b"]
    (agreed,) = re.findall(r"data.tolerated: ({.*?})", str(raised.value))
    require_tolerated(left_out, yaml.safe_load(agreed), listing, num_pairs=9)
    assert not listing.exists()


@pytest.mark.parametrize("fault", get_args(Fault))
def test_the_tolerance_that_is_advised_is_that_of_the_fault_and_enough(tmp_path, fault):
    left_out = [LeftOut(key, fault, f"Pair {key}") for key in "abc"]
    with pytest.raises(SourceError, match=rf"{CHECK_OF_FAULT[fault]}: 3 of 4 pairs, 0 tolerated") as raised:
        require_tolerated(left_out, {}, tmp_path / "left_out.json", num_pairs=4)
    (agreed,) = re.findall(r"data.tolerated: ({.*?})", str(raised.value))
    require_tolerated(left_out, yaml.safe_load(agreed), tmp_path / "left_out.json", num_pairs=4)


def test_where_no_pair_is_left_no_tolerance_is_advised(tmp_path):
    left_out = [LeftOut(key, "grid", f"Pair {key}") for key in "abc"]
    with pytest.raises(SourceError, match="3 of 3 pairs") as raised:
        require_tolerated(left_out, {}, tmp_path / "left_out.json", num_pairs=3)
    assert "tolerated:" not in str(raised.value).partition("next:")[2]


def write_together(start_line, job, results):
    start_line.wait()
    results.put(write_shard(job))


def test_two_processes_that_write_the_same_shard_both_end_with_it(tmp_path, pairs, read_pair, inputs, classes, shards):
    context = get_context("fork")
    job = ShardJob(tmp_path / "train" / "00000", tuple(pairs[:7]), read_pair, tuple(inputs), Task(classes=classes))
    for _ in range(20):
        start_line, results = context.Barrier(2), context.Queue()
        writers = [context.Process(target=write_together, args=(start_line, job, results)) for _ in range(2)]
        for writer in writers:
            writer.start()
        found = [results.get(timeout=60) for _ in writers]
        for writer in writers:
            writer.join(60)
        assert found[0] == found[1]
        assert contents(job.path) == contents(shards / "train" / "00000")
        assert [path.name for path in job.path.parent.iterdir()] == ["00000"]
        shutil.rmtree(job.path)


def test_what_killed_writers_left_beside_shards_is_removed(tmp_path, pairs, read_pair, inputs, classes, shards):
    left = tmp_path / "train" / ".00000-0123456789abcdef"
    left.mkdir(parents=True)
    (left / "pixels.npy").write_bytes(b"half")
    write_shards(pairs, read_pair, tmp_path, inputs=inputs, task=Task(classes=classes), shard_pairs=7)
    assert contents(tmp_path) == contents(shards)
