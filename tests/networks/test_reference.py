"""Published networks lie inside the shipped spaces: torchvision counts the same parameters."""

from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import nn
from torchvision import models

from nassearch.networks.subnet import count, total_cost
from nassearch.space import Architecture, Block, SearchSpace, Stage, lower
from nassearch.space.architecture import canonical_choices


def architecture_of(
    space: SearchSpace, *, widths: list[int], depths: list[int], **choices: Any
) -> Architecture:
    """The architecture of the space with these widths, depths and, where elastic, choices."""
    stages = []
    for layout, width, depth in zip(space.layout.stages, widths, depths, strict=True):
        blocks = []
        for position in layout.positions[:depth]:
            (alternative,) = position.alternatives
            values = {
                name: choices.get(name) if len(dial.choices) > 1 else dial.choices[0]
                for name, dial in alternative.dials
            }
            blocks.append(Block(alternative.op, canonical_choices(values)))
        stages.append(Stage(width, tuple(blocks)))
    return space.check(Architecture(224, tuple(stages)))


CASES: list[tuple[str, dict[str, Any], Callable[..., nn.Module], int]] = [
    (
        "resnet50",
        {"widths": [256, 512, 1024, 2048], "depths": [3, 4, 6, 3], "expand_ratio": 0.25},
        models.resnet50,
        0,
    ),
    (
        "mobilenet_v2",
        {
            "widths": [16, 24, 32, 64, 96, 160, 320],
            "depths": [1, 2, 3, 4, 3, 3, 1],
            "kernel_size": 3,
            "expand_ratio": 6,
        },
        models.mobilenet_v2,
        0,
    ),
    (
        "convnext_like",
        {
            "widths": [96, 192, 384, 768],
            "depths": [3, 3, 9, 3],
            "kernel_size": 7,
            "expand_ratio": 4,
        },
        models.convnext_tiny,
        2 * 768,  # the layer norm before the classifier, which the space's head does not have
    ),
]


@pytest.mark.parametrize(("name", "choices", "build", "missing"), CASES)
def test_torchvision_network_is_inside_the_space(
    name: str, choices: dict[str, Any], build: Callable[..., nn.Module], missing: int
) -> None:
    space = SearchSpace.load(name)
    ours = total_cost(lower(space, architecture_of(space, **choices)))
    with torch.device("meta"):
        reference = build()
    assert ours.params + missing == sum(p.numel() for p in reference.parameters())


@pytest.mark.parametrize(("name", "choices", "build", "missing"), CASES[:2])
def test_it_does_the_same_arithmetic(
    name: str, choices: dict[str, Any], build: Callable[..., nn.Module], missing: int
) -> None:
    space = SearchSpace.load(name)
    ours = total_cost(lower(space, architecture_of(space, **choices)))
    theirs = count(build(), torch.zeros(1, 3, 224, 224), name=name)
    assert ours.macs == theirs.macs
    assert ours.macs_by_kind == theirs.macs_by_kind
