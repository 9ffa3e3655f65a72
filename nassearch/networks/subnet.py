"""Plain networks built from BlockSpecs, and what their blocks cost, counted and never derived."""

import math
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import Any

import torch
from fvcore.nn.jit_analysis import JitModelAnalysis
from torch import Tensor, nn

from nassearch.errors import SpaceError
from nassearch.ops import StaticOp, build_op
from nassearch.space import BlockSpec

FLOAT_BYTES = 4

# Operators that do no multiply-accumulate of their own. Batch norm folds into its convolution.
# Anything else that fvcore cannot count is an error, never zero.
_FREE = frozenset(
    "aten::" + name
    for name in [
        "add",
        "add_",
        "mul",
        "mul_",
        "sub",
        "div",
        "relu",
        "relu_",
        "hardtanh",
        "hardtanh_",
        "hardswish",
        "hardswish_",
        "hardsigmoid",
        "hardsigmoid_",
        "silu",
        "silu_",
        "gelu",
        "sigmoid",
        "sigmoid_",
        "mean",
        "dropout",
        "batch_norm",
        "squeeze",
        "unsqueeze",
        "flatten",
        "cat",
        "split",
        "split_with_sizes",
        "chunk",
        "clone",
    ]
)


class Subnet(nn.Module):
    """A plain network: one static op for each BlockSpec, in order.

    Input (n, channels, r, r) with r = `resolution`; output logits (n, classes). It depends on torch
    alone, traces, scripts and exports.
    """

    def __init__(
        self, specs: Sequence[BlockSpec], blocks: Sequence[StaticOp] | None = None
    ) -> None:
        super().__init__()
        self.specs = tuple(specs)
        self.blocks = nn.Sequential(*(blocks or [build_op(spec) for spec in specs]))

    @property
    def input_shape(self) -> tuple[int, int, int]:
        """(channels, height, width) of one image."""
        first = self.specs[0]
        return (first.in_channels, first.resolution, first.resolution)

    def forward(self, images: Tensor) -> Tensor:
        logits: Tensor = self.blocks(images)
        return logits


@dataclass(frozen=True, slots=True)
class Cost:
    """What a block costs for one image in float32; costs of a network's blocks add up.

    `macs` are multiply-accumulates by kind: dense, pointwise, depthwise, grouped, linear.
    `activations` are the elements that convolutions and linears write.
    """

    macs_by_kind: tuple[tuple[str, int], ...]
    params: int
    activations: int

    @property
    def macs(self) -> int:
        return sum(count for _, count in self.macs_by_kind)

    @property
    def weight_bytes(self) -> int:
        return self.params * FLOAT_BYTES

    @property
    def activation_bytes(self) -> int:
        return self.activations * FLOAT_BYTES

    def __add__(self, other: "Cost") -> "Cost":
        kinds = Counter(dict(self.macs_by_kind))
        kinds.update(dict(other.macs_by_kind))
        return Cost(
            tuple(sorted(kinds.items())),
            self.params + other.params,
            self.activations + other.activations,
        )


def total_cost(specs: Sequence[BlockSpec]) -> Cost:
    """The cost of a network, the sum over its blocks."""
    total = Cost((), 0, 0)
    for spec in specs:
        total = total + cost(spec)
    return total


@lru_cache(maxsize=65536)
def cost(spec: BlockSpec) -> Cost:
    """The cost of one block, counted by fvcore on the built module.

    Raises SpaceError where the block holds an operator that cannot be counted.
    """
    image = torch.zeros(1, spec.in_channels, spec.resolution, spec.resolution)
    return count(build_op(spec), image, name=spec.key)


def count(module: nn.Module, image: Tensor, *, name: str) -> Cost:
    """The cost of any module for one input, counted by fvcore in one trace."""
    analysis = JitModelAnalysis(module.eval(), image).set_op_handle(**_HANDLES)
    analysis.unsupported_ops_warnings(False).uncalled_modules_warnings(False)
    analysis.tracer_warnings("none")
    with torch.no_grad():
        counted = analysis.by_operator()
    uncounted = sorted(analysis.unsupported_ops())
    if uncounted:
        raise SpaceError(
            f"holds the operator {uncounted[0]}, which cannot be counted",
            where=name,
            fix="give it a handle, or list it as free, in networks/subnet.py",
        )
    activations = int(counted.pop(_ACTIVATIONS, 0))
    params = sum(parameter.numel() for parameter in module.parameters())
    kinds = tuple(sorted((kind, int(macs)) for kind, macs in counted.items() if macs))
    return Cost(kinds, params, activations)


def _shape(value: Any) -> list[int]:
    sizes: list[int] = value.type().sizes()
    return sizes


def _count_convolution(inputs: list[Any], outputs: list[Any]) -> Counter[str]:
    """Multiply-accumulates of a convolution: output elements x weights behind each."""
    weight, out = _shape(inputs[1]), math.prod(_shape(outputs[0]))
    if weight[1] < _shape(inputs[0])[1]:
        kind = "depthwise" if weight[1] == 1 else "grouped"
    else:
        kind = "pointwise" if math.prod(weight[2:]) == 1 else "dense"
    return Counter({kind: out * math.prod(weight[1:]), _ACTIVATIONS: out})


def _count_linear(inputs: list[Any], outputs: list[Any]) -> Counter[str]:
    """Multiply-accumulates of aten::linear(input, weight, bias)."""
    out = math.prod(_shape(outputs[0]))
    return Counter({"linear": out * _shape(inputs[0])[-1], _ACTIVATIONS: out})


def _count_nothing(inputs: list[Any], outputs: list[Any]) -> Counter[str]:
    return Counter()


_ACTIVATIONS = "activations"
_HANDLES = {
    **dict.fromkeys(_FREE, _count_nothing),
    **dict.fromkeys(
        ("aten::_convolution", "aten::conv1d", "aten::conv2d", "aten::convolution"),
        _count_convolution,
    ),
    "aten::linear": _count_linear,
}
