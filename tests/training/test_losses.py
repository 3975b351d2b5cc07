"""Losses against their formulas, written out; what has no label counts for nothing."""

import numpy as np
import pytest
import torch
import torch.nn.functional as F

from fusmae.config.task import Task
from fusmae.data.pixels import NO_CLASS
from fusmae.training.losses import cross_entropy, dice_loss, loss_of_classes, loss_of_values

CLASSES = ("a", "b", "c")
WEIGHTS = torch.tensor([0.5, 2.0, 1.0])


def task(kind) -> Task:
    return Task(kind=kind, classes=CLASSES)


@pytest.fixture
def maps():
    """Logits `[B, K, h, w]`, and maps `[B, h, w]` of which a third has no class."""
    torch.manual_seed(0)
    classes = torch.randint(0, 3, (2, 6, 5))
    classes[torch.rand(2, 6, 5) < 0.33] = NO_CLASS
    return torch.randn(2, 3, 6, 5), classes


def chances_of(logits, classes):
    """Probability `[N]` of the class of each pixel that has one, and these classes."""
    chances, flat = logits.double().softmax(1).movedim(1, -1).reshape(-1, 3), classes.flatten()
    known = flat != NO_CLASS
    return chances[known, flat[known]], flat[known]


@pytest.mark.parametrize("weights", [None, WEIGHTS])
def test_several_classes_have_the_binary_cross_entropy_of_each_with_more_weight_where_they_are(weights):
    logits, labels = torch.randn(4, 3), torch.randint(0, 2, (4, 3)).float()
    chance, of = torch.sigmoid(logits.double()), torch.ones(3) if weights is None else weights
    expected = -(of * labels * chance.log() + (1 - labels) * (1 - chance).log()).mean()
    found = loss_of_classes(logits, labels, task("multilabel"), "cross_entropy", weights)
    assert found.item() == pytest.approx(expected.item(), rel=1e-5)


@pytest.mark.parametrize("weights", [None, WEIGHTS])
@pytest.mark.parametrize("loss", ["cross_entropy", "focal"])
def test_one_class_has_the_weighted_mean_of_its_negative_log_probability(loss, weights):
    logits, labels = torch.randn(8, 3), F.one_hot(torch.arange(8) % 3, 3).float()
    chance = torch.softmax(logits.double(), 1)[labels.bool()]
    own = torch.ones(8) if weights is None else weights[torch.arange(8) % 3]
    focus = (1 - chance) ** 2 if loss == "focal" else 1.0
    expected = -(own * focus * chance.log()).sum() / own.sum()
    found = loss_of_classes(logits, labels, task("multiclass"), loss, weights)
    assert found.item() == pytest.approx(expected.item(), rel=1e-5)


@pytest.mark.parametrize("weights", [None, WEIGHTS])
@pytest.mark.parametrize("loss", ["cross_entropy", "focal", "dice"])
def test_maps_have_the_weighted_mean_over_the_pixels_that_have_a_class(maps, loss, weights):
    chance, known = chances_of(*maps)
    own = torch.ones(len(known)) if weights is None else weights[known]
    focus = (1 - chance) ** 2 if loss == "focal" else 1.0
    expected = -(own * focus * chance.log()).sum() / own.sum()
    if loss == "dice":
        expected += dice_loss(maps[0].movedim(1, -1).reshape(-1, 3), maps[1].flatten()).item()
    found = loss_of_classes(*maps, task("segmentation"), loss, weights)
    assert found.item() == pytest.approx(expected.item(), rel=1e-5)


def test_cross_entropy_is_torch_s_own(maps):
    found = loss_of_classes(*maps, task("segmentation"), "cross_entropy", WEIGHTS)
    torch.testing.assert_close(found, F.cross_entropy(*maps, weight=WEIGHTS, ignore_index=NO_CLASS))


@pytest.mark.parametrize("loss", ["cross_entropy", "focal", "dice"])
def test_pixels_without_a_class_count_for_nothing(maps, loss):
    logits, classes = maps
    logits.requires_grad_()
    loss_of_classes(logits, classes, task("segmentation"), loss, WEIGHTS).backward()
    is_known = (classes != NO_CLASS)[:, None].expand_as(logits)
    assert (logits.grad[~is_known] == 0).all()
    assert (logits.grad[is_known] != 0).any()
    changed = torch.where(is_known, logits.detach(), 7.0)
    both = [loss_of_classes(of, classes, task("segmentation"), loss, WEIGHTS) for of in (changed, logits)]
    assert torch.equal(*both)


@pytest.mark.parametrize("weights", [None, WEIGHTS])
@pytest.mark.parametrize("loss", ["cross_entropy", "focal", "dice"])
def test_a_batch_without_any_class_has_a_loss_of_0_and_a_gradient_of_0(maps, loss, weights):
    logits = maps[0].requires_grad_()
    found = loss_of_classes(logits, torch.full_like(maps[1], NO_CLASS), task("segmentation"), loss, weights)
    found.backward()
    assert found == 0
    assert (logits.grad == 0).all()


def test_a_focal_loss_weighs_what_is_sure_already_less():
    logits = torch.tensor([[4.0, 0.0, 0.0], [0.1, 0.0, 0.0]])
    classes = torch.tensor([0, 0])
    each = [cross_entropy(row[None], classes[:1], None).item() for row in logits]
    focal = [cross_entropy(row[None], classes[:1], None, is_focal=True).item() for row in logits]
    assert focal[0] / focal[1] < 0.1 * each[0] / each[1]


def test_dice_is_that_of_a_case_by_hand():
    # Two classes; probabilities of the first are 0.8, 0.8, 0.4 of pixels that are a, a, b; one pixel has no class.
    chances = torch.tensor([[0.8, 0.2], [0.8, 0.2], [0.4, 0.6], [0.5, 0.5]])
    classes = torch.tensor([0, 0, 1, NO_CLASS])
    of_a = 2 * (0.8 + 0.8) / ((0.8 + 0.8 + 0.4) + 2)
    of_b = 2 * 0.6 / ((0.2 + 0.2 + 0.6) + 1)
    assert dice_loss(chances.log(), classes).item() == pytest.approx(1 - (of_a + of_b) / 2, rel=1e-6)


def test_dice_is_over_the_classes_that_occur_and_0_for_a_perfect_map():
    classes = torch.tensor([0, 0, 2, NO_CLASS])
    logits = F.one_hot(torch.tensor([0, 0, 2, 1]), 3) * 50.0
    assert dice_loss(logits, classes).item() == pytest.approx(0, abs=1e-6)
    assert dice_loss(-logits, classes).item() == pytest.approx(1, abs=0.35)
    assert dice_loss(logits, torch.full((4,), NO_CLASS)) == 0


def test_dice_counts_a_small_class_as_much_as_a_large_one():
    classes = torch.tensor([0] * 99 + [1])
    missed = F.one_hot(torch.zeros(100, dtype=torch.long), 2) * 20.0
    assert dice_loss(missed, classes).item() == pytest.approx(0.5, abs=0.01)


def test_values_have_huber_s_loss_over_those_that_are_known():
    raw = torch.tensor([[0.0], [0.5], [3.0], [9.0]], requires_grad=True)
    standard = torch.tensor([[0.4], [0.5], [0.0], [torch.nan]])
    expected = (0.5 * 0.4**2 + 0.0 + (3.0 - 0.5)) / 3
    found = loss_of_values(raw, standard)
    found.backward()
    assert found.item() == pytest.approx(expected, rel=1e-6)
    np.testing.assert_allclose(raw.grad[:, 0], [-0.4 / 3, 0, 1 / 3, 0], atol=1e-6)


def test_values_of_which_none_is_known_have_a_loss_of_0_and_a_gradient_of_0():
    raw = torch.randn(2, 1, 4, 4, requires_grad=True)
    found = loss_of_values(raw, torch.full((2, 1, 4, 4), torch.nan))
    found.backward()
    assert found == 0
    assert (raw.grad == 0).all()
