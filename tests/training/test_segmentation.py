import numpy as np
import pytest
import torch
import torch.nn.functional as F
from torchmetrics.classification import MulticlassAccuracy, MulticlassJaccardIndex
from torchmetrics.functional.classification import multiclass_confusion_matrix

from fusmae.data.datamodule import Draws, PairDataModule
from fusmae.data.pixels import NO_CLASS
from fusmae.data.shard_writer import Maps, write_shards
from fusmae.errors import TrainingError
from fusmae.evaluation.metrics import segmentation_scores
from fusmae.models.encoder import Encoder
from fusmae.models.preprocess import Preprocess
from fusmae.training.segmentation import Segmenter, pair_confusions, pixel_loss
from tests.sections import architecture_of, preprocess_of

MAP_CLASSES = ("dark", "bright", "absent")
SIDE_PX = 24


@pytest.fixture(scope="session")
def mapped(tmp_path_factory, pairs, read_pair, inputs, classes):
    """Shards whose maps say which patches of S2 are bright; the first row of pixels has no class."""

    def read(pair):
        bands = dict(read_pair(pair))
        scale = np.where(read_map(pair) == 1, 1.5, 0.5)
        return bands | {name: np.rint(bands[name] * scale).astype(np.uint16) for name in ("B02", "B03", "B04")}

    def read_map(pair):
        found = np.zeros((SIDE_PX, SIDE_PX), np.uint8)
        found[:, :8] = sum(pair.key.encode()) % 2
        found[:, 8:] = 1 - found[0, 0]
        found[0] = NO_CLASS
        return found

    folder = tmp_path_factory.mktemp("mapped") / "shards"
    settings = {"inputs": inputs, "classes": classes, "shard_pairs": 7}
    write_shards(pairs, read, folder, maps=Maps(MAP_CLASSES, read_map), **settings)
    return folder


@pytest.fixture
def make_data(mapped):
    def make(batch_size: int = 4) -> PairDataModule:
        draws = Draws(0, ("s1", "s2"), 9)
        return PairDataModule(mapped, batch_size=batch_size, draws=draws, with_maps=True)

    return make


@pytest.fixture
def make_segmenter(architecture, preprocessing):
    def make(setting=("s1", "s2"), learning_rate=0.1) -> Segmenter:
        torch.manual_seed(0)
        return Segmenter(
            Encoder(architecture, drop_path=0.5),
            Preprocess(preprocessing),
            setting=setting,
            learning_rate=learning_rate,
            num_classes=len(MAP_CLASSES),
        )

    return make


def test_training_leaves_the_encoder_bit_identical_and_changes_the_head(
    make_segmenter, make_data, tmp_path, train, weights_of
):
    module = make_segmenter()
    before = weights_of(module)
    train(module, make_data(), tmp_path)
    assert any(name.startswith("encoder.") for name in before)
    for name, tensor in module.state_dict().items():
        assert torch.equal(tensor, before[name]) == name.startswith("encoder."), name


def test_encoder_stays_in_eval_mode_and_without_gradients(make_segmenter):
    module = make_segmenter().train()
    assert all(not part.training for part in module.encoder.modules())
    assert module.head.norm.training
    assert {name for name, parameter in module.named_parameters() if parameter.requires_grad} == {
        "head.linear.weight",
        "head.linear.bias",
    }


@torch.no_grad()
def counted(module, data):
    """Confusion counts of every test pair."""
    module.eval()
    return torch.cat([module.predict_step(batch) for batch in data.loader("test")])


def test_training_finds_the_classes_and_twice_the_same_weights(make_segmenter, make_data, tmp_path, train, weights_of):
    data, found = make_data(), []
    for attempt in range(2):
        module = make_segmenter()
        train(module, data, tmp_path / str(attempt), epochs=15)
        found.append(weights_of(module))
    assert all(torch.equal(tensor, found[1][name]) for name, tensor in found[0].items())
    counts = counted(module, data).sum(0).numpy()
    scores, ious = segmentation_scores(counts, MAP_CLASSES)
    assert scores["miou"] > 0.7
    assert list(ious) == ["dark", "bright"]


@pytest.mark.parametrize(("setting", "matters"), [(("s1",), {"s1"}), (("s2",), {"s2"}), (("s1", "s2"), {"s1", "s2"})])
def test_pixels_of_other_modalities_are_never_read(make_segmenter, make_data, setting, matters):
    module, batch = make_segmenter(setting).eval(), make_data().first("train", 4)
    before = module(batch)
    for side, name in (("s1", "s1_10m"), ("s2", "s2_10m")):
        other = batch._replace(pixels=batch.pixels | {name: batch.pixels[name] * 0})
        assert torch.equal(module(other), before) != (side in matters)


def test_a_stacked_model_is_fed_all_of_its_one_modality(make_data, inputs, statistics):
    preprocess = preprocess_of(inputs, statistics, is_stacked=True)
    encoder = Encoder(architecture_of(preprocess.preprocessing, early_fusion=False, feature_fusion=False))
    module = Segmenter(encoder, preprocess, setting=("s1+s2",), learning_rate=0.1, num_classes=3).eval()
    assert module(make_data().first("train", 2)).shape == (2, 3, SIDE_PX, SIDE_PX)


def test_each_pair_has_its_own_confusion_of_the_pixels_with_a_class(make_segmenter, make_data):
    module, batch = make_segmenter().eval(), make_data().first("test", 5)
    counts = module.predict_step(batch)
    assert (counts.dtype, counts.shape) == (torch.int32, (5, 3, 3))
    assert counts.sum((1, 2)).tolist() == [SIDE_PX * (SIDE_PX - 1)] * 5
    predicted = module(batch).argmax(1)
    for row in range(5):
        for true in range(3):
            for guess in range(3):
                expected = ((batch.maps[row] == true) & (predicted[row] == guess)).sum()
                assert counts[row, true, guess] == expected


def test_confusions_of_a_pair_do_not_depend_on_the_batch(make_segmenter, make_data):
    module = make_segmenter().eval()
    by_size = [counted(module, make_data(size)) for size in (1, 4)]
    assert torch.equal(*by_size)


def test_confusions_are_those_of_torchmetrics():
    torch.manual_seed(0)
    predicted, maps = torch.randint(0, 3, (4, 6, 6)), torch.randint(0, 3, (4, 6, 6))
    maps[0, :2], maps[1] = NO_CLASS, NO_CLASS
    expected = [
        multiclass_confusion_matrix(own, true, 3, ignore_index=NO_CLASS)
        for own, true in zip(predicted, maps, strict=True)
    ]
    assert torch.equal(pair_confusions(predicted, maps, 3), torch.stack(expected).int())


def test_pixels_without_a_class_have_no_influence(make_segmenter, make_data):
    module, batch = make_segmenter().eval(), make_data().first("train", 4)
    maps = batch.maps.clone()
    maps[:, 5:9] = NO_CLASS
    logits = module(batch).detach().requires_grad_()
    pixel_loss(logits, maps.long()).backward()
    is_known = (maps != NO_CLASS)[:, None].expand_as(logits)
    assert (logits.grad[~is_known] == 0).all()
    assert (logits.grad[is_known] != 0).all()
    changed = torch.where(is_known, logits.detach(), 7.0)
    assert torch.equal(pixel_loss(changed, maps.long()), pixel_loss(logits.detach(), maps.long()))
    blind = module.predict_step(batch._replace(maps=torch.full_like(maps, NO_CLASS)))
    assert (blind == 0).all()


def test_loss_is_the_mean_over_pixels_with_a_class():
    logits, maps = torch.randn(2, 3, 4, 4), torch.randint(0, 3, (2, 4, 4))
    maps[0, :2] = NO_CLASS
    expected = F.cross_entropy(logits, maps, ignore_index=NO_CLASS)
    torch.testing.assert_close(pixel_loss(logits, maps), expected)


def test_a_batch_without_any_class_trains_nothing_and_is_no_fault(make_segmenter, make_data, monkeypatch):
    module, batch = make_segmenter(), make_data().first("train", 4)
    monkeypatch.setattr(module, "log", lambda *_, **__: None)
    loss = module.training_step(batch._replace(maps=torch.full_like(batch.maps, NO_CLASS)), 0)
    loss.backward()
    assert loss == 0
    assert all((parameter.grad == 0).all() for parameter in module.head.parameters())


def test_a_loss_that_is_not_finite_stops_the_run(make_segmenter, make_data, tmp_path, train):
    module = make_segmenter()
    torch.nn.init.constant_(module.head.linear.bias, torch.inf)
    with pytest.raises(TrainingError, match=r"train segmentation loss on s1\+s2 is not finite"):
        train(module, make_data(), tmp_path)


def test_scores_are_those_of_torchmetrics():
    random = np.random.default_rng(0)
    true, predicted = (torch.from_numpy(random.integers(0, 4, 5000)) for _ in range(2))
    predicted = torch.where(torch.from_numpy(random.random(5000) < 0.5), true, predicted)
    confusion = np.zeros((4, 4), np.int64)
    np.add.at(confusion, (true.numpy(), predicted.numpy()), 1)
    scores, ious = segmentation_scores(confusion, "abcd")
    each = MulticlassJaccardIndex(4, average="none")(predicted, true).tolist()
    assert ious == pytest.approx(dict(zip("abcd", each, strict=True)))
    assert scores["miou"] == pytest.approx(MulticlassJaccardIndex(4, average="macro")(predicted, true).item())
    assert scores["accuracy"] == pytest.approx(MulticlassAccuracy(4, average="micro")(predicted, true).item())


def test_a_class_without_a_pixel_is_no_part_of_the_mean_but_counts_as_a_mistake():
    confusion = np.array([[6, 0, 2], [0, 4, 0], [0, 0, 0]])
    scores, ious = segmentation_scores(confusion, ("a", "b", "c"))
    assert ious == {"a": 0.75, "b": 1.0}
    assert scores == {"miou": 0.875, "accuracy": pytest.approx(10 / 12)}


def test_scores_of_no_pixel_are_refused():
    with pytest.raises(ValueError, match="no pixel has a class"):
        segmentation_scores(np.zeros((3, 3), np.int32), ("a", "b", "c"))
