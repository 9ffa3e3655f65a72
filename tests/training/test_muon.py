"""Muon turns a convolution by a share of itself and leaves everything else to SGD."""

import pytest
import torch
from torch import nn

from nassearch.training.muon import Muon, orthogonal


@pytest.mark.parametrize("shape", [(8, 40), (40, 8), (16, 16)])
def test_the_singular_values_of_a_direction_are_near_one(
    shape: tuple[int, int], generator: torch.Generator
) -> None:
    values = torch.linalg.svdvals(orthogonal(torch.randn(shape, generator=generator)))
    assert 0.3 < values.min() < values.max() < 1.4


def test_a_step_changes_a_convolution_by_the_share_lr(generator: torch.Generator) -> None:
    weight = nn.Parameter(torch.randn(16, 8, 3, 3, generator=generator))
    optimizer = Muon([{"params": [weight]}], lr=0.1, momentum=0.5)
    for size in (1e-3, 1e3):  # of the gradient
        weight.grad = size * torch.randn(weight.shape, generator=generator)
        before = weight.detach() * 16**0.5 / weight.detach().norm()
        optimizer.step()
        assert 0.05 < (weight - before).norm() / before.norm() < 0.13


def test_everything_else_moves_as_with_sgd(generator: torch.Generator) -> None:
    start = torch.randn(10, 4, generator=generator)
    ours, theirs = nn.Parameter(start.clone()), nn.Parameter(start.clone())
    pair = (
        Muon([{"params": [ours], "weight_decay": 0.01}], lr=0.1, momentum=0.9),
        torch.optim.SGD([theirs], lr=0.4, momentum=0.9, weight_decay=0.01, nesterov=True),
    )
    for _ in range(3):
        gradient = torch.randn(start.shape, generator=generator)
        ours.grad, theirs.grad = gradient.clone(), gradient.clone()
        for optimizer in pair:
            optimizer.step()
    torch.testing.assert_close(ours, theirs)


def test_what_has_no_gradient_stays_as_it_is() -> None:
    weight = nn.Parameter(torch.ones(4, 4, 3, 3))
    Muon([{"params": [weight]}], lr=0.1, momentum=0.5).step()
    assert torch.equal(weight, torch.ones(4, 4, 3, 3))


def test_of_a_shared_weight_only_what_a_step_used_moves(generator: torch.Generator) -> None:
    weight = nn.Parameter(torch.randn(8, 6, 5, 5, generator=generator))
    optimizer = Muon([{"params": [weight]}], lr=0.1, momentum=0.9)
    weight.grad = torch.randn(weight.shape, generator=generator)
    optimizer.step()
    before = weight.detach() * 8**0.5 / weight.detach().norm()
    small = (
        slice(0, 4),
        slice(0, 3),
        slice(1, 4),
        slice(1, 4),
    )  # half as wide, the centre
    gradient = torch.zeros_like(weight)
    gradient[small] = torch.randn(4, 3, 3, 3, generator=generator)
    weight.grad = gradient
    optimizer.step()
    moved = (weight - before).abs() > 1e-6
    assert moved[small].all()
    assert moved.sum() == moved[small].sum()
