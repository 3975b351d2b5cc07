import pytest
import torch
import torch.nn.functional as F

from fusmae.training.supervised import Predictor
from fusmae.training.trainer import Machine, predict


@pytest.fixture
def batch(make_data):
    return next(iter(make_data().train_dataloader()))


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


def test_predictor_gives_logits_of_its_modalities_only_in_the_loaders_order(make_finetuner, make_data):
    module, data = make_finetuner(), make_data()
    found = {}
    for setting in (("s1", "s2"), ("s1",), ("s2",)):
        predictor = Predictor(module.model, module.preprocess, setting)
        found[setting] = torch.cat(predict(Machine("cpu", 10), predictor, data.loader("test")))
        whole = next(iter(make_data(6).loader("test")))
        with torch.no_grad():
            expected = module.eval().model(module.preprocess(whole.only(setting)))
        assert found[setting].dtype == torch.float32
        torch.testing.assert_close(found[setting], expected, atol=1e-6, rtol=1e-5)
    assert not torch.allclose(found[("s1",)], found[("s2",)])
    assert not torch.allclose(found[("s1", "s2")], found[("s2",)])
