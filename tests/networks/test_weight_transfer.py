"""A supernet started from known weights computes what they computed, or says that it does not."""

import copy
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch
from torch import nn
from torchvision import models

from nassearch.errors import CheckpointError
from nassearch.networks import Supernet
from nassearch.networks.weight_transfer import transfer_weights
from nassearch.space import Architecture, SearchSpace, load_published_network
from tests.contracts.conftest import op_space, unsettle

KEPT = 1e-5
RESIDUAL = ["mbconv", "bottleneck", "large_kernel", "convnext", "lka"]


def space_of(op: str, **dimensions: Any) -> SearchSpace:
    stage: dict[str, Any] = {
        "op": op, "kernel_size": [3, 5], "expand_ratio": [2, 3], "activation": "relu",
        "width": [16, 24], "depth": [1, 2], "stride": 2,
    }  # fmt: skip
    head = dimensions.pop("head", {"expand_width": 32})
    classes = dimensions.pop("num_classes", 4)
    return SearchSpace.from_dict(
        {
            "name": "grows",
            "resolution": [16, 24],
            "num_classes": classes,
            "stem": {"width": 8, "stride": 1},
            "stages": [stage | dimensions, stage | dimensions],
            "head": head,
        }
    )


def trained(space: SearchSpace) -> Supernet:
    """As after training: every tensor, norms' statistics and kernel matrices too, has moved."""
    supernet = Supernet(space)
    unsettle(supernet)
    return supernet.eval()


def images_for(architecture: Architecture, *, count: int = 2) -> torch.Tensor:
    generator = torch.Generator().manual_seed(5)
    pixels = architecture.resolution
    return torch.randn(count, 3, pixels, pixels, generator=generator)


@torch.no_grad()
def assert_same(
    first: Supernet, one: Architecture, second: Supernet, two: Architecture | None = None
) -> None:
    expected = first.eval()(images_for(one), one)
    actual = second.eval()(images_for(one), two or one)
    torch.testing.assert_close(actual, expected, atol=KEPT * expected.abs().max(), rtol=0)


@pytest.mark.parametrize("op", ["mbconv", "large_kernel", "grouped_conv"])
def test_the_same_space_is_the_same_network(op: str) -> None:
    space = op_space(op)
    old, new = trained(space), Supernet(space)
    report = transfer_weights(new, old)
    assert (report.grown, report.new, report.change) == ((), (), 0.0)
    assert set(report.copied) == set(new.state_dict())
    for key, tensor in old.state_dict().items():
        assert torch.equal(new.state_dict()[key], tensor)


GROWN = {
    "wider": {"width": [16, 24, 32]},
    "deeper": {"depth": [1, 2, 4]},
    "larger kernels": {"kernel_size": [3, 5, 9]},
    "kernels between and beyond": {"kernel_size": [3, 5, 7, 9, 13]},
    "more expansion": {"expand_ratio": [2, 3, 4]},
    "wider head": {"head": {"expand_width": 48}},
}


@pytest.mark.parametrize("how", GROWN)
def test_old_architectures_and_the_largest_keep_their_function(
    how: str, rng: np.random.Generator
) -> None:
    _keeps_its_function("mbconv", GROWN[how], rng)


@pytest.mark.parametrize("op", RESIDUAL)
def test_every_residual_op_grows_in_all_directions_at_once(
    op: str, rng: np.random.Generator
) -> None:
    together = {name: value for change in GROWN.values() for name, value in change.items()}
    if op == "convnext":  # a layer norm over more channels is another function
        del together["width"]
    _keeps_its_function(op, together, rng)


def _keeps_its_function(op: str, change: dict[str, Any], rng: np.random.Generator) -> None:
    old = trained(space_of(op))
    space = space_of(op, **change)
    new = trained(space)
    report = transfer_weights(new, old)
    for architecture in (old.space.smallest, old.space.largest, *old.space.sample_many(rng, 4)):
        assert_same(old, architecture, new)
    assert report.change is not None and report.change < KEPT
    assert_same(old, old.space.largest, new, space.largest)


def test_all_at_once_and_named(rng: np.random.Generator) -> None:
    old = trained(space_of("mbconv", attention="se"))
    space = space_of(
        "mbconv", attention="se", head={"expand_width": 48}, width=[16, 24, 40], depth=[1, 2, 3],
        kernel_size=[3, 5, 7], expand_ratio=[2, 3, 6],
    )  # fmt: skip
    new = Supernet(space)
    before = copy.deepcopy(new.state_dict())
    report = transfer_weights(new, old)
    assert report.change is not None and report.change < KEPT
    names = [*report.copied, *report.grown, *report.new]
    assert sorted(names) == sorted(new.state_dict())
    assert "stem.conv.body.conv.weight" in report.copied
    assert "stages.0.0.mbconv.depthwise.conv.weight" in report.grown
    assert "stages.0.0.mbconv.depthwise.conv.kernel_5to3" in report.copied
    assert "stages.0.0.mbconv.depthwise.conv.kernel_7to5" in report.new
    assert all(name in report.new for name in before if name.startswith("stages.1.2."))
    assert "copied" in str(report) and "grown" in str(report)


def test_what_was_added_can_learn() -> None:
    """Silent at first, but not dead: gradients reach the new channels and the new blocks."""
    old = trained(space_of("mbconv"))
    new = Supernet(space_of("mbconv", width=[16, 24, 32], depth=[1, 2, 3]))
    transfer_weights(new, old)
    new.train()(images_for(new.space.largest, count=8), new.space.largest).square().sum().backward()
    parameters = dict(new.named_parameters())
    first = parameters["stages.0.1.mbconv.expand.conv.weight"].grad
    added = parameters["stages.0.2.mbconv.project.norm.weight"].grad
    assert first is not None and first[:, 24:].any()
    assert added is not None and added.any()


def test_a_change_that_cannot_be_kept_is_reported() -> None:
    old = trained(space_of("convnext"))
    report = transfer_weights(Supernet(space_of("convnext", width=[16, 24, 32])), old)
    assert report.change is not None and report.change > KEPT


def test_other_classes_keep_the_features() -> None:
    old, new = trained(space_of("mbconv")), Supernet(space_of("mbconv", num_classes=7))
    report = transfer_weights(new, old)
    assert report.change is None
    assert report.new == ("head.head.classifier.weight", "head.head.classifier.bias")
    assert "cannot be compared" in str(report)


@pytest.mark.parametrize(
    ("name", "reference", "build"),
    [
        pytest.param("resnet50", "resnet:50", models.resnet50, marks=pytest.mark.slow),
        ("mobilenet_v2", "mobilenet_v2:w10", models.mobilenet_v2),
    ],
)
def test_a_torchvision_network_is_taken_over(
    name: str, reference: str, build: Callable[..., nn.Module]
) -> None:
    """Into the whole space, where it is one network among many."""
    network = build()
    unsettle(network)
    network.eval()
    space = SearchSpace.load(name)
    supernet = Supernet(SearchSpace.from_dict(space.to_dict() | {"resolution": [64, 224]})).eval()
    architecture = Architecture(64, load_published_network(reference).architecture.stages)
    report = transfer_weights(supernet, network, architecture=architecture)
    images = images_for(architecture)
    with torch.no_grad():
        expected, actual = network(images), supernet(images, architecture)
        extracted = supernet.extract(architecture)(images)
    limit = 1e-4 * float(expected.abs().max())
    torch.testing.assert_close(actual, expected, atol=limit, rtol=0)
    torch.testing.assert_close(extracted, expected, atol=limit, rtol=0)
    assert report.change is not None and report.change < 1e-4


def test_a_network_that_does_not_fit_is_refused() -> None:
    space = SearchSpace.load("mobilenet_v2")
    supernet = Supernet(space)
    with pytest.raises(CheckpointError, match="give its architecture"):
        transfer_weights(supernet, models.mobilenet_v2())
    with pytest.raises(CheckpointError, match="shape"):
        transfer_weights(supernet, models.mobilenet_v2(), architecture=space.smallest)
