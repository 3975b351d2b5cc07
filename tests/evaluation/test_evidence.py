from collections.abc import Iterator, Sequence
from dataclasses import replace
from pathlib import Path

import lightning as L
import numpy as np
import pytest
import torch
from lightning.pytorch.callbacks import Callback, EarlyStopping
from sklearn.metrics import average_precision_score
from torch import Tensor

from fusmae.config.task import Task
from fusmae.data.datamodule import Draws, PairDataModule
from fusmae.data.shard_writer import write_shards
from fusmae.errors import ShardError, TrainingError
from fusmae.evaluation import evidence
from fusmae.evaluation.evidence import NeighbourEvidence, metric_of, pretraining_callbacks
from fusmae.evaluation.neighbours import neighbour_answers
from fusmae.models.fusmae import reconstruction_loss
from fusmae.models.heads import pool
from fusmae.models.preprocess import Preprocessing
from fusmae.training.reconstruction import Reconstructor, start_pretraining
from fusmae.training.trainer import History, build_trainer, fit
from tests.sections import model_section, pretrain_section, runtime_section
from tests.training.cut import CutError, CutOff

STEPS_AN_EPOCH = 4
METRIC = "validation/knn_macro_ap"
Weights = dict[str, Tensor]


class CutOffAnywhere(CutOff):
    """Ends it in the validation behind a step, too."""

    on_validation_batch_start = CutOff.on_train_batch_start


class WeightsByStep(Callback):
    """Keeps the weights after every step."""

    def __init__(self) -> None:
        self.kept: list[Weights] = []

    def on_train_batch_end(self, trainer, module, outputs, batch, batch_idx) -> None:
        self.kept.append(weights_of(module))


class Scores(Callback):
    """Says what the evidence is, epoch by epoch, and counts how often it was asked."""

    def __init__(self, scores: Sequence[float], monkeypatch) -> None:
        self.scores, self.epochs = scores, []
        monkeypatch.setattr(evidence, "headline", lambda *_: self.scores[self.epochs[-1]])

    def on_validation_epoch_start(self, trainer, module) -> None:
        self.epochs.append(trainer.current_epoch)


@pytest.fixture(autouse=True)
def _one_thread() -> Iterator[None]:
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    with torch.random.fork_rng():
        yield
    torch.set_num_threads(before)


@pytest.fixture
def make_module(inputs, statistics):
    def make(is_stacked=False, **changes) -> Reconstructor:
        preprocessing = Preprocessing(inputs=inputs, statistics=statistics, is_stacked=is_stacked)
        section = model_section(mask_ratio={"s1": 0.75, "s2": 0.5}, decode_fraction=0.5, **changes)
        return start_pretraining(section, preprocessing, pretrain_section(base_lr=0.5), 0)[0]

    return make


@pytest.fixture
def run(make_module, make_data):
    """Trains a module of the same weights at each call; gives it and its trainer."""

    def trained(
        resume_folder: Path, *others: Callback, epochs: int = 3, every: int = 3, **watch
    ) -> tuple[Reconstructor, L.Trainer]:
        module, data = make_module(), make_data(augment={"flip": True, "turn": True, "min_crop": 0.8})
        callbacks = [*others, *pretraining_callbacks(data, pretrain_section(**watch))]
        runtime = runtime_section(checkpoint_every_steps=every)
        trainer = build_trainer(runtime, epochs, 0, resume_folder, callbacks=callbacks)
        fit(trainer, module, data)
        return module, trainer

    return trained


def weights_of(module: torch.nn.Module) -> Weights:
    return {name: tensor.clone() for name, tensor in module.state_dict().items()}


def assert_equal(found: torch.nn.Module, expected: Weights) -> None:
    assert [name for name, tensor in found.state_dict().items() if not torch.equal(tensor, expected[name])] == []


def macro_ap(module: Reconstructor, data, train_rows: Sequence[int], rows: Sequence[int]) -> float:
    """The evidence, computed at once from whole splits."""
    features = {}
    for split in ("train", "validation"):
        whole = data.first(split, len(data.reader(split)))
        with torch.no_grad():
            latents = module.eval().model.encoder(module.preprocess(whole.pixels))
        features[split] = pool(latents, "mean", ("s1", "s2")).numpy(), whole.labels.numpy()
    known, known_labels = (array[list(train_rows)] for array in features["train"])
    asked, labels = (array[list(rows)] for array in features["validation"])
    found = neighbour_answers(known, known_labels, asked)
    present = labels.any(axis=0)
    return average_precision_score(labels[:, present], found[:, present], average="macro")


def test_without_anything_to_look_at_there_is_nothing(make_data):
    assert pretraining_callbacks(make_data(), pretrain_section()) == []


def test_without_labels_there_is_no_score_and_training_can_t_stop_by_it(tmp_path, pairs, read_pair, inputs):
    bare = [replace(pair, labels=()) for pair in pairs]
    write_shards(bare, read_pair, tmp_path / "shards", inputs=inputs, task=Task(), shard_pairs=50)
    data = PairDataModule(tmp_path / "shards", batch_size=4, draws=Draws(0, ("s1", "s2"), num_patches=1))
    assert pretraining_callbacks(data, pretrain_section(evidence_pairs=1000)) == []
    with pytest.raises(TrainingError, match=r"(?s)no pair of train or of validation has a label.*pretrain.patience=0"):
        pretraining_callbacks(data, pretrain_section(evidence_pairs=1000, patience=3))
    with pytest.raises(ShardError, match="only pretraining can learn from them"):
        data.task()


def test_the_score_is_logged_as_the_macro_ap_of_neighbours_of_mean_tokens(run, make_data, tmp_path):
    module, trainer = run(tmp_path, epochs=1, evidence_pairs=1000)
    expected = macro_ap(module, make_data(), range(17), range(5))
    assert 0 < expected < 1
    assert metric_of(make_data().task()) == METRIC
    assert trainer.callback_metrics[METRIC].item() == pytest.approx(expected, abs=1e-6)


def test_fewer_pairs_are_spread_evenly_over_each_split(run, make_data, tmp_path):
    module, trainer = run(tmp_path, epochs=1, evidence_pairs=3)
    expected = macro_ap(module, make_data(), [0, 8, 16], [0, 2, 4])
    assert trainer.callback_metrics[METRIC].item() == pytest.approx(expected, abs=1e-6)


def test_it_is_measured_after_every_epoch(run, tmp_path):
    history = History()
    run(tmp_path, history, evidence_pairs=17)
    assert [epoch for epoch, _ in history.points[METRIC]] == [0, 1, 2]


def test_evidence_changes_no_weight(run, tmp_path):
    expected = weights_of(run(tmp_path / "a")[0])
    assert_equal(run(tmp_path / "b", evidence_pairs=17)[0], expected)
    other, _ = run(tmp_path / "c", epochs=2)
    assert any(not torch.equal(tensor, expected[name]) for name, tensor in other.state_dict().items())


def test_a_stacked_model_is_measured_by_the_latents_of_its_stack(make_data, make_module):
    module = make_module(is_stacked=True, early_fusion=False, feature_fusion=False).eval()
    features, labels = NeighbourEvidence(make_data(modalities=("s1+s2",)), 5)._sample(module, "validation")
    assert (features.shape, labels.shape) == ((5, 16), (5, 4))
    whole = make_data().first("validation", 5)
    with torch.no_grad():
        latents = module.model.encoder(module.preprocess(whole.pixels))
    np.testing.assert_allclose(features, latents.tokens["s1+s2"].mean(1).numpy(), atol=1e-5)


def test_running_mean_is_that_of_the_weights_after_every_step(run, tmp_path):
    steps = WeightsByStep()
    module, _ = run(tmp_path, steps, epochs=1, ema_decay=0.75)
    assert len(steps.kept) == STEPS_AN_EPOCH
    # The first step's weights, then three quarters of the mean and a quarter of the newest.
    share = [0.75**3, 0.25 * 0.75**2, 0.25 * 0.75, 0.25]
    for name, tensor in module.state_dict().items():
        expected = sum(part * kept[name] for part, kept in zip(share, steps.kept, strict=True))
        torch.testing.assert_close(tensor, expected, atol=1e-6, rtol=1e-5)
        assert tensor.ndim < 2 or not torch.equal(tensor, steps.kept[-1][name])


def test_running_mean_does_not_change_what_is_trained(run, tmp_path):
    plain, averaged = WeightsByStep(), WeightsByStep()
    run(tmp_path / "a", plain)
    run(tmp_path / "b", averaged, ema_decay=0.9, evidence_pairs=17)
    for expected, found in zip(plain.kept, averaged.kept, strict=True):
        assert all(torch.equal(found[name], tensor) for name, tensor in expected.items())


def test_validation_and_the_score_judge_the_running_mean(run, make_data, tmp_path, monkeypatch):
    judged = []

    def look(known, known_labels, asked):
        judged.append(torch.from_numpy(asked))
        return neighbour_answers(known, known_labels, asked)

    monkeypatch.setattr(evidence, "neighbour_answers", look)
    module, trainer = run(tmp_path, epochs=1, ema_decay=0.9, evidence_pairs=17)
    raw, _ = run(tmp_path / "raw", epochs=1)
    whole = make_data().first("validation", 5)
    for of, is_same in ((module, True), (raw, False)):
        with torch.no_grad():
            features = pool(of.eval().model.encoder(of.preprocess(whole.pixels)), "mean", ("s1", "s2"))
            loss = sum(reconstruction_loss(found).item() for found in of.model(*of.masked(whole)).values())
        assert torch.allclose(judged[0], features, atol=1e-5) == is_same
        assert (trainer.callback_metrics["validation/loss"].item() == pytest.approx(loss, rel=1e-5)) == is_same


# In mid-epoch, at an epoch's end, in a validation, and when all was trained.
@pytest.mark.parametrize(("every", "cut"), [(3, 5), (4, 6), (3, 8), (4, 12), (5, 12)])
def test_a_run_with_a_running_mean_cut_off_ends_with_the_weights_of_an_undisturbed_one(run, tmp_path, every, cut):
    watch = {"ema_decay": 0.75, "evidence_pairs": 17, "every": every}
    expected = weights_of(run(tmp_path / "a", **watch)[0])
    with pytest.raises(CutError):
        run(tmp_path / "b", CutOffAnywhere(cut), **watch)
    module, trainer = run(tmp_path / "b", **watch)
    assert trainer.global_step == 12
    assert_equal(module, expected)


def test_a_finished_run_with_a_running_mean_keeps_it_when_started_again(run, tmp_path):
    module, _ = run(tmp_path, every=4, ema_decay=0.75)
    again, _ = run(tmp_path, every=4, ema_decay=0.75)
    assert_equal(again, weights_of(module))


def test_training_stops_when_the_score_has_not_risen_for_so_many_epochs(run, tmp_path, monkeypatch):
    scores = Scores([0.3, 0.5, 0.5, 0.4, 0.9, 0.9], monkeypatch)
    _, trainer = run(tmp_path, scores, epochs=6, evidence_pairs=17, patience=2)
    assert scores.epochs == [0, 1, 2, 3]
    assert trainer.global_step == 4 * STEPS_AN_EPOCH


def test_training_goes_on_while_the_score_rises(run, tmp_path, monkeypatch):
    scores = Scores([0.1, 0.1, 0.2, 0.2, 0.3], monkeypatch)
    _, trainer = run(tmp_path, scores, epochs=5, evidence_pairs=17, patience=2)
    assert trainer.global_step == 5 * STEPS_AN_EPOCH


# Cut off in the third epoch, when one without a rise has been counted; checkpoints in mid-epoch, at an epoch's end.
@pytest.mark.parametrize("every", [3, 4, 1])
def test_a_run_cut_off_counts_the_epochs_without_a_rise_on(run, tmp_path, monkeypatch, every):
    watch = {"epochs": 6, "evidence_pairs": 17, "patience": 2, "every": every}
    scores = [0.5, 0.4, 0.3, 0.9, 0.9, 0.9]
    expected = weights_of(run(tmp_path / "a", Scores(scores, monkeypatch), **watch)[0])
    with pytest.raises(CutError):
        run(tmp_path / "b", Scores(scores, monkeypatch), CutOffAnywhere(10), **watch)
    resumed = Scores(scores, monkeypatch)
    module, trainer = run(tmp_path / "b", resumed, **watch)
    assert resumed.epochs == [2]
    assert trainer.global_step == 3 * STEPS_AN_EPOCH
    assert_equal(module, expected)


@pytest.mark.parametrize("ema_decay", [0.0, 0.75])
def test_a_run_that_was_stopped_trains_no_further_when_started_again(run, tmp_path, monkeypatch, ema_decay):
    watch = {"epochs": 6, "evidence_pairs": 17, "patience": 1, "every": 4, "ema_decay": ema_decay}
    module, _ = run(tmp_path, Scores([0.5, 0.4, 0.9, 0.9, 0.9, 0.9], monkeypatch), **watch)
    again, trainer = run(tmp_path, Scores([0.9] * 6, monkeypatch), **watch)
    assert trainer.global_step == 2 * STEPS_AN_EPOCH
    assert_equal(again, weights_of(module))


def test_the_score_comes_before_the_running_mean_hands_its_weights_back(make_data):
    recipe = pretrain_section(evidence_pairs=5, patience=2, ema_decay=0.9)
    kinds = [type(item) for item in pretraining_callbacks(make_data(), recipe)]
    assert kinds[0] is NeighbourEvidence
    assert issubclass(kinds[1], EarlyStopping)
    assert len(kinds) == 3
