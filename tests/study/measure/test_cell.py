"""Cells as the stages write them: tiny shards, the real trainer, MLflow on SQLite."""

import json
import shutil
import subprocess
from functools import partial
from pathlib import Path

import numpy as np
import pytest
import torch
import torchgeo.models
from sklearn.metrics import average_precision_score

from fusmae.cli.stages import training_stage
from fusmae.data.shards import MANIFEST
from fusmae.errors import CheckpointError, StudyError
from fusmae.files import file_sha256
from fusmae.runs.provenance import git_state
from fusmae.runs.tracking import describe_hardware
from fusmae.stages.study_measure import study_measure
from fusmae.stages.study_pretrain import study_pretrain
from fusmae.stages.study_report import study_report
from fusmae.study.measure.measurement import open_variant
from fusmae.study.results import read_cell
from fusmae.study.variants import study_of, variant_config, variant_of
from fusmae.training.checkpoint import load_checkpoint

# On one worker: every test looks at the same cells.
pytestmark = pytest.mark.xdist_group("cell")

BOTH = ("s1+s2", "s1", "s2", "s1+clouded s2")
RADAR = ("s1+s2", "s1", "s1+clouded s2")
OPTICAL = ("s1+s2", "s2", "s1+clouded s2")
PROTOCOLS = ("knn", "probe", "finetune", "segment")
# What each has, what it reconstructs, and pictures of what.
EXPECTED = {
    "fusmae": (BOTH, ("s1", "s2"), {"reconstruction": 2, "failure": 2}),
    "s1-only": (RADAR, ("s1",), {"reconstruction": 2, "failure": 2}),
    "s2-only": (OPTICAL, ("s2",), {"reconstruction": 2, "failure": 2}),
    "stack": (BOTH, ("s1+s2",), {"failure": 2}),
    "contrastive": (BOTH, (), {"failure": 2}),
    "random": (BOTH, (), {"failure": 2}),
}


class Workshop:
    """A folder in which the stages run as DVC runs them, one path for everything that they read and write."""

    def __init__(self, config) -> None:
        self.config = config

    def pretrain(self, variant: str, seed: int = 1) -> Path:
        out = Path("models") / f"{variant}-{seed}"
        own = variant_config(self.config, variant, seed)
        study_pretrain(
            variant_of(self.config, variant),
            own.pretrain,
            training_stage(own),
            variant=variant,
            shards=Path("data/shards"),
            verdict=Path("data/verdict.json"),
            statistics=Path("data/statistics.json"),
            out=out,
            run_file=Path("runs") / f"pretrain-{variant}-{seed}.json",
        )
        return out

    def measure(self, variant: str, seed: int = 1, folder: str = "cells") -> Path:
        out = Path(folder) / f"{variant}-{seed}"
        own = variant_config(self.config, variant, seed)
        study_measure(
            study_of(self.config),
            own.finetune,
            own.pretrain,
            training_stage(own),
            variant=variant,
            batch_size=own.evaluate.batch_size,
            weights=Path("models") / f"{variant}-{seed}",
            shards=Path("data/shards"),
            index=Path("data/index.parquet"),
            out=out,
            run_file=Path("runs") / f"measure-{variant}-{seed}.json",
        )
        return out

    def report(self, cells: Path, out: Path) -> None:
        config = self.config
        sections = study_of(config), config.model, config.pretrain, config.finetune
        study_report(*sections, cells=cells, shards=Path("data/shards"), out=out, runs=Path("runs"))

    def run_of(self, stage: str):
        from mlflow import MlflowClient

        return MlflowClient().get_run(json.loads(Path("runs", f"{stage}.json").read_text(encoding="utf-8"))["run_id"])


@pytest.fixture(scope="module")
def workshop(tiny, tiny_config, tmp_path_factory):
    folder = tmp_path_factory.mktemp("workshop")
    shutil.copytree(tiny.folder, folder / "data")
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    with pytest.MonkeyPatch.context() as patch, torch.random.fork_rng():
        patch.chdir(folder)
        patch.delenv("MLFLOW_TRACKING_URI", raising=False)
        yield Workshop(tiny_config(f"study.run=[{', '.join(EXPECTED)}]", "study.seeds=[1]"))
    torch.set_num_threads(threads)


@pytest.fixture(scope="module")
def found(workshop):
    """Every variant's cell, read back."""
    cells = {}
    for variant in EXPECTED:
        workshop.pretrain(variant)
        cells[variant] = read_cell(workshop.measure(variant).absolute())
    return cells


each = pytest.mark.parametrize("variant", EXPECTED)


@each
def test_a_cell_has_every_protocol_share_and_condition_once(found, variant):
    names = [row.name for row in found[variant].cell.rows]
    conditions, _, _ = EXPECTED[variant]
    assert len(names) == len(set(names))
    assert set(names) == {f"{p}/{share}/{c}" for p in PROTOCOLS for share in ("0.2", "1") for c in conditions}
    assert {len(row.draws) for row in found[variant].cell.rows} == {20}


@each
def test_a_rows_macro_ap_is_that_of_its_predictions(found, variant):
    cell = found[variant]
    present = cell.labels.any(axis=0)
    checked = 0
    for row in cell.cell.rows:
        if row.protocol == "segment":
            continue
        given = cell.predictions[row.name].astype(np.float64)
        # Half precision may make ties of what was none.
        steps = np.diff(np.sort(given[:, present], axis=0), axis=0)
        if (steps > 0).all():
            expected = average_precision_score(cell.labels[:, present], given[:, present], average="macro")
            assert row.scores["macro_ap"] == pytest.approx(expected, abs=1e-6), row.name
            checked += 1
    assert checked > 4


@each
def test_maps_have_their_confusion_and_label_vectors_their_probabilities(found, variant):
    rows = found[variant].cell.rows
    assert set(found[variant].predictions) == {row.name for row in rows if row.kind == "multilabel"}
    assert set(found[variant].confusions) == {row.name for row in rows if row.kind == "segmentation"}
    assert len({counts.sum() for counts in found[variant].confusions.values()}) == 1


@each
def test_every_picture_that_is_listed_is_there_and_no_other(found, variant):
    cell = found[variant]
    kinds = [picture.kind for picture in cell.pictures]
    assert {kind: kinds.count(kind) for kind in kinds} == EXPECTED[variant][2]
    listed = {picture.file for picture in cell.pictures}
    assert {path.name for path in (cell.folder / "pictures").iterdir()} == listed | {"pictures.json"}
    assert all(picture.lat == 50.0 for picture in cell.pictures)


@each
def test_evidence_is_of_what_the_variant_has_and_was_trained_for(found, variant):
    conditions, reconstructed, _ = EXPECTED[variant]
    cell = found[variant].cell
    assert tuple(cell.reconstruction) == reconstructed
    assert set(cell.retrieval) == ({"s1 → s2", "s2 → s1"} if conditions == BOTH else set())


@each
def test_a_cell_says_where_it_comes_from(workshop, found, variant):
    origin = found[variant].cell.origin
    run = workshop.run_of(f"measure-{variant}-1")
    assert origin["run"] == run.info.run_id
    assert origin["pretrain_run"] == workshop.run_of(f"pretrain-{variant}-1").info.run_id != origin["run"]
    assert origin["data"] == f"sha256:{file_sha256(Path('data/shards', MANIFEST))}"
    assert origin["device"] == describe_hardware("cpu")["fusmae.device"] != ""
    assert origin["warning"].startswith("SYNTHETIC")
    assert {"commit", "is_dirty"} <= set(origin)
    assert run.data.metrics["knn/1/s1-s2/macro_ap"] == found[variant].cell.rows[len(EXPECTED[variant][0])].headline
    assert run.info.status == "FINISHED"


@each
def test_training_curves_and_cost_are_those_of_pretraining(found, variant):
    cell = found[variant].cell
    assert cell.cost["parameters"] > 0
    if variant == "random":
        assert cell.history == {}
        assert [cell.cost[name] for name in ("pretrain_seconds", "pretrain_epochs", "pairs_per_second")] == [0, 0, 0]
        return
    assert [epoch for epoch, _ in cell.history["train/loss"]] == [0, 1]
    assert len(cell.history["validation/knn_macro_ap"]) == 2
    assert cell.cost["pretrain_epochs"] == 2
    assert cell.cost["pretrain_seconds"] > 0
    # 16 of 17 pairs in each epoch: a short last batch is dropped.
    assert cell.cost["pairs_per_second"] == pytest.approx(32 / cell.cost["pretrain_seconds"])


def test_pretraining_moves_weights_and_what_is_not_pretrained_keeps_them(tiny, found):
    for variant in ("fusmae", "random"):
        initial, now = tiny.untrained(variant).weights, load_checkpoint(Path("models") / f"{variant}-1").weights
        assert initial.keys() == now.keys()
        is_same = all(torch.equal(tensor, now[name]) for name, tensor in initial.items())
        assert is_same == (variant == "random")


def test_pretrained_and_random_begin_at_the_same_weights(tiny):
    one, other = (tiny.untrained(variant).weights for variant in ("fusmae", "random"))
    assert all(torch.equal(tensor, other[name]) for name, tensor in one.items())


def test_measuring_again_gives_the_same_numbers(workshop, found):
    again = read_cell(workshop.measure("fusmae", folder="again"))
    first = found["fusmae"]
    assert again.cell.rows == first.cell.rows
    assert (again.cell.reconstruction, again.cell.retrieval) == (first.cell.reconstruction, first.cell.retrieval)
    for name, probabilities in first.predictions.items():
        np.testing.assert_array_equal(again.predictions[name], probabilities)
    # Another run of the same code; all else is the same.
    assert again.cell.origin.pop("run") != first.cell.origin["run"]
    assert again.cell.origin == {name: value for name, value in first.cell.origin.items() if name != "run"}


def test_pretraining_again_gives_the_same_weights(workshop, found):
    before = load_checkpoint(Path("models/fusmae-1")).weights
    shutil.move("models/fusmae-1", "models/kept")
    after = load_checkpoint(workshop.pretrain("fusmae")).weights
    shutil.rmtree("models/fusmae-1")
    shutil.move("models/kept", "models/fusmae-1")
    assert all(torch.equal(tensor, after[name]) for name, tensor in before.items())


def test_a_killed_measurement_leaves_no_cell_and_goes_on_in_its_run(workshop, found, monkeypatch):
    def stop(*_, **__):
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr("fusmae.study.results.write_json", stop)
        with pytest.raises(KeyboardInterrupt):
            workshop.measure("s1-only", folder="killed")
    assert not Path("killed/s1-only-1").exists()
    again = read_cell(workshop.measure("s1-only", folder="killed"))
    assert again.cell.rows == found["s1-only"].cell.rows


def test_a_rival_says_what_weights_it_has_and_is_measured_frozen(workshop, monkeypatch):
    # With all its blocks it takes a minute, and nothing here depends on them.
    monkeypatch.setattr(torchgeo.models, "croma_base", partial(torchgeo.models.CROMA, encoder_depth=2))
    workshop.pretrain("croma")
    cell = read_cell(workshop.measure("croma"))
    assert cell.cell.about == "torchgeo's croma_base, random initial weights (no file was given)"
    assert {row.protocol for row in cell.cell.rows} == {"knn", "probe"}
    assert {row.condition for row in cell.cell.rows} == set(BOTH)
    assert cell.cell.cost["parameters"] > 1e7
    assert (cell.cell.reconstruction, cell.cell.history) == ({}, {})
    assert {picture.kind for picture in cell.pictures} == {"failure"}


def test_weights_that_changed_since_the_study_was_composed_are_not_measured(workshop, tiny_config, tmp_path):
    given, folder = tmp_path / "weights.pth", workshop.pretrain("croma")
    given.write_bytes(b"other weights")
    own = tiny_config(f"study.variants.croma.weights='{given}'", f"study.variants.croma.weights_sha256={'0' * 64}")
    with pytest.raises(CheckpointError, match="composed with") as told:
        open_variant(variant_of(own, "croma"), own.pretrain, "mean", folder, 1)
    assert file_sha256(given) in str(told.value)


def test_the_report_is_of_all_cells_and_goes_to_the_run_of_each(workshop, found):
    from mlflow import MlflowClient

    workshop.report(Path("cells"), Path("report"))
    page = Path("report/report.html").read_text(encoding="utf-8")
    assert all(variant in page for variant in EXPECTED)
    run = workshop.run_of("measure-stack-1").info.run_id
    assert "report/report.html" in {file.path for file in MlflowClient().list_artifacts(run, "report")}


def test_a_studys_own_lock_does_not_make_its_code_another(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    subprocess.run(["git", "init", "-q"], check=True)
    for file in (Path("code.py"), Path("dvc.lock"), Path("study/dvc.lock")):
        file.parent.mkdir(exist_ok=True)
        file.write_text("one", encoding="utf-8")
    subprocess.run(["git", "add", "."], check=True)
    subprocess.run(["git", "-c", "user.name=t", "-c", "user.email=t@example.org", "commit", "-qm", "one"], check=True)
    for file, is_dirty in ((Path("dvc.lock"), False), (Path("study/dvc.lock"), False), (Path("code.py"), True)):
        file.write_text("two", encoding="utf-8")
        assert git_state()["is_dirty"] is is_dirty


def test_a_report_names_the_cells_that_are_not_measured_yet(workshop, found, tmp_path):
    shutil.copytree("cells/fusmae-1", tmp_path / "fusmae-1")
    with pytest.raises(StudyError, match="5 of 6 cells") as raised:
        workshop.report(tmp_path, tmp_path / "report")
    assert "s1-only-1" in str(raised.value)
    assert not (tmp_path / "report").exists()
