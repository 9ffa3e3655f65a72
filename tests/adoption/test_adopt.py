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
    assert ends[0] <= 0.5 * ends[1]


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
    assert layers["stem.0"].reason == layers["dense.first"].reason == "fixed by --fixed"


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
    assert stage.depth == (2, 3, 4, 5)
    assert set(stage.graph) == {"conv__1", "residual__1"}
    specs = lower(adoption.space, adoption.space.largest)
    assert all(one.key == other.key for one, other in pairwise(specs[1:-1]))
    assert specs[1].key.startswith("traced@residual.")


class Halves(nn.Module):
    """Two large groups, whose halves are weighed against one another."""

    def __init__(self) -> None:
        super().__init__()
        self.stem = nn.Conv2d(3, 32, 3, padding=1)
        self.split = nn.Conv2d(32, 64, 3, padding=1, groups=2)
        self.weigh = nn.Conv2d(32, 64, 1)
        self.expand = nn.Conv2d(32, 32, 1)
        self.head = nn.Linear(32, 4)

    def forward(self, images: Tensor) -> Tensor:
        images = self.stem(images)
        halves = self.split(images).view(len(images), 2, 32, *images.shape[2:])
        scores = self.weigh(halves.sum(1).mean((2, 3), keepdim=True))
        weights = scores.view(len(images), 2, 32, 1, 1).softmax(1)
        mixed = self.expand((halves * weights).sum(1))
        return self.head((images + mixed).mean((2, 3)))


def test_few_large_groups_keep_their_number() -> None:
    module, example = Halves().eval(), torch.randn(1, 3, 8, 8)
    adoption = adopt(module, example, elasticity=FEW)
    layers = _layers(adoption.layers)
    assert layers["split"].layer == "conv 3x3 in 2 groups"
    assert layers["split"].channels == (32, 64)
    assert (adoption.params, adoption.macs) == module_cost(module, example, name="halves")
    for architecture in (adoption.space.smallest, adoption.space.largest):
        subnet = adoption.supernet.extract(architecture)
        with torch.no_grad():
            expected = adoption.supernet(example, architecture)
            torch.testing.assert_close(subnet(example), expected, atol=1e-5, rtol=1e-5)


def _plain(given: int, made: int, *, stride: int = 1) -> nn.Sequential:
    """Convolution, norm, activation: nothing is added."""
    convolution = nn.Conv2d(given, made, 3, stride, 1, bias=False)
    return nn.Sequential(convolution, nn.BatchNorm2d(made), nn.ReLU())


class Repeats(nn.Module):
    """Stages without residuals: two blocks of equal shape, one that pools, one of another kind."""

    def __init__(self) -> None:
        super().__init__()
        self.first = nn.Sequential(_plain(3, 16), _plain(16, 16), _plain(16, 16))
        self.pooled = nn.Sequential(_plain(16, 32), nn.MaxPool2d(2), _plain(32, 32))
        self.other = nn.Sequential(nn.Conv2d(32, 32, 3, padding=1), nn.SiLU())
        self.head = nn.Linear(32, 4)

    def forward(self, images: Tensor) -> Tensor:
        return self.head(self.other(self.pooled(self.first(images))).mean((2, 3)))


def test_what_repeats_without_a_residual_has_elastic_depth() -> None:
    torch.manual_seed(0)
    module, example = Repeats().eval(), torch.randn(2, 3, 16, 16)
    adoption = adopt(module, example[:1], elasticity=FEW)
    stages = adoption.space.definition.stages
    assert [stage.depth for stage in stages] == [(1, 2, 3), (1, 2), (1,)]
    assert [max(stage.width) for stage in stages] == [16, 32, 32]
    layers = _layers(adoption.layers)
    assert layers["first.2.0"].may_be_left_out
    assert layers["pooled.2.0"].may_be_left_out
    assert not layers["pooled.0.0"].may_be_left_out
    assert not layers["other.0"].may_be_left_out
    with torch.no_grad():
        expected = module(example)
        torch.testing.assert_close(
            adoption.supernet(example, adoption.space.largest), expected, atol=1e-5, rtol=1e-5
        )
        for architecture in adoption.space.sample_many(np.random.default_rng(0), 10):
            subnet = adoption.supernet.extract(architecture)
            torch.testing.assert_close(subnet(example), adoption.supernet(example, architecture))


def test_what_is_left_out_of_a_repeat_are_its_last_blocks() -> None:
    """With all widths full, the shallow network is the module without those blocks."""
    torch.manual_seed(0)
    module, example = Repeats().eval(), torch.randn(2, 3, 16, 16)
    adoption = adopt(module, example[:1], elasticity=Elasticity(width=(1.0,), inner=(1.0,)))
    space = adoption.space
    shallow = space.smallest
    assert [len(stage.blocks) for stage in shallow.stages] == [1, 1, 1]
    for block in (1, 2):
        module.first[block] = nn.Identity()
    module.pooled[2] = nn.Identity()
    with torch.no_grad():
        expected = module(example)
        actual = adoption.supernet.extract(shallow)(example)
    torch.testing.assert_close(actual, expected, atol=1e-5, rtol=1e-5)


def test_what_is_fixed_repeats_nothing() -> None:
    elasticity = Elasticity(width=(0.5, 1.0), inner=(1.0,), fixed=("first", "pooled.2"))
    adoption = adopt(Repeats(), torch.randn(1, 3, 16, 16), elasticity=elasticity)
    assert all(len(stage.depth) == 1 for stage in adoption.space.definition.stages)
