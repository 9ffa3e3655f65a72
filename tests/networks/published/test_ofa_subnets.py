"""Once-for-all's specialised networks compute the same when they are read from their config."""

import json
import random
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import nn

from nassearch.errors import CheckpointError
from nassearch.networks import Subnet
from nassearch.networks.published.ofa_subnets import load_specialised, read_net_config
from nassearch.space import SearchSpace
from tests.networks.published import ofa_package as theirs

HERE = Path("net.config")


def _specialised(name: str, seed: int) -> tuple[nn.Module, dict[str, Any]]:
    """A random subnet of theirs with its weights, and its config as its JSON file holds it."""
    random.seed(seed)
    network = theirs.build(name, n_classes=7)
    network.sample_active_subnet()
    subnet = network.get_active_subnet(preserve_weight=True).eval()
    return subnet, json.loads(json.dumps(subnet.config, default=lambda layer: layer.config))


def _space(config: object) -> SearchSpace:
    return read_net_config(config, resolution=64, name="one", where=HERE)


def _read(network: nn.Module, config: object) -> Subnet:
    space = _space(config)
    assert (space.size(), space.num_classes) == (1, 7)
    return load_specialised(space, network.state_dict(), where=HERE)


@pytest.mark.parametrize("name", ["ofa_mbv3_w10", "ofa_proxyless_w13", "ofa_resnet50"])
@pytest.mark.parametrize("seed", [1, 2])
def test_a_specialised_network_computes_what_theirs_does(name: str, seed: int) -> None:
    network, config = _specialised(name, seed)
    ours = _read(network, config)
    assert sum(p.numel() for p in ours.parameters()) == sum(p.numel() for p in network.parameters())
    images = torch.randn(2, 3, 64, 64, generator=torch.Generator().manual_seed(0))
    with torch.no_grad():
        expected, found = network(images), ours(images)
    assert float((found - expected).abs().max() / expected.abs().max()) < 1e-5


def test_older_names_of_a_block_are_read() -> None:
    network, config = _specialised("ofa_mbv3_w10", 1)
    for block in config["blocks"]:
        block["name"] = "MobileInvertedResidualBlock"
        block["mobile_inverted_conv"] = block.pop("conv")
        block["mobile_inverted_conv"]["name"] = "MBInvertedConvLayer"
    assert _read(network, config).specs == _read(network, _specialised("ofa_mbv3_w10", 1)[1]).specs


def test_a_config_that_is_not_understood_is_refused() -> None:
    _, config = _specialised("ofa_mbv3_w10", 1)
    broken: list[tuple[object, str]] = [
        ([1, 2], "is no net_config"),
        ({**config, "name": "DARTS"}, "describes a 'DARTS'"),
        ({**config, "first_conv": {}}, "KeyError"),
        ({**config, "blocks": [{"name": "ZeroLayer", "conv": {"name": "ZeroLayer"}}]}, "ZeroLayer"),
    ]
    for content, said in broken:
        with pytest.raises(CheckpointError, match=said):
            _space(content)
    skipping = json.loads(json.dumps(config))
    skipping["blocks"][2]["shortcut"] = None
    with pytest.raises(CheckpointError, match="a block that keeps its shape has no shortcut"):
        _space(skipping)


def test_weights_of_another_network_are_refused() -> None:
    network, config = _specialised("ofa_mbv3_w10", 1)
    space, tensors = _space(config), dict(network.state_dict())
    with pytest.raises(CheckpointError, match="holds 'blocks', of which the config has nothing"):
        load_specialised(space, {**tensors, "blocks": torch.zeros(1)}, where=HERE)
    other = {**tensors, "classifier.linear.bias": torch.zeros(8)}
    with pytest.raises(CheckpointError, match=r"classifier\.bias is \(8,\), in the config \(7,\)"):
        load_specialised(space, other, where=HERE)
    del other["classifier.linear.bias"]
    with pytest.raises(CheckpointError, match=r"classifier\.bias is nothing"):
        load_specialised(space, other, where=HERE)
