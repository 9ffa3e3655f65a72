"""Published networks lie inside the shipped spaces: torchvision counts the same, to the digit."""

from collections.abc import Callable

import pytest
import torch
from torch import nn
from torchvision import models

from nassearch.errors import ConfigError
from nassearch.networks.cost import count, network_cost
from nassearch.space import list_published_networks, load_published_network, lower

TORCHVISION: dict[str, Callable[..., nn.Module]] = {
    "convnext:tiny": models.convnext_tiny,
    "efficientnet:b0": models.efficientnet_b0,
    "mobilenet_v2:w10": models.mobilenet_v2,
    "mobilenet_v3:large": models.mobilenet_v3_large,
    "resnet:50": models.resnet50,
}


def test_every_named_network_is_checked_here() -> None:
    assert sorted(TORCHVISION) == sorted(list_published_networks())


@pytest.mark.parametrize("name", TORCHVISION)
def test_it_has_torchvisions_parameters_and_arithmetic(name: str) -> None:
    found = load_published_network(name)
    ours = network_cost(lower(found.space, found.architecture))
    theirs = count(TORCHVISION[name](), torch.zeros(1, 3, 224, 224), name=name)
    assert (ours.params, ours.macs) == (theirs.params, theirs.macs)


@pytest.mark.parametrize("name", [name for name in TORCHVISION if name != "convnext:tiny"])
def test_it_is_the_same_kinds_of_layers(name: str) -> None:
    """ConvNeXt-T aside, whose pointwise convolutions torchvision writes as linear layers."""
    found = load_published_network(name)
    ours = network_cost(lower(found.space, found.architecture))
    theirs = count(TORCHVISION[name](), torch.zeros(1, 3, 224, 224), name=name)
    assert ours.macs_by_kind == theirs.macs_by_kind


@pytest.mark.parametrize(
    ("name", "line"),
    [
        ("mobilenet_v3:larg", "did you mean mobilenet_v3:large"),
        ("mobilenet_v9:large", "unknown family of networks 'mobilenet_v9'"),
    ],
)
def test_an_unknown_name_is_refused(name: str, line: str) -> None:
    with pytest.raises(ConfigError, match=line):
        load_published_network(name)
