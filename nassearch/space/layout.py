"""Where every choice of a space stands in its gene vector."""

import itertools
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import Any

import numpy as np
import numpy.typing as npt

from nassearch.space.architecture import Block, PatchSchedule, Stage, canonical_choices
from nassearch.space.block_graph import BlockGraph
from nassearch.space.space_config import SpaceConfig, StageConfig

Genes = npt.NDArray[np.uint8]


@dataclass(frozen=True, slots=True)
class Gene:
    """One elastic dimension: its place in the space and its choices, at least two."""

    name: str
    choices: tuple[Any, ...]


@dataclass(frozen=True, slots=True)
class Dimension:
    """A dimension with its gene, or with no gene where it is fixed."""

    gene: int | None
    choices: tuple[Any, ...]

    def value(self, genes: Sequence[int]) -> Any:
        return self.choices[0 if self.gene is None else genes[self.gene]]

    def values(self, genes: Genes) -> list[Any]:
        """The value for each of the gene vectors, (n, genes)."""
        if self.gene is None:
            return [self.choices[0]] * len(genes)
        return list(map(self.choices.__getitem__, genes[:, self.gene].tolist()))


@dataclass(frozen=True, slots=True)
class Alternative:
    """An op a block may choose, with the dials of that op's dimensions."""

    op: str
    dimensions: tuple[tuple[str, Dimension], ...]

    def block(self, genes: Sequence[int]) -> Block:
        values = tuple((name, dimension.value(genes)) for name, dimension in self.dimensions)
        return interned_block(self.op, values)


@lru_cache(maxsize=65536)
def interned_block(op: str, values: tuple[tuple[str, Any], ...]) -> Block:
    """Equal blocks are one object: a space has few, its architectures are many."""
    return Block(op, canonical_choices(dict(values)))


@dataclass(frozen=True, slots=True)
class Position:
    """One place for a block within a stage: the op dial and the alternatives it chooses among."""

    op: Dimension
    alternatives: tuple[Alternative, ...]

    def block(self, genes: Sequence[int]) -> Block:
        return self.alternatives[self.op.choices.index(self.op.value(genes))].block(genes)

    def blocks(self, genes: Genes, counts: Sequence[int]) -> list[Block]:
        """The block for each of the gene vectors, (n, genes); each different one decoded once."""
        first, inverse = _different(genes, self.genes(), counts)
        found = [self.block(row) for row in genes[first].tolist()]
        return list(map(found.__getitem__, inverse.tolist()))

    def genes(self) -> tuple[int, ...]:
        """Every gene that says something about the block here."""
        dimensions = [
            self.op,
            *(dimension for item in self.alternatives for _, dimension in item.dimensions),
        ]
        return tuple(dimension.gene for dimension in dimensions if dimension.gene is not None)

    def kernel_genes(self) -> tuple[int, ...]:
        """The genes that say how large the kernel of the block here is."""
        sizes = [
            dimension
            for item in self.alternatives
            for name, dimension in item.dimensions
            if name == "kernel_size"
        ]
        return tuple(
            dimension.gene for dimension in (self.op, *sizes) if dimension.gene is not None
        )


@dataclass(frozen=True, slots=True)
class StageLayout:
    """Where a stage's choices stand in the gene vector."""

    width: Dimension
    depth: Dimension
    positions: tuple[Position, ...]
    genes: slice

    def tile_genes(self) -> tuple[int, ...]:
        """The genes by which tiles before this stage depend on it: its depth and its kernels."""
        depth = () if self.depth.gene is None else (self.depth.gene,)
        return depth + tuple(gene for at in self.positions for gene in at.kernel_genes())

    def decode(self, genes: Sequence[int]) -> Stage:
        positions = self.positions[: self.depth.value(genes)]
        return Stage(self.width.value(genes), tuple(at.block(genes) for at in positions))

    def decode_many(self, genes: Genes, counts: Sequence[int]) -> list[Stage]:
        """The stage for each of the gene vectors, (n, genes); equal ones are one object."""
        first, inverse = _different(genes, range(self.genes.start, self.genes.stop), counts)
        genes = genes[first]
        blocks = zip(*(at.blocks(genes, counts) for at in self.positions), strict=True)
        dimensions = zip(self.width.values(genes), self.depth.values(genes), strict=True)
        found = [
            Stage(width, deepest[:depth])
            for (width, depth), deepest in zip(dimensions, blocks, strict=True)
        ]
        return list(map(found.__getitem__, inverse.tolist()))


def _different(
    genes: Genes, which: Sequence[int], counts: Sequence[int]
) -> tuple[npt.NDArray[np.int64], npt.NDArray[np.int64]]:
    """Rows that differ in the genes `which`: the first of each kind, and each row's kind."""
    code, limit = np.zeros(len(genes), dtype=np.int64), 1
    for gene in which:
        if limit * counts[gene] > 2**62:
            code = np.unique(code, return_inverse=True)[1]
            limit = len(genes)
        code, limit = code * counts[gene] + genes[:, gene], limit * counts[gene]
    _, first, inverse = np.unique(code, return_index=True, return_inverse=True)
    return first, inverse


@dataclass(frozen=True, slots=True)
class Layout:
    """Where every choice of a space stands in the gene vector."""

    genes: tuple[Gene, ...]
    resolution: Dimension
    grid: Dimension
    patched_stages: Dimension
    stages: tuple[StageLayout, ...]

    def patches(self, grid: int, stages: int) -> PatchSchedule | None:
        """The schedule; None where it is layer by layer."""
        return None if grid == 1 else PatchSchedule(grid, stages)

    @property
    def ahead(self) -> slice:
        """Where the genes stand that belong to no stage."""
        return slice(0, self.stages[0].genes.start)

    @property
    def schedules(self) -> tuple[PatchSchedule | None, ...]:
        """Every schedule once."""
        pairs = itertools.product(self.grid.choices, self.patched_stages.choices)
        return tuple(dict.fromkeys(self.patches(*pair) for pair in pairs))


def layout_of(definition: SpaceConfig) -> Layout:
    """The layout of a space: resolution, schedule, then stages: width, depth, blocks in order."""
    genes: list[Gene] = []

    def dimension(name: str, choices: tuple[Any, ...]) -> Dimension:
        if len(choices) == 1:
            return Dimension(None, choices)
        genes.append(Gene(name, choices))
        return Dimension(len(genes) - 1, choices)

    resolution = dimension("resolution", definition.resolution)
    said = definition.patches
    grid = dimension("patches.grid", (1,) if said is None else said.grid)
    stages_said = (0,) if said is None or said.grid == (1,) else said.stages
    patched_stages = dimension("patches.stages", stages_said)
    stages = []
    graphs = block_graphs(definition)
    for index, stage in enumerate(definition.stages):
        start = len(genes)
        width, depth, positions = _stage_dials(f"stages[{index}]", stage, dimension, graphs)
        stages.append(StageLayout(width, depth, positions, slice(start, len(genes))))
    return Layout(tuple(genes), resolution, grid, patched_stages, tuple(stages))


def _stage_dials(
    place: str,
    stage: StageConfig,
    dimension: Callable[[str, tuple[Any, ...]], Dimension],
    graphs: Mapping[str, BlockGraph],
) -> tuple[Dimension, Dimension, tuple[Position, ...]]:
    width = dimension(f"{place}.width", stage.width)
    depth = dimension(f"{place}.depth", stage.depth)
    positions = []
    for number in range(max(stage.depth)):
        block = f"{place}.blocks[{number}]"
        named = _alternatives(stage, number, graphs)
        op = dimension(f"{block}.op", tuple(name for name, _ in named))
        alternatives = tuple(
            Alternative(
                name,
                tuple(
                    (key, dimension(_gene_name(block, name, key, len(named)), choices))
                    for key, choices in dimensions.items()
                ),
            )
            for name, dimensions in named
        )
        positions.append(Position(op, alternatives))
    return width, depth, tuple(positions)


def _alternatives(
    stage: StageConfig, number: int, graphs: Mapping[str, BlockGraph]
) -> list[tuple[str, dict[str, tuple[Any, ...]]]]:
    """What a block may choose; a traced one only among what makes a difference to its graph."""
    named = stage.alternatives()
    if stage.graph is None:
        return named
    graph = graphs[stage_graph(stage, number)]
    return [
        (
            op,
            {
                name: distinct
                for name, choices in dimensions.items()
                if (distinct := graph.distinct_choices(name, choices))
            },
        )
        for op, dimensions in named
    ]


def stage_graph(stage: StageConfig, number: int) -> str:
    """The name of the graph of a stage's block."""
    assert stage.graph is not None
    return stage.graph[number if len(stage.graph) > 1 else 0]


def block_graphs(definition: SpaceConfig) -> dict[str, BlockGraph]:
    """The graphs of a space's traced blocks by name."""
    graphs = definition.graphs or {}
    return {name: BlockGraph(name, graph) for name, graph in graphs.items()}


def _gene_name(block: str, op: str, dimension: str, num_alternatives: int) -> str:
    return f"{block}.{dimension}" if num_alternatives == 1 else f"{block}.{op}.{dimension}"
