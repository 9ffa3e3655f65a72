"""Sorting in the middle of a training: the next optimizer step is the one it would have been."""

import copy

import pytest
import torch
import torch.nn.functional as F
from torch.optim.swa_utils import AveragedModel

from nassearch.networks import Supernet
from nassearch.space import SearchSpace
from nassearch.training.channel_sorting import sort_channels
from nassearch.training.state import make_optimizer
from nassearch.training.training_recipe import TrainingRecipe

SPACE = {
    "name": "sorted",
    "resolution": 8,
    "num_classes": 4,
    "stem": {"op": "conv", "width": 8, "kernel_size": 3, "stride": 1, "activation": "relu"},
    "stages": [
        {
            "op": "mbconv",
            "width": 16,
            "depth": [1, 2],
            "stride": 2,
            "kernel_size": [3, 5],
            "expand_ratio": [2, 3, 4],
            "activation": "relu",
            "attention": "se",
        }
    ],
}


def step(supernet: Supernet, optimizer: torch.optim.Optimizer, images: torch.Tensor) -> None:
    optimizer.zero_grad()
    labels = torch.arange(len(images)) % 4
    F.cross_entropy(supernet(images, supernet.space.largest), labels).backward()
    optimizer.step()


@pytest.mark.parametrize("kind", ["sgd", "adamw", "muon"])
def test_momenta_move_with_their_weights(kind: str) -> None:
    torch.manual_seed(0)
    recipe = TrainingRecipe(optimizer=kind, lr=0.05)  # type: ignore[arg-type]
    supernet = Supernet(SearchSpace.from_dict(SPACE)).double()
    images = torch.randn(8, 3, 8, 8).double()
    optimizer = make_optimizer(supernet, recipe)
    for _ in range(3):
        step(supernet, optimizer, images)

    unsorted = copy.deepcopy(supernet)
    other = make_optimizer(unsorted, recipe)
    other.load_state_dict(copy.deepcopy(optimizer.state_dict()))
    weights = copy.deepcopy(supernet.state_dict())
    sort_channels(supernet, optimizer=optimizer)
    assert any(not torch.equal(weights[k], v) for k, v in supernet.state_dict().items())

    for _ in range(2):
        step(unsorted, other, images)
        step(supernet, optimizer, images)
    largest = supernet.space.largest
    with torch.no_grad():
        expected, found = unsorted(images, largest), supernet(images, largest)
    torch.testing.assert_close(found, expected, rtol=1e-8, atol=1e-10)


def test_an_average_of_the_weights_moves_like_them() -> None:
    torch.manual_seed(0)
    supernet = Supernet(SearchSpace.from_dict(SPACE)).eval()
    average = AveragedModel(supernet)
    images, largest = torch.randn(2, 3, 8, 8), supernet.space.largest
    with torch.no_grad():
        for parameter in average.parameters():
            parameter.add_(0.1 * torch.randn_like(parameter))
        before = average.module(images, largest)
        optimizer = make_optimizer(supernet, TrainingRecipe())
        sort_channels(supernet, optimizer=optimizer, followers=[average.module])
        after = average.module(images, largest)
    torch.testing.assert_close(after, before, rtol=1e-4, atol=1e-5)
