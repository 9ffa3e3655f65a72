"""A partitioned network as a search space: graphs, and what is elastic in each stage."""

import math
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from nassearch.adoption.dependency import LAYERS, Dependencies, node_config
from nassearch.adoption.exported_program import Operator
from nassearch.adoption.partition import Part, Parts
from nassearch.adoption.trace import Trace
from nassearch.config import StrictModel
from nassearch.errors import SpaceError
from nassearch.space import SearchSpace
from nassearch.space.block_graph import TRACED, BlockGraph, least_kernel
from nassearch.space.graph_config import (
    CONSTANT,
    INPUT,
    Axis,
    GraphConfig,
    NodeConfig,
    TapConfig,
    format_axis,
    parse_axis,
)

ENOUGH_NETWORKS = 10**6
MOST_HEADS = 256
_HALVES = (0.5, 1.0)
_COARSE = (0.5, 0.75, 1.0)
_FINE = (0.5, 0.625, 0.75, 0.875, 1.0)
_FINER = tuple(step / 16 for step in range(4, 17))
# shares of widths and of inner widths, depths of a stage at most and least, until they are enough
LEVELS: Sequence[tuple[tuple[float, ...], tuple[float, ...], int, float]] = (
    (_COARSE, _COARSE, 4, 0.5),
    (_FINE, _COARSE, 4, 0.5),
    (_FINE, _FINE, 4, 0.5),
    (_FINER, _COARSE, 4, 0.5),
    (_FINER, _FINE, 32, 0.25),
)
_MOST_KERNELS = 3


class Elasticity(StrictModel):
    """What may be elastic; what is not said is chosen so that the space has a million networks."""

    width: tuple[float, ...] | None = None
    """Shares of each width between blocks."""
    inner: tuple[float, ...] | None = None
    """Shares of the channels within blocks."""
    depth: tuple[int, ...] | None = None
    """Blocks of each stage of several, no more than there are."""
    kernel: tuple[int, ...] | None = None
    """The largest kernels that larger ones may be cut to."""
    resolution: tuple[int, ...] | None = None
    """Image sizes, beside that of the example."""
    fixed: tuple[str, ...] = ()
    """Paths of modules that keep their channels, kernels and depth."""
    outputs: tuple[str, ...] | None = None
    """What the network's outputs are called, in order."""
    keep_outputs: bool = False
    """Whether outputs keep their channels, so that what follows fits every network."""


@dataclass
class Cell:
    """A part as a graph, with the names of the module's tensors behind the graph's."""

    graph: BlockGraph
    tensors: dict[str, str]
    part: Part
    names: dict[str, str] = field(default_factory=dict)
    """Values of the trace -> what the graph calls them."""


@dataclass
class ElasticSpace:
    """A space, and the parts behind its places."""

    space: SearchSpace
    stages: list[list[Cell]]
    head: Cell | None
    taps: tuple[str, ...] = ()
    """The values that the head reads beside what the last part gives."""


def elastic_space(
    trace: Trace, found: Dependencies, parts: Parts, *, name: str, elasticity: Elasticity
) -> ElasticSpace:
    """The space of a partitioned network."""
    writer = _GraphWriter(found, trace.module)
    stages = [[writer.cell(part) for part in stage] for stage in parts.stages]
    head = None if parts.head is None else writer.head(parts, trace)
    content: dict[str, Any] = {
        "name": re.sub(r"[^a-z0-9_]+", "_", name.lower()).strip("_") or "adopted",
        "description": f"adopted from {type(trace.module).__name__}",
        "resolution": sorted({trace.input_sizes[1], *(elasticity.resolution or ())}),
        "in_channels": trace.input_sizes[0],
        **_ends(trace, found, parts, head),
        "graphs": {
            graph.name: graph.definition.model_dump(mode="json", exclude_none=True)
            for graph in writer.graphs()
        },
    }
    space = None
    levels = LEVELS
    if _num_heads(parts, len(_COARSE)) > MOST_HEADS:
        levels = [(_HALVES, _COARSE, 4, 0.5)]
    for width, inner, most, least in levels:
        said = elasticity.model_copy(
            update={"width": elasticity.width or width, "inner": elasticity.inner or inner}
        )
        rows = [_stage(cells, found, said, most=most, least=least) for cells in stages]
        finer = SearchSpace.from_dict({**content, "stages": rows}, where=name)
        if space is not None and finer.definition.num_heads > MOST_HEADS and parts.taps:
            break  # each is a block of its own, to be measured and looked up
        space = finer
        if space.size() >= ENOUGH_NETWORKS:
            break
    assert space is not None
    return ElasticSpace(space, stages, head, parts.taps)


def _num_heads(parts: Parts, num_widths: int) -> int:
    """Heads that differ in the channels they read, at most, with so many widths in each stage."""
    return int(num_widths ** (len(parts.taps) + 1)) if parts.taps else 1


def _ends(trace: Trace, found: Dependencies, parts: Parts, head: Cell | None) -> dict[str, Any]:
    """What a space says of its head and its outputs."""
    if trace.outputs is None:
        assert head is not None
        (logits,) = found.axes(head.part.gives)
        return {"num_classes": found.table.size(logits), "head": {"graph": head.graph.name}}
    ends = {stage[-1].gives: number for number, stage in enumerate(parts.stages)}
    places = {
        name: ends[value] if value in ends else _named_value(head, value)
        for name, value in trace.outputs.items()
    }
    if head is None:
        return {"outputs": places}
    taps = dict(zip(head.graph.tap_names, map(parts.stage, parts.taps), strict=True))
    reads = {"taps": taps} if taps else {}
    return {"outputs": places, "head": {"graph": head.graph.name, **reads}}


def _named_value(head: Cell | None, value: str) -> str:
    assert head is not None
    return head.names[value]


def _stage(
    cells: Sequence[Cell], found: Dependencies, said: Elasticity, *, most: int, least: float
) -> dict[str, Any]:
    graphs = [cell.graph for cell in cells]
    assert said.width is not None and said.inner is not None
    before = found.table.size(found.axes(cells[0].part.reads)[1])
    after = found.table.size(found.axes(cells[0].part.gives)[1])
    row: dict[str, Any] = {
        "op": TRACED,
        "graph": [graph.name for graph in graphs],
        "width": widths(graphs[0], said.width),
        "stride": max(1, round(before / after)),
    }
    is_fixed = any(_below(cell.part.path, path) for cell in cells[1:] for path in said.fixed)
    if is_fixed:
        row["depth"] = [len(cells)]
    elif said.depth is not None:
        row["depth"] = sorted({len(cells), *(depth for depth in said.depth if depth < len(cells))})
    else:
        row["depth"] = depths(len(cells), most=most, least=least)
    if any(graph.inner_symbols for graph in graphs):
        row["inner_ratio"] = sorted({*said.inner, 1.0})
    kernels = kernel_choices(cells, said)
    if len(kernels) > 1:
        row["kernel_size"] = kernels
    return row


def _below(path: str, prefix: str) -> bool:
    return path == prefix or path.startswith(f"{prefix}.")


def widths(graph: BlockGraph, shares: Sequence[float]) -> list[int]:
    """The channels at each share of the full width that the block can have."""
    found = {graph.full_width}
    for share in shares:
        width = graph.width_at(share)
        try:
            graph.solve_output(width)
        except SpaceError:
            continue  # no rounding of its concatenated parts adds up to it
        found.add(width)
    return sorted(found)


def depths(number: int, *, most: int, least: float) -> list[int]:
    """At most so many numbers of blocks, from a share of them to all."""
    every = range(max(1, math.ceil(number * least)), number + 1)
    step = -(-len(every) // most)
    return sorted(every[::-1][::step])


def kernel_choices(cells: Sequence[Cell], said: Elasticity) -> list[int]:
    """Kernels that the convolutions of a stage may be cut to, the largest last."""
    sizes = {
        size
        for cell in cells
        for node in cell.graph.nodes
        if not any(_below(cell.part.path, path) for path in said.fixed)
        for size in _kernels(node)
    }
    if not sizes:
        return []
    wanted = sorted(sizes)[-_MOST_KERNELS:]
    if said.kernel is not None:
        wanted = [size for size in sorted(sizes) if size in said.kernel]
    return sorted({*wanted, max(sizes)})


def _kernels(node: NodeConfig) -> Iterator[int]:
    """The odd kernels from the smallest to which a convolution may be cut to its own."""
    if node.op == "conv" and node.kernel is not None:
        size = node.kernel[0]
        if size == node.kernel[1] and size % 2 and size > 3:
            yield from range(least_kernel(node), size + 1, 2)


class _GraphWriter:
    """Parts as graphs; equal parts are one graph."""

    def __init__(self, found: Dependencies, module: Any) -> None:
        self._found = found
        self._module = module
        self._by_label: dict[str, BlockGraph] = {}
        self._counts: dict[str, int] = {}

    def graphs(self) -> Sequence[BlockGraph]:
        return list(self._by_label.values())

    def head(self, parts: Parts, trace: Trace) -> Cell:
        """The head as a graph; of a network with named outputs one that gives them."""
        assert parts.head is not None
        if trace.outputs is None:
            return self.cell(parts.head)
        own = {operator.id for operator in parts.head.operators}
        given = [value for value in trace.outputs.values() if value in own]
        return self.cell(parts.head, taps=parts.taps, outputs=given)

    def cell(self, part: Part, *, taps: Sequence[str] = (), outputs: Sequence[str] = ()) -> Cell:
        names = self._names(part, taps)
        symbols = self._symbols(part, taps)
        nodes, tensors = [], {}
        for operator in part.operators:
            attributes = {
                key: self._renamed(value, symbols)
                for key, value in self._found.attributes(operator).items()
            }
            if operator.op == "mean" and not operator.attributes.get("keep"):
                attributes.pop("keep", None)
            inputs = [names[read] for read in operator.of]
            node = node_config(operator, attributes, name=names[operator.id], reads=inputs)
            nodes.append(node)
            for leaf, tensor in operator.tensors.items():
                tensors[f"{node.id}.{leaf}"] = tensor
        kind = self._kind(part)
        reads = self._found.axes(part.reads)[0]
        definition = GraphConfig(
            input=_format(reads, symbols),
            pixels=self._pixels(part.reads) if outputs else None,
            taps={
                names[tap]: TapConfig(
                    channels=_format(self._found.axes(tap)[0], symbols), pixels=self._pixels(tap)
                )
                for tap in taps
            }
            or None,
            outputs=tuple(names[value] for value in outputs) or None,
            symbols={symbols[name]: self._found.table.full[name] for name in symbols},
            nodes=tuple(nodes),
        )
        label = BlockGraph(kind, definition).label
        if label not in self._by_label:
            number = self._counts[kind] = self._counts.get(kind, 0) + 1
            self._by_label[label] = BlockGraph(f"{kind}__{number}", definition)
        return Cell(self._by_label[label], tensors, part, names)

    def _pixels(self, value: str) -> int:
        return self._found.table.size(self._found.axes(value)[1])

    def _kind(self, part: Part) -> str:
        """What a graph is called: the class of its module, or its first layer."""
        if part.is_block:
            kind = type(self._module.get_submodule(part.path)).__name__
        else:
            layers = [one.op for one in part.operators if one.op in LAYERS]
            kind = layers[0] if layers else "part"
        return re.sub(r"[^a-z0-9]+", "_", kind.lower()).strip("_") or "part"

    def _names(self, part: Part, taps: Sequence[str]) -> dict[str, str]:
        """Values -> their names in the graph: paths below the part's module."""
        names = {part.reads: INPUT, **{tap: f"tap{n}" for n, tap in enumerate(taps)}}
        taken = set(names.values())
        for operator in part.operators:
            name = operator.id
            if part.path and name.startswith(f"{part.path}."):
                name = name.removeprefix(f"{part.path}.")
            name = "".join(letter if letter.isalnum() else "_" for letter in name)[-90:]
            name = name if name[:1].isalpha() or name[:1] == "_" else f"_{name}"
            found, number = name, 1
            while found in taken:
                number += 1
                found = f"{name}_{number}"
            taken.add(found)
            names[operator.id] = found
        return names

    def _symbols(self, part: Part, taps: Sequence[str]) -> dict[str, str]:
        """The network's symbols -> the graph's: in, out, and g0, g1, ... within."""
        given = _named(self._found.axes(part.reads)[0])
        made = _named(self._found.axes(part.gives)[0])
        symbols: dict[str, str] = {}
        for name in made:
            symbols[name] = "out" if len(made) == 1 else f"out{len(symbols)}"
        inputs = [name for name in given if name not in symbols]
        for number, name in enumerate(inputs):
            symbols[name] = "in" if len(inputs) == 1 else f"in{number}"
        for number, tap in enumerate(taps):
            for place, name in enumerate(_named(self._found.axes(tap)[0])):
                symbols[name] = f"t{number}" if place == 0 else f"t{number}_{place}"
        for axis in self._axes(part):
            for name in _named(axis):
                if name not in symbols:
                    symbols[name] = f"g{len(symbols)}"
        return symbols

    def _axes(self, part: Part) -> Iterator[Axis]:
        for operator in part.operators:
            yield from self._found.axes(operator.id)

    def _renamed(self, value: Any, symbols: Mapping[str, str]) -> Any:
        """An attribute with the network's symbols as the graph calls them."""
        if isinstance(value, str):
            return value if value == "0" else _format(parse_axis(value), symbols)
        if isinstance(value, tuple):
            return tuple(self._renamed(item, symbols) for item in value)
        return value


def _format(axis: Axis, symbols: Mapping[str, str]) -> str:
    return format_axis(tuple((symbols.get(symbol, symbol), count) for symbol, count in axis))


def _named(axis: Axis) -> list[str]:
    return list(dict.fromkeys(symbol for symbol, _ in axis if symbol != CONSTANT))


def layers_of(operators: Sequence[Operator]) -> Iterator[Operator]:
    """The operators with channels of their own."""
    return (operator for operator in operators if operator.op in LAYERS)
