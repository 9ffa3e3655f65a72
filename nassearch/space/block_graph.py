"""BlockGraph: a traced block as data, at any channel counts.

A block's input and output have the channels that the space says. What lies within has a share of
its full size, `inner_ratio`; kernels larger than `kernel_size` are cut to their centre.
"""

import hashlib
import json
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property, lru_cache
from typing import Any

from nassearch.errors import SpaceError
from nassearch.space.graph_config import (
    CONSTANT,
    INPUT,
    Axis,
    GraphConfig,
    NodeConfig,
    format_axis,
    parse_axis,
)
from nassearch.space.layout_inference import Layout, Stored, axis_size, constant, infer_node

TRACED = "traced"
SEPARATOR = "@"
_MOST_ELEMENTS = 1 << 32
_ROUNDS = 8
_PIXELS = (32, 64, 128, 224, 256, 384, 512, 7, 14, 1)


def scaled(full: int, ratio: float) -> int:
    """A channel count at a share of its full size: a multiple of 8 where there are 32 or more."""
    if ratio >= 1:
        return full
    unit = next(unit for unit in (8, 4, 2, 1) if 4 * unit <= full or unit == 1)
    return max(1, min(full, max(unit, int(full * ratio / unit + 0.5) * unit)))


@dataclass(frozen=True, slots=True)
class BuiltLayout:
    """A graph at given channel counts and pixels: the size of each symbol, each value's axes."""

    sizes: Mapping[str, int]
    layouts: Mapping[str, Layout]

    def segments(self, axis: Axis) -> tuple[int, ...]:
        """Elements of each term of an axis, which are cut one by one."""
        return tuple(
            count * (1 if symbol == CONSTANT else self.sizes[symbol]) for symbol, count in axis
        )

    def size(self, axis: Axis) -> int:
        return axis_size(axis, self.sizes)


class BlockGraph:
    """The graph of one traced block; equal graphs have equal labels. Immutable."""

    def __init__(self, name: str, definition: GraphConfig) -> None:
        self.name = name
        self.definition = definition

    @cached_property
    def label(self) -> str:
        """The op in keys: a readable name and ten hexadecimal digits of the structure."""
        content = self.definition.model_dump(mode="json", exclude_none=True)
        text = json.dumps(content, sort_keys=True, separators=(",", ":"))
        kind = self.name.rpartition("__")[0] or self.name
        return f"{TRACED}{SEPARATOR}{kind}.{hashlib.sha256(text.encode()).hexdigest()[:10]}"

    @property
    def nodes(self) -> tuple[NodeConfig, ...]:
        return self.definition.nodes

    @cached_property
    def input_axis(self) -> Axis:
        return parse_axis(self.definition.input)

    @cached_property
    def tap_axes(self) -> tuple[Axis, ...]:
        """The channels of the further inputs, in order."""
        return tuple(parse_axis(tap.channels) for tap in (self.definition.taps or {}).values())

    @property
    def tap_names(self) -> tuple[str, ...]:
        return tuple(self.definition.taps or ())

    def full_layouts(self, resolution: int, taps: tuple[int, ...] = ()) -> Mapping[str, Layout]:
        """Each value's axes in symbols, for images, and further inputs, of so many pixels."""
        return _layouts(self, resolution, taps)

    def output_axes(self, resolution: int, taps: tuple[int, ...] = ()) -> tuple[Axis, ...]:
        return self.full_layouts(resolution, taps)[self.nodes[-1].id].axes

    def out_resolution(self, resolution: int, taps: tuple[int, ...] = ()) -> int:
        """Pixels of the square output for a square input of so many."""
        axes = self.output_axes(resolution, taps)
        if len(axes) == 1:
            return 1
        sizes = [axis_size(axis, self.definition.symbols) for axis in axes[1:]]
        if len(axes) != 3 or sizes[0] != sizes[1]:
            raise SpaceError(
                f"gives {len(axes)} axes of {sizes} for {resolution} pixels",
                where=f"graphs.{self.name}",
                fix="end the block where one square image passes",
            )
        return sizes[0]

    @cached_property
    def outer_symbols(self) -> frozenset[str]:
        """The symbols of the block's inputs and output."""
        ends = (self.input_axis, *self.tap_axes, self._any_output())
        return frozenset(symbol for axis in ends for symbol in _symbols(axis))

    @cached_property
    def inner_symbols(self) -> tuple[str, ...]:
        """The symbols that only this block has."""
        return tuple(name for name in self.definition.symbols if name not in self.outer_symbols)

    def _any_output(self) -> Axis:
        """The channels of the output, which no resolution changes."""
        if self.definition.pixels is not None:
            taps = (self.definition.taps or {}).values()
            return self.output_axes(self.definition.pixels, tuple(tap.pixels for tap in taps))[0]
        for pixels in _PIXELS:
            try:
                return self.output_axes(pixels)[0]
            except SpaceError:
                continue
        return self.output_axes(_PIXELS[0])[0]

    # -- choices -----------------------------------------------------------------------------------

    def distinct_choices(self, name: str, choices: Sequence[Any]) -> tuple[Any, ...]:
        """Of the choices of a dimension those that make a difference here; none where all are one.

        A kernel choice that this block's kernels are smaller than is the same as the next smaller.
        """
        found: dict[object, Any] = {}
        for choice in choices:
            effect: object
            if name == "kernel_size":
                effect = tuple(self.kernel(node, choice) for node in self.nodes)
            elif name == "inner_ratio":
                full = self.definition.symbols
                effect = tuple(scaled(full[symbol], choice) for symbol in self.inner_symbols)
            else:
                effect = choice
            found.setdefault(effect, choice)
        return tuple(found.values()) if len(found) > 1 else ()

    def kernel(self, node: NodeConfig, most: int | None) -> tuple[int, int]:
        """A node's kernel where none is to be larger than `most`; its padding shrinks alike."""
        if node.op != "conv" or node.kernel is None:
            return (0, 0)
        size = node.kernel[0]
        if most is None or size != node.kernel[1] or size % 2 == 0 or size <= most:
            return node.kernel
        smaller = max(most, least_kernel(node))
        return (smaller, smaller)

    # -- sizes -------------------------------------------------------------------------------------

    def sizes(
        self,
        in_channels: int,
        out_channels: int,
        inner_ratio: float,
        taps: Sequence[int] = (),
    ) -> dict[str, int]:
        """The size of each symbol; SpaceError where the block cannot have such channels."""
        full = self.definition.symbols
        sizes = {symbol: scaled(full[symbol], inner_ratio) for symbol in self.inner_symbols}
        given = self._solve(self.input_axis, in_channels, "in_channels")
        made = self._solve(self._any_output(), out_channels, "width")
        for symbol in given.keys() & made.keys():
            if given[symbol] != made[symbol]:
                raise SpaceError(
                    f"adds its input, so {in_channels} channels cannot become {out_channels}",
                    where="width",
                    fix=f"write {in_channels}",
                )
        for axis, channels in zip(self.tap_axes, taps, strict=True):
            sizes |= self._solve(axis, channels, "taps")
        return {**sizes, **given, **made}

    @cached_property
    def full_width(self) -> int:
        """The output's channels in the network that was traced."""
        return axis_size(self._any_output(), self.definition.symbols)

    def width_at(self, ratio: float) -> int:
        """The output's channels at a share of the full ones, each of its parts rounded."""
        width = self._width(self._any_output(), ratio)
        for _ in range(_ROUNDS):  # rounding parts moves the share, until it does not
            width = self._width(self._any_output(), width / self.full_width)
        return width

    def solve_output(self, width: int) -> dict[str, int]:
        """The size of each symbol of an output of so many channels; SpaceError for none."""
        return self._solve(self._any_output(), width, "width")

    def _width(self, axis: Axis, ratio: float) -> int:
        full = self.definition.symbols
        sizes = {symbol: scaled(full[symbol], ratio) for symbol in _symbols(axis)}
        return axis_size(axis, sizes)

    def _solve(self, axis: Axis, channels: int, where: str) -> dict[str, int]:
        """The size of each symbol of an axis that has so many channels."""
        full = self.definition.symbols
        symbols = sorted(set(_symbols(axis)))
        fixed = sum(count for symbol, count in axis if symbol == CONSTANT)
        if len(symbols) == 1:
            times = sum(count for symbol, count in axis if symbol != CONSTANT)
            size, rest = divmod(channels - fixed, times)
            found = {symbols[0]: size} if size > 0 and rest == 0 else {}
        else:
            ratio = channels / axis_size(axis, full)
            found = {symbol: scaled(full[symbol], ratio) for symbol in symbols}
        if len(found) == len(symbols) and axis_size(axis, found) == channels:
            return found
        allowed = sorted({self._width(axis, share / 16) for share in range(4, 17)})
        raise SpaceError(
            f"{channels} channels cannot be {format_axis(axis)}",
            where=where,
            fix=f"write one of {', '.join(map(str, allowed))}",
        )

    def build_layout(
        self,
        in_channels: int,
        out_channels: int,
        resolution: int,
        inner_ratio: float,
        taps: Sequence[tuple[int, int]] = (),
    ) -> BuiltLayout:
        """The graph at given channel counts and pixels, those of further inputs in pairs."""
        sizes = self.sizes(in_channels, out_channels, inner_ratio, [one for one, _ in taps])
        return BuiltLayout(sizes, self.full_layouts(resolution, tuple(r for _, r in taps)))

    def __eq__(self, other: object) -> bool:
        return isinstance(other, BlockGraph) and self.label == other.label

    def __hash__(self) -> int:
        return hash(self.label)

    def __repr__(self) -> str:
        return f"BlockGraph({self.label}, {len(self.nodes)} nodes)"


def least_kernel(node: NodeConfig) -> int:
    """The smallest odd kernel that a convolution may be cut to: 3, its stride, its padding."""
    assert node.kernel is not None and node.stride is not None
    assert node.padding is not None and node.dilation is not None
    steps = min(node.padding[axis] // node.dilation[axis] for axis in (0, 1))
    least = max(3, node.stride[0] | 1, node.kernel[0] - 2 * steps)
    return min(least, node.kernel[0])


def cut_padding(node: NodeConfig, kernel: int) -> tuple[int, int]:
    """The padding with a smaller kernel, so that the output has the same size."""
    assert node.kernel is not None and node.padding is not None and node.dilation is not None
    steps = (node.kernel[0] - kernel) // 2
    rows, columns = (node.padding[axis] - steps * node.dilation[axis] for axis in (0, 1))
    return (rows, columns)


@lru_cache(maxsize=4096)
def _layouts(graph: BlockGraph, resolution: int, taps: tuple[int, ...]) -> dict[str, Layout]:
    definition = graph.definition
    rules = Stored(definition.symbols)
    pixels = constant(resolution)
    layouts = {INPUT: Layout((graph.input_axis, pixels, pixels))}
    for name, axis, size in zip(graph.tap_names, graph.tap_axes, taps, strict=True):
        layouts[name] = Layout((axis, constant(size), constant(size)))
    for node in definition.nodes:
        at = f"graphs.{graph.name}.{node.id}"
        layouts[node.id] = infer_node(node, [layouts[name] for name in node.of], rules, at=at)
        elements = 1
        for axis in layouts[node.id].axes:
            elements *= axis_size(axis, definition.symbols)
        if elements > _MOST_ELEMENTS:
            raise SpaceError(f"gives {elements} elements", where=at, fix="use a smaller resolution")
    return layouts


def _symbols(axis: Iterable[tuple[str, int]]) -> list[str]:
    return list(_named(axis))


def _named(axis: Iterable[tuple[str, int]]) -> Iterator[str]:
    return (symbol for symbol, _ in axis if symbol != CONSTANT)
