import torch

from fusmae.models.drop_path import DropPath


def test_rows_are_left_out_by_the_noise_told_and_the_others_are_scaled_up():
    path = DropPath(0.25).train()
    path.noise = torch.tensor([0.0, 0.2499, 0.25, 0.9])
    found = path(torch.full((4, 2, 3), 3.0))
    assert found[:2].eq(0).all()
    assert found[2:].eq(4.0).all()


def test_without_noise_told_it_draws_its_share():
    torch.manual_seed(0)
    rows = DropPath(0.3).train()(torch.ones(10_000, 1, 1))
    assert 0.28 < rows.eq(0).float().mean() < 0.32
    assert abs(rows.mean() - 1) < 0.02


def test_in_evaluation_nothing_is_left_out():
    path = DropPath(0.9).eval()
    path.noise = torch.zeros(2)
    branch = torch.ones(2, 1, 1)
    assert path(branch) is branch
