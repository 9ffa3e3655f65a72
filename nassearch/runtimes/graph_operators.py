"""ONNX operators in PyTorch: those that exported networks are made of, differentiable.

What each computes is ONNX's operator specification (opset 17). Values are tensors, also those that
say shapes; an input that is left out is None.
"""

import math
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import onnx
import torch
import torch.nn.functional as F
from onnx import helper, numpy_helper
from torch import Tensor

Attributes = Mapping[str, Any]
Values = Sequence[Tensor | None]
Operator = Callable[[Values, Attributes], Tensor | tuple[Tensor, ...]]

_TYPES = {
    onnx.TensorProto.FLOAT: torch.float32,
    onnx.TensorProto.INT32: torch.int32,
    onnx.TensorProto.INT64: torch.int64,
    onnx.TensorProto.BOOL: torch.bool,
}


def attributes(node: onnx.NodeProto) -> dict[str, Any]:
    """The attributes of a node as Python values; a tensor as one of torch."""
    found: dict[str, Any] = {}
    for item in node.attribute:
        value = helper.get_attribute_value(item)
        if isinstance(value, onnx.TensorProto):
            value = torch.from_numpy(numpy_helper.to_array(value).copy())
        found[item.name] = value.decode() if isinstance(value, bytes) else value
    return found


def _given(values: Values, number: int) -> Tensor:
    value = values[number]
    assert value is not None
    return value


def _option(values: Values, number: int) -> Tensor | None:
    return values[number] if number < len(values) else None


def _numbers(value: Tensor) -> list[int]:
    return [int(number) for number in value.tolist()]


# -- layers ----------------------------------------------------------------------------------------


def _conv(values: Values, given: Attributes) -> Tensor:
    images, weight, bias = _given(values, 0), _given(values, 1), _option(values, 2)
    num_dims = weight.dim() - 2
    ones = [1] * num_dims
    pads = given.get("pads", [0] * (2 * num_dims))
    before, after = pads[:num_dims], pads[num_dims:]
    if before != after:
        images = F.pad(images, _margins(pads))
        before = [0] * num_dims
    run: Callable[..., Tensor] = {1: F.conv1d, 2: F.conv2d, 3: F.conv3d}[num_dims]
    return run(
        images,
        weight,
        bias,
        tuple(given.get("strides", ones)),
        tuple(before),
        tuple(given.get("dilations", ones)),
        given.get("group", 1),
    )


def _margins(pads: Sequence[int]) -> list[int]:
    """ONNX's pads, all beginnings and then all ends, as torch's: the last axis first."""
    half = len(pads) // 2
    return [size for axis in reversed(range(half)) for size in (pads[axis], pads[half + axis])]


def _gemm(values: Values, given: Attributes) -> Tensor:
    left, right, bias = _given(values, 0), _given(values, 1), _option(values, 2)
    left = left.t() if given.get("transA", 0) else left
    right = right if given.get("transB", 0) else right.t()
    alpha, beta = given.get("alpha", 1.0), given.get("beta", 1.0)
    if alpha == beta == 1.0 and (bias is None or bias.dim() == 1):
        return F.linear(left, right, bias)
    product = alpha * F.linear(left, right)
    return product if bias is None else product + beta * bias


def _batch_norm(values: Values, given: Attributes) -> Tensor:
    images, scale, bias, mean, variance = (_given(values, number) for number in range(5))
    return F.batch_norm(images, mean, variance, scale, bias, eps=given.get("epsilon", 1e-5))


def _layer_norm(values: Values, given: Attributes) -> Tensor:
    given_values, scale, bias = _given(values, 0), _given(values, 1), _option(values, 2)
    axis = given.get("axis", -1) % given_values.dim()
    shape = given_values.shape[axis:]
    return F.layer_norm(given_values, shape, scale, bias, given.get("epsilon", 1e-5))


def _instance_norm(values: Values, given: Attributes) -> Tensor:
    images, scale, bias = (_given(values, number) for number in range(3))
    return F.instance_norm(images, weight=scale, bias=bias, eps=given.get("epsilon", 1e-5))


# -- pooling ---------------------------------------------------------------------------------------


def _max_pool(values: Values, given: Attributes) -> Tensor:
    images, pads, strides = _pooled(values, given, fill=-math.inf)
    return F.max_pool2d(
        images,
        given["kernel_shape"],
        strides,
        pads,
        tuple(given.get("dilations", (1, 1))),
        ceil_mode=bool(given.get("ceil_mode", 0)),
    )


def _average_pool(values: Values, given: Attributes) -> Tensor:
    images, pads, strides = _pooled(values, given, fill=0.0)
    return F.avg_pool2d(
        images,
        given["kernel_shape"],
        strides,
        pads,
        bool(given.get("ceil_mode", 0)),
        bool(given.get("count_include_pad", 0)),
    )


def _pooled(
    values: Values, given: Attributes, *, fill: float
) -> tuple[Tensor, tuple[int, ...], tuple[int, ...]]:
    """The images of a pooling, what torch pads them with, and its strides."""
    images, kernel = _given(values, 0), given["kernel_shape"]
    pads, strides = given.get("pads", [0, 0, 0, 0]), tuple(given.get("strides", (1, 1)))
    within = all(2 * size <= side for size, side in zip(pads, [*kernel, *kernel], strict=True))
    if pads[:2] == pads[2:] and within:
        return images, tuple(pads[:2]), strides
    return F.pad(images, _margins(pads), value=fill), (0, 0), strides


def _global_average(values: Values, _: Attributes) -> Tensor:
    return F.adaptive_avg_pool2d(_given(values, 0), 1)


def _global_max(values: Values, _: Attributes) -> Tensor:
    return F.adaptive_max_pool2d(_given(values, 0), 1)


# -- reductions ------------------------------------------------------------------------------------


def _reduced(
    function: Callable[..., Tensor],
) -> Operator:
    def run(values: Values, given: Attributes) -> Tensor:
        tensor, named = _given(values, 0), _option(values, 1)
        axes = given.get("axes") if named is None else _numbers(named)
        keeps = bool(given.get("keepdims", 1))
        return function(tensor, list(range(tensor.dim())) if axes is None else axes, keeps)

    return run


def _mean(tensor: Tensor, axes: Sequence[int], keeps: bool) -> Tensor:
    return tensor.mean(tuple(axes), keepdim=keeps)


def _sum(tensor: Tensor, axes: Sequence[int], keeps: bool) -> Tensor:
    return tensor.sum(tuple(axes), keepdim=keeps)


def _max(tensor: Tensor, axes: Sequence[int], keeps: bool) -> Tensor:
    return tensor.amax(tuple(axes), keepdim=keeps)


def _softmax(values: Values, given: Attributes) -> Tensor:
    return _given(values, 0).softmax(given.get("axis", -1))


# -- shapes ----------------------------------------------------------------------------------------


def _reshape(values: Values, given: Attributes) -> Tensor:
    tensor, shape = _given(values, 0), _numbers(_given(values, 1))
    if not given.get("allowzero", 0):
        shape = [tensor.shape[axis] if size == 0 else size for axis, size in enumerate(shape)]
    return tensor.reshape(shape)


def _flatten(values: Values, given: Attributes) -> Tensor:
    tensor, axis = _given(values, 0), given.get("axis", 1)
    return tensor.reshape(math.prod(tensor.shape[:axis]), -1)


def _transpose(values: Values, given: Attributes) -> Tensor:
    tensor = _given(values, 0)
    return tensor.permute(given.get("perm", list(reversed(range(tensor.dim())))))


def _axes(values: Values, given: Attributes) -> list[int] | None:
    named = _option(values, 1)
    return given.get("axes") if named is None else _numbers(named)


def _squeeze(values: Values, given: Attributes) -> Tensor:
    tensor, axes = _given(values, 0), _axes(values, given)
    return tensor.squeeze() if axes is None else tensor.squeeze(tuple(axes))


def _unsqueeze(values: Values, given: Attributes) -> Tensor:
    tensor, axes = _given(values, 0), _axes(values, given) or []
    num_dims = tensor.dim() + len(axes)
    for axis in sorted(axis % num_dims for axis in axes):
        tensor = tensor.unsqueeze(axis)
    return tensor


def _concat(values: Values, given: Attributes) -> Tensor:
    return torch.cat([value for value in values if value is not None], given["axis"])


def _split(values: Values, given: Attributes) -> tuple[Tensor, ...]:
    tensor, sizes, axis = _given(values, 0), _option(values, 1), given.get("axis", 0)
    if sizes is None:
        return tensor.split(-(-tensor.shape[axis] // given["num_outputs"]), axis)
    return tensor.split(_numbers(sizes), axis)


def _slice(values: Values, _: Attributes) -> Tensor:
    tensor = _given(values, 0)
    starts, ends = _numbers(_given(values, 1)), _numbers(_given(values, 2))
    axes, steps = _option(values, 3), _option(values, 4)
    named = list(range(len(starts))) if axes is None else _numbers(axes)
    strides = [1] * len(starts) if steps is None else _numbers(steps)
    for axis, start, end, step in zip(named, starts, ends, strides, strict=True):
        size = tensor.shape[axis]
        if step < 0:  # torch has no negative step: the places are listed
            first = min(start if start >= 0 else size + start, size - 1)
            last = -1 if end < -size else (end if end >= 0 else size + end)
            places = torch.arange(first, last, step)
            tensor = tensor.index_select(axis, places.to(tensor.device))
            continue
        place = [slice(None)] * tensor.dim()
        place[axis] = slice(start, end, step)
        tensor = tensor[tuple(place)]
    return tensor


def _pad(values: Values, given: Attributes) -> Tensor:
    tensor, pads, fill = _given(values, 0), _numbers(_given(values, 1)), _option(values, 2)
    mode = given.get("mode", "constant")
    if mode == "constant":
        return F.pad(tensor, _margins(pads), value=0.0 if fill is None else float(fill))
    margins = _margins(pads)[: 2 * (tensor.dim() - 2)]
    return F.pad(tensor, margins, mode="replicate" if mode == "edge" else mode)


def _gather(values: Values, given: Attributes) -> Tensor:
    tensor, places, axis = _given(values, 0), _given(values, 1).long(), given.get("axis", 0)
    found = tensor.index_select(axis, places.reshape(-1) % tensor.shape[axis])
    return found.reshape(*tensor.shape[:axis], *places.shape, *tensor.shape[axis:][1:])


def _expand(values: Values, _: Attributes) -> Tensor:
    tensor, shape = _given(values, 0), _numbers(_given(values, 1))
    return tensor.expand(torch.broadcast_shapes(tensor.shape, shape))


def _shape(values: Values, given: Attributes) -> Tensor:
    sizes = list(_given(values, 0).shape)
    return torch.tensor(sizes[given.get("start", 0) : given.get("end", len(sizes))])


def _constant_of_shape(values: Values, given: Attributes) -> Tensor:
    value = given.get("value", torch.zeros(1))
    return value.expand(_numbers(_given(values, 0))).clone()


def _constant(_: Values, given: Attributes) -> Tensor:
    value: Tensor = given["value"]
    return value


def _cast(values: Values, given: Attributes) -> Tensor:
    return _given(values, 0).to(_TYPES[given["to"]])


# -- one value after the other ---------------------------------------------------------------------


def _unary(function: Callable[[Tensor], Tensor]) -> Operator:
    return lambda values, _: function(_given(values, 0))


def _binary(function: Callable[[Tensor, Tensor], Tensor]) -> Operator:
    return lambda values, _: function(_given(values, 0), _given(values, 1))


def _divide(left: Tensor, right: Tensor) -> Tensor:
    whole = not (left.is_floating_point() or right.is_floating_point())
    return torch.div(left, right, rounding_mode="trunc" if whole else None)


def _clip(values: Values, _: Attributes) -> Tensor:
    low, high = _option(values, 1), _option(values, 2)
    return torch.clamp(
        _given(values, 0),
        None if low is None else float(low),
        None if high is None else float(high),
    )


def _hard_sigmoid(values: Values, given: Attributes) -> Tensor:
    slope, offset = given.get("alpha", 0.2), given.get("beta", 0.5)
    return torch.clamp(slope * _given(values, 0) + offset, 0.0, 1.0)


def _leaky_relu(values: Values, given: Attributes) -> Tensor:
    return F.leaky_relu(_given(values, 0), given.get("alpha", 0.01))


def _elu(values: Values, given: Attributes) -> Tensor:
    return F.elu(_given(values, 0), given.get("alpha", 1.0))


def _einsum(values: Values, given: Attributes) -> Tensor:
    product: Tensor = torch.einsum(given["equation"], *values)
    return product


OPERATORS: Mapping[str, Operator] = {
    "Add": _binary(torch.add),
    "AveragePool": _average_pool,
    "BatchNormalization": _batch_norm,
    "Cast": _cast,
    "Clip": _clip,
    "Concat": _concat,
    "Constant": _constant,
    "ConstantOfShape": _constant_of_shape,
    "Conv": _conv,
    "Div": _binary(_divide),
    "Einsum": _einsum,
    "Elu": _elu,
    "Erf": _unary(torch.erf),
    "Exp": _unary(torch.exp),
    "Expand": _expand,
    "Flatten": _flatten,
    "Gather": _gather,
    "Gemm": _gemm,
    "GlobalAveragePool": _global_average,
    "GlobalMaxPool": _global_max,
    "HardSigmoid": _hard_sigmoid,
    "HardSwish": _unary(F.hardswish),
    "Identity": _unary(lambda tensor: tensor),
    "InstanceNormalization": _instance_norm,
    "LayerNormalization": _layer_norm,
    "LeakyRelu": _leaky_relu,
    "Log": _unary(torch.log),
    "MatMul": _binary(torch.matmul),
    "MaxPool": _max_pool,
    "Mod": _binary(torch.remainder),
    "Mul": _binary(torch.mul),
    "Neg": _unary(torch.neg),
    "Pad": _pad,
    "Pow": _binary(torch.pow),
    "Reciprocal": _unary(torch.reciprocal),
    "ReduceMax": _reduced(_max),
    "ReduceMean": _reduced(_mean),
    "ReduceSum": _reduced(_sum),
    "Relu": _unary(F.relu),
    "Reshape": _reshape,
    "Shape": _shape,
    "Sigmoid": _unary(torch.sigmoid),
    "Slice": _slice,
    "Softmax": _softmax,
    "Softplus": _unary(F.softplus),
    "Split": _split,
    "Sqrt": _unary(torch.sqrt),
    "Squeeze": _squeeze,
    "Sub": _binary(torch.sub),
    "Tanh": _unary(torch.tanh),
    "Transpose": _transpose,
    "Unsqueeze": _unsqueeze,
}
"""Operator -> what computes it; QuantizeLinear and DequantizeLinear are those of `simulation`."""
