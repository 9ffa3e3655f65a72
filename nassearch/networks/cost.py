"""Costs: multiply-accumulates, parameters and layers of a block, counted and never derived."""

import math
import warnings
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import Any

import torch
from torch import Tensor, nn

from nassearch.config import format_count
from nassearch.errors import SpaceError
from nassearch.free_memory import free_bytes, is_out_of_memory
from nassearch.ops import build_op
from nassearch.ops.elastic import Uninitialised
from nassearch.space import BlockSpec

with warnings.catch_warnings():
    warnings.simplefilter("ignore", FutureWarning)  # fvcore scripts a loss we do not use
    from fvcore.nn.jit_analysis import JitModelAnalysis

FLOAT_BYTES = 4
_PLAIN_INPUTS = 7  # of aten::conv2d; aten::_convolution says whether it is transposed as well
_SMALLER = "use smaller widths"
_SURELY_FREE = 2**30  # bytes
MOST_WEIGHTS = 2**28  # of a block; the classifier of VGG, the largest known, has 124 million

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
        "adaptive_max_pool2d",
        "elu",
        "group_norm",
        "leaky_relu",
        "mish",
        "softmax",
        "softplus",
        "sum",
        "tanh",
        "upsample_bilinear2d",
        "upsample_nearest2d",
    ]
)


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


def network_cost(specs: Sequence[BlockSpec]) -> Cost:
    """The cost of a network, the sum over its blocks."""
    total = Cost((), 0)
    for spec in specs:
        total = total + block_cost(spec)
    return total


def macs(specs: Sequence[BlockSpec]) -> int:
    """Multiply-accumulates of one image's forward pass."""
    return sum(block_cost(spec).macs for spec in specs)


@lru_cache(maxsize=65536)
def block_cost(spec: BlockSpec) -> Cost:
    """The cost of one block, counted by fvcore on the built module; on tiles, that of all of them.

    Raises SpaceError where the block holds an operator that cannot be counted, or does not fit into
    memory.
    """
    try:
        _check_memory_of(spec)
        with Uninitialised():  # what the weights are changes no count
            block = build_op(spec)
        found = count(block, *zero_inputs(spec), name=spec.key)
    except (RuntimeError, MemoryError) as error:
        if not is_out_of_memory(error) and "overflow" not in str(error):
            raise
        raise SpaceError(
            "takes more memory than this machine has", where=spec.key, fix=_SMALLER
        ) from error
    if spec.grid == 1:
        return found
    layers = tuple((layer, times * spec.grid**2) for layer, times in found.layers)
    return Cost(layers, found.params)


def _check_memory_of(spec: BlockSpec) -> None:
    """SpaceError where no memory holds the block: Linux grants it all the same, and then kills.

    One with more weights than any network needs is a slip; counting it would take a minute.
    """
    widest = max(spec.in_channels, spec.mid_channels, spec.out_channels)
    maps = 3 * FLOAT_BYTES * widest * spec.run_resolution**2  # read, held and written
    if maps + FLOAT_BYTES * (widest * int(spec.get("kernel_size", 1))) ** 2 > _SURELY_FREE:
        with torch.device("meta"):
            block = build_op(spec)
        check_memory(block, where=spec.key, beside=maps)
        weights = sum(parameter.numel() for parameter in block.parameters())
        if weights > MOST_WEIGHTS:
            raise SpaceError(
                f"has {format_count(weights)} weights, {format_count(MOST_WEIGHTS)} is the most for"
                " a block",
                where=spec.key,
                fix=_SMALLER,
            )


def zero_inputs(spec: BlockSpec) -> tuple[Tensor, ...]:
    """One image for a block, and one for each further input of a head."""
    shapes = ((spec.in_channels, spec.run_resolution), *spec.taps)
    return tuple(torch.zeros(1, channels, pixels, pixels) for channels, pixels in shapes)


def count(module: nn.Module, *inputs: Tensor, name: str) -> Cost:
    """The cost of any module for one image, counted by fvcore in one trace."""
    analysis = JitModelAnalysis(module.eval(), inputs).set_op_handle(**_HANDLES)
    analysis.unsupported_ops_warnings(False).uncalled_modules_warnings(False)
    analysis.tracer_warnings("none")
    with torch.no_grad():
        counted = analysis.by_operator()
    uncounted = sorted(analysis.unsupported_ops())
    if uncounted:
        raise SpaceError(
            f"holds the operator {uncounted[0]}, which cannot be counted",
            where=name,
            fix="give it a handle, or list it as free, in networks/cost.py",
        )
    params = sum(parameter.numel() for parameter in module.parameters())
    return Cost(tuple(sorted(counted.items())), params)


def check_memory(network: nn.Module, *, where: object, beside: int = 0) -> None:
    """SpaceError where a network, on the meta device, and bytes `beside` it find no memory."""
    tensors = network.state_dict().values()
    needed = beside + sum(tensor.numel() * tensor.element_size() for tensor in tensors)
    free = free_bytes()
    if free is not None and needed > free:
        raise SpaceError(
            f"takes {format_count(needed)}B of memory, {format_count(free)}B are free",
            where=where,
            fix=_SMALLER,
        )


def _shape(value: Any) -> list[int]:
    sizes: list[int] = value.type().sizes()
    return sizes


def _count_convolution(inputs: list[Any], outputs: list[Any]) -> Counter[Layer]:
    """A convolution: output elements x the weights behind each."""
    image, weight, out = _shape(inputs[0]), _shape(inputs[1]), _shape(outputs[0])
    macs = math.prod(out) * math.prod(weight[1:])
    if len(inputs) > _PLAIN_INPUTS and inputs[6].toIValue():  # transposed: each input spreads out
        macs, weight = math.prod(image) * math.prod(weight[1:]), [out[1], image[1], *weight[2:]]
    return Counter([convolution_layer(image, weight, out, macs=macs)])


def convolution_layer(
    image: Sequence[int], weight: Sequence[int], out: Sequence[int], *, macs: int
) -> Layer:
    """A convolution of these shapes, (n, channels, rows, columns); weights are (out, in, ...)."""
    if weight[1] < image[1]:
        kind = "depthwise" if weight[1] == 1 else "grouped"
    else:
        kind = "pointwise" if math.prod(weight[2:]) == 1 else "dense"
    return Layer(
        kind,
        in_channels=image[1],
        out_channels=weight[0],
        kernel=max(weight[2:]),
        inputs=math.prod(image),
        outputs=math.prod(out),
        weights=math.prod(weight),
        macs=macs,
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


def _count_matmul(inputs: list[Any], outputs: list[Any]) -> Counter[Layer]:
    """aten::matmul(left, right): of two activations, each read as often as a linear's weights."""
    left, right, out = _shape(inputs[0]), _shape(inputs[1]), _shape(outputs[0])
    macs = math.prod(out) * left[-1]
    sizes = (math.prod(left), math.prod(out), math.prod(right), macs)
    return Counter([Layer("linear", left[-1], right[-1], 1, *sizes)])


def _count_nothing(inputs: list[Any], outputs: list[Any]) -> Counter[Layer]:
    return Counter()


_HANDLES = {
    **dict.fromkeys(_FREE, _count_nothing),
    **dict.fromkeys(
        ("aten::_convolution", "aten::conv1d", "aten::conv2d", "aten::convolution"),
        _count_convolution,
    ),
    "aten::linear": _count_linear,
    **dict.fromkeys(("aten::matmul", "aten::bmm"), _count_matmul),
    "aten::einsum": _count_einsum,
}
