"""An adopted network: its largest is the user's, to the digit, and all others are its slices."""

from itertools import pairwise

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from nassearch.adoption.adoption import adopt, module_cost
from nassearch.adoption.elastic_space import Elasticity
from nassearch.adoption.layer_report import LayerReport
from nassearch.networks.cost import network_cost
from nassearch.space import SearchSpace, lower
from tests.adoption.network import (
    FEW,
    NETWORKS,
    QUICK_NETWORKS,
    Network,
    OwnNetwork,
    Residual,
    adopted,
)

EVERY = [
    pytest.param(network, id=name, marks=() if name in QUICK_NETWORKS else pytest.mark.slow)
    for name, network in NETWORKS.items()
]


@pytest.mark.parametrize("network", EVERY)
def test_the_largest_network_is_the_module(network: Network) -> None:
    module, example, adoption = adopted(network)
    images = torch.randn(2, *example.shape[1:], generator=torch.Generator().manual_seed(1))
    largest = adoption.supernet.extract(adoption.space.largest)
    with torch.no_grad():
        expected, actual = module(images), largest(images)
    scale = float(expected.abs().max())
    torch.testing.assert_close(actual / scale, expected / scale, atol=1e-5, rtol=1e-5)
    assert (adoption.params, adoption.macs) == module_cost(module, example, name=network.name)


@pytest.mark.parametrize("network", EVERY)
def test_the_smallest_network_is_much_smaller(network: Network) -> None:
    space = adopted(network)[2].space
    ends = [network_cost(lower(space, one)).macs for one in (space.smallest, space.largest)]
    most = 0.8 if network.name == "resnest14d" else 0.5  # its split attention stays as it is
    assert ends[0] <= most * ends[1]


def test_important_channels_come_first() -> None:
    """In groups of four, which stay together; all that read them say how important they are."""
    module, example, adoption = adopted(NETWORKS["own"])
    block = adoption.supernet.stages[0][1]["traced"]
    strength = sum(
        block.get_parameter(f"{name}.weight").detach().abs().sum((0, 2, 3))
        for name in ("expand", "gate_reduce")
    )
    groups = strength.reshape(8, 4).sum(1)
    assert (groups.diff() <= 0).all()
    unsorted = adopt(module, example, name="own", sort_channels=False, elasticity=FEW)
    plain = unsorted.supernet.stages[0][1]["traced"].get_parameter("expand.weight")
    assert torch.equal(plain, module.residual[0].expand.weight)
    assert not torch.equal(plain, block.get_parameter("expand.weight"))


def _layers(adoption_layers: tuple[LayerReport, ...]) -> dict[str, LayerReport]:
    return {layer.path: layer for layer in adoption_layers}


def test_each_layer_says_what_is_elastic_and_why_the_rest_is_not() -> None:
    layers = _layers(adopted(NETWORKS["own"])[2].layers)
    assert layers["stem.0"].channels == (8, 16)
    mix = layers["residual.1.mix"]
    assert (mix.layer, mix.kernels) == ("conv 5x5 groups of 4", (3, 5))
    assert mix.channels == (16, 32)
    assert not layers["stem.0"].may_be_left_out
    assert all(layers[f"residual.{number}.mix"].may_be_left_out for number in range(3))
    last = layers["classifier.2"]
    assert (last.channels, last.reason) == ((5,), "it tells the classes apart")
    assert layers["classifier.0"].channels == (12, 24)  # as the head's input does


def test_options_bound_what_is_elastic() -> None:
    elasticity = Elasticity(
        width=(0.25, 1.0), inner=(1.0,), depth=(2,), kernel=(3,), fixed=("stem", "dense.first")
    )
    adoption = adopt(OwnNetwork(), torch.randn(1, 3, 16, 16), elasticity=elasticity)
    first, second = adoption.space.definition.stages
    assert (first.width, first.depth, first.kernel_size) == ((16,), (2, 4), (3, 5))
    assert first.inner_ratio == second.inner_ratio == (1,)
    assert second.width == (8, 32)
    layers = _layers(adoption.layers)
    assert layers["stem.0"].reason == layers["dense.first"].reason == "fixed at --fixed"


def test_a_space_may_be_edited() -> None:
    space = adopted(NETWORKS["own"])[2].space
    content = space.to_dict()
    assert SearchSpace.from_dict(content) == space
    content["stages"][0]["width"] = [12, 16]
    edited = SearchSpace.from_dict(content)
    assert edited.fingerprint != space.fingerprint
    for architecture in edited.sample_many(np.random.default_rng(0), 3):
        lower(edited, architecture)


class Chain(nn.Module):
    """Equal blocks, so that one graph and one key stand for them."""

    def __init__(self) -> None:
        super().__init__()
        self.stem = nn.Conv2d(3, 16, 3, padding=1)
        self.blocks = nn.Sequential(*(Residual(16, 32) for _ in range(4)))
        self.head = nn.Linear(16, 4)

    def forward(self, images: Tensor) -> Tensor:
        return self.head(self.blocks(self.stem(images)).mean((2, 3)))


def test_equal_blocks_are_measured_once() -> None:
    adoption = adopt(Chain(), torch.randn(1, 3, 8, 8))
    (stage,) = adoption.space.definition.stages
    assert stage.depth == (3, 4, 5)
    assert set(stage.graph) == {"conv__1", "residual__1"}
    specs = lower(adoption.space, adoption.space.largest)
    assert all(one.key == other.key for one, other in pairwise(specs[1:-1]))
    assert specs[1].key.startswith("traced@residual.")
