"""How the axes of every tensor in a traced graph are made of channel symbols.

An axis is a sum of terms, each a symbol times a count: a convolution over two concatenated tensors
reads `g0+g1`, a linear after a flatten `out*49`, and what never changes is a plain number. The same
rules serve twice. While a network is adopted, an addition or a reshape *makes* two axes equal
(`adoption.symbol_table`); in a stored graph they must *be* equal (`Stored`).
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Protocol

from nassearch.errors import SpaceError
from nassearch.space.graph_config import CONSTANT, Axis, NodeConfig, Term, format_axis, parse_axis

_MOST_TERMS = 64


@dataclass(frozen=True, slots=True)
class Layout:
    """The axes of a value without its batch; a parameter has none."""

    axes: tuple[Axis, ...]
    batched: bool = True


class Rules(Protocol):
    """What happens where an operator needs axes to be equal, divisible or of fixed size."""

    def resolve(self, axis: Axis) -> Axis:
        """The axis in the symbols that stand for it now."""

    def size(self, axis: Axis) -> int:
        """Its number of elements at full size."""

    def tie(self, first: Axis, second: Axis, *, at: str) -> Axis:
        """The axis that both are."""

    def fix(self, axis: Axis, *, at: str) -> int:
        """Its size, which may not change."""

    def divide(self, axis: Axis, by: int, *, at: str) -> Axis:
        """The same axis as so many elements times `by`, in each of its terms."""


def constant(size: int) -> Axis:
    return ((CONSTANT, size),)


def axis_size(axis: Axis, sizes: Mapping[str, int]) -> int:
    """Its elements where every symbol has a size."""
    return sum(count * (1 if symbol == CONSTANT else sizes[symbol]) for symbol, count in axis)


class Stored:
    """The rules of a graph that is read: axes must be what they should be."""

    def __init__(self, sizes: Mapping[str, int]) -> None:
        self._sizes = sizes

    def resolve(self, axis: Axis) -> Axis:
        return axis

    def size(self, axis: Axis) -> int:
        return axis_size(axis, self._sizes)

    def tie(self, first: Axis, second: Axis, *, at: str) -> Axis:
        if _joined(first) != _joined(second):
            texts = format_axis(first), format_axis(second)
            raise _refused(f"meets {texts[0]} with {texts[1]}", at)
        return first

    def fix(self, axis: Axis, *, at: str) -> int:
        if any(symbol != CONSTANT for symbol, _ in axis):
            raise _refused(f"needs a fixed size where it has {format_axis(axis)}", at)
        return self.size(axis)

    def divide(self, axis: Axis, by: int, *, at: str) -> Axis:
        if any(count % by for _, count in axis):
            raise _refused(f"needs multiples of {by} where it has {format_axis(axis)}", at)
        return axis


def _joined(axis: Axis) -> Axis:
    """The axis with neighbouring constants added up."""
    joined: list[Term] = []
    for symbol, count in axis:
        if symbol == CONSTANT and joined and joined[-1][0] == CONSTANT:
            joined[-1] = (CONSTANT, joined[-1][1] + count)
        else:
            joined.append((symbol, count))
    return tuple(joined)


def _refused(what: str, at: str) -> SpaceError:
    return SpaceError(what, where=at, fix="adopt the network again, which writes graphs that fit")


def infer_node(node: NodeConfig, given: Sequence[Layout], rules: Rules, *, at: str) -> Layout:
    """The layout of what one operator gives for what it is given.

    Raises SpaceError where the operator cannot take it.
    """
    inputs = [
        Layout(tuple(rules.resolve(axis) for axis in layout.axes), layout.batched)
        for layout in given
    ]
    try:
        return _RULES.get(node.op, _same)(node, inputs, rules, at)
    except (IndexError, TypeError, ValueError, ZeroDivisionError) as error:
        raise _refused(f"does not fit its inputs ({error})", at) from error


# -- one rule for each kind of operator ------------------------------------------------------------


def _same(node: NodeConfig, inputs: list[Layout], rules: Rules, at: str) -> Layout:
    return inputs[0]


def _window(size: int, node: NodeConfig, axis: int, at: str) -> int:
    """Output pixels of a window that slides over `size` pixels."""
    assert node.kernel is not None and node.stride is not None and node.padding is not None
    dilation = node.dilation[axis] if node.dilation is not None else 1
    room = size + 2 * node.padding[axis] - dilation * (node.kernel[axis] - 1) - 1
    if room < 0:
        raise SpaceError(
            f"its kernel is larger than the {size} pixels it is given",
            where=at,
            fix="use a larger resolution",
        )
    stride = node.stride[axis]
    out = room // stride + 1
    if node.ceil and room % stride and out * stride < size + node.padding[axis]:
        out += 1
    return out


def _slide(node: NodeConfig, image: Layout, rules: Rules, at: str) -> tuple[Axis, Axis]:
    pixels = (rules.fix(axis, at=at) for axis in image.axes[1:3])
    rows, columns = (_window(size, node, axis, at) for axis, size in enumerate(pixels))
    return constant(rows), constant(columns)


def _conv(node: NodeConfig, inputs: list[Layout], rules: Rules, at: str) -> Layout:
    image = inputs[0]
    if len(image.axes) != 3:
        raise _refused("is a convolution of what is no image", at)
    if node.groups is not None:  # so many groups of any size
        each = group_axis(image.axes[0], node.groups, rules, at)
        rules.tie(image.axes[0], each * node.groups, at=at)
        channels = rules.resolve(node.out_axis) * node.groups
    elif node.group_in is None:
        channels = rules.resolve(node.out_axis)
    else:  # as many groups of this size as there are
        assert node.group_out is not None
        parts = rules.divide(image.axes[0], node.group_in, at=at)
        channels = tuple(
            (symbol, count // node.group_in * node.group_out) for symbol, count in parts
        )
    return Layout((channels, *_slide(node, image, rules, at)))


def _conv_transpose(node: NodeConfig, inputs: list[Layout], rules: Rules, at: str) -> Layout:
    assert node.kernel is not None
    assert node.stride is not None
    assert node.padding is not None
    assert node.dilation is not None
    if len(inputs[0].axes) != 3:
        raise _refused("is a convolution of what is no image", at)
    pixels = []
    for number, axis in enumerate(inputs[0].axes[1:3]):
        reach = node.dilation[number] * (node.kernel[number] - 1) + 1
        size = (rules.fix(axis, at=at) - 1) * node.stride[number] - 2 * node.padding[number]
        pixels.append(size + reach + (node.output_padding or (0, 0))[number])
    if min(pixels) < 1:
        raise _refused("has no pixel left", at)
    return Layout((rules.resolve(node.out_axis), *map(constant, pixels)))


def group_axis(axis: Axis, groups: int, rules: Rules, at: str) -> Axis:
    """The channels of one of so many equal groups of an axis."""
    if all(symbol == CONSTANT for symbol, _ in axis) and rules.size(axis) % groups == 0:
        return constant(rules.size(axis) // groups)
    if len(axis) % groups:
        raise _refused(f"has {groups} groups of {format_axis(axis)}", at)
    return axis[: len(axis) // groups]


def _linear(node: NodeConfig, inputs: list[Layout], rules: Rules, at: str) -> Layout:
    return Layout((*inputs[0].axes[:-1], rules.resolve(node.out_axis)), inputs[0].batched)


def _pool(node: NodeConfig, inputs: list[Layout], rules: Rules, at: str) -> Layout:
    return Layout((inputs[0].axes[0], *_slide(node, inputs[0], rules, at)))


def _adaptive(node: NodeConfig, inputs: list[Layout], rules: Rules, at: str) -> Layout:
    assert node.size is not None
    return Layout((inputs[0].axes[0], constant(node.size[0]), constant(node.size[1])))


def _upsample(node: NodeConfig, inputs: list[Layout], rules: Rules, at: str) -> Layout:
    if len(inputs[0].axes) != 3:
        raise _refused("enlarges what is no image", at)
    pixels = [rules.fix(axis, at=at) for axis in inputs[0].axes[1:]]
    if node.scale is not None:
        pixels = [size * times for size, times in zip(pixels, node.scale, strict=True)]
    else:
        assert node.size is not None
        pixels = list(node.size)
    return Layout((inputs[0].axes[0], *map(constant, pixels)))


def _mean(node: NodeConfig, inputs: list[Layout], rules: Rules, at: str) -> Layout:
    assert node.dims is not None
    axes = list(inputs[0].axes)
    for dim in node.dims:
        axes[dim - 1] = constant(1)
    if not node.keep:
        axes = [axis for dim, axis in enumerate(axes, start=1) if dim not in node.dims]
    return Layout(tuple(axes))


def _binary(node: NodeConfig, inputs: list[Layout], rules: Rules, at: str) -> Layout:
    if len(inputs) == 1:
        return inputs[0]
    first, second = inputs
    axes: list[Axis] = []
    for number in range(1, max(len(first.axes), len(second.axes)) + 1):
        one = first.axes[-number] if number <= len(first.axes) else constant(1)
        other = second.axes[-number] if number <= len(second.axes) else constant(1)
        if rules.size(one) == 1:
            axes.insert(0, other)
        elif rules.size(other) == 1:
            axes.insert(0, one)
        else:
            axes.insert(0, rules.tie(one, other, at=at))
    return Layout(tuple(axes), first.batched or second.batched)


def _concat(node: NodeConfig, inputs: list[Layout], rules: Rules, at: str) -> Layout:
    assert node.dims is not None
    dim = node.dims[0] - 1
    axes = list(inputs[0].axes)
    for other in inputs[1:]:
        for number, axis in enumerate(other.axes):
            if number != dim:
                axes[number] = rules.tie(rules.resolve(axes[number]), axis, at=at)
    axes[dim] = tuple(term for layout in inputs for term in rules.resolve(layout.axes[dim]))
    return Layout(tuple(axes))


def _take(node: NodeConfig, inputs: list[Layout], rules: Rules, at: str) -> Layout:
    assert node.dims is not None
    axes = list(inputs[0].axes)
    start, length = (rules.resolve(axis) for axis in (node.start_axis, node.length_axis))
    if rules.size(start) + rules.size(length) > rules.size(axes[node.dims[0] - 1]):
        raise _refused("takes more than there is", at)
    axes[node.dims[0] - 1] = length
    return Layout(tuple(axes))


def _permute(node: NodeConfig, inputs: list[Layout], rules: Rules, at: str) -> Layout:
    assert node.dims is not None
    if sorted(node.dims) != list(range(1, len(inputs[0].axes) + 1)):
        raise _refused("permutes other axes than there are", at)
    return Layout(tuple(inputs[0].axes[dim - 1] for dim in node.dims))


def _reshape(node: NodeConfig, inputs: list[Layout], rules: Rules, at: str) -> Layout:
    """Each item of `axes` keeps one axis (1), merges so many (2, 3), or unfolds one (a list)."""
    assert node.axes is not None
    rest = list(inputs[0].axes)
    axes: list[Axis] = []
    for item in node.axes:
        if isinstance(item, tuple):
            into = [rules.resolve(parse_axis(part)) for part in item]
            rules.tie(rest.pop(0), _merge(into, rules, at), at=at)
            axes += [rules.resolve(axis) for axis in into]
        else:
            merged, rest = rest[:item], rest[item:]
            if len(merged) != item:
                raise _refused("merges more axes than there are", at)
            axes.append(_merge(merged, rules, at))
    if rest:
        raise _refused("leaves an axis over", at)
    return Layout(tuple(axes))


def _merge(axes: Sequence[Axis], rules: Rules, at: str) -> Axis:
    """The one axis that these are in a row, the last the fastest."""
    merged = rules.resolve(axes[-1])
    for axis in reversed(axes[:-1]):
        outer = rules.resolve(axis)
        inner_fixed = all(symbol == CONSTANT for symbol, _ in merged)
        outer_fixed = all(symbol == CONSTANT for symbol, _ in outer)
        if inner_fixed:
            times = rules.size(merged)
            merged = tuple((symbol, count * times) for symbol, count in outer)
        elif outer_fixed and rules.size(outer) * len(merged) <= _MOST_TERMS:
            merged = merged * rules.size(outer)
        else:
            merged = constant(rules.fix(outer, at=at) * rules.fix(merged, at=at))
    return merged


def _matmul(node: NodeConfig, inputs: list[Layout], rules: Rules, at: str) -> Layout:
    first, second = inputs
    rules.tie(first.axes[-1], second.axes[-2], at=at)
    outer = [rules.tie(*pair, at=at) for pair in zip(first.axes[:-2], second.axes, strict=False)]
    return Layout((*outer, rules.resolve(first.axes[-2]), rules.resolve(second.axes[-1])))


def _parameter(node: NodeConfig, inputs: list[Layout], rules: Rules, at: str) -> Layout:
    assert node.shape is not None
    return Layout(tuple(rules.resolve(parse_axis(part)) for part in node.shape), batched=False)


def _pad(node: NodeConfig, inputs: list[Layout], rules: Rules, at: str) -> Layout:
    assert node.margins is not None
    axes = list(inputs[0].axes)
    for number in range(len(node.margins) // 2):
        before, after = node.margins[2 * number : 2 * number + 2]
        if before or after:
            size = rules.fix(axes[-1 - number], at=at)
            axes[-1 - number] = constant(size + before + after)
    return Layout(tuple(axes))


def _group_norm(node: NodeConfig, inputs: list[Layout], rules: Rules, at: str) -> Layout:
    if node.groups != 1:
        rules.fix(inputs[0].axes[0], at=at)
    return inputs[0]


_RULES = {
    "conv": _conv,
    "conv_transpose": _conv_transpose,
    "linear": _linear,
    "max_pool": _pool,
    "avg_pool": _pool,
    "adaptive_avg_pool": _adaptive,
    "adaptive_max_pool": _adaptive,
    "upsample": _upsample,
    "mean": _mean,
    "sum": _mean,
    "add": _binary,
    "sub": _binary,
    "mul": _binary,
    "div": _binary,
    "concat": _concat,
    "take": _take,
    "permute": _permute,
    "reshape": _reshape,
    "matmul": _matmul,
    "parameter": _parameter,
    "pad": _pad,
    "group_norm": _group_norm,
}
