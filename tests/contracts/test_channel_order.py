"""Sorting inner channels changes no output of any op, and puts the important ones first."""

import copy

import pytest
import torch

from nassearch.networks import Supernet
from nassearch.ops import OPS, Elastic, static_op
from nassearch.ops.channel_order import order_channels
from nassearch.space import SearchSpace
from tests.contracts.conftest import op_space, unsettle

EXPANDING = [op for op in OPS if "expand_ratio" in static_op(op).dimensions]


def sortable_space(op: str, *, attention: tuple[str, ...] = ("none", "se")) -> SearchSpace:
    """The op's contract space, without what ties neighbouring inner channels together."""
    definition = op_space(op).to_dict()
    for stage in definition["stages"]:
        stage.pop("group_size", None)
        if "attention" in stage:
            stage["attention"] = list(attention)
    return SearchSpace.from_dict(definition)


def elastics(supernet: Supernet) -> list[Elastic]:
    return [module for module in supernet.modules() if isinstance(module, Elastic)]


@pytest.mark.parametrize("op", EXPANDING)
def test_sorting_leaves_the_largest_network_as_it_was(op: str) -> None:
    torch.manual_seed(0)
    supernet = Supernet(sortable_space(op)).eval().double()
    unsettle(supernet)
    images = torch.randn(2, 3, 16, 16).double()
    largest = supernet.space.largest
    with torch.no_grad():
        before = supernet(images, largest)
        moved = 0
        for elastic in elastics(supernet):
            order = order_channels(elastic)
            if order is None:
                continue
            moved += int((order.order.diff() != 1).any())
            tensors = {**dict(elastic.named_parameters()), **dict(elastic.named_buffers())}
            for name in order.dims:
                order.apply(name, tensors[name])
            again = order_channels(elastic)
            assert again is not None
            assert torch.equal(again.order, torch.arange(len(again.order)))
        after = supernet(images, largest)
    assert moved == 4  # two stages of two blocks
    torch.testing.assert_close(after, before, rtol=1e-9, atol=1e-9)


@pytest.mark.parametrize("op", ["mbconv", "bottleneck"])
def test_channels_that_are_mixed_with_their_neighbours_stay(op: str) -> None:
    supernet = Supernet(sortable_space(op, attention=("eca",)))
    assert all(order_channels(elastic) is None for elastic in elastics(supernet))
    grouped = Supernet(copy.copy(op_space("bottleneck")))
    assert all(order_channels(elastic) is None for elastic in elastics(grouped))


def test_the_most_important_channels_reach_every_smaller_ratio() -> None:
    """Over the full range: of the true top half, all are in the half that ratio 2 of 4 takes."""
    torch.manual_seed(0)
    supernet = Supernet(sortable_space("mbconv", attention=("none",)))
    elastic = supernet.stages[0][0]["mbconv"]
    weight = dict(elastic.named_parameters())["project.conv.weight"]
    strengths = weight.detach().abs().sum((0, 2, 3))
    top = set(strengths.topk(len(strengths) // 2).indices.tolist())
    order = order_channels(elastic)
    assert order is not None
    assert set(order.order[: len(top)].tolist()) == top
