"""A small study in a fresh checkout: README's command, then what DVC runs again and what it leaves."""

import json
import re

import pytest
import yaml

pytestmark = [pytest.mark.xdist_group("study"), pytest.mark.timeout(900)]

# The smallest world, two variants, one seed, a few steps.
OVERRIDES = (
    "data.source={name: synthetic, num_pairs: 50, seed: 5}", "runtime.accelerator=cpu", "runtime.num_dask_workers=1",
    "model.dim=16", "model.depth=2", "model.num_heads=2", "model.decoder_dim=16", "model.decoder_num_heads=2",
    "pretrain.epochs=2", "pretrain.batch_size=8", "pretrain.warmup_epochs=0",
    "study.run=[fusmae, s1-only]", "study.seeds=[1]", "study.shares=[0.2, 1.0]", "study.num_pictures=1",
    "study.bootstrap_resamples=20",
    "study.finetune={steps: 3, batch_size: 8, learning_rate: 1.0e-3}",
    "study.segment={steps: 3, batch_size: 8, learning_rate: 1.0e-2}",
)  # fmt: skip


def dvc(workspace, *arguments):
    return workspace.run(".venv/bin/dvc", "--cd", "study", *arguments, OMP_NUM_THREADS="1").stdout


def stages_run(printed):
    return re.findall(r"Running stage '([^']+)'", printed)


@pytest.fixture(scope="module")
def studied(tmp_path_factory, new_workspace):
    workspace = new_workspace(tmp_path_factory.mktemp("studied") / "fusmae")
    options = " ".join(f"'{override}'" for override in OVERRIDES)
    workspace.printed = workspace.run("make", "study", f"STUDY={options}", OMP_NUM_THREADS="1").stdout
    return workspace


def test_the_study_command_composes_runs_every_cell_and_says_where_to_look(studied):
    params = yaml.safe_load((studied.folder / "study" / "params.yaml").read_text(encoding="utf-8"))
    assert params["data"]["source"] == {"name": "synthetic", "num_pairs": 50, "seed": 5, "value_per": "pixel"}
    assert params["study"]["run"] == ["fusmae", "s1-only"]
    cells = ("fusmae-1", "s1-only-1")
    expected = {"data", "report", *(f"{stage}@{cell}" for stage in ("pretrain", "measure") for cell in cells)}
    assert sorted(stages_run(studied.printed)) == sorted(expected)
    assert "look at study/report/report.html" in studied.printed


def test_the_report_has_both_variants_and_says_that_the_data_is_made_up(studied):
    page = (studied.folder / "study" / "report" / "report.html").read_text(encoding="utf-8")
    for wanted in ("fusmae", "s1-only", "SYNTHETIC data"):
        assert wanted in page


def test_metrics_and_plots_are_dvcs_too(studied):
    shown = json.loads(dvc(studied, "metrics", "show", "--json"))[""]["data"]["report/summary.json"]["data"]["scores"]
    written = json.loads((studied.folder / "study" / "report" / "summary.json").read_text(encoding="utf-8"))["scores"]
    assert set(shown) == {"fusmae", "s1-only"}
    for variant, by_protocol in shown.items():
        assert set(by_protocol) == {"knn", "probe", "finetune", "segment"}
        assert by_protocol["probe"]["20 %"]["score"] == written[variant]["probe"]["20 %"]["score"]
    plots = dvc(studied, "plots", "show", "--json")
    assert "label_efficiency.csv" in plots
    assert "training.csv" in plots
    assert '"errors"' not in plots


def test_git_sees_parameters_and_lock_and_no_stray_file(studied):
    changed = studied.run("git", "status", "--porcelain").stdout.split("\n")
    allowed = ("study/params.yaml", "study/dvc.lock")
    assert [line for line in changed if line and not line.endswith(allowed)] == []


def test_nothing_is_left_outside_the_folder(studied):
    assert sorted(path.name for path in studied.home.iterdir()) == []
    assert sorted(path.name for path in studied.scratch.iterdir()) == []


def test_the_pipeline_above_knows_nothing_of_the_study(studied):
    names = studied.run(".venv/bin/dvc", "stage", "list", "--all", "--name-only").stdout.split()
    assert "evaluate" in names
    assert not any("study" in name or name.startswith("measure@") for name in names)


def test_a_second_run_does_nothing(studied):
    printed = dvc(studied, "repro")
    assert "Data and pipelines are up to date" in printed
    assert stages_run(printed) == []


def test_a_variants_other_value_runs_that_variant_alone_and_the_report(studied):
    path = studied.folder / "study" / "params.yaml"
    params = yaml.safe_load(path.read_text(encoding="utf-8"))
    params["study"]["variants"]["s1-only"]["model"] = {"depth": 3}
    path.write_text(yaml.safe_dump(params, sort_keys=False, allow_unicode=True), encoding="utf-8")
    cells = studied.folder / "study" / "cells"
    before = {name: (cells / name / "cell.json").read_bytes() for name in ("fusmae-1", "s1-only-1")}
    assert stages_run(dvc(studied, "repro")) == ["pretrain@s1-only-1", "measure@s1-only-1", "report"]
    after = {name: (cells / name / "cell.json").read_bytes() for name in before}
    assert after["fusmae-1"] == before["fusmae-1"]
    parameters = [json.loads(found["s1-only-1"])["cost"]["parameters"] for found in (before, after)]
    assert parameters[0] < parameters[1]
