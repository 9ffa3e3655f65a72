"""Costs are additive: the whole network counted at once is the sum over its blocks."""

import pytest
import torch

from nassearch.errors import SpaceError
from nassearch.networks import Supernet
from nassearch.networks.cost import block_cost, count, network_cost
from nassearch.space import Architecture, SearchSpace, lower


def test_cost_of_the_network_is_the_sum_over_its_blocks(
    supernet: Supernet, architectures: list[Architecture]
) -> None:
    for architecture in architectures[:4]:
        subnet = supernet.extract(architecture)
        images = torch.zeros(1, *subnet.input_shape)
        counted = count(subnet, images, name=architecture.id)
        assert counted == network_cost(lower(supernet.space, architecture))
        assert counted.macs > 0
        assert counted.params == sum(parameter.numel() for parameter in subnet.parameters())


def _of_width(width: int, **stage: object) -> SearchSpace:
    block = {"op": "mbconv", "width": width, "kernel_size": 3, "expand_ratio": 1, **stage}
    stem = {"op": "conv", "width": width, "kernel_size": 3}
    return SearchSpace.from_dict({"name": "w", "resolution": 8, "stem": stem, "stages": [block]})


@pytest.mark.parametrize("width", [7, 10, 12, 16])
def test_a_ratio_of_one_keeps_a_width_that_8_does_not_divide(width: int) -> None:
    """Without an expanding convolution there is nothing to round."""
    space = _of_width(width)
    supernet, architecture = Supernet(space), space.smallest
    assert supernet(torch.zeros(2, 3, 8, 8), architecture).shape == (2, 1000)
    depthwise = [
        layer
        for layer, _ in network_cost(lower(space, architecture)).layers
        if layer.kind == "depthwise"
    ]
    assert [layer.out_channels for layer in depthwise] == [width]


def test_a_block_that_no_memory_holds_is_one_line() -> None:
    space = _of_width(10**7, op="conv", kernel_size=[3, 5])
    with pytest.raises(SpaceError, match=r"takes .*B of memory, .*B are free") as caught:
        block_cost(lower(space, space.smallest)[1])
    assert "\n" not in str(caught.value)


def test_a_block_that_would_be_counted_for_a_minute_is_one_line(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr("nassearch.networks.cost.free_bytes", lambda: None)
    space = _of_width(10**4, op="conv", kernel_size=3)
    with pytest.raises(SpaceError, match="has 900 M weights, 268 M is the most for a block"):
        block_cost(lower(space, space.smallest)[1])
