"""What made a version: written down when it is registered, refused where it is absent or damaged."""

import json
import subprocess
import sys
from pathlib import Path

import onnx
import pytest
import yaml

from fusmae.errors import LineageError, RegistryError
from fusmae.files import file_sha256, write_json
from fusmae.release.export.onnx_file import save_onnx
from fusmae.release.lineage.record import LINEAGE, record_lineage, version_tags
from fusmae.release.lineage.trace import lineage_text, trace
from fusmae.release.registry.versions import register_graph
from fusmae.runs.dvc_lock import dvc_md5

NAME = "tiny"
ARCHIVE = {"pixels.tar.gz": "sha256:abc"}
RUNS = {"pretrain": "reports/runs/pretrain.json", "finetune-pretrained": "reports/runs/finetune-pretrained.json"}
STAGES = {
    "fetch": ([], ["data/raw.json"]),
    "pretrain": (["data/raw.json"], ["models/pretrain", RUNS["pretrain"]]),
    "finetune@pretrained": (["models/pretrain"], ["models/finetune", RUNS["finetune-pretrained"]]),
    "probe": (["models/pretrain"], ["models/probe"]),
    "export": (["models/finetune"], ["models/export"]),
    "evaluate": (["models/finetune"], ["reports/scores.json"]),
}


def git(*arguments):
    identity = ["-c", "user.name=t", "-c", "user.email=t@example.org"]
    done = subprocess.run(["git", *identity, *arguments], check=True, capture_output=True, text=True)
    return done.stdout.strip()


def write_lock():
    """dvc.lock as DVC would have it, of the files that are there."""

    def hashed(paths):
        return [{"path": path, "hash": "md5", "md5": dvc_md5(Path(path))} for path in paths]

    stages = {
        name: {
            "cmd": name,
            "deps": [*hashed(deps), {"path": "fusmae/code.py", "hash": "md5", "md5": dvc_md5(Path("fusmae/code.py"))}],
            "params": {"params.yaml": {"seed": 7}},
            "outs": hashed(outs),
        }
        for name, (deps, outs) in STAGES.items()
    }
    Path("dvc.lock").write_text(yaml.safe_dump({"schema": "2.0", "stages": stages}), encoding="utf-8")


@pytest.fixture
def project(tmp_path, monkeypatch, exported):
    """A committed checkout in which every stage has run; two runs in its MLflow store."""
    from fusmae.runs.mlflow_store import connect, open_experiment

    monkeypatch.chdir(tmp_path)
    for name in ("MLFLOW_TRACKING_URI", "FUSMAE_FLOW_RUN_ID"):
        monkeypatch.delenv(name, raising=False)
    Path("fusmae").mkdir()
    Path("fusmae/code.py").write_text("1", encoding="utf-8")
    Path(".gitignore").write_text("/data\n/models\n/reports\n/mlruns\n/.fusmae\n", encoding="utf-8")
    write_json(Path("data/raw.json"), {"files": ARCHIVE, "licence": "free", "source": {"name": "sample"}})
    for folder in ("models/pretrain", "models/finetune", "models/probe"):
        write_json(Path(folder, "checkpoint.json"), {"sha256": f"weights of {folder}"})
    git("init", "-q", "-b", "main")
    git("add", ".")
    git("commit", "-q", "-m", "first")
    commit = git("rev-parse", "HEAD")
    connect()
    from mlflow import MlflowClient

    for stage, path in RUNS.items():
        tags = {"fusmae.git_commit": commit, "fusmae.git_is_dirty": "false", "fusmae.device": "a processor"}
        run = MlflowClient().create_run(open_experiment("test"), tags={**tags, "fusmae.num_threads": "2"})
        MlflowClient().set_terminated(run.info.run_id)
        write_json(Path(path), {"run_id": run.info.run_id, "experiment": "test", "stage": stage})
    trained = {
        "stage": "finetune-pretrained",
        "seed": 7,
        "inputs": {"models/pretrain": f"md5:{dvc_md5(Path('models/pretrain'))}"},
        "versions": {"torch": "2"},
    }
    metadata = {**exported.metadata, "git": {"commit": commit, "is_dirty": False}, "trained": trained}
    Path("models/export").mkdir()
    save_onnx(onnx.load(exported.path), metadata, Path("models/export/model.onnx"))
    write_json(Path("models/export/parity.json"), {"checks": []})
    write_json(Path("models/export/preprocessing.json"), {})
    write_json(Path("reports/scores.json"), {"rows": {}})
    write_lock()
    return metadata


def recorded(metadata):
    return record_lineage(
        NAME, Path("models/export/model.onnx"), metadata, Path("reports/scores.json"), Path("data/raw.json")
    )


def register(exported, metadata, *, with_lineage=True):
    files = [Path("models/export/parity.json"), Path("models/export/preprocessing.json")]
    if with_lineage:
        Path(LINEAGE).write_text(recorded(metadata).model_dump_json(), encoding="utf-8")
        files.append(Path(LINEAGE))
    return register_graph(
        NAME,
        Path("models/export/model.onnx"),
        extra_files=files,
        tags={},
        experiment="test",
        run_file=Path(RUNS["finetune-pretrained"]),
    )


def registered_file(name):
    """Where the registry keeps a version's file."""
    (found,) = Path("mlruns").rglob(f"extra_files/{name}")
    return found


def test_a_record_reaches_from_the_model_back_to_the_archives(project):
    found = recorded(project)
    assert [stage.name for stage in found.stages] == ["fetch", "pretrain", "finetune@pretrained", "export", "evaluate"]
    for path in ("models/export", "models/finetune", "models/pretrain", "data/raw.json", "reports/scores.json"):
        assert found.outs[path] == dvc_md5(Path(path))
    assert found.receipt["files"] == ARCHIVE
    assert {(path, md5) for stage in found.stages for path, md5 in stage.code.items()} == {
        ("fusmae/code.py", dvc_md5(Path("fusmae/code.py")))
    }
    assert found.params == {"seed": 7}
    assert found.weights["models/pretrain"] == "weights of models/pretrain"
    assert found.lock_sha256 == file_sha256(Path("dvc.lock"))
    assert found.gaps == ()
    assert found.starts == {}


def test_a_record_names_the_runs_of_all_its_ancestors_and_no_others(project):
    found = recorded(project)
    assert [run.stage for run in found.runs] == ["pretrain", "finetune-pretrained"]
    assert {run.commit for run in found.runs} == {git("rev-parse", "HEAD")}
    assert {(run.status, run.device, run.num_threads) for run in found.runs} == {("FINISHED", "a processor", 2)}


def test_uncommitted_code_is_in_the_record_and_dvc_lock_does_not_count_as_such(project):
    assert not recorded(project).git.is_dirty
    Path("fusmae/code.py").write_text("2", encoding="utf-8")
    assert recorded(project).git.is_dirty


def test_a_flow_run_is_recorded(project, exported, monkeypatch):
    assert recorded(project).flow_run == ""
    monkeypatch.setenv("FUSMAE_FLOW_RUN_ID", "flow-7")
    register(exported, project)
    assert "flow run   flow-7" in lineage_text(trace("tiny@challenger"))


def test_a_model_that_dvc_lock_does_not_know_has_no_hashes_but_a_reason(project):
    write_json(Path("models/export/parity.json"), {"checks": ["another"]})
    found = recorded(project)
    assert found.stages == ()
    (gap,) = found.gaps
    assert f"models/export was {dvc_md5(Path('models/export'))}" in gap


def test_without_dvc_there_are_no_hashes_but_a_reason(project):
    Path("dvc.lock").unlink()
    assert recorded(project).gaps == ("no DVC hash: there was no dvc.lock when it was registered",)


def test_a_run_file_that_was_changed_or_is_gone_is_not_believed(project):
    path = Path(RUNS["pretrain"])
    known = dvc_md5(path)
    write_json(path, {"run_id": "0" * 32, "experiment": "test", "stage": "pretrain"})
    for now in (dvc_md5(path), "gone"):
        found = recorded(project)
        assert [run.stage for run in found.runs] == ["finetune-pretrained"]
        assert found.gaps == (f"not used: {path} was {now} when it was registered, and dvc.lock knew {known}",)
        path.unlink(missing_ok=True)


def test_a_receipt_that_was_changed_is_not_believed(project):
    known = dvc_md5(Path("data/raw.json"))
    write_json(Path("data/raw.json"), {"files": {"pixels.tar.gz": "sha256:forged"}, "source": {"name": "sample"}})
    found = recorded(project)
    assert found.receipt == {}
    (gap,) = found.gaps
    now = dvc_md5(Path("data/raw.json"))
    assert gap == f"not used: data/raw.json was {now} when it was registered, and dvc.lock knew {known}"


def test_a_receipt_that_no_stage_knows_is_not_believed(project):
    write_json(Path("data/another.json"), {"files": ARCHIVE})
    graph, metrics = Path("models/export/model.onnx"), Path("reports/scores.json")
    found = record_lineage(NAME, graph, project, metrics, Path("data/another.json"))
    assert found.receipt == {}
    assert "dvc.lock knew none" in found.gaps[0]


def test_a_checkpoint_that_was_changed_is_not_believed(project):
    write_json(Path("models/pretrain/checkpoint.json"), {"sha256": "forged"})
    found = recorded(project)
    assert found.weights == {"models/finetune": "weights of models/finetune"}
    (gap,) = found.gaps
    assert gap.startswith("not used: models/pretrain was ")


def test_the_lineage_names_the_weights_that_a_training_started_from(project, exported, monkeypatch):
    path = "models/start/pretrain"
    facts = {"reference": "fusmae-encoder@champion", "origin": "fusmae-encoder/3", "sha256": "5e11a"}
    write_json(Path(path, "checkpoint.json"), {"sha256": "5e11a"})
    write_json(Path(path, "start.json"), facts)
    monkeypatch.setitem(STAGES, "start@pretrain", ([], [path]))
    monkeypatch.setitem(STAGES, "pretrain", ([*STAGES["pretrain"][0], path], STAGES["pretrain"][1]))
    write_lock()
    found = recorded(project)
    assert found.starts == {path: facts}
    assert found.weights[path] == "5e11a"
    assert found.outs[path] == dvc_md5(Path(path))
    assert "start@pretrain" in {stage.name for stage in found.stages}
    register(exported, project)
    printed = lineage_text(trace("tiny@challenger"))
    assert f"sha256:5e11a  fusmae-encoder/3, as fusmae-encoder@champion, copied to {path}" in printed
    assert trace("tiny@challenger").to_json()["starts"] == {path: facts}


def test_changes_that_nobody_wrote_down_are_unknown_and_not_called_clean(project, exported):
    from mlflow import MlflowClient

    from fusmae.runs.mlflow_store import open_experiment

    for stage, tags in (("pretrain", {}), ("finetune-pretrained", {"fusmae.git_commit": "c0ffee"})):
        run = MlflowClient().create_run(open_experiment("test"), tags=tags)
        MlflowClient().set_terminated(run.info.run_id)
        write_json(Path(RUNS[stage]), {"run_id": run.info.run_id, "experiment": "test", "stage": stage})
    write_lock()
    register(exported, project)
    printed = lineage_text(trace("tiny@challenger"))
    assert "commit none, changes unknown" in printed
    assert "commit c0ffee, changes unknown" in printed


def test_outside_of_a_git_checkout_nothing_is_called_clean(project):
    metadata = project | {"git": {"commit": None, "is_dirty": False}}
    found = recorded(metadata)
    assert found.exported.changes == "changes unknown"
    assert version_tags(found)["fusmae.git_is_dirty"] == "unknown"
    assert version_tags(recorded(project))["fusmae.git_is_dirty"] == "false"


def test_what_was_registered_is_read_back_whole(project, exported):
    wanted = recorded(project)
    register(exported, project)
    found = trace("tiny@challenger")
    assert found.lineage == wanted
    assert found.here == {run.run_id for run in wanted.runs}
    assert found.aliases == ("challenger",)


def test_lineage_prints_everything_that_it_was_asked_for(project, exported):
    register(exported, project)
    printed = lineage_text(trace("tiny@challenger"))
    run_ids = [json.loads(Path(path).read_text())["run_id"] for path in RUNS.values()]
    for wanted in (
        f"commit     {git('rev-parse', 'HEAD')}, clean",
        "seed: 7",
        "torch 2",
        f"made {dvc_md5(Path('data/raw.json'))}  data/raw.json",
        "sha256:abc  pixels.tar.gz",
        *(f"{run_id}   in this store" for run_id in run_ids),
    ):
        assert wanted in printed
    assert "starts from" not in printed
    found = json.loads(json.dumps(trace("tiny/1").to_json()))
    assert [run["run_id"] for run in found["runs"]] == run_ids
    assert {run["is_in_this_store"] for run in found["runs"]} == {True}
    assert found["stages"][0]["name"] == "fetch"


def test_runs_that_this_store_lacks_are_still_named_with_what_was_known_of_them(project, exported):
    from mlflow import MlflowClient

    run_id = json.loads(Path(RUNS["pretrain"]).read_text())["run_id"]
    register(exported, project)
    MlflowClient().delete_run(run_id)
    store = Path("mlruns/mlflow.db").absolute()
    mlflow = str(Path(sys.executable).with_name("mlflow"))
    subprocess.run([mlflow, "gc", "--backend-store-uri", f"sqlite:///{store}", "--run-ids", run_id], check=True)
    printed = lineage_text(trace("tiny@challenger"))
    assert f"pretrain   {run_id}   NOT in this store" in printed
    assert printed.count("on a processor") == 2


def test_a_cached_stage_whose_run_the_store_never_had_is_named_too(project, exported):
    write_json(Path(RUNS["pretrain"]), {"run_id": "f" * 32, "experiment": "test", "stage": "pretrain"})
    write_lock()
    register(exported, project)
    printed = lineage_text(trace("tiny@challenger"))
    assert f"pretrain   {'f' * 32}   NOT in this store" in printed


def test_registering_does_not_make_training_longer(project, exported):
    from mlflow import MlflowClient

    run_id = json.loads(Path(RUNS["finetune-pretrained"]).read_text())["run_id"]
    before = MlflowClient().get_run(run_id).info.end_time
    register(exported, project)
    assert MlflowClient().get_run(run_id).info.end_time == before


def test_a_version_without_lineage_is_refused_for_what_it_lacks(project, exported):
    register(exported, project, with_lineage=False)
    with pytest.raises(
        LineageError,
        match=r"tiny/1 was registered without its lineage(.|\n)*dvc repro -f -s export`, then `dvc repro` registers",
    ):
        trace("tiny@challenger")


@pytest.mark.parametrize("reference", ["tiny@champion", "tiny/9", "nothing@champion"])
def test_a_version_that_is_not_there_is_named(project, exported, reference):
    register(exported, project)
    with pytest.raises(RegistryError, match=f"has no {reference}"):
        lineage_text(trace(reference))


def test_a_registry_that_is_down_is_named(project, monkeypatch):
    monkeypatch.setenv("MLFLOW_TRACKING_URI", "http://127.0.0.1:9")
    monkeypatch.setenv("MLFLOW_HTTP_REQUEST_MAX_RETRIES", "0")
    with pytest.raises(RegistryError, match=r"127\.0\.0\.1:9 does not answer"):
        lineage_text(trace("tiny@champion"))


def test_a_plain_file_has_no_lineage(exported):
    with pytest.raises(LineageError, match="lineage is kept of registered versions"):
        lineage_text(trace(str(exported.path)))


def test_a_damaged_lineage_is_named(project, exported):
    register(exported, project)
    registered_file(LINEAGE).write_text('{"name": 3}', encoding="utf-8")
    with pytest.raises(LineageError, match=r"lineage\.json of tiny/1 can't be read"):
        lineage_text(trace("tiny@challenger"))


def test_a_lineage_of_another_model_is_refused(project, exported):
    register(exported, project)
    path = registered_file(LINEAGE)
    path.write_text(json.dumps({**json.loads(path.read_text()), "onnx_sha256": "0" * 64}), encoding="utf-8")
    with pytest.raises(LineageError, match="is of another model"):
        lineage_text(trace("tiny@challenger"))
