"""What each operator of torch becomes: the rules by which an exported program is read."""

import math
from collections.abc import Mapping, Sequence
from typing import Any

from torch import fx

from nassearch.adoption.exported_program import BATCH, ProgramReader, Rule


def _conv2d(reader: ProgramReader, node: fx.Node, given: dict[str, Any]) -> None:
    weight = given["weight"].meta["val"].shape
    grouped = {"group_in": int(weight[1]), "group_out": int(weight[0]) // given["groups"]}
    padding = given["padding"]
    dilation, kernel = _pair(given["dilation"]), (int(weight[2]), int(weight[3]))
    if isinstance(padding, str):
        reach = [dilation[axis] * (kernel[axis] - 1) for axis in (0, 1)]
        if padding == "same" and any(size % 2 for size in reach):
            raise reader.unknown(node, "conv2d with padding 'same' of an even kernel")
        padding = [size // 2 for size in reach] if padding == "same" else 0
    reader.emit(
        node,
        "conv",
        [given["input"]],
        tensors={"weight": given["weight"], "bias": given["bias"]},
        wants=int(weight[0]),
        kernel=kernel,
        stride=_pair(given["stride"]),
        padding=_pair(padding),
        dilation=dilation,
        bias=given["bias"] is not None,
        **(grouped if given["groups"] > 1 else {}),
    )


def _conv_transpose2d(reader: ProgramReader, node: fx.Node, given: dict[str, Any]) -> None:
    weight = given["weight"].meta["val"].shape
    if given["groups"] != 1:
        raise reader.unknown(node, "a transposed convolution in groups")
    extra = _pair(given["output_padding"])
    reader.emit(
        node,
        "conv_transpose",
        [given["input"]],
        tensors={"weight": given["weight"], "bias": given["bias"]},
        wants=int(weight[1]),
        kernel=(int(weight[2]), int(weight[3])),
        stride=_pair(given["stride"]),
        padding=_pair(given["padding"]),
        dilation=_pair(given["dilation"]),
        bias=given["bias"] is not None,
        **_given(output_padding=extra if any(extra) else None),
    )


def _linear(reader: ProgramReader, node: fx.Node, given: dict[str, Any]) -> None:
    reader.emit(
        node,
        "linear",
        [given["input"]],
        tensors={"weight": given["weight"], "bias": given["bias"]},
        wants=int(given["weight"].meta["val"].shape[0]),
        bias=given["bias"] is not None,
    )


def _batch_norm(reader: ProgramReader, node: fx.Node, given: dict[str, Any]) -> None:
    if given["running_mean"] is None:
        raise reader.unknown(node, "batch norm without running statistics")
    if len(node.meta["val"].shape) not in (2, 4):
        raise reader.unknown(node, "batch norm of what is no image")
    names = ("weight", "bias", "running_mean", "running_var")
    reader.emit(
        node,
        "batch_norm",
        [given["input"]],
        tensors={name: given[name] for name in names},
        eps=given["eps"],
        momentum=given["momentum"],
        affine=given["weight"] is not None,
    )


def _layer_norm(reader: ProgramReader, node: fx.Node, given: dict[str, Any]) -> None:
    if len(given["normalized_shape"]) != 1:
        raise reader.unknown(node, "layer norm over several axes")
    reader.emit(
        node,
        "layer_norm",
        [given["input"]],
        tensors={"weight": given["weight"], "bias": given["bias"]},
        eps=given["eps"],
        affine=given["weight"] is not None,
    )


def _group_norm(reader: ProgramReader, node: fx.Node, given: dict[str, Any]) -> None:
    reader.emit(
        node,
        "group_norm",
        [given["input"]],
        tensors={"weight": given["weight"], "bias": given["bias"]},
        groups=given["num_groups"],
        eps=given["eps"],
        affine=given["weight"] is not None,
    )


def _arithmetic(reader: ProgramReader, node: fx.Node, given: dict[str, Any]) -> None:
    op = node.target._schema.name.partition("::")[2].removesuffix("_")  # type: ignore[union-attr]
    if given.get("alpha", 1) != 1 or given.get("rounding_mode") is not None:
        raise reader.unknown(node, f"{op} with a factor")
    first, second = given["self"], given["other"]
    if isinstance(second, int | float):
        reader.emit(node, op, [first], value=second)
    else:
        reader.emit(node, op, [first, second])


def _max_pool2d(reader: ProgramReader, node: fx.Node, given: dict[str, Any]) -> None:
    reader.emit(
        node,
        "max_pool",
        [given["self"]],
        kernel=_pair(given["kernel_size"]),
        stride=_pair(given["stride"] or given["kernel_size"]),
        padding=_pair(given["padding"]),
        dilation=_pair(given["dilation"]),
        **_given(ceil=given["ceil_mode"] or None),
    )


def _avg_pool2d(reader: ProgramReader, node: fx.Node, given: dict[str, Any]) -> None:
    if given["divisor_override"] is not None:
        raise reader.unknown(node, "avg_pool2d with a divisor")
    reader.emit(
        node,
        "avg_pool",
        [given["self"]],
        kernel=_pair(given["kernel_size"]),
        stride=_pair(given["stride"] or given["kernel_size"]),
        padding=_pair(given["padding"]),
        **_given(ceil=given["ceil_mode"] or None),
        **_given(count_padding=None if given["count_include_pad"] else False),
    )


def _upsample(reader: ProgramReader, node: fx.Node, given: dict[str, Any]) -> None:
    name = node.target._schema.name  # type: ignore[union-attr]
    before, after = (one.meta["val"].shape[2:] for one in (given["input"], node))
    whole = all(int(new) % int(old) == 0 for old, new in zip(before, after, strict=True))
    scale = tuple(int(new) // int(old) for old, new in zip(before, after, strict=True))
    align = _given(align=given.get("align_corners") or None)
    kept: dict[str, Any] = {"scale": scale}
    if align or not whole:
        kept = {"size": tuple(map(int, after))}
    mode = "bilinear" if "bilinear" in name else "nearest"
    reader.emit(node, "upsample", [given["input"]], mode=mode, **kept, **align)


def _adaptive_pool(reader: ProgramReader, node: fx.Node, given: dict[str, Any]) -> None:
    average = "avg" in node.target._schema.name  # type: ignore[union-attr]
    size = _pair(given["output_size"])
    if None in size:
        raise reader.unknown(node, "adaptive pooling that keeps an axis")
    op = "adaptive_avg_pool" if average else "adaptive_max_pool"
    reader.emit(node, op, [given["self"]], size=size)


def _mean(reader: ProgramReader, node: fx.Node, given: dict[str, Any]) -> None:
    if given.get("dim") is None or given.get("dtype") is not None:
        raise reader.unknown(node, "mean over the batch")
    dims = reader.dims(given["self"], given["dim"], node)
    keep = _given(keep=given["keepdim"] or None)
    reader.emit(node, "mean", [given["self"]], dims=dims, **keep)


def _sum(reader: ProgramReader, node: fx.Node, given: dict[str, Any]) -> None:
    if given.get("dim") is None or given.get("dtype") is not None:
        raise reader.unknown(node, "a sum over the batch")
    dims = reader.dims(given["self"], given["dim"], node)
    keep = _given(keep=given["keepdim"] or None)
    reader.emit(node, "sum", [given["self"]], dims=dims, **keep)


def _cat(reader: ProgramReader, node: fx.Node, given: dict[str, Any]) -> None:
    dims = reader.dims(given["tensors"][0], [given["dim"]], node)
    reader.emit(node, "concat", given["tensors"], dims=dims)


def _chunk(reader: ProgramReader, node: fx.Node, given: dict[str, Any]) -> None:
    (dim,) = reader.dims(given["self"], [given["dim"]], node)
    start, pieces = 0, []
    for piece in node.meta["val"]:
        length = int(piece.shape[dim])
        sizes = tuple(int(size) for size in piece.shape[1:])
        made = _emit_take(reader, node, given["self"], dim, start, length, sizes)
        pieces.append(made)
        start += length
    reader.pass_on(node, pieces)


def _emit_take(
    reader: ProgramReader,
    node: fx.Node,
    read: Any,
    dim: int,
    start: int,
    length: int,
    sizes: tuple[int, ...],
) -> str:
    of = reader.value(read, node)
    return reader.add(node, "take", [of], sizes, wants=(start, length), dims=(dim,)).id


def _slice(reader: ProgramReader, node: fx.Node, given: dict[str, Any]) -> None:
    read = given["self"]
    dim = given["dim"] % len(read.meta["val"].shape)
    size = int(read.meta["val"].shape[dim])
    start, end = given["start"] or 0, given["end"]
    start = start + size if start < 0 else start
    end = size if end is None or end > size else end + size if end < 0 else end
    if given["step"] != 1:
        raise reader.unknown(node, "a slice with a step")
    if (start, end) == (0, size):
        reader.pass_on(node, reader.value(read, node))
        return
    if dim == 0:
        raise reader.unknown(node, "a slice of the batch")
    sizes = tuple(int(number) for number in node.meta["val"].shape[1:])
    reader.pass_on(node, _emit_take(reader, node, read, dim, start, end - start, sizes))


def _select(reader: ProgramReader, node: fx.Node, given: dict[str, Any]) -> None:
    read = given["self"]
    dim = given["dim"] % len(read.meta["val"].shape)
    if dim == 0:
        raise reader.unknown(node, "a choice among the batch")
    shape = [int(size) for size in read.meta["val"].shape[1:]]
    index = given["index"] % shape[dim - 1]
    shape[dim - 1] = 1
    taken = _emit_take(reader, node, read, dim, index, 1, tuple(shape))
    _emit_reshape(reader, node, taken, tuple(shape))


def _permute(reader: ProgramReader, node: fx.Node, given: dict[str, Any]) -> None:
    rank = len(node.meta["val"].shape)
    order = [dim % rank for dim in given["dims"]]
    _emit_permute(reader, node, given["self"], order)


def _transpose(reader: ProgramReader, node: fx.Node, given: dict[str, Any]) -> None:
    order = list(range(len(node.meta["val"].shape)))
    first, second = given["dim0"] % len(order), given["dim1"] % len(order)
    order[first], order[second] = order[second], order[first]
    _emit_permute(reader, node, given["self"], order)


def _emit_permute(reader: ProgramReader, node: fx.Node, read: Any, order: list[int]) -> None:
    if order[0] != 0:
        raise reader.unknown(node, "a permutation of the batch")
    reader.emit(node, "permute", [read], dims=tuple(order[1:]))


def _view(reader: ProgramReader, node: fx.Node, given: dict[str, Any]) -> None:
    read = given["self"]
    if reader.reshaped_parameter(read, node):
        return
    _emit_reshape(
        reader, node, reader.value(read, node), tuple(int(n) for n in read.meta["val"].shape[1:])
    )


def _emit_reshape(reader: ProgramReader, node: fx.Node, of: str, before: tuple[int, ...]) -> None:
    """One or two operators: first axes are merged, then unfolded."""
    after = tuple(int(size) for size in node.meta["val"].shape[1:])
    if int(node.meta["val"].shape[0]) != BATCH:
        raise reader.unknown(node, "a view that joins the batch with other axes")
    groups = _matched(before, after)
    merges = [len(old) for old, _ in groups]
    if any(number > 1 for number in merges):
        sizes = tuple(math.prod(old) for old, _ in groups)
        of = reader.add(node, "reshape", [of], sizes, axes=tuple(merges)).id
    if any(len(new) > 1 for _, new in groups):
        wants = [new if len(new) > 1 else 1 for _, new in groups]
        of = reader.add(node, "reshape", [of], after, wants=wants).id
    reader.pass_on(node, of)


def _matmul(reader: ProgramReader, node: fx.Node, given: dict[str, Any]) -> None:
    first = given.get("self", given.get("input"))
    second = given.get("other", given.get("mat2"))
    reader.emit(node, "matmul", [first, second])


def _softmax(reader: ProgramReader, node: fx.Node, given: dict[str, Any]) -> None:
    dims = reader.dims(given["self"], [given["dim"]], node)
    reader.emit(node, "softmax", [given["self"]], dims=dims)


def _hardtanh(reader: ProgramReader, node: fx.Node, given: dict[str, Any]) -> None:
    low = given.get("min_val", given.get("min"))
    high = given.get("max_val", given.get("max"))
    if low is None or high is None:
        raise reader.unknown(node, "a clamp of one side")
    reader.emit(node, "clamp", [given["self"]], low=low, high=high)


def _relu6(reader: ProgramReader, node: fx.Node, given: dict[str, Any]) -> None:
    reader.emit(node, "clamp", [given["self"]], low=0.0, high=6.0)


def _leaky_relu(reader: ProgramReader, node: fx.Node, given: dict[str, Any]) -> None:
    reader.emit(node, "leaky_relu", [given["self"]], value=given["negative_slope"])


def _elu(reader: ProgramReader, node: fx.Node, given: dict[str, Any]) -> None:
    if given["scale"] != 1 or given["input_scale"] != 1:
        raise reader.unknown(node, "elu with a scale")
    reader.emit(node, "elu", [given["self"]], value=given["alpha"])


def _gelu(reader: ProgramReader, node: fx.Node, given: dict[str, Any]) -> None:
    is_tanh = given["approximate"] == "tanh"
    reader.emit(node, "gelu_tanh" if is_tanh else "gelu", [given["self"]])


def _dropout(reader: ProgramReader, node: fx.Node, given: dict[str, Any]) -> None:
    reader.emit(node, "dropout", [given.get("input", given.get("self"))])


def _pad(reader: ProgramReader, node: fx.Node, given: dict[str, Any]) -> None:
    if given.get("mode", "constant") != "constant" or given.get("value") not in (None, 0, 0.0):
        raise reader.unknown(node, "padding that is not zeros")
    if min(given["pad"]) < 0 or len(given["pad"]) > 4:
        raise reader.unknown(node, "padding of other axes than rows and columns")
    if not any(given["pad"]):
        reader.pass_on(node, reader.value(given["self"], node))
        return
    reader.emit(node, "pad", [given["self"]], margins=tuple(given["pad"]))


def _given(**attributes: Any) -> dict[str, Any]:
    """The attributes that say something."""
    return {name: value for name, value in attributes.items() if value is not None}


def _pair(value: Any) -> tuple[Any, Any]:
    if isinstance(value, int):
        return (value, value)
    return (value[0], value[-1])


def _matched(
    before: Sequence[int], after: Sequence[int]
) -> list[tuple[tuple[int, ...], tuple[int, ...]]]:
    """The axes before and after a reshape in the smallest groups that hold equally many elements.

    An axis of size 1 that one side has more is taken to the group before.
    """
    groups: list[tuple[list[int], list[int]]] = []
    left, right = list(before), list(after)
    while left or right:
        old = [left.pop(0)] if left else []
        new = [right.pop(0)] if right else []
        while math.prod(old) != math.prod(new):
            if math.prod(old) < math.prod(new):
                old.append(left.pop(0))
            else:
                new.append(right.pop(0))
        groups.append((old, new))
    joined: list[tuple[list[int], list[int]]] = []
    for old, new in groups:
        if (not old or not new) and joined:
            joined[-1][0].extend(old)
            joined[-1][1].extend(new)
        else:
            joined.append((old, new))
    return [(tuple(old), tuple(new)) for old, new in joined]


def _nothing(argument: str) -> Rule:
    """The rule of what gives its argument as it is: once trained, or whatever its memory."""
    return lambda reader, node, given: reader.pass_on(node, reader.value(given[argument], node))


def _unary(op: str) -> Rule:
    return lambda reader, node, given: reader.emit(node, op, [given["self"]])


_UNARY = ("relu", "hardswish", "hardsigmoid", "sigmoid", "silu", "mish", "tanh", "softplus")
_SAME = ("contiguous", "clone", "detach", "alias", "lift_fresh_copy", "identity")
_VIEWS = ("view", "reshape", "flatten", "unflatten", "squeeze", "unsqueeze")
RULES: Mapping[str, Rule] = {
    **{name: _unary(name) for name in _UNARY},
    **dict.fromkeys(_SAME, _nothing("self")),
    **dict.fromkeys(("feature_dropout", "alpha_dropout"), _nothing("input")),
    **dict.fromkeys(("add", "sub", "mul", "div"), _arithmetic),
    **dict.fromkeys(("upsample_nearest2d", "upsample_bilinear2d"), _upsample),
    **dict.fromkeys(("adaptive_avg_pool2d", "adaptive_max_pool2d"), _adaptive_pool),
    **dict.fromkeys(("chunk", "split", "split_with_sizes"), _chunk),
    **dict.fromkeys(_VIEWS, _view),
    **dict.fromkeys(("bmm", "matmul"), _matmul),
    **dict.fromkeys(("clamp", "hardtanh"), _hardtanh),
    **dict.fromkeys(("pad", "constant_pad_nd"), _pad),
    "avg_pool2d": _avg_pool2d,
    "batch_norm": _batch_norm,
    "cat": _cat,
    "conv2d": _conv2d,
    "conv_transpose2d": _conv_transpose2d,
    "dropout": _dropout,
    "elu": _elu,
    "gelu": _gelu,
    "group_norm": _group_norm,
    "layer_norm": _layer_norm,
    "leaky_relu": _leaky_relu,
    "linear": _linear,
    "max_pool2d": _max_pool2d,
    "mean": _mean,
    "permute": _permute,
    "relu6": _relu6,
    "select": _select,
    "slice": _slice,
    "softmax": _softmax,
    "sum": _sum,
    "transpose": _transpose,
}
"""Operators of torch by name, without the underscore of those in place."""
