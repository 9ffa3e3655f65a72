"""Channels of zeros that let the fast int8 kernels take a graph: its results stay what they are.

ONNX Runtime's direct int8 convolution on x86 (MlasConvSymPackWSize in its convsym.cpp) takes input
channels in fours, outputs from 16 on, and depthwise channels in sixteens. What does not fit is
copied out patch by patch first, which for few channels takes longer than the arithmetic.
"""

from collections import defaultdict
from collections.abc import Collection, Iterable

import numpy as np
import onnx
from onnx import helper, numpy_helper

Tensors = dict[str, onnx.TensorProto]
_INPUTS, _OUTPUTS, _DEPTHWISE = 4, 16, 16
_JOINING = {"Add", "Mul"}
_PASSING = {
    "AveragePool", "Clip", "GlobalAveragePool", "HardSigmoid", "HardSwish", "MaxPool", "Relu",
    "Sigmoid",
}  # fmt: skip


def pad_hidden_channels(model: onnx.ModelProto, *, within: Collection[str] | None = None) -> None:
    """Widen, in place, what lies between the convolutions of a float graph.

    New channels are written and read with weights of zero: what stands in them reaches no output.
    With `within`, names of nodes, what any other node reads or writes keeps its channels.
    """
    tensors = {tensor.name: tensor for tensor in model.graph.initializer}
    counts = _wanted_counts(model.graph, tensors, within)
    for node in model.graph.node:
        if not _is_convolution(node, tensors):
            continue
        outputs = counts.get(node.output[0], 0)
        for name in node.input[1:]:
            _pad(tensors[name], outputs, axis=0)
        if _groups(node) == 1:
            _pad(tensors[node.input[1]], counts.get(node.input[0], 0), axis=1)
        elif outputs:  # depthwise
            next(item for item in node.attribute if item.name == "group").i = outputs
    del model.graph.value_info[:]  # the shapes of before


def pad_images(model: onnx.ModelProto) -> None:
    """Fill up, in place, the channels of the images that an int8 graph has turned into integers.

    Only where nothing but convolutions reads them.
    """
    graph = model.graph
    tensors = {tensor.name: tensor for tensor in graph.initializer}
    sources = {node.output[0]: node for node in graph.node if node.op_type == "DequantizeLinear"}
    images = {node.output[0] for node in graph.node if graph.input[0].name in node.input}
    for source in [node for node in sources.values() if node.input[0] in images]:
        readers = [node for node in graph.node if source.output[0] in node.input]
        origins = [sources[node.input[1]].input[0] for node in readers if node.input[1] in sources]
        weights = [tensors[name] for name in origins if name in tensors]
        convolutions = all(node.op_type == "Conv" and _groups(node) == 1 for node in readers)
        if not convolutions or len(weights) < len(readers):
            continue
        channels = weights[0].dims[1]
        missing = -channels % _INPUTS
        if missing:
            for weight in weights:
                _pad(weight, channels + missing, axis=1)
            # named after the block it stands in: a profiler finds it there
            name = f"{readers[0].name}/pad"
            pads = np.array([0, 0, 0, 0, 0, missing, 0, 0])
            graph.initializer.append(numpy_helper.from_array(pads, f"{name}/pads"))
            pad = helper.make_node("Pad", [source.input[0], f"{name}/pads"], [name], name=name)
            source.input[0] = name
            graph.node.insert(list(graph.node).index(source), pad)
    del graph.value_info[:]


def _wanted_counts(
    graph: onnx.GraphProto, tensors: Tensors, within: Collection[str] | None
) -> dict[str, int]:
    """How many channels each tensor is to have of those that may have more."""
    same = _Classes()  # tensors that have their channels in common
    fixed = [value.name for value in (*graph.input, *graph.output)]
    if within is not None:
        inside = set(within)
        others = [node for node in graph.node if node.name not in inside]
        fixed += [name for node in others for name in (*node.input, *node.output)]
    present, least = defaultdict[str, set[int]](set), dict[str, int]()
    for node in graph.node:
        ends = (*node.input[: 2 if node.op_type in _JOINING else 1], node.output[0])
        if _is_convolution(node, tensors):
            outputs, inputs = tensors[node.input[1]].dims[:2]
            groups = _groups(node)
            present[node.output[0]].add(outputs)
            present[node.input[0]].add(inputs * groups)
            if groups == 1:
                least[node.output[0]] = max(outputs, _OUTPUTS)
            elif groups == outputs and inputs == 1:
                same.join(ends)
                least[node.output[0]] = -(-outputs // _DEPTHWISE) * _DEPTHWISE
            else:
                fixed += ends
        elif node.op_type in _JOINING | _PASSING and not any(name in tensors for name in ends):
            same.join(ends)
        else:
            fixed += (*node.input, *node.output)
    counts: dict[str, int] = {}
    for names in same.all({*present, *least, *fixed}):
        sizes = set().union(*(present[name] for name in names))
        # two counts: one of one channel is broadcast over the others
        if len(sizes) == 1 and not names & set(fixed):
            count = max((least[name] for name in names if name in least), default=0)
            if count > min(sizes):
                counts |= dict.fromkeys(names, count)
    return counts


def _is_convolution(node: onnx.NodeProto, tensors: Tensors) -> bool:
    return node.op_type == "Conv" and all(name in tensors for name in node.input[1:])


def _groups(node: onnx.NodeProto) -> int:
    return next((item.i for item in node.attribute if item.name == "group"), 1)


def _pad(tensor: onnx.TensorProto, count: int, *, axis: int) -> None:
    """Zeros at the end of an axis, up to a length of `count`."""
    values = numpy_helper.to_array(tensor)
    missing = count - values.shape[axis]
    if missing > 0:
        widths = [(0, missing if number == axis else 0) for number in range(values.ndim)]
        tensor.CopyFrom(numpy_helper.from_array(np.pad(values, widths), tensor.name))


class _Classes:
    """Sets of names, joined as it turns out what belongs together."""

    def __init__(self) -> None:
        self._sets: dict[str, set[str]] = {}

    def join(self, names: Iterable[str]) -> None:
        joined = set[str]().union(*(self._sets.get(name, {name}) for name in names))
        self._sets |= dict.fromkeys(joined, joined)

    def all(self, others: Iterable[str]) -> list[set[str]]:
        """Every set once; `others` stand alone where they were joined with none."""
        joined = {id(names): names for names in self._sets.values()}
        return [*joined.values(), *({name} for name in others if name not in self._sets)]
