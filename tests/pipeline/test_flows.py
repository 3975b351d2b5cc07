"""The same graph through Prefect, with the real temporary server and no set-up."""

import json
import signal
import subprocess
import time

import psutil
import pytest

pytestmark = [pytest.mark.xdist_group("pipeline"), pytest.mark.timeout(1200)]


def test_pipeline_flow_runs_one_task_a_dvc_stage(finished):
    stages = finished.run(".venv/bin/dvc", "stage", "list", "--name-only").stdout.split()
    printed = finished.run(".venv/bin/python", "-m", "flows.pipeline").stdout
    for stage in stages:
        assert f"stage {stage} was up to date" in printed
    assert "Completed" in printed


def test_flow_leaves_nothing_outside_the_folder(finished):
    assert (finished.folder / ".prefect").exists()
    assert sorted(path.name for path in finished.home.iterdir()) == []


def test_flow_fails_when_a_stage_fails(finished):
    params = finished.folder / "params.yaml"
    text = params.read_text(encoding="utf-8")
    params.write_text(text.replace("threshold: 0.5", "threshold: 7.5"), encoding="utf-8")
    try:
        done = finished.run(".venv/bin/python", "-m", "flows.pipeline", "evaluate", check=False)
    finally:
        params.write_text(text, encoding="utf-8")
    assert done.returncode != 0
    assert "stage evaluate failed with exit code" in done.stdout
    assert "evaluate.threshold: got 7.5" in done.stdout
    # DVC removed the outputs of the stage that it tried: bring them back for whoever comes next.
    finished.run(".venv/bin/dvc", "repro", "--single-item", "evaluate")
    assert json.loads((finished.folder / "reports" / "evaluate" / "scores.json").read_text())["rows"]


DRIFT = "from flows.drift import drift; drift(model='fusmae@challenger')"
SCENES = """
import sys
from pathlib import Path
import rasterio
scale, source, scene = float(sys.argv[1]), Path(sys.argv[2]), Path("scenes", sys.argv[3], "s2")
scene.mkdir(parents=True)
for path in source.glob("*.tif"):
    with rasterio.open(path) as band:
        profile, pixels = band.profile, band.read()
    with rasterio.open(scene / path.name, "w", **profile) as out:
        out.write((pixels * scale).astype(pixels.dtype))
"""


def test_the_drift_flow_names_scenes_that_are_unlike_the_training_data(finished):
    patches = finished.folder / "data/raw/sample/v1_geotiff/BigEarthNet-S2-Example"
    source = next(path for path in sorted(patches.iterdir()) if path.is_dir())
    finished.python(SCENES, "5", str(source), "bright")
    printed = finished.run(".venv/bin/python", "-c", DRIFT).stdout
    assert "1 of 1 scenes drifted: bright" in printed
    assert (finished.folder / "reports/drift/bright/drift.html").exists()


def test_promotion_and_rollback_as_flows_write_the_ledger_with_their_run(finished):
    finished.run("git", "-c", "user.name=t", "-c", "user.email=t@example.org", "commit", "-qam", "lock", check=False)
    refused = finished.run(".venv/bin/python", "-m", "flows.champion", "rollback", check=False)
    assert refused.returncode != 0
    assert "fusmae has no champion: there is nothing to roll back" in refused.stdout
    assert "rollback fusmae was refused" in refused.stdout
    assert "Completed" in finished.run(".venv/bin/python", "-m", "flows.champion", "promote").stdout
    printed = finished.run(".venv/bin/fusmae", "ledger", "fusmae").stdout
    assert printed.count("by flow run") == 2
    assert "champion: fusmae/1" in printed


def test_a_flow_that_is_told_to_end_ends_its_training_process_too(finished):
    started = subprocess.Popen(
        [".venv/bin/python", "-m", "flows.pipeline", "pretrain"],
        cwd=finished.folder,
        env=finished.environment,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )
    params = finished.folder / "params.yaml"
    text = params.read_text(encoding="utf-8")
    try:
        # Another seed: there is something to do, and it does not end by itself.
        params.write_text(text.replace("seed: 0", "seed: 1").replace("epochs: 60", "epochs: 6000"), encoding="utf-8")
        training = wait_for(lambda: trainers_in(finished.folder))
        wait_for(lambda: list((finished.folder / ".fusmae").glob("pretrain-*/last.ckpt")))
        started.send_signal(signal.SIGTERM)
        started.wait(timeout=60)
        wait_for(lambda: not any(psutil.pid_exists(pid) for pid in training))
    finally:
        params.write_text(text, encoding="utf-8")
        finished.run(".venv/bin/dvc", "checkout", "--force")
    assert started.returncode != 0


def trainers_in(folder):
    """Processes that pretrain in a folder."""
    return [
        process.pid
        for process in psutil.process_iter(["cmdline"])
        if "pretrain" in (process.info["cmdline"] or [])
        and "fusmae" in process.info["cmdline"]
        and process.cwd() == str(folder)
    ]


def wait_for(condition, seconds=180):
    """What a condition gives, once it gives something."""
    ends = time.monotonic() + seconds
    while not (found := condition()):
        assert time.monotonic() < ends, "it did not happen"
        time.sleep(0.2)
    return found
