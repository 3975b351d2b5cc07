"""The whole pipeline in a fresh checkout with an empty HOME, and what must be true of what it made."""

import json
import resource
import tomllib

import numpy as np
import pytest
import yaml

pytestmark = [pytest.mark.xdist_group("pipeline"), pytest.mark.timeout(1800)]

TRAINING_STAGES = {"pretrain", "probe-pretrained", "probe-random", "finetune-pretrained", "finetune-random"}


def json_of(workspace, *parts):
    return json.loads(workspace.folder.joinpath(*parts).read_text(encoding="utf-8"))


def test_pipeline_command_of_readme_ends_with_where_to_look(finished):
    for wanted in (
        "| finetune | random | s1+s2 |",
        "reports/evaluate/table.md",
        "models:/fusmae@challenger",
        "make ui",
    ):
        assert wanted in finished.printed


def test_second_repro_does_nothing(finished):
    printed = finished.run(".venv/bin/dvc", "repro").stdout
    assert "Data and pipelines are up to date" in printed
    assert "Running stage" not in printed


def stages_to_run(workspace):
    return set(json.loads(workspace.run(".venv/bin/dvc", "status", "--json").stdout))


@pytest.fixture
def commented(finished):
    """Appends a comment to files of the package, until the test ends."""
    before = {}

    def comment(*files):
        for name in files:
            path = finished.folder / "fusmae" / name
            before[path] = path.read_bytes()
            path.write_bytes(before[path] + b"# a comment\n")

    yield comment
    for path, content in before.items():
        path.write_bytes(content)


def test_a_comment_in_thresholds_pages_the_service_or_another_source_makes_no_training_run_again(finished, commented):
    commented("config/gate.py", "serving/app.py", "sources/sen12ms/source.py", "runs/tracking.py")
    assert stages_to_run(finished) == set()
    commented("reports/page.py")
    assert stages_to_run(finished) == {"examine"}


def test_a_change_of_the_model_makes_its_training_run_again_and_no_sharding(finished, commented):
    commented("models/encoder.py")
    found = stages_to_run(finished)
    assert {
        "pretrain",
        "probe@random",
        "finetune@pretrained",
        "evaluate",
        "export@classifier",
        "export@encoder",
    } <= found
    assert not {"fetch", "index", "shard", "examine"} & found


# What may be short on the machine that the tests run on.
MACHINE = {"cores", "memory", "open files", "shared memory", "disk project", "disk cache", "disk temporary", "gpu"}


def test_doctor_finds_nothing_wrong_after_the_pipeline(finished):
    done = finished.run(".venv/bin/python", "-m", "fusmae", "doctor", "--json")
    findings = json.loads(done.stdout[done.stdout.index("{") :])["findings"]
    wrong = [finding for finding in findings if finding["status"] in ("error", "warning")]
    assert [finding for finding in wrong if finding["name"] not in MACHINE] == []
    (git,) = (finding["found"] for finding in findings if finding["name"] == "git")
    has_new_results = finished.run("git", "status", "--porcelain").stdout == " M dvc.lock\n"
    assert ('git commit -m "Lock the results" dvc.lock' in git) == has_new_results


def test_nothing_is_left_outside_the_folder(finished):
    assert sorted(path.name for path in finished.home.iterdir()) == []
    assert sorted(path.name for path in finished.scratch.iterdir()) == []
    assert finished.left_outside == []


def test_git_sees_no_stray_file(finished):
    changed = finished.run("git", "status", "--porcelain").stdout.split("\n")
    assert [line for line in changed if line and not line.endswith("dvc.lock")] == []


def test_table_has_every_protocol_weights_and_modality_setting(finished):
    rows = json_of(finished, "reports", "evaluate", "scores.json")["rows"]
    found = {(p, w, s) for p, by_weights in rows.items() for w, by_setting in by_weights.items() for s in by_setting}
    assert found == {
        (p, w, s) for p in ("knn", "probe", "finetune") for w in ("pretrained", "random") for s in ("s1+s2", "s1", "s2")
    }


def test_absent_classes_are_named_and_left_out_of_macro_ap(finished):
    metrics = json_of(finished, "reports", "evaluate", "scores.json")
    assert metrics["absent_classes"]
    scores = metrics["rows"]["finetune"]["pretrained"]["s1+s2"]
    assert not set(metrics["absent_classes"]) & set(scores["per_class"])
    assert scores["macro_ap"] == pytest.approx(np.mean(list(scores["per_class"].values())))


def test_reconstruction_pictures_are_there_and_not_blank(finished):
    from PIL import Image

    pictures = sorted((finished.folder / "reports" / "reconstructions").glob("*.png"))
    assert len(pictures) == 4
    for picture in pictures:
        assert np.asarray(Image.open(picture).convert("RGB")).std() > 10


def test_pretraining_lowers_the_loss_well_below_that_of_a_mean_guess(finished):
    # Targets have unit variance in each patch: predicting a patch's mean costs 1 a modality, 2 in all.
    script = (
        "import mlflow, json; mlflow.set_tracking_uri('sqlite:///mlruns/mlflow.db');"
        "run = json.load(open('reports/runs/pretrain.json'))['run_id'];"
        "print(json.dumps([m.value for m in mlflow.MlflowClient().get_metric_history(run, 'validation/loss')]))"
    )
    losses = json.loads(finished.python(script).splitlines()[-1])
    assert losses[-1] < losses[0]
    assert losses[-1] < 1.7


def test_plots_of_precision_recall_render(finished):
    printed = finished.run(".venv/bin/dvc", "plots", "show", "--json").stdout
    shown = json.loads(printed[printed.index("{") :])
    found = {name.rpartition("/")[2].removesuffix(".json") for name in shown["data"]}
    assert found == {
        f"{protocol}-{weights}-{setting}"
        for protocol in ("knn", "probe", "finetune")
        for weights in ("pretrained", "random")
        for setting in ("s1+s2", "s1", "s2")
    }


def test_onnx_metadata_states_all_that_a_user_must_know(finished):
    import onnx

    graph = onnx.load(finished.folder / "models" / "export" / "model.onnx")
    metadata = json.loads(next(item.value for item in graph.metadata_props if item.key == "fusmae"))
    assert metadata["modalities"] == ["s1", "s2"]
    assert [item["name"] for item in metadata["inputs"]] == ["s1_10m", "s2_10m", "s2_20m", "s2_60m"]
    assert [item["units"] for item in metadata["inputs"]] == ["dB", "DN", "DN", "DN"]
    assert metadata["inputs"][2]["bands"] == ["B05", "B06", "B07", "B8A", "B11", "B12"]
    assert (metadata["tile_m"], metadata["tile_px"], len(metadata["classes"])) == (1200, 120, 19)
    assert metadata["git"]["commit"] == finished.run("git", "rev-parse", "HEAD").stdout.strip()
    assert {value.name for value in graph.graph.input} == {"s1_10m", "s2_10m", "s2_20m", "s2_60m", "presence"}
    assert "one graph for every setting" in metadata["presence"]


def test_parity_was_measured_on_every_test_pair_setting_and_batch_size(finished):
    parity = json_of(finished, "models", "export", "parity.json")
    checked = {("+".join(check["modalities"]), check["batch_size"]) for check in parity["checks"]}
    assert checked == {(setting, size) for setting in ("s1+s2", "s1", "s2") for size in (1, 3, 8)}
    assert all(check["max_abs_error"] <= 1e-4 for check in parity["checks"])
    test_shards = json_of(finished, "data", "shards", "manifest.json")["splits"]["test"]
    assert parity["num_pairs"] == sum(shard["count"] for shard in test_shards)


REFERENCE = """
import sys, numpy as np, torch
from pathlib import Path
from fusmae.data.shards import ShardReader
from fusmae.models.preprocess import Preprocess
from fusmae.training.checkpoint import load_checkpoint
reader = ShardReader(Path("data/shards"), "test")
pixels = reader.read([0, 1, 2])
checkpoint = load_checkpoint(Path("models/finetune/pretrained"))
model = checkpoint.predictor()
with torch.no_grad():
    tiles = Preprocess(checkpoint.preprocessing)({k: torch.from_numpy(v) for k, v in pixels.items()})
    np.savez(sys.argv[1], logits=model(tiles).numpy(), **{k: v.astype("float32") for k, v in pixels.items()})
"""


@pytest.fixture(scope="session")
def real_pairs(finished, tmp_path_factory):
    path = tmp_path_factory.mktemp("pairs") / "pairs.npz"
    finished.python(REFERENCE, str(path))
    return path


PYFUNC = """
import sys, mlflow, numpy as np
mlflow.set_tracking_uri("sqlite:///mlruns/mlflow.db")
given = dict(np.load(sys.argv[1]))
wanted = given.pop("logits")
model = mlflow.pyfunc.load_model("models:/fusmae@challenger")
found = model.predict({**given, "presence": np.ones((len(wanted), 2), "float32")})
assert np.abs(found["logits"] - wanted).max() <= 1e-4
alone = model.predict({**given, "s1_10m": given["s1_10m"] * np.nan, "presence": np.array([[0, 1]] * 3, "float32")})
assert np.isfinite(alone["probabilities"]).all()
print("pyfunc agrees")
"""


def test_pyfunc_loads_the_challenger_and_predicts_on_real_pairs(finished, real_pairs):
    assert "pyfunc agrees" in finished.python(PYFUNC, str(real_pairs))


RUNS = """
import json, mlflow
mlflow.set_tracking_uri("sqlite:///mlruns/mlflow.db")
client = mlflow.MlflowClient()
experiment = client.get_experiment_by_name("fusmae")
runs = client.search_runs([experiment.experiment_id])
print(json.dumps([{
    "name": run.info.run_name, "status": run.info.status, "tags": dict(run.data.tags), "params": dict(run.data.params),
    "metrics": dict(run.data.metrics), "inputs": {i.dataset.name: i.dataset.digest for i in run.inputs.dataset_inputs},
    "files": [f.path for f in client.list_artifacts(run.info.run_id)],
} for run in runs]))
"""


@pytest.fixture(scope="session")
def runs(finished):
    return {run["name"]: run for run in json.loads(finished.python(RUNS).splitlines()[-1])}


def test_one_run_a_training_stage(finished, runs):
    assert set(runs) == TRAINING_STAGES
    assert len(json.loads(finished.python(RUNS).splitlines()[-1])) == len(TRAINING_STAGES)
    assert {run["status"] for run in runs.values()} == {"FINISHED"}


def test_runs_carry_commit_dirty_flag_params_curves_and_system_metrics(finished, runs):
    commit = finished.run("git", "rev-parse", "HEAD").stdout.strip()
    for name, run in runs.items():
        assert run["tags"]["fusmae.git_commit"] == commit, name
        assert run["tags"]["fusmae.git_is_dirty"] == "false", name
        assert run["params"]["seed"] == "0", name
        fitted = "s1-s2/strength" if name.startswith("probe") else "train/loss"
        assert fitted in run["metrics"], name
        # A probe may be fitted before the first sample is taken.
        assert "system/cpu_utilization_percentage" in run["metrics"] or name.startswith("probe"), name


def test_runs_carry_the_dvc_hashes_of_their_inputs(finished, runs):
    lock = yaml.safe_load((finished.folder / "dvc.lock").read_text(encoding="utf-8"))
    recorded = {out["path"]: out["md5"] for stage in lock["stages"].values() for out in stage["outs"]}
    assert runs["pretrain"]["inputs"] == {p: recorded[p] for p in ("data/shards", "data/statistics.json")}
    assert runs["probe-random"]["inputs"] == {p: recorded[p] for p in ("models/pretrain/random", "data/shards")}


def test_pictures_and_scores_are_in_the_runs(runs):
    assert "reconstructions" in runs["pretrain"]["files"]
    assert "test/s1-s2/micro_ap" in runs["finetune-pretrained"]["metrics"]
    assert {"test/s1-s2/micro_ap", "test-knn/s1-s2/micro_ap"} <= runs["probe-random"]["metrics"].keys()
    assert "evaluate" in runs["finetune-pretrained"]["files"]


def test_logged_model_holds_card_parity_report_and_preprocessing_spec(finished):
    script = (
        "import mlflow, json; from pathlib import Path; mlflow.set_tracking_uri('sqlite:///mlruns/mlflow.db');"
        "folder = Path(mlflow.artifacts.download_artifacts('models:/fusmae@challenger'));"
        "print(json.dumps([str(p.relative_to(folder)) for p in folder.rglob('*')]))"
    )
    files = json.loads(finished.python(script).splitlines()[-1])
    assert {
        "extra_files/card.md",
        "extra_files/parity.json",
        "extra_files/preprocessing.json",
        "extra_files/mlm.json",
    } <= set(files)


def test_the_encoder_is_registered_beside_the_classifier_with_its_checkpoint(finished):
    assert json_of(finished, "reports", "register-encoder", "version.json")["name"] == "fusmae-encoder"
    script = (
        "import mlflow, json; from pathlib import Path; mlflow.set_tracking_uri('sqlite:///mlruns/mlflow.db');"
        "folder = Path(mlflow.artifacts.download_artifacts('models:/fusmae-encoder@challenger'));"
        "print(json.dumps([str(p.relative_to(folder)) for p in folder.rglob('*')]))"
    )
    files = json.loads(finished.python(script).splitlines()[-1])
    names = (
        "card.md",
        "model.safetensors",
        "checkpoint.json",
        "scores.json",
        "parity.json",
        "reference.npz",
        "mlm.json",
    )
    assert {f"extra_files/{name}" for name in names} <= set(files)


def test_registering_the_same_graph_again_gives_the_same_version(finished):
    before = json_of(finished, "reports", "register", "version.json")
    finished.run(".venv/bin/dvc", "repro", "--force", "--single-item", "register")
    assert json_of(finished, "reports", "register", "version.json") == before
    script = (
        "import mlflow; mlflow.set_tracking_uri('sqlite:///mlruns/mlflow.db');"
        "print(len(mlflow.MlflowClient().search_model_versions(\"name = 'fusmae'\")))"
    )
    assert finished.python(script).split()[-1] == "1"


def test_no_process_of_the_pipeline_takes_more_than_4_gb(finished):
    # Of all children that this worker has waited for, the largest; Linux counts in KiB.
    assert resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss < 4 * 2**20


def test_models_hold_no_pickle(finished):
    files = [path for path in (finished.folder / "models").rglob("*") if path.is_file()]
    assert {path.suffix for path in files} == {".safetensors", ".json", ".onnx", ".npz"}
    for archive in (path for path in files if path.suffix == ".npz"):
        with np.load(archive, allow_pickle=False) as arrays:  # raises at an array of objects
            assert all(arrays[name].size for name in arrays.files)


def test_resume_checkpoints_are_gone_when_stages_are_done(finished):
    assert list((finished.folder / ".fusmae").rglob("*.ckpt")) == []


def test_package_version_is_the_changelogs_newest(finished):
    version = tomllib.loads((finished.folder / "pyproject.toml").read_text())["project"]["version"]
    assert f"## {version}" in (finished.folder / "CHANGELOG.md").read_text(encoding="utf-8")
