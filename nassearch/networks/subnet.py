"""Plain networks built from BlockSpecs, and what their blocks cost, counted and never derived."""

import math
import warnings
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from nassearch import config
from nassearch.errors import ConfigError, SpaceError
from nassearch.networks.patchwise import Patchwise
from nassearch.ops import StaticOp, build_op, check_space
from nassearch.space import Architecture, BlockSpec, SearchSpace, lower

with warnings.catch_warnings():
    warnings.simplefilter("ignore", FutureWarning)  # fvcore scripts a loss we do not use
    from fvcore.nn.jit_analysis import JitModelAnalysis

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
        "adaptive_avg_pool2d",
        "dropout",
        "dropout_",
        "batch_norm",
        "squeeze",
        "unsqueeze",
        "flatten",
        "cat",
        "split",
        "split_with_sizes",
        "chunk",
        "clone",
        "pad",
        "permute",
        "slice",
        "stack",
        "unflatten",
        "avg_pool2d",
        "max_pool2d",
        "layer_norm",
    ]
)


class Subnet(nn.Module):
    """A plain network: one static op for each BlockSpec, in order.

    Input (n, channels, r, r) with r = `resolution`; output logits (n, classes). It depends on torch
    alone, traces, scripts and exports. Where its first specs have a grid, those blocks are run
    patch by patch, in graphs traced from it too.
    """

    def __init__(
        self, specs: Sequence[BlockSpec], blocks: Sequence[StaticOp] | None = None
    ) -> None:
        super().__init__()
        self.specs = tuple(specs)
        blocks = blocks or [build_op(spec) for spec in specs]
        patched = specs[0].grid > 1
        self.blocks = Patchwise(specs, blocks) if patched else nn.Sequential(*blocks)

    @classmethod
    def from_config(cls, source: str | Path | Mapping[str, Any]) -> "Subnet":
        """The network that an export's `config.yaml`, or its content, describes; untrained.

        Only its keys `space` and `architecture` are read. ConfigError where they are none.
        """
        content = source if isinstance(source, Mapping) else config.read_yaml(Path(source))
        where = "the config" if isinstance(source, Mapping) else source
        for key in ("space", "architecture"):
            if not isinstance(content, Mapping) or key not in content:
                raise ConfigError(f"the key '{key}' is missing", where=where)
        space = SearchSpace.from_dict(content["space"], where=where)
        architecture = Architecture.from_dict(content["architecture"], where=where)
        return cls(lower(check_space(space), space.check(architecture)))

    @property
    def input_shape(self) -> tuple[int, int, int]:
        """(channels, height, width) of one image."""
        first = self.specs[0]
        return (first.in_channels, first.resolution, first.resolution)

    def forward(self, images: Tensor) -> Tensor:
        logits: Tensor = self.blocks(images)
        return logits

    def steps(self, images: Tensor) -> Iterator[tuple[int, Tensor]]:
        """(number of a block, what it gave) for each run of a block, in order."""
        if isinstance(self.blocks, Patchwise):
            yield from self.blocks.steps(images)
            return
        for number, block in enumerate(self.blocks):
            images = block(images)
            yield number, images

    def whole(self) -> "Subnet":
        """The same blocks, run layer by layer."""
        blocks: list[Any] = list(self.blocks)
        return Subnet([spec.whole for spec in self.specs], blocks).train(self.training)


@dataclass(frozen=True, slots=True, order=True)
class Layer:
    """One convolution or linear inside a block, for one image; sizes are counts of elements.

    `kind` is dense, pointwise, depthwise, grouped or linear.
    """

    kind: str
    in_channels: int
    out_channels: int
    kernel: int
    inputs: int
    outputs: int
    weights: int
    macs: int


@dataclass(frozen=True, slots=True)
class Cost:
    """What a block costs for one image in float32; costs of a network's blocks add up.

    `layers` holds each different convolution and linear with how often it occurs, sorted.
    """

    layers: tuple[tuple[Layer, int], ...]
    params: int

    @property
    def macs(self) -> int:
        """Multiply-accumulates."""
        return sum(times * layer.macs for layer, times in self.layers)

    @property
    def macs_by_kind(self) -> dict[str, int]:
        found: Counter[str] = Counter()
        for layer, times in self.layers:
            found[layer.kind] += times * layer.macs
        return dict(found)

    @property
    def activations(self) -> int:
        """Elements that convolutions and linears write."""
        return sum(times * layer.outputs for layer, times in self.layers)

    @property
    def weight_bytes(self) -> int:
        return self.params * FLOAT_BYTES

    @property
    def activation_bytes(self) -> int:
        return self.activations * FLOAT_BYTES

    def __add__(self, other: "Cost") -> "Cost":
        layers = Counter(dict(self.layers))
        layers.update(dict(other.layers))
        return Cost(tuple(sorted(layers.items())), self.params + other.params)


def total_cost(specs: Sequence[BlockSpec]) -> Cost:
    """The cost of a network, the sum over its blocks."""
    total = Cost((), 0)
    for spec in specs:
        total = total + cost(spec)
    return total


def macs(specs: Sequence[BlockSpec]) -> int:
    """Multiply-accumulates of one image's forward pass."""
    return sum(cost(spec).macs for spec in specs)


@lru_cache(maxsize=65536)
def cost(spec: BlockSpec) -> Cost:
    """The cost of one block, counted by fvcore on the built module; on tiles, that of all of them.

    Raises SpaceError where the block holds an operator that cannot be counted.
    """
    image = torch.zeros(1, spec.in_channels, spec.run_resolution, spec.run_resolution)
    found = count(build_op(spec), image, name=spec.key)
    if spec.grid == 1:
        return found
    layers = tuple((layer, times * spec.grid**2) for layer, times in found.layers)
    return Cost(layers, found.params)


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
    params = sum(parameter.numel() for parameter in module.parameters())
    return Cost(tuple(sorted(counted.items())), params)


def _shape(value: Any) -> list[int]:
    sizes: list[int] = value.type().sizes()
    return sizes


def _count_convolution(inputs: list[Any], outputs: list[Any]) -> Counter[Layer]:
    """A convolution: output elements x the weights behind each."""
    image, weight, out = _shape(inputs[0]), _shape(inputs[1]), _shape(outputs[0])
    if weight[1] < image[1]:
        kind = "depthwise" if weight[1] == 1 else "grouped"
    else:
        kind = "pointwise" if math.prod(weight[2:]) == 1 else "dense"
    return Counter(
        [
            Layer(
                kind,
                in_channels=image[1],
                out_channels=weight[0],
                kernel=max(weight[2:]),
                inputs=math.prod(image),
                outputs=math.prod(out),
                weights=math.prod(weight),
                macs=math.prod(out) * math.prod(weight[1:]),
            )
        ]
    )


def _count_linear(inputs: list[Any], outputs: list[Any]) -> Counter[Layer]:
    """aten::linear(input, weight, bias)."""
    image, weight, out = _shape(inputs[0]), _shape(inputs[1]), _shape(outputs[0])
    macs = math.prod(out) * image[-1]
    sizes = (math.prod(image), math.prod(out), math.prod(weight), macs)
    return Counter([Layer("linear", image[-1], weight[0], 1, *sizes)])


def _count_einsum(inputs: list[Any], outputs: list[Any]) -> Counter[Layer]:
    """aten::einsum(equation, [left, right]): a product for each combination of its letters.

    Weights that each pixel has of its own are swept like a depthwise convolution's, not reused.
    """
    letters = inputs[0].toIValue().partition("->")[0].split(",")
    left, right = (_shape(operand) for operand in inputs[1].node().inputs())
    sizes = dict(zip("".join(letters), [*left, *right], strict=True))
    out, macs = _shape(outputs[0]), math.prod(sizes.values())
    channels, kernel = math.prod(out[1:-2]), math.isqrt(macs // math.prod(out))
    counts = (math.prod(left), math.prod(out), math.prod(right), macs)
    return Counter([Layer("depthwise", channels, channels, kernel, *counts)])


def _count_nothing(inputs: list[Any], outputs: list[Any]) -> Counter[Layer]:
    return Counter()


_HANDLES = {
    **dict.fromkeys(_FREE, _count_nothing),
    **dict.fromkeys(
        ("aten::_convolution", "aten::conv1d", "aten::conv2d", "aten::convolution"),
        _count_convolution,
    ),
    "aten::linear": _count_linear,
    "aten::einsum": _count_einsum,
}
