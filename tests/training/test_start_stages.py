"""The stages start, pretrain and finetune from other weights, on tiny shards, with MLflow on SQLite."""

import json
import shutil
from dataclasses import replace
from pathlib import Path

import pytest
import torch

from fusmae.errors import CheckpointError
from fusmae.stages.finetune import finetune
from fusmae.stages.pretrain import pretrain
from fusmae.stages.start import start
from fusmae.study.variants import variant_config
from fusmae.training.checkpoint import load_checkpoint, save_checkpoint
from fusmae.training.stage import TrainingStage

MINE, STARTED = "mine/encoder", Path("models/start/pretrain")


@pytest.fixture(scope="module")
def project(tiny, tmp_path_factory):
    """A folder with the data of the stages, and a checkpoint to start from."""
    folder = tmp_path_factory.mktemp("started")
    shutil.copytree(tiny.folder, folder / "data")
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(folder)
        patch.delenv("MLFLOW_TRACKING_URI", raising=False)
        with torch.random.fork_rng():
            torch.manual_seed(0)
            made = tiny.untrained(seed=7)
            weights = {name: tensor + torch.rand_like(tensor) for name, tensor in made.weights.items()}
        save_checkpoint(Path(MINE), replace(made, weights=weights))
        start(MINE, out=STARTED)
        yield variant_config(tiny.config, "fusmae", 1)


def pretrained(own, out, **changes):
    changes = {"epochs": 1, "warmup_epochs": 0, "num_pictures": 1, "evidence_pairs": 0} | changes
    pretrain(
        own.pretrain.model_copy(update=changes),
        TrainingStage(own.model, own.data, own.runtime, 1, "fusmae"),
        shards=Path("data/shards"),
        verdict=Path("data/verdict.json"),
        statistics=Path("data/statistics.json"),
        out=Path(out),
        pictures=Path(f"{out}-pictures"),
        run_file=Path(f"{out}.json"),
        start=STARTED,
    )
    return load_checkpoint(Path(out, "pretrained")), load_checkpoint(Path(out, "random"))


def finetuned(own, weights, out, **changes):
    finetune(
        own.finetune.model_copy(update={"epochs": 1, "warmup_epochs": 0, **changes}),
        TrainingStage(own.model, own.data, own.runtime, 1, "fusmae"),
        weights=Path(weights),
        shards=Path("data/shards"),
        out=Path(out),
        run_file=Path(f"{out}.json"),
        start=STARTED,
    )
    return load_checkpoint(Path(out))


@pytest.fixture(scope="module")
def kept(project):
    """Pretrained weights and random ones after 0 epochs."""
    return pretrained(project, "kept", start=MINE, epochs=0)


def same(one, other):
    return one.weights.keys() == other.weights.keys() and all(
        torch.equal(tensor, other.weights[name]) for name, tensor in one.weights.items()
    )


def test_no_epoch_keeps_the_weights_as_they_are_and_the_random_ones_stay_random(kept, tiny):
    taken, random = kept
    assert same(taken, load_checkpoint(Path(MINE)))
    assert same(random, tiny.untrained(seed=1))


def test_the_checkpoint_states_its_start_and_the_run_has_it_too(kept):
    from mlflow import MlflowClient
    from mlflow.artifacts import load_dict

    taken, random = kept
    stated = taken.provenance["start"]
    assert (stated["reference"], stated["origin"]) == (MINE, str(Path(MINE).absolute()))
    assert len(stated["taken"]) == len(taken.weights)
    assert stated["initialised"] == stated["unused"] == []
    assert str(STARTED) in taken.provenance["inputs"]
    assert "start" not in random.provenance
    run = MlflowClient().get_run(json.loads(Path("kept.json").read_text(encoding="utf-8"))["run_id"])
    assert run.data.params["pretrain.start"] == MINE
    assert load_dict(f"{run.info.artifact_uri}/start.json") == stated


def test_training_goes_on_from_the_weights_that_were_taken(project, tiny):
    save_checkpoint(Path("initial"), tiny.untrained(seed=1))
    by_default, random = pretrained(project, "by_default")
    assert not same(by_default, random)
    assert "start" not in by_default.provenance
    assert str(STARTED) not in by_default.provenance["inputs"]
    start("initial", out=STARTED)
    try:
        from_initial, _ = pretrained(project, "from_initial", start="initial")
    finally:
        start(MINE, out=STARTED)
    assert same(from_initial, by_default)
    from_mine, _ = pretrained(project, "from_mine", start=MINE)
    assert not same(from_mine, by_default)


def test_the_row_pretrained_finetunes_the_start_and_the_row_random_does_not(project, kept, tiny):
    for name in ("pretrained", "random"):
        save_checkpoint(Path("other", name), tiny.untrained(seed=9))
    expected = finetuned(project, "kept/pretrained", "models/expected")
    found = finetuned(project, "other/pretrained", "models/found", start=MINE)
    assert same(found, expected)
    assert found.provenance["start"]["origin"] == str(Path(MINE).absolute())
    assert str(STARTED) in found.provenance["inputs"]
    plain, asked = (finetuned(project, "other/random", f"models/random-{at}", start=at) for at in ("", MINE))
    assert same(plain, asked)
    assert "start" not in asked.provenance


def test_other_weights_than_the_parameter_names_are_refused_before_anything_is_written(project):
    with pytest.raises(CheckpointError, match="does not hold the weights to start from"):
        pretrained(project, "refused", start="mine/another")
    assert not Path("refused").exists()
