"""The stages probe and evaluate on tiny shards, with MLflow on SQLite."""

import json
import shutil
from pathlib import Path

import numpy as np
import pytest
import torch

from fusmae.config.task import Task
from fusmae.config.training import EvaluateConfig, ProbeConfig
from fusmae.evaluation.conditions import conditions_of
from fusmae.evaluation.features import CheckpointEncoder, features_of
from fusmae.evaluation.probe import fit_probe
from fusmae.stages.evaluate import evaluate
from fusmae.stages.probe import probe
from fusmae.study.variants import variant_config
from fusmae.training.checkpoint import load_checkpoint, save_checkpoint
from fusmae.training.stage import TrainingStage
from fusmae.training.supervised import start_finetuning

pytestmark = pytest.mark.xdist_group("measured")

BOTH = ("s1", "s2")
SETTINGS = ("s1+s2", "s1", "s2")
WEIGHTS = ("pretrained", "random")


@pytest.fixture(scope="module")
def measured(tiny, tmp_path_factory, classes):
    """A folder in which both stages ran, from two sets of weights."""
    folder = tmp_path_factory.mktemp("measured")
    shutil.copytree(tiny.folder, folder / "data")
    own = variant_config(tiny.config, "fusmae", 1)
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    with pytest.MonkeyPatch.context() as patch, torch.random.fork_rng():
        patch.chdir(folder)
        patch.delenv("MLFLOW_TRACKING_URI", raising=False)
        for seed, name in enumerate(WEIGHTS):
            start = tiny.untrained(seed=seed)
            save_checkpoint(Path("models/pretrain", name), start)
            module = start_finetuning(start, own.finetune, tiny.data().reader("train"), seed)
            finetuned = start.with_head(own.finetune.readout, Task(classes=classes), {}, module.model.state_dict())
            save_checkpoint(Path("models/finetune", name), finetuned)
            probe(
                ProbeConfig(batch_size=4, readout="mean"),
                TrainingStage(own.model, own.data, own.runtime, 1, "fusmae"),
                weights=Path("models/pretrain", name),
                shards=Path("data/shards"),
                out=Path("models/probe", name),
                run_file=Path("runs", f"probe-{name}.json"),
            )
        evaluate(
            EvaluateConfig(batch_size=4, neighbours=3, encoder_pairs=100, threshold=0.5, bootstrap_resamples=20),
            own.data,
            own.runtime,
            seed=1,
            models=Path("models"),
            shards=Path("data/shards"),
            index=Path("data/index.parquet"),
            out=Path("reports"),
            runs=Path("runs"),
        )
        yield folder
    torch.set_num_threads(threads)


def scores_of(folder):
    return json.loads((folder / "reports" / "scores.json").read_text(encoding="utf-8"))["rows"]


def test_every_protocol_initialisation_and_setting_has_a_row_a_curve_and_a_line(measured):
    rows = scores_of(measured)
    names = {(p, w, s) for p, by_weights in rows.items() for w, by_setting in by_weights.items() for s in by_setting}
    assert names == {(p, w, s) for p in ("knn", "probe", "finetune") for w in WEIGHTS for s in SETTINGS}
    assert {path.stem for path in (measured / "reports" / "pr").iterdir()} == {"-".join(name) for name in names}
    table = (measured / "reports" / "table.md").read_text(encoding="utf-8")
    assert all(f"| {' | '.join(name)} |" in table for name in names)


def test_a_probe_checkpoint_has_the_encoder_as_it_was_and_the_fitted_heads(measured, tiny, classes):
    start, probed = (load_checkpoint(measured / "models" / stage / "pretrained") for stage in ("pretrain", "probe"))
    encoder, data, conditions = CheckpointEncoder(start, "mean"), tiny.data(), conditions_of(BOTH, BOTH)
    for name, tensor in encoder.encoder.state_dict().items():
        assert torch.equal(probed.weights[f"encoder.{name}"], tensor), name
    assert probed.task == Task(classes=classes)
    cpu = torch.device("cpu")
    features = {split: features_of(encoder, data, split, conditions, cpu) for split in ("train", "validation", "test")}
    labels = {split: np.asarray(data.reader(split).labels) for split in ("train", "validation")}
    for name in SETTINGS:
        train, validation = features["train"][name], features["validation"][name]
        fitted = fit_probe(train, labels["train"], validation, labels["validation"], Task(classes=classes))
        assert probed.provenance["chosen"][name] == {
            "strength": fitted.strength,
            "validation_macro_ap": pytest.approx(fitted.score),
        }
        given = features["test"][name]
        with torch.no_grad():
            found = probed.probe_head(name)(torch.from_numpy(given)).sigmoid()
        np.testing.assert_allclose(found, fitted.predict(given), atol=1e-5)


def test_runs_tell_what_was_chosen_and_how_it_scored(measured):
    from mlflow import MlflowClient

    run_id = json.loads((measured / "runs" / "probe-random.json").read_text(encoding="utf-8"))["run_id"]
    metrics, rows = MlflowClient().get_run(run_id).data.metrics, scores_of(measured)
    assert metrics["s1-s2/strength"] in [10.0**power for power in range(-5, 2)]
    assert 0 < metrics["s2/validation_macro_ap"] <= 1
    assert metrics["test/s1-s2/macro_ap"] == rows["probe"]["random"]["s1+s2"]["macro_ap"]
    assert metrics["test-knn/s1/micro_ap"] == rows["knn"]["random"]["s1"]["micro_ap"]


def test_probing_again_gives_the_same_heads(measured, tiny):
    own = variant_config(tiny.config, "fusmae", 1)
    probe(
        ProbeConfig(batch_size=4, readout="mean"),
        TrainingStage(own.model, own.data, own.runtime, 1, "fusmae"),
        weights=Path("models/pretrain/random"),
        shards=Path("data/shards"),
        out=Path("again"),
        run_file=Path("again.json"),
    )
    first, again = (load_checkpoint(folder) for folder in (Path("models/probe/random"), Path("again")))
    assert all(torch.equal(tensor, again.weights[name]) for name, tensor in first.weights.items())
