"""An ONNX graph's operators as the layers that costs are counted in, whoever wrote the graph."""

import math
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence

import onnx

from nassearch.errors import SpaceError
from nassearch.networks.cost import Cost, Layer, convolution_layer

_CONVOLUTIONS = {"Conv": (0, 1), "ConvInteger": (0, 1), "QLinearConv": (0, 3)}
_PRODUCTS = {"Gemm": (0, 1), "MatMul": (0, 1), "MatMulInteger": (0, 1), "QLinearMatMul": (0, 3)}
"""Operators that multiply and accumulate, with where among their inputs image and weight stand."""
_UNCOUNTED = frozenset(
    ("ConvTranspose", "DeformConv", "Einsum", "If", "Loop", "Scan", "LSTM", "GRU", "RNN")
    + ("Attention", "DFT", "STFT")
)
_STANDARD = ("", "ai.onnx")
_INTEGER = frozenset(
    ("QuantizeLinear", "DequantizeLinear", "DynamicQuantizeLinear")
    + ("ConvInteger", "QLinearConv", "MatMulInteger", "QLinearMatMul")
)


def is_quantized(model: onnx.ModelProto) -> bool:
    """Whether the graph computes in integers."""
    return any(node.op_type in _INTEGER for node in model.graph.node)


Shapes = Callable[[Sequence[str]], Mapping[str, list[int]]]
"""Gives the shapes of tensors by name, as an engine sees them when it runs the graph."""


def graph_cost(model: onnx.ModelProto, *, run_shapes: Shapes, where: object) -> Cost:
    """What a graph costs, from its convolutions and products.

    Batch norm, activations, pooling and reshapes do no multiply-accumulates of their own. Shapes
    are those that ONNX infers; `run_shapes` is asked for the others.

    Raises:
        SpaceError: It holds an operator that multiplies and is not counted here, or its shapes
            contradict one another.
    """
    wanted = [name for _, names in _counted(model, where) for name in names]
    sizes = _sizes(model, where)
    missing = list(dict.fromkeys(name for name in wanted if name not in sizes))
    if missing:
        sizes |= run_shapes(missing)
    counted = Counter(_layers(model, sizes, where))
    return Cost(tuple(sorted(counted.items())), _params(model))


def _layers(
    model: onnx.ModelProto, sizes: Mapping[str, list[int]], where: object
) -> Iterator[Layer]:
    for node, names in _counted(model, where):
        image, weight, out = (sizes[name] for name in names)
        if node.op_type in _CONVOLUTIONS:
            yield _convolution(image, weight, out)
        else:
            yield _product(node, image, weight, out)


def _counted(
    model: onnx.ModelProto, where: object
) -> Iterator[tuple[onnx.NodeProto, tuple[str, str, str]]]:
    """The operators that multiply, with the names of image, weight and output."""
    for node in model.graph.node:
        if node.op_type in _UNCOUNTED or node.domain not in _STANDARD:
            raise _not_counted(node, where)
        places = _CONVOLUTIONS.get(node.op_type) or _PRODUCTS.get(node.op_type)
        if places is not None:
            image, weight = (node.input[place] for place in places)
            yield node, (image, weight, node.output[0])


def _convolution(image: list[int], weight: list[int], out: list[int]) -> Layer:
    return convolution_layer(image, weight, out, macs=math.prod(out) * math.prod(weight[1:]))


def _product(node: onnx.NodeProto, left: list[int], right: list[int], out: list[int]) -> Layer:
    flipped = any(item.name == "transA" and item.i for item in node.attribute)
    inner = left[-2] if flipped else left[-1]
    sizes = (math.prod(left), math.prod(out), math.prod(right), math.prod(out) * inner)
    return Layer("linear", inner, out[-1], 1, *sizes)


def _sizes(model: onnx.ModelProto, where: object) -> dict[str, list[int]]:
    """Tensor -> its shape, of all whose shape is known to the last number."""
    try:
        graph = onnx.shape_inference.infer_shapes(model, data_prop=True).graph
    except (onnx.shape_inference.InferenceError, ValueError) as error:
        raise SpaceError(
            f"its shapes contradict one another ({str(error).splitlines()[0][:120]})",
            where=where,
            fix="write the graph again",
        ) from error
    found = {tensor.name: list(tensor.dims) for tensor in graph.initializer}
    for node in graph.node:
        for item in node.attribute:
            if node.op_type == "Constant" and item.name == "value":
                found[node.output[0]] = list(item.t.dims)
    for value in (*graph.input, *graph.value_info, *graph.output):
        dims = value.type.tensor_type.shape.dim
        if value.type.tensor_type.HasField("shape") and all(dim.dim_value > 0 for dim in dims):
            found[value.name] = [dim.dim_value for dim in dims]
    return found


def _params(model: onnx.ModelProto) -> int:
    """Elements of all weights; whole numbers of 64 bits are shapes and axes."""
    return sum(
        math.prod(tensor.dims)
        for tensor in model.graph.initializer
        if tensor.data_type not in (onnx.TensorProto.INT64, onnx.TensorProto.BOOL) and tensor.dims
    )


def _not_counted(node: onnx.NodeProto, where: object) -> SpaceError:
    domain = "" if node.domain in _STANDARD else f"{node.domain}."
    return SpaceError(
        f"holds the operator {domain}{node.op_type}, which cannot be counted",
        where=where,
        fix="measure it where it runs, or write it with convolutions and products",
    )
