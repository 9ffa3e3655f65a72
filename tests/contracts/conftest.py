"""The spaces and networks the contracts run over: every shipped space, and one for each op.

A space or an op is under contract by being listed. Large images only cost time, so shipped spaces
are taken at the fewest pixels that still survive their strides.
"""

import math
from collections.abc import Iterator
from typing import Any

import numpy as np
import pytest
import torch
from torch import nn

from nassearch import config
from nassearch.networks import Supernet
from nassearch.ops import OPS, static_op
from nassearch.space import Architecture, SearchSpace
from tests.adoption.network import NETWORKS, QUICK_NETWORKS, adopted_space

QUICK = ("digits_tiny", "mobilenet_v3", "mixer_choice")
CHOICES: dict[str, Any] = {
    "kernel_size": [3, 5, 7],
    "expand_ratio": [1, 2, 4],
    "group_size": [4, 8],
    "attention": ["none", "se", "eca"],
    "activation": ["relu", "hswish", "gelu"],
}


def shipped_space(name: str) -> SearchSpace:
    """The shipped space with small images: a contract about weights knows no resolution."""
    space = SearchSpace.load(name)
    if min(space.resolutions) <= 32:
        return space
    definition = space.to_dict()
    strides = [stage["stride"] for stage in definition["stages"]]
    strides.append(definition.get("stem", {}).get("stride", 1))
    least = max(32, math.prod(strides))
    return SearchSpace.from_dict({**definition, "resolution": [least, least * 3 // 2]})


# ops that can only be the first block
STEMS = {
    "pooled_conv": {"op": "pooled_conv", "kernel_size": 7, "stride": 4, "width": 16},
    "patches": {
        "op": "patches", "kernel_size": 3, "stride": 3, "width": 16, "activation": "none",
    },
}  # fmt: skip


def op_space(op: str) -> SearchSpace:
    """A small space in which `op` takes every dimension it knows, widens, and strides."""
    repeated = "conv" if op in STEMS else op
    takes = static_op(repeated).dimensions
    chosen = {name: choices for name, choices in CHOICES.items() if name in takes}
    stage = {"op": repeated, "depth": [1, 2], **chosen}
    return SearchSpace.from_dict(
        {
            "name": f"op_{op}",
            "resolution": [13, 16],
            "num_classes": 5,
            "stem": STEMS.get(op, {"width": 16, "stride": 1}),
            "stages": [
                {**stage, "width": [16, 24], "stride": 1},
                {**stage, "width": [24, 32], "stride": 2},
            ],
        }
    )


def distinct_spaces() -> list[str]:
    """The shipped spaces, of those that differ in their resolutions alone the first."""
    first = {
        shipped_space(name).fingerprint: name for name in config.list_files("search_spaces")[::-1]
    }
    return sorted(first.values())


def contract_spaces() -> Iterator[Any]:
    for op in OPS:
        if op not in ("head", "traced"):  # a head ends every op's space; traced ones are adopted
            yield pytest.param(("op", op), id=f"op-{op}")
    for name, network in NETWORKS.items():
        marks = () if name in QUICK_NETWORKS else (pytest.mark.slow,)
        yield pytest.param(("adopted", network), id=f"adopted-{name}", marks=marks)
    for name in distinct_spaces():
        marks = () if name in QUICK else (pytest.mark.slow,)
        yield pytest.param(("space", name), id=name, marks=marks)


def unsettle(module: nn.Module) -> None:
    """Give every norm statistics and weights as a training leaves them, none at a neutral value."""
    generator = torch.Generator().manual_seed(7)
    for child in module.modules():
        for name, buffer in child.named_buffers(recurse=False):
            if name == "running_mean":
                buffer.normal_(0.0, 0.2, generator=generator)
            elif name == "running_var":
                buffer.uniform_(0.5, 1.5, generator=generator)
    with torch.no_grad():
        for name, parameter in module.named_parameters():
            if parameter.dim() == 1 and name.endswith("weight"):
                parameter.uniform_(0.5, 1.5, generator=generator)
            elif parameter.dim() == 1:
                parameter.normal_(0.0, 0.2, generator=generator)
            elif parameter.dim() == 3:  # the scale of a branch or a block
                parameter.uniform_(0.5, 1.5, generator=generator)
            elif ".kernel_" in name:
                parameter.add_(torch.empty_like(parameter).normal_(0, 0.05, generator=generator))


@pytest.fixture(scope="package", params=list(contract_spaces()))
def space(request: pytest.FixtureRequest) -> SearchSpace:
    kind, name = request.param
    if kind == "adopted":
        return adopted_space(name)
    return op_space(name) if kind == "op" else shipped_space(name)


@pytest.fixture(scope="package")
def supernet(space: SearchSpace) -> Supernet:
    torch.manual_seed(0)  # torch's initialisers take no generator of every layer we build
    supernet = Supernet(space)
    unsettle(supernet)
    return supernet.eval()


@pytest.fixture(scope="package")
def architectures(space: SearchSpace) -> list[Architecture]:
    """Smallest, largest and 100 random architectures of a shipped space; fewer of others."""
    kinds = {"op": 12, "adopted": 6}
    count = kinds.get(space.name.partition("_")[0], 100)
    return [space.smallest, space.largest, *space.sample_many(np.random.default_rng(11), count)]
