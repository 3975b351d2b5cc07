import re
from shutil import copytree

import pytest
import torch
from lightning.pytorch.callbacks import Callback

from fusmae.errors import ShardError, TrainingError


class PoisonWeights(Callback):
    """Makes the weights not finite before one step, as a diverging run does."""

    def __init__(self, step: int, part: str) -> None:
        self.step, self.part = step, part

    def on_train_batch_start(self, trainer, module, batch, batch_idx) -> None:
        if trainer.global_step == self.step:
            with torch.no_grad():
                dict(module.named_parameters())[self.part].fill_(torch.nan)


class PoisonGradient(Callback):
    """Makes one gradient not finite while the loss is."""

    def __init__(self, step: int, part: str) -> None:
        self.step, self.part = step, part

    def on_after_backward(self, trainer, module) -> None:
        if trainer.global_step == self.step:
            dict(module.named_parameters())[self.part].grad.view(-1)[0] = torch.inf


def test_a_loss_that_is_not_finite_names_step_and_modality(make_reconstructor, make_data, tmp_path, train):
    poison = PoisonWeights(6, "model.decoders.s2.head.weight")
    with pytest.raises(TrainingError) as raised:
        train(make_reconstructor(), make_data(), tmp_path, poison)
    assert "The train loss of modality s2 is not finite at step 6 (epoch 1, batch 2)" in str(raised.value)
    assert "got:      nan" in str(raised.value)


def test_an_extreme_pixel_stops_the_run_at_its_step(make_reconstructor, make_data, tmp_path, train, monkeypatch):
    data = make_data()
    reader, read = data.reader("train"), data.reader("train").read

    def read_extreme(indices):
        pixels = read(indices)
        if 11 in list(indices):
            pixels["s1_10m"][list(indices).index(11)] = 3e38
        return pixels

    order = list(data.train_dataloader().sampler)
    step = [key.pair for key in order].index(11) // 4
    monkeypatch.setattr(reader, "read", read_extreme)
    with pytest.raises(TrainingError, match=rf"loss of modality s\d is not finite at step {step} "):
        train(make_reconstructor(), data, tmp_path, epochs=1)


def test_a_learning_rate_far_too_high_ends_in_an_error_and_not_in_weights(
    make_reconstructor, make_data, tmp_path, train
):
    with pytest.raises(TrainingError, match="lower base_lr"):
        train(make_reconstructor(base_lr=1e38, warmup_epochs=0), make_data(), tmp_path)


def test_after_a_loss_that_is_not_finite_the_last_good_checkpoint_goes_on_as_if_nothing_had_been(
    make_reconstructor, make_data, tmp_path, train, weights_of
):
    undisturbed = make_reconstructor()
    train(undisturbed, make_data(), tmp_path / "a")
    with pytest.raises(TrainingError):
        train(make_reconstructor(), make_data(), tmp_path / "b", PoisonWeights(8, "model.encoder.cls_token"))
    kept = torch.load(tmp_path / "b" / "last.ckpt", weights_only=True)
    assert kept["global_step"] == 6
    assert all(tensor.isfinite().all() for tensor in kept["state_dict"].values())
    resumed = make_reconstructor()
    train(resumed, make_data(), tmp_path / "b")
    expected = weights_of(undisturbed)
    assert all(torch.equal(tensor, expected[name]) for name, tensor in resumed.state_dict().items())


def test_gradients_that_are_not_finite_name_step_and_parameter_and_change_no_weight(
    make_reconstructor, make_data, tmp_path, train, weights_of
):
    module, part = make_reconstructor(), "model.encoder.embed.s1.proj.weight"
    seen = {}

    class Remember(Callback):
        def on_train_batch_start(self, trainer, module, batch, batch_idx) -> None:
            seen[trainer.global_step] = weights_of(module)

    message = f"Gradients are not finite at step 5, in 1 parameters: {part}"
    with pytest.raises(TrainingError, match=re.escape(message)):
        train(module, make_data(), tmp_path, Remember(), PoisonGradient(5, part))
    assert max(seen) == 5
    assert all(torch.equal(tensor, seen[5][name]) for name, tensor in module.state_dict().items())
    assert torch.load(tmp_path / "last.ckpt", weights_only=True)["global_step"] == 3


def test_finetuning_names_what_it_was_fed(make_finetuner, make_data, tmp_path, train):
    with pytest.raises(TrainingError, match=r"train loss on s\d is not finite at step 2 "):
        train(make_finetuner(), make_data(modality_drop=1.0), tmp_path, PoisonWeights(2, "model.head.linear.weight"))


def test_a_validation_loss_that_is_not_finite_stops_the_run(make_reconstructor, make_data, tmp_path, train):
    class PoisonAtTheEnd(Callback):
        def on_validation_start(self, trainer, module) -> None:
            with torch.no_grad():
                module.model.decoders["s1"].head.bias.fill_(torch.inf)

    with pytest.raises(TrainingError, match="validation loss of modality s1"):
        train(make_reconstructor(), make_data(), tmp_path, PoisonAtTheEnd())


def test_a_damaged_shard_of_validation_stops_before_the_first_step(
    make_reconstructor, make_data, shards, tmp_path, train
):
    data = make_data()
    data.shards = copytree(shards, tmp_path / "shards")
    file = data.shards / "validation/00000/pixels.npy"
    file.write_bytes(file.read_bytes()[:-1] + b"\xff")
    first_step = PoisonWeights(0, "no such part")
    with pytest.raises(ShardError, match=r"validation/00000/pixels\.npy"):
        train(make_reconstructor(), data, tmp_path / "resume", first_step)
