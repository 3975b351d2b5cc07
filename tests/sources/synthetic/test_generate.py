import hashlib
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from fusmae.errors import SourceError
from fusmae.sources.synthetic.plan import World, blocks_of
from fusmae.sources.synthetic.source import MARKER, SyntheticSource, generate, identity_of, scene_folders


def digests(raw: Path) -> dict[str, str]:
    return {
        str(path.relative_to(raw)): hashlib.sha256(path.read_bytes()).hexdigest()
        for path in sorted(raw.rglob("*"))
        if path.is_file()
    }


def test_same_seed_and_size_give_the_same_bytes_with_one_and_with_two_processes(made, tmp_path):
    generate(made.world, tmp_path / "one", num_processes=1)
    generate(made.world, tmp_path / "two", num_processes=2)
    assert digests(tmp_path / "one") == digests(tmp_path / "two") == digests(made.raw)


def test_another_seed_gives_other_pixels():
    from fusmae.sources.synthetic.scene import make_scene

    first, second = (make_scene(seed, blocks_of(World(50, 0))[0]) for seed in (0, 1))
    assert (first.bands["B02"] != second.bands["B02"]).mean() > 0.9
    assert (first.bands["VV"] != second.bands["VV"]).mean() > 0.9


def test_killed_generation_goes_on_and_keeps_finished_blocks(made, tmp_path):
    raw = tmp_path / "raw"
    code = (
        "from pathlib import Path\n"
        "from fusmae.sources.synthetic.source import generate\n"
        "from fusmae.sources.synthetic.plan import World\n"
        f"generate(World({made.world.num_pairs}, {made.world.seed}), Path({str(raw)!r}), num_processes=1)\n"
    )
    process = subprocess.Popen([sys.executable, "-c", code], stderr=subprocess.DEVNULL)
    end = time.monotonic() + 120
    while len(list(raw.glob(".blocks/*.json"))) < 4 and time.monotonic() < end:
        time.sleep(0.01)
    os.kill(process.pid, signal.SIGKILL)
    process.wait()
    finished = {path: path.stat().st_mtime_ns for path in _scenes_of_records(raw, made.world)}
    assert finished
    assert not (raw / "metadata.parquet").exists()

    generate(made.world, raw, num_processes=1)

    assert {path: path.stat().st_mtime_ns for path in finished} == finished
    assert digests(raw) == digests(made.raw)


def _scenes_of_records(raw: Path, world: World) -> list[Path]:
    numbers = {int(path.stem) for path in raw.glob(".blocks/*.json")}
    return [folder for block in blocks_of(world) if block.number in numbers for folder in scene_folders(raw, block)]


def test_a_removed_scene_is_made_again(made, tmp_path):
    import shutil

    raw = tmp_path / "raw"
    shutil.copytree(made.raw, raw)
    shutil.rmtree(scene_folders(raw, blocks_of(made.world)[3])[1])
    generate(made.world, raw, num_processes=1)
    assert digests(raw) == digests(made.raw)


def test_a_finished_world_is_left_as_it_is(made):
    before = {path: path.stat().st_mtime_ns for path in made.raw.rglob("*")}
    made.source.fetch(made.raw.parent, made.raw)
    assert {path: path.stat().st_mtime_ns for path in made.raw.rglob("*")} == before


def test_another_world_is_removed_first(tmp_path):
    generate(World(14, 1), tmp_path / "raw", num_processes=1)
    scenes = set((tmp_path / "raw" / "BigEarthNet-S2").iterdir())
    generate(World(15, 2), tmp_path / "raw", num_processes=1)
    assert identity_of(tmp_path / "raw") == str(World(15, 2))
    assert not scenes & set((tmp_path / "raw" / "BigEarthNet-S2").iterdir())
    assert len(SyntheticSource(15, 2).pairs(tmp_path / "raw")) == 15


def test_foreign_data_is_never_removed(tmp_path):
    (tmp_path / "metadata.parquet").write_bytes(b"somebody's")
    with pytest.raises(SourceError, match="other than a synthetic world"):
        generate(World(50, 0), tmp_path, num_processes=1)
    assert (tmp_path / "metadata.parquet").read_bytes() == b"somebody's"


def test_two_runs_for_one_folder_wait_for_each_other(tmp_path):
    from concurrent.futures import ThreadPoolExecutor

    world = World(10, 0)
    with ThreadPoolExecutor(2) as pool:
        list(pool.map(lambda _: generate(world, tmp_path / "raw", num_processes=1), range(2)))
    generate(world, tmp_path / "alone", num_processes=1)
    assert digests(tmp_path / "raw") == digests(tmp_path / "alone")


def test_progress_goes_to_stderr_only(tmp_path, capfd):
    generate(World(4, 0), tmp_path / "raw", num_processes=1)
    captured = capfd.readouterr()
    assert captured.out == ""
    assert "synthetic pairs" in captured.err


def test_marker_says_in_words_that_all_is_made_up(made):
    assert (made.raw / MARKER).read_text().startswith("SYNTHETIC: every pixel and label in this folder is made up")
