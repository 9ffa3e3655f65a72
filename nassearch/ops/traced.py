"""A block of a user's own network, built from its graph (`space.block_graph`)."""

from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any, ClassVar

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from nassearch.errors import SpaceError
from nassearch.ops.layer import StaticOp
from nassearch.space import BlockSpec
from nassearch.space.block_graph import BlockGraph, BuiltLayout, cut_padding
from nassearch.space.graph_config import INPUT, Axis, NodeConfig
from nassearch.space.layout_inference import Layout


class Traced(StaticOp):
    """The operators of a traced graph, one after the other, at the spec's channel counts.

    The layers with weights are modules, called as in the network that was traced.
    """

    dimensions: ClassVar[Mapping[str, bool]] = {"kernel_size": False, "inner_ratio": False}

    @staticmethod
    def check(spec: BlockSpec) -> None:
        layout = _layout(spec)
        graph = _graph(spec)
        for name, given in layout.layouts.items():
            for axis in given.axes:
                if layout.size(axis) < 1:
                    raise SpaceError(
                        f"{name} has no element left", where="width", fix="write a larger width"
                    )
        if len(layout.layouts[graph.nodes[-1].id].axes) == 3:
            assert spec.out_resolution

    def __init__(self, spec: BlockSpec) -> None:
        super().__init__(spec)
        graph, layout = _graph(spec), _layout(spec)
        self._segments: dict[str, tuple[tuple[int, ...], ...]] = {}
        self._steps: list[tuple[str, tuple[str, ...], Callable[..., Tensor], Any]] = []
        for node in graph.nodes:
            given = [layout.layouts[name] for name in node.of]
            self._add(node, given, graph, layout, spec.get("kernel_size"))
        self._inputs = (INPUT, *graph.tap_names)
        self._outputs = graph.definition.outputs
        self._last = _last_uses(graph.nodes, kept=self._outputs or ())

    @staticmethod
    def sortable(spec: BlockSpec) -> bool:
        """Never here: whole dependency groups are sorted when the network is adopted."""
        return False

    @staticmethod
    def of_full_shape(specs: Iterable[BlockSpec]) -> Iterable[BlockSpec]:
        """Those with the most channels: of many others, each takes long to build."""
        given = list(specs)
        most = max(map(_channels, given))
        return [spec for spec in given if _channels(spec) == most]

    def segments(self) -> Mapping[str, tuple[tuple[int, ...], ...]]:
        return self._segments

    def forward(self, images: Tensor, *taps: Tensor) -> Tensor | tuple[Tensor, ...]:  # type: ignore[override]
        """What the last operator gives, or each of the graph's outputs, in their order."""
        values = dict(zip(self._inputs, (images, *taps), strict=True))
        out = images
        for (name, reads, run, constants), done in zip(self._steps, self._last, strict=True):
            layer = self._modules.get(name)
            given = [values[read] for read in reads]
            out = run(given, constants if layer is None else layer)
            for read in done:
                del values[read]
            values[name] = out
        if self._outputs is not None:
            return tuple(values[name] for name in self._outputs)
        return out

    # -- building ----------------------------------------------------------------------------------

    def _add(
        self,
        node: NodeConfig,
        given: Sequence[Layout],
        graph: BlockGraph,
        layout: BuiltLayout,
        most: int | None,
    ) -> None:
        made = layout.layouts[node.id]
        layer: nn.Module | None = None
        constants: Any = node
        if node.op == "conv":
            read, gives = given[0].axes[0], made.axes[0]
            layer = _conv(node, read, gives, graph.kernel(node, most)[0], layout)
            inputs = layout.segments(read)
            if node.groups is not None:
                inputs = inputs[: len(inputs) // node.groups]
            if node.group_in is not None or not inputs:
                inputs = (layer.weight.shape[1],)
            kernel = [(size,) for size in layer.weight.shape[2:]]
            self._note(node.id, layer, (layout.segments(gives), inputs, *kernel))
        elif node.op == "conv_transpose":
            read, gives = given[0].axes[0], made.axes[0]
            layer = _conv_transpose(node, layout.size(read), layout.size(gives))
            kernel = [(size,) for size in layer.weight.shape[2:]]
            made_of = layout.segments(gives)
            self._segments[f"{node.id}.weight"] = (layout.segments(read), made_of, *kernel)
            self._segments |= {f"{node.id}.bias": (made_of,)} if node.bias else {}
        elif node.op == "linear":
            read, gives = given[0].axes[-1], made.axes[-1]
            layer = nn.Linear(layout.size(read), layout.size(gives), bias=bool(node.bias))
            self._note(node.id, layer, (layout.segments(gives), layout.segments(read)))
        elif node.op in ("batch_norm", "group_norm", "layer_norm"):
            axis = given[0].axes[-1 if node.op == "layer_norm" else 0]
            layer = _norm(node, layout.size(axis), is_image=len(given[0].axes) == 3)
            self._note(node.id, layer, (layout.segments(axis),))
        elif node.op == "parameter":
            layer = _Parameter([layout.size(axis) for axis in made.axes])
            self._note(node.id, layer, tuple(layout.segments(axis) for axis in made.axes))
        elif node.op == "dropout":
            layer = nn.Dropout(0.0)
        elif node.op == "reshape":
            constants = tuple(layout.size(axis) for axis in made.axes)
        elif node.op == "take":
            start = layout.size(node.start_axis)
            constants = (node.dims[0], start, layout.size(node.length_axis))  # type: ignore[index]
        if layer is not None:
            self.add_module(node.id, layer)
            constants = None
        self._steps.append((node.id, node.of, _RUN[node.op], constants))

    def _note(self, name: str, layer: nn.Module, axes: tuple[tuple[int, ...], ...]) -> None:
        """What the tensors of a layer are made of; one of fewer axes runs over the first."""
        for leaf, tensor in (*layer.named_parameters(), *layer.named_buffers()):
            if tensor.dim():
                self._segments[f"{name}.{leaf}"] = axes[: tensor.dim()]


class _Parameter(nn.Module):
    """A tensor that the network reads as it is: a scale, a bias, a token."""

    def __init__(self, shape: Sequence[int]) -> None:
        super().__init__()
        self.value = nn.Parameter(torch.ones(*shape))

    def forward(self) -> Tensor:
        return self.value


def _channels(spec: BlockSpec) -> tuple[int, int, float]:
    return spec.in_channels, spec.out_channels, spec.get("inner_ratio", 1)


def _graph(spec: BlockSpec) -> BlockGraph:
    if spec.graph is None:
        raise SpaceError(
            "the graph of the block is not known here",
            where=spec.key,
            fix="load the space that it is of, which holds it",
        )
    return spec.graph


def _layout(spec: BlockSpec) -> BuiltLayout:
    graph = _graph(spec)
    ratio = spec.get("inner_ratio", 1)
    return graph.build_layout(
        spec.in_channels, spec.out_channels, spec.resolution, ratio, spec.taps
    )


def _conv(
    node: NodeConfig, inputs: Axis, outputs: Axis, kernel: int, layout: BuiltLayout
) -> nn.Conv2d:
    assert node.kernel is not None and node.stride is not None
    assert node.padding is not None and node.dilation is not None
    is_whole = kernel == node.kernel[0]
    channels = layout.size(inputs)
    return nn.Conv2d(
        channels,
        layout.size(outputs),
        node.kernel if is_whole else kernel,
        stride=node.stride,
        padding=node.padding if is_whole else cut_padding(node, kernel),
        dilation=node.dilation,
        groups=node.groups or (1 if node.group_in is None else channels // node.group_in),
        bias=bool(node.bias),
    )


def _conv_transpose(node: NodeConfig, inputs: int, outputs: int) -> nn.ConvTranspose2d:
    assert node.kernel is not None
    assert node.stride is not None
    assert node.padding is not None
    assert node.dilation is not None
    return nn.ConvTranspose2d(
        inputs,
        outputs,
        node.kernel,
        stride=node.stride,
        padding=node.padding,
        output_padding=node.output_padding or 0,
        bias=bool(node.bias),
        dilation=node.dilation,
    )


def _norm(node: NodeConfig, channels: int, *, is_image: bool) -> nn.Module:
    assert node.eps is not None and node.affine is not None
    if node.op == "batch_norm":
        kind = nn.BatchNorm2d if is_image else nn.BatchNorm1d
        return kind(channels, node.eps, node.momentum, affine=node.affine)
    if node.op == "group_norm":
        assert node.groups is not None
        return nn.GroupNorm(node.groups, channels, node.eps, affine=node.affine)
    return nn.LayerNorm(channels, node.eps, elementwise_affine=node.affine)


def _last_uses(nodes: Sequence[NodeConfig], *, kept: Sequence[str]) -> list[tuple[str, ...]]:
    """For each operator the values that no later one reads, and that are not `kept`."""
    last = {name: number for number, node in enumerate(nodes) for name in node.of}
    done: list[list[str]] = [[] for _ in nodes]
    for name, number in last.items():
        if name not in kept:
            done[number].append(name)
    return [tuple(names) for names in done]


# -- running ---------------------------------------------------------------------------------------


def _layer(given: Sequence[Tensor], layer: Any) -> Tensor:
    out: Tensor = layer(*given)
    return out


def _unary(function: Callable[[Tensor], Tensor]) -> Callable[[Sequence[Tensor], Any], Tensor]:
    return lambda given, _: function(given[0])


def _binary(
    function: Callable[[Tensor, Any], Tensor],
) -> Callable[[Sequence[Tensor], NodeConfig], Tensor]:
    return lambda given, node: function(given[0], given[1] if node.value is None else node.value)


def _max_pool(given: Sequence[Tensor], node: NodeConfig) -> Tensor:
    assert node.kernel and node.stride and node.padding and node.dilation
    return F.max_pool2d(
        given[0], node.kernel, node.stride, node.padding, node.dilation, ceil_mode=bool(node.ceil)
    )


def _avg_pool(given: Sequence[Tensor], node: NodeConfig) -> Tensor:
    assert node.kernel and node.stride and node.padding
    counts_padding = node.count_padding is not False
    return F.avg_pool2d(
        given[0], node.kernel, node.stride, node.padding, bool(node.ceil), counts_padding
    )


def _upsample(given: Sequence[Tensor], node: NodeConfig) -> Tensor:
    # a tuple of floats, as scripts and graphs want it
    scale = None if node.scale is None else tuple(map(float, node.scale))
    align = bool(node.align) if node.mode == "bilinear" else None
    return F.interpolate(given[0], node.size, scale, node.mode or "nearest", align)


def _mean(given: Sequence[Tensor], node: NodeConfig) -> Tensor:
    return given[0].mean(node.dims, keepdim=bool(node.keep))


def _reshape(given: Sequence[Tensor], shape: tuple[int, ...]) -> Tensor:
    return given[0].reshape(-1, *shape)


def _take(given: Sequence[Tensor], taken: tuple[int, int, int]) -> Tensor:
    dim, start, length = taken
    return given[0].narrow(dim, start, length)


_RUN: dict[str, Callable[[Sequence[Tensor], Any], Tensor]] = {
    **dict.fromkeys(
        (
            "conv",
            "conv_transpose",
            "linear",
            "batch_norm",
            "layer_norm",
            "group_norm",
            "dropout",
            "parameter",
        ),
        _layer,
    ),
    "add": _binary(torch.add),
    "sub": _binary(torch.sub),
    "mul": _binary(torch.mul),
    "div": _binary(torch.div),
    "max_pool": _max_pool,
    "avg_pool": _avg_pool,
    "adaptive_avg_pool": lambda given, node: F.adaptive_avg_pool2d(given[0], node.size),
    "adaptive_max_pool": lambda given, node: F.adaptive_max_pool2d(given[0], node.size),
    "upsample": _upsample,
    "mean": _mean,
    "sum": lambda given, node: given[0].sum(node.dims, keepdim=bool(node.keep)),
    "concat": lambda given, node: torch.cat(list(given), node.dims[0]),
    "take": _take,
    "permute": lambda given, node: given[0].permute(0, *node.dims),
    "reshape": _reshape,
    "matmul": lambda given, _: given[0] @ given[1],
    "softmax": lambda given, node: given[0].softmax(node.dims[0]),
    "pad": lambda given, node: F.pad(given[0], node.margins),
    "clamp": lambda given, node: F.hardtanh(given[0], node.low, node.high),
    "leaky_relu": lambda given, node: F.leaky_relu(given[0], node.value),
    "elu": lambda given, node: F.elu(given[0], node.value),
    "gelu_tanh": lambda given, _: F.gelu(given[0], approximate="tanh"),
    "relu": _unary(F.relu),
    "hardswish": _unary(F.hardswish),
    "hardsigmoid": _unary(F.hardsigmoid),
    "sigmoid": _unary(torch.sigmoid),
    "silu": _unary(F.silu),
    "gelu": _unary(F.gelu),
    "mish": _unary(F.mish),
    "tanh": _unary(torch.tanh),
    "softplus": _unary(F.softplus),
}
