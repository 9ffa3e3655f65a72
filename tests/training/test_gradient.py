"""What is done to gradients: conflicts, clipping."""

import pytest
import torch
from torch import nn

from nassearch.training import gradient
from nassearch.training.training_recipe import TrainingRecipe


def parameter(*values: float) -> nn.Parameter:
    found = nn.Parameter(torch.zeros(len(values)))
    found.grad = torch.tensor(values)
    return found


def test_what_opposes_the_subnets_is_taken_from_the_largest_gradient() -> None:
    one, other, alone = parameter(1.0, 0.0), parameter(1.0, 1.0), parameter(3.0)
    weights = [one, other, alone]
    largest = gradient.take(weights)
    assert all(each.grad is None for each in weights)
    one.grad, other.grad = torch.tensor([-1.0, 2.0]), torch.tensor([1.0, 0.0])
    gradient.project(weights, largest)
    # c = 1 / 5 for the first, which conflicts: g + h + c h; none for the second, which agrees
    torch.testing.assert_close(one.grad, torch.tensor([1.0 - 1.2, 2.4]))
    torch.testing.assert_close(other.grad, torch.tensor([2.0, 1.0]))
    torch.testing.assert_close(alone.grad, torch.tensor([3.0]))


def test_gradients_are_clipped_by_value_then_by_norm() -> None:
    weights = [parameter(30.0, 0.5), parameter(-2.0)]
    norm = gradient.clip(weights, TrainingRecipe(clip_value=1.0, clip_norm=0.75))
    assert norm == pytest.approx(1.5)
    torch.testing.assert_close(weights[0].grad, torch.tensor([0.5, 0.25]))
    torch.testing.assert_close(weights[1].grad, torch.tensor([-0.5]))


def test_without_limits_a_gradient_stays_as_it_is() -> None:
    weights = [parameter(30.0, 0.5)]
    assert gradient.clip(weights, TrainingRecipe()) == pytest.approx(30.0042, rel=1e-5)
    torch.testing.assert_close(weights[0].grad, torch.tensor([30.0, 0.5]))
