"""Sensitivities are the Hessian's, and say which block int8 costs most."""

import copy

import pytest
import torch
import torch.nn.functional as F
from torch import nn
from torch.func import functional_call

from nassearch.networks import Subnet, Supernet
from nassearch.networks.norm_folding import fold_norms
from nassearch.ops.layer import ConvNorm
from nassearch.space import SearchSpace, lower
from nassearch.training.sensitivity import (
    hutchinson,
    measure_sensitivity,
    supernet_sensitivity,
)
from tests.conftest import calibrated


def test_traces_are_those_of_the_exact_hessian(generator: torch.Generator) -> None:
    torch.manual_seed(0)
    network = nn.Sequential(nn.Linear(4, 5), nn.Tanh(), nn.Linear(5, 3)).double()
    images = torch.randn(20, 4, generator=generator, dtype=torch.float64)
    labels = torch.randint(3, (20,), generator=generator)
    names = ("0.weight", "2.weight")
    tensors = [dict(network.named_parameters())[name] for name in names]

    def loss_of(*weights: torch.Tensor) -> torch.Tensor:
        logits = functional_call(network, dict(zip(names, weights, strict=True)), images)
        return F.cross_entropy(logits, labels)

    exact = [
        torch.autograd.functional.hessian(
            lambda weight, place=place: loss_of(
                *(weight if other == place else tensors[other] for other in range(2))
            ),
            tensors[place],
        )
        .reshape(tensors[place].numel(), -1)
        .trace()
        for place in range(2)
    ]
    loss = F.cross_entropy(network(images), labels)
    samples = hutchinson(loss, [tensors], num_probes=500, generator=generator)
    errors = samples.std(0) / 500**0.5
    assert (errors < 0.1 * samples.mean(0)).all()
    for found, error, expected in zip(samples.mean(0), errors, exact, strict=True):
        assert abs(float(found - expected)) < 4 * float(error)


@pytest.fixture(scope="module")
def network() -> Subnet:
    space = SearchSpace.load("digits_tiny")
    torch.manual_seed(2)
    network = Subnet(lower(space, space.smallest))
    with torch.no_grad():
        for module in network.modules():
            if isinstance(module, nn.BatchNorm2d):
                module.running_mean.normal_(0, 0.2)
                module.running_var.uniform_(0.5, 1.5)
                module.weight.uniform_(0.5, 1.5)
    return network.eval()


@pytest.fixture(scope="module")
def batches(network: Subnet) -> list[tuple[torch.Tensor, torch.Tensor]]:
    generator = torch.Generator().manual_seed(3)
    images = torch.randn(32, *network.input_shape, generator=generator)
    labels = torch.randint(10, (32,), generator=generator)
    return list(zip(images.split(16), labels.split(16), strict=True))


def test_a_block_has_one_number_with_its_error(
    network: Subnet, batches: list[tuple[torch.Tensor, torch.Tensor]]
) -> None:
    before = copy.deepcopy(network.state_dict())
    found = measure_sensitivity(
        network, batches, num_probes=16, generator=torch.Generator().manual_seed(0)
    )
    assert [item.block for item in found] == list(range(len(network.blocks)))
    assert [item.key for item in found] == [spec.key for spec in network.specs]
    for item in found:
        parts = (item.weights, item.inner, item.output)
        assert item.loss_increase == sum(part.loss_increase for part in parts)
        parts = parts if item.inner.squared_error else (item.weights, item.output)
        assert all(part.squared_error > 0 for part in parts)
        assert all(part.relative_error > 0 for part in parts), item
    for name, tensor in network.state_dict().items():
        assert torch.equal(tensor, before[name]), name


def test_the_head_s_output_has_the_curvature_of_the_softmax(
    network: Subnet, batches: list[tuple[torch.Tensor, torch.Tensor]]
) -> None:
    """The Hessian of cross entropy in the logits is diag(p) - p p'."""
    generator = torch.Generator().manual_seed(0)
    *_, head = measure_sensitivity(network, batches, num_probes=12, generator=generator)
    with torch.no_grad():
        shares = network(torch.cat([images for images, _ in batches])).softmax(1)
    exact = float((shares - shares**2).sum(1).mean()) / shares.shape[1]
    error = head.output.relative_error * exact
    assert abs(head.output.mean_eigenvalue - exact) < 4 * error + 1e-4


def test_a_channel_of_outliers_makes_its_block_the_most_sensitive(
    network: Subnet, batches: list[tuple[torch.Tensor, torch.Tensor]]
) -> None:
    spoiled = copy.deepcopy(network)
    with torch.no_grad():
        layer = next(m for m in spoiled.blocks[2].modules() if isinstance(m, nn.Conv2d))
        layer.weight[:, 0, 0, 0] *= 100.0
    numbers = []
    for one in (network, spoiled):
        found = measure_sensitivity(
            one, batches, num_probes=8, generator=torch.Generator().manual_seed(0)
        )
        numbers.append([item.weights.squared_error for item in found])
    assert numbers[1][2] > 100 * numbers[0][2]
    assert numbers[1][0] == numbers[0][0]


def test_a_channel_that_is_large_within_a_block_is_counted(
    network: Subnet, batches: list[tuple[torch.Tensor, torch.Tensor]]
) -> None:
    """One channel grows, and its reader shrinks: the network is the same, its range is not."""
    spoiled = copy.deepcopy(network)
    layers = [module for module in spoiled.blocks[2].modules() if isinstance(module, ConvNorm)]
    with torch.no_grad():
        layers[0].norm.weight[0] *= 100.0
        layers[0].norm.bias[0] *= 100.0
        layers[1].conv.weight[0] /= 100.0  # depthwise
    found = [
        measure_sensitivity(one, batches, num_probes=8, generator=torch.Generator().manual_seed(0))
        for one in (network, spoiled)
    ]
    errors = [[item.inner.squared_error for item in one] for one in found]
    assert errors[1][2] > 100 * errors[0][2]
    assert errors[1][3:] == pytest.approx(errors[0][3:], rel=0.1)
    assert found[1][2].output.squared_error == pytest.approx(
        found[0][2].output.squared_error, rel=0.1
    )


def test_folded_norms_change_nothing(network: Subnet) -> None:
    folded = copy.deepcopy(network)
    pairs = fold_norms(folded)
    assert pairs
    modules = dict(folded.named_modules())
    for norm in pairs.values():
        assert torch.equal(modules[norm].weight, torch.ones_like(modules[norm].weight))
    images = torch.randn(4, *network.input_shape, generator=torch.Generator().manual_seed(1))
    with torch.no_grad():
        torch.testing.assert_close(folded(images), network(images), atol=1e-5, rtol=1e-5)


def test_a_supernet_s_largest_network_is_measured(digits: object) -> None:
    space = SearchSpace.load("digits_tiny")
    torch.manual_seed(0)
    found = supernet_sensitivity(Supernet(space), calibrated(digits), num_images=16, num_probes=1)
    assert [item.key for item in found] == [spec.key for spec in lower(space, space.largest)]
