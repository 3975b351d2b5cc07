from dataclasses import replace

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from lightning.pytorch.callbacks import Callback

from fusmae.config.task import Task
from fusmae.data.datamodule import Draws, PairDataModule
from fusmae.data.shard_writer import write_shards

DRAWS = Draws(0, ("s1", "s2"), 9)


@pytest.fixture
def batch(make_data):
    return next(iter(make_data().train_dataloader()))


@pytest.fixture(scope="module")
def one_class_shards(tmp_path_factory, pairs, read_pair, inputs, classes):
    """Every pair has exactly one of the classes, and each class but ice some pairs."""
    folder = tmp_path_factory.mktemp("one-class") / "shards"
    single = [replace(pair, labels=pair.labels[-1:]) for pair in pairs]
    write_shards(single, read_pair, folder, inputs=inputs, task=Task(classes=classes), shard_pairs=7)
    return folder


def test_loss_is_binary_cross_entropy_over_every_class(make_finetuner, batch):
    module = make_finetuner(drop_path=0.0)
    logits = module.model(module.preprocess(batch.pixels)).detach()
    chance = torch.sigmoid(logits.double())
    expected = -(batch.labels * chance.log() + (1 - batch.labels) * (1 - chance).log()).mean()
    assert module.training_step(batch, 0).item() == pytest.approx(expected.item(), rel=1e-5)


def test_one_step_changes_every_weight(make_finetuner, make_data, tmp_path, train, weights_of):
    module = make_finetuner(drop_path=0.0)
    before = weights_of(module)
    train(module, make_data(17), tmp_path, epochs=1)
    assert [name for name, tensor in module.state_dict().items() if torch.equal(tensor, before[name])] == []


def test_training_learns_the_labels_of_its_pairs(make_finetuner, make_data, tmp_path, train):
    module, data = make_finetuner(drop_path=0.0, base_lr=1.0), make_data(17)
    train(module, data, tmp_path, epochs=40)
    whole = next(iter(data.loader("train")))
    logits = module.eval().model(module.preprocess(whole.pixels))
    assert F.binary_cross_entropy_with_logits(logits, whole.labels).item() < 0.25
    assert ((logits > 0) == (whole.labels > 0)).float().mean().item() > 0.95


def test_drop_path_is_drawn_in_training_and_never_in_validation(make_finetuner, batch):
    module = make_finetuner(drop_path=0.5).train()
    torch.manual_seed(1)
    assert len({module.training_step(batch, 0).item() for _ in range(8)}) > 1
    module.eval()
    tiles = module.preprocess(batch.pixels)
    assert torch.equal(module.model(tiles), module.model(tiles))


def test_dropped_modality_is_never_read(make_finetuner, batch):
    module = make_finetuner(drop_path=0.0)
    without = batch._replace(dropped="s2")
    pixels = {name: array * 0 if name.startswith("s2") else array for name, array in batch.pixels.items()}
    assert module.training_step(without._replace(pixels=pixels), 0) == module.training_step(without, 0)


def test_multiclass_loss_is_the_cross_entropy_of_the_one_class(make_finetuner, one_class_shards):
    module = make_finetuner(drop_path=0.0, kind="multiclass")
    batch = next(iter(PairDataModule(one_class_shards, batch_size=4, draws=DRAWS).train_dataloader()))
    assert (batch.labels.sum(1) == 1).all()
    logits = module.model(module.preprocess(batch.pixels)).detach().double()
    chance = (logits.exp() / logits.exp().sum(1, keepdim=True))[batch.labels.bool()]
    assert module.training_step(batch, 0).item() == pytest.approx(-chance.log().mean().item(), rel=1e-5)
    other = make_finetuner(drop_path=0.0)
    assert other.training_step(batch, 0).item() != pytest.approx(-chance.log().mean().item(), rel=1e-2)


def test_multiclass_training_learns_the_one_class_of_each_pair(make_finetuner, one_class_shards, tmp_path, train):
    module = make_finetuner(drop_path=0.0, base_lr=1.0, kind="multiclass")
    data = PairDataModule(one_class_shards, batch_size=17, draws=DRAWS)
    whole = data.first("train", 17)
    before = module.training_step(whole, 0).item()
    train(module, data, tmp_path, epochs=40)
    logits = module.eval().model(module.preprocess(whole.pixels))
    assert F.cross_entropy(logits, whole.labels.argmax(1)).item() < 0.3 * before
    assert torch.equal(logits.argmax(1), whole.labels.argmax(1))


class Seen(Callback):
    """Notes each pair that is trained on and each that is validated with."""

    def __init__(self) -> None:
        self.trained, self.validated = [], []

    def on_train_batch_start(self, trainer, module, batch, batch_idx) -> None:
        self.trained += batch.indices.tolist()

    def on_validation_batch_start(self, trainer, module, batch, batch_idx, dataloader_idx=0) -> None:
        self.validated += batch.indices.tolist()


def test_only_the_rows_given_are_ever_trained_on(make_finetuner, shards, tmp_path, train):
    rows, seen = [2, 16, 7, 3, 11, 5, 9, 0], Seen()
    data = PairDataModule(shards, batch_size=4, draws=DRAWS, train_rows=rows)
    train(make_finetuner(), data, tmp_path, seen, epochs=3)
    for epoch in range(3):
        assert sorted(seen.trained[8 * epoch : 8 * epoch + 8]) == sorted(rows)
    assert seen.trained[:8] != seen.trained[8:16]
    assert seen.validated == 3 * list(range(5))


def test_other_rows_have_no_influence(make_finetuner, shards, tmp_path, train, pairs, read_pair, inputs, classes):
    """The same weights, bit by bit, whatever the pixels and labels of the pairs that are left out."""
    rows = [2, 16, 7, 3]
    keys = PairDataModule(shards, batch_size=4, draws=DRAWS).reader("train").keys
    kept = {keys[row] for row in rows} | {pair.key for pair in pairs if pair.split != "train"}
    changed = [pair if pair.key in kept else replace(pair, labels=("ice",)) for pair in pairs]

    def read(pair):
        bands = read_pair(pair)
        return bands if pair.key in kept else {name: band[::-1] for name, band in bands.items()}

    write_shards(changed, read, tmp_path / "other", inputs=inputs, task=Task(classes=classes), shard_pairs=7)
    found = []
    for at, folder in enumerate((shards, tmp_path / "other")):
        module = make_finetuner()
        train(module, PairDataModule(folder, batch_size=4, draws=DRAWS, train_rows=rows), tmp_path / str(at))
        found.append(module.state_dict())
    assert all(torch.equal(tensor, found[1][name]) for name, tensor in found[0].items())


def test_some_pairs_come_in_the_order_asked_for_not_augmented(shards):
    draws = Draws(0, ("s1", "s2"), 9, 1.0, augment={"flip": True, "turn": True, "min_crop": 0.8})
    data = PairDataModule(shards, batch_size=2, draws=draws, train_rows=[1])
    rows = [4, 0, 3, 16, 0]
    batches = list(data.batches("train", rows))
    assert [len(batch.indices) for batch in batches] == [2, 2, 1]
    assert torch.cat([batch.indices for batch in batches]).tolist() == rows
    pixels = torch.cat([batch.pixels["s2_20m"] for batch in batches])
    assert np.array_equal(pixels.numpy(), data.reader("train").read(rows)["s2_20m"])
    assert {batch.dropped for batch in batches} == {""}
    assert all(torch.equal(batch.geometry, torch.eye(2, 3).expand(len(batch.indices), -1, -1)) for batch in batches)


def test_a_stacks_name_names_the_pixels_of_all_its_modalities(batch):
    assert list(batch.only(("s1+s2",))) == list(batch.only(("s1", "s2"))) == list(batch.pixels)
    assert list(batch.only(("s1",))) == ["s1_10m"]
