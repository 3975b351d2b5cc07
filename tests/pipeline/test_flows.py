"""The same graph through Prefect, with the real temporary server and no set-up."""

import json

import pytest

pytestmark = [pytest.mark.xdist_group("pipeline"), pytest.mark.timeout(1200)]


def test_pipeline_flow_runs_one_task_a_dvc_stage(finished):
    stages = finished.run(".venv/bin/dvc", "stage", "list", "--name-only").stdout.split()
    printed = finished.run(".venv/bin/python", "-m", "flows.pipeline").stdout
    for stage in stages:
        assert f"stage {stage} is up to date" in printed
    assert "Completed" in printed


def test_flow_leaves_nothing_outside_the_folder(finished):
    assert (finished.folder / ".prefect").exists()
    assert sorted(path.name for path in finished.home.iterdir()) == []


def test_flow_fails_when_a_stage_fails(finished):
    params = finished.folder / "params.yaml"
    text = params.read_text(encoding="utf-8")
    params.write_text(text.replace("threshold: 0.5", "threshold: 7.5"), encoding="utf-8")
    try:
        done = finished.run(".venv/bin/python", "-m", "flows.evaluate", check=False)
    finally:
        params.write_text(text, encoding="utf-8")
    assert done.returncode != 0
    assert "stage evaluate failed with exit code" in done.stdout
    assert "evaluate.threshold: got 7.5" in done.stdout
    # DVC removed the outputs of the stage that it tried: bring them back for whoever comes next.
    finished.run(".venv/bin/dvc", "repro", "--single-item", "evaluate")
    assert json.loads((finished.folder / "reports" / "evaluate" / "metrics.json").read_text())["rows"]
