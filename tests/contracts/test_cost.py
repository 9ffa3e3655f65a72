"""Costs are additive: the whole network counted at once is the sum over its blocks."""

import torch

from nassearch.networks import Supernet
from nassearch.networks.cost import count, network_cost
from nassearch.space import Architecture, lower


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
