"""Finetuning on labels of every kind: it learns, goes on after a kill, and keeps a frozen encoder as it was."""

import numpy as np
import pytest
import torch

from fusmae.data.pixels import NO_CLASS
from fusmae.errors import TrainingError
from tests.kinds import DENSE, HIGH, LOW, TASKS
from tests.training.cut import CutError, CutOff

AUGMENT = {"flip": True, "turn": True, "min_crop": 0.8}


def answers(module, batch):
    """What a model says about a batch, and the labels that it should have said."""
    model = module.eval().model
    with torch.no_grad():
        found = model.answer(model(module.preprocess(batch.pixels)))
    return found, module._labels(batch)


@pytest.mark.parametrize("name", TASKS)
def test_each_kind_learns_the_labels_of_its_pairs(name, make_kind_finetuner, make_kind_data, tmp_path, train):
    module, data = make_kind_finetuner(name, base_lr=0.5), make_kind_data(name, 17)
    train(module, data, tmp_path, epochs=40, every=100)
    found, labels = answers(module, data.first("train", 17))
    if name == "multilabel":
        assert ((found > 0.5) == (labels > 0)).float().mean() > 0.9
    elif name == "multiclass":
        assert (found.argmax(1) == labels.argmax(1)).float().mean() > 0.9
    elif name == "segmentation":
        known = labels != NO_CLASS
        assert (found.argmax(1) == labels)[known].float().mean() > 0.9
    else:
        error = (found.reshape(labels.shape) - labels)[labels.isfinite()]
        assert error.square().mean().sqrt() < 0.3 * (HIGH - LOW)


@pytest.mark.parametrize("name", DENSE)
def test_a_dense_run_cut_off_in_mid_epoch_ends_with_the_weights_of_an_undisturbed_one(
    name, make_kind_finetuner, make_kind_data, tmp_path, train, weights_of
):
    def make_data():
        return make_kind_data(name, augment=AUGMENT, modality_drop=0.5)

    recipe = {"drop_path": 0.3}
    undisturbed, resumed = (make_kind_finetuner(name, **recipe) for _ in range(2))
    train(undisturbed, make_data(), tmp_path / "a", epochs=2)
    with pytest.raises(CutError):
        train(make_kind_finetuner(name, **recipe), make_data(), tmp_path / "b", CutOff(5), epochs=2)
    train(resumed, make_data(), tmp_path / "b", epochs=2)
    expected = weights_of(undisturbed)
    assert [key for key, tensor in resumed.state_dict().items() if not torch.equal(tensor, expected[key])] == []


@pytest.mark.parametrize("name", ["multiclass", "segmentation"])
def test_a_frozen_encoder_keeps_every_bit_and_the_head_learns(
    name, make_kind_finetuner, make_kind_data, tmp_path, train, weights_of
):
    module = make_kind_finetuner(name, is_frozen=True, drop_path=0.5)
    before = weights_of(module)
    assert all(not part.training for part in module.train().model.encoder.modules())
    train(module, make_kind_data(name), tmp_path, epochs=1)
    changed = {key for key, tensor in module.state_dict().items() if not torch.equal(tensor, before[key])}
    assert changed
    assert not [key for key in changed if key.startswith("model.encoder.")]


def test_training_changes_every_weight_of_a_dense_model(
    make_kind_finetuner, make_kind_data, tmp_path, train, weights_of
):
    module = make_kind_finetuner("segmentation")
    before = weights_of(module)
    train(module, make_kind_data("segmentation", 17), tmp_path, epochs=1)
    assert [key for key, tensor in module.state_dict().items() if torch.equal(tensor, before[key])] == []


@pytest.mark.parametrize("name", TASKS)
def test_what_is_trained_is_the_labels_task_with_the_moments_of_train(name, make_kind_finetuner, make_kind_data):
    module, data = make_kind_finetuner(name), make_kind_data(name)
    assert module.model.task == TASKS[name] == data.task()
    assert not [key for key in module.state_dict() if key.startswith("weights")]
    if module.model.scale is not None:
        values = data.first("train", 17).maps if TASKS[name].is_dense else torch.from_numpy(data.reader("train").labels)
        numbers = values.numpy()[np.isfinite(values.numpy())]
        assert module.model.scale.mean.item() == pytest.approx(numbers.mean(), rel=1e-5)
        assert module.model.scale.std.item() == pytest.approx(numbers.std(), rel=1e-4)


@pytest.mark.parametrize("name", ["multilabel", "multiclass", "segmentation"])
def test_classes_weigh_alike_unless_the_recipe_asks_for_balance(name, make_kind_finetuner):
    assert make_kind_finetuner(name).weights is None
    weights = make_kind_finetuner(name, class_weights="balanced").weights
    assert weights.shape == (3,)
    assert weights[2] == 1  # absent from train


def test_values_have_no_class_weights(make_kind_finetuner):
    assert make_kind_finetuner("pixel value", class_weights="balanced").weights is None


def test_maps_are_turned_with_their_tiles_in_training(make_kind_finetuner, make_kind_data):
    """A model that copies a band says the same of a turned tile as its turned map."""
    module, data = (
        make_kind_finetuner("segmentation"),
        make_kind_data("segmentation", augment=AUGMENT | {"min_crop": 1.0}),
    )
    batch = next(iter(data.train_dataloader()))
    assert not torch.equal(batch.geometry, torch.eye(2, 3).expand(4, -1, -1))

    def of_bright(tiles):
        """Logits: brightness of S2 over the tile, which is what the maps say, with noise."""
        smooth = torch.nn.functional.avg_pool2d(tiles["s2"][:, :3].mean(1, keepdim=True), 5, 1, 2)
        return torch.cat([-20 * smooth, 20 * smooth, torch.full_like(smooth, -50)], dim=1)

    module.model.forward = of_bright
    turned = module.training_step(batch, 0).item()
    still = module.training_step(batch._replace(geometry=torch.eye(2, 3).expand(4, -1, -1)), 0).item()
    assert turned == pytest.approx(still, rel=1e-3)
    wrong = module.training_step(batch._replace(maps=batch.maps.rot90(1, (1, 2))), 0).item()
    assert wrong > 2 * turned


def test_a_loss_that_is_not_finite_stops_the_run(make_kind_finetuner, make_kind_data, tmp_path, train):
    module = make_kind_finetuner("segmentation")
    torch.nn.init.constant_(module.model.head.output.bias, torch.inf)
    with pytest.raises(TrainingError, match=r"train loss on s1\+s2 is not finite"):
        train(module, make_kind_data("segmentation"), tmp_path)


@pytest.mark.parametrize("name", DENSE)
def test_a_batch_without_any_label_trains_nothing_and_is_no_fault(name, make_kind_finetuner, make_kind_data):
    module, batch = make_kind_finetuner(name), make_kind_data(name).first("train", 4)
    empty = torch.full_like(batch.maps, NO_CLASS if name == "segmentation" else torch.nan)
    loss = module.training_step(batch._replace(maps=empty), 0)
    loss.backward()
    assert loss == 0
    assert all((parameter.grad == 0).all() for parameter in module.model.parameters() if parameter.grad is not None)


def test_a_dropped_modality_is_never_read_by_a_dense_model(make_kind_finetuner, make_kind_data):
    module, batch = make_kind_finetuner("segmentation"), make_kind_data("segmentation").first("train", 4)
    without = batch._replace(dropped="s2")
    pixels = {name: array * 0 if name.startswith("s2") else array for name, array in batch.pixels.items()}
    assert module.training_step(without._replace(pixels=pixels), 0) == module.training_step(without, 0)
