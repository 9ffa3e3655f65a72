"""SearchSpace: what may be chosen, and architectures as vectors of choice indices (genes)."""

import hashlib
import itertools
import json
import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property, lru_cache
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from nassearch import config
from nassearch.errors import ArchitectureError, ConfigError, SpaceError
from nassearch.space.architecture import (
    NEUTRAL,
    Architecture,
    Block,
    Stage,
    canonical_choices,
)
from nassearch.space.space_file import SpaceFile, StageFile

Genes = npt.NDArray[np.uint8]


@dataclass(frozen=True, slots=True)
class Gene:
    """One elastic dimension: its place in the space and its choices, at least two."""

    name: str
    choices: tuple[Any, ...]


@dataclass(frozen=True, slots=True)
class Dial:
    """A dimension with its gene, or with no gene where it is fixed."""

    gene: int | None
    choices: tuple[Any, ...]

    def value(self, genes: Sequence[int]) -> Any:
        return self.choices[0 if self.gene is None else genes[self.gene]]


@dataclass(frozen=True, slots=True)
class Alternative:
    """An op a block may choose, with the dials of that op's dimensions."""

    op: str
    dials: tuple[tuple[str, Dial], ...]

    def block(self, genes: Sequence[int]) -> Block:
        values = tuple((name, dial.value(genes)) for name, dial in self.dials)
        return _interned_block(self.op, values)


@lru_cache(maxsize=65536)
def _interned_block(op: str, values: tuple[tuple[str, Any], ...]) -> Block:
    """Equal blocks are one object: a space has few, its architectures are many."""
    return Block(op, canonical_choices(dict(values)))


@dataclass(frozen=True, slots=True)
class Position:
    """One place for a block within a stage: the op dial and the alternatives it chooses among."""

    op: Dial
    alternatives: tuple[Alternative, ...]

    def block(self, genes: Sequence[int]) -> Block:
        return self.alternatives[self.op.choices.index(self.op.value(genes))].block(genes)

    def genes(self) -> tuple[int, ...]:
        """Every gene that says something about the block here."""
        dials = [self.op, *(dial for item in self.alternatives for _, dial in item.dials)]
        return tuple(dial.gene for dial in dials if dial.gene is not None)


@dataclass(frozen=True, slots=True)
class StageLayout:
    """Where a stage's choices stand in the gene vector."""

    width: Dial
    depth: Dial
    positions: tuple[Position, ...]


@dataclass(frozen=True, slots=True)
class Layout:
    """Where every choice of a space stands in the gene vector."""

    genes: tuple[Gene, ...]
    resolution: Dial
    stages: tuple[StageLayout, ...]


class SearchSpace:
    """A set of architectures, loaded from a strict YAML file.

    Immutable and hashable; `fingerprint` is the hash of its canonical form and goes into every
    checkpoint, journal and export.
    """

    def __init__(self, definition: SpaceFile, *, source: object = "") -> None:
        self.definition = definition
        self.source = str(source) or definition.name

    @classmethod
    def load(cls, name: str | Path) -> "SearchSpace":
        """The space called `name`, or in the file `name`; SpaceError where it cannot work."""
        path = config.find_file("search_spaces", str(name), kind="search space")
        return cls.from_dict(config.read_yaml(path), where=path)

    @classmethod
    def from_dict(cls, value: Any, *, where: object = "search space") -> "SearchSpace":
        """The space of a mapping as the YAML holds it."""
        try:
            return cls(config.parse(SpaceFile, value, where=where), source=where)
        except ConfigError as error:
            raise SpaceError(error.what, where=error.where, fix=error.fix) from error

    def to_dict(self) -> dict[str, Any]:
        """The canonical form; `from_dict` inverts it."""
        return self.definition.model_dump(mode="json", exclude_none=True)

    def for_data(self, *, in_channels: int, num_classes: int) -> "SearchSpace":
        """This space with the stem and the classifier of other images."""
        update = {"in_channels": in_channels, "num_classes": num_classes}
        return SearchSpace(self.definition.model_copy(update=update), source=self.source)

    @property
    def name(self) -> str:
        return self.definition.name

    @property
    def in_channels(self) -> int:
        return self.definition.in_channels

    @property
    def num_classes(self) -> int:
        return self.definition.num_classes

    @property
    def resolutions(self) -> tuple[int, ...]:
        return self.definition.resolution

    @cached_property
    def fingerprint(self) -> str:
        """Sixteen hexadecimal digits; the name and the description do not count."""
        content = {k: v for k, v in self.to_dict().items() if k not in ("name", "description")}
        text = json.dumps(content, sort_keys=True, separators=(",", ":"))
        return hashlib.sha256(text.encode()).hexdigest()[:16]

    def __eq__(self, other: object) -> bool:
        return isinstance(other, SearchSpace) and self.fingerprint == other.fingerprint

    def __hash__(self) -> int:
        return hash(self.fingerprint)

    def __repr__(self) -> str:
        return f"SearchSpace({self.name!r}, {len(self.genes)} genes, {self.size():.3g} networks)"

    # -- genes ---------------------------------------------------------------------------------

    @cached_property
    def layout(self) -> Layout:
        genes: list[Gene] = []

        def dial(name: str, choices: tuple[Any, ...]) -> Dial:
            if len(choices) == 1:
                return Dial(None, choices)
            genes.append(Gene(name, choices))
            return Dial(len(genes) - 1, choices)

        resolution = dial("resolution", self.resolutions)
        stages = tuple(
            _stage_layout(f"stages[{index}]", stage, dial)
            for index, stage in enumerate(self.definition.stages)
        )
        return Layout(tuple(genes), resolution, stages)

    @property
    def genes(self) -> tuple[Gene, ...]:
        """The elastic dimensions, in the order of the gene vector."""
        return self.layout.genes

    def decode(self, genes: Sequence[int]) -> Architecture:
        """The architecture of a gene vector; genes of blocks beyond a stage's depth say nothing."""
        if len(genes) != len(self.genes):
            raise ArchitectureError(
                f"{len(genes)} genes where the space {self.name} has {len(self.genes)}"
            )
        for value, gene in zip(genes, self.genes, strict=True):
            if not 0 <= value < len(gene.choices):
                raise ArchitectureError(
                    f"gene {gene.name} is {value}", fix=f"0 to {len(gene.choices) - 1}"
                )
        stages = []
        for stage in self.layout.stages:
            positions = stage.positions[: stage.depth.value(genes)]
            blocks = tuple(position.block(genes) for position in positions)
            stages.append(Stage(stage.width.value(genes), blocks))
        return Architecture(self.layout.resolution.value(genes), tuple(stages))

    def encode(self, architecture: Architecture) -> tuple[int, ...]:
        """The gene vector of an architecture, 0 for blocks that do not exist.

        Raises ArchitectureError, naming the place, where the architecture is not in the space.
        """
        genes = [0] * len(self.genes)

        def turn(dial: Dial, value: Any, place: str) -> None:
            if value not in dial.choices:
                raise ArchitectureError(
                    f"{place} is {value}, outside the space {self.name}",
                    fix=f"allowed: {', '.join(map(str, dial.choices))}",
                )
            if dial.gene is not None:
                genes[dial.gene] = dial.choices.index(value)

        turn(self.layout.resolution, architecture.resolution, "resolution")
        if len(architecture.stages) != len(self.layout.stages):
            raise ArchitectureError(
                f"{len(architecture.stages)} stages where the space {self.name}"
                f" has {len(self.layout.stages)}"
            )
        for index, (stage, layout) in enumerate(
            zip(architecture.stages, self.layout.stages, strict=True)
        ):
            turn(layout.width, stage.width, f"stages[{index}].width")
            turn(layout.depth, len(stage.blocks), f"the depth of stages[{index}]")
            for number, (block, position) in enumerate(
                zip(stage.blocks, layout.positions, strict=False)
            ):
                place = f"stages[{index}].blocks[{number}]"
                turn(position.op, block.op, f"{place}.op")
                alternative = position.alternatives[position.op.choices.index(block.op)]
                values = dict(block.choices)
                for name, dial in alternative.dials:
                    turn(dial, values.pop(name, NEUTRAL), f"{place}.{name}")
                if values:
                    raise ArchitectureError(
                        f"{place}.{next(iter(values))} is not a dimension of the space {self.name}"
                    )
        return tuple(genes)

    def check(self, architecture: Architecture) -> Architecture:
        """`architecture` itself; ArchitectureError where it is not in this space."""
        self.encode(architecture)
        return architecture

    def canonical(self, genes: Genes) -> Genes:
        """Gene vectors, (n, genes), with every gene that says nothing set to 0."""
        genes = genes.copy()
        for stage in self.layout.stages:
            for number, position in enumerate(stage.positions):
                owned = list(position.genes())
                if not owned:
                    continue
                if stage.depth.gene is not None:
                    depths = np.asarray(stage.depth.choices)[genes[:, stage.depth.gene]]
                    rows = np.flatnonzero(depths <= number)
                    genes[rows[:, None], owned] = 0
                if position.op.gene is None:
                    continue
                for choice, alternative in enumerate(position.alternatives):
                    dials = [dial.gene for _, dial in alternative.dials if dial.gene is not None]
                    if dials:
                        rows = np.flatnonzero(genes[:, position.op.gene] != choice)
                        genes[rows[:, None], dials] = 0
        return genes

    # -- choosing ------------------------------------------------------------------------------

    def sample_genes(self, rng: np.random.Generator, count: int) -> Genes:
        """Canonical gene vectors, (count, genes), every choice uniform and independent."""
        counts = np.array([len(gene.choices) for gene in self.genes])
        return self.canonical(rng.integers(0, counts, (count, len(counts)), dtype=np.uint8))

    def sample(self, rng: np.random.Generator) -> Architecture:
        """A random architecture, every choice uniform and independent."""
        return self.decode([int(rng.integers(len(gene.choices))) for gene in self.genes])

    def mutate(
        self, architecture: Architecture, *, rng: np.random.Generator, rate: float = 0.1
    ) -> Architecture:
        """A copy in which each gene was redrawn with probability `rate`, and at least one was."""
        genes = list(self.encode(architecture))
        if not genes:
            return architecture
        redraw = rng.random(len(genes)) < rate
        redraw[rng.integers(len(genes))] = True
        for index in np.flatnonzero(redraw):
            genes[index] = int(rng.integers(len(self.genes[index].choices)))
        return self.decode(genes)

    def crossover(
        self, first: Architecture, second: Architecture, *, rng: np.random.Generator
    ) -> Architecture:
        """A child that takes each gene from one of the parents at random."""
        pairs = zip(self.encode(first), self.encode(second), strict=True)
        return self.decode([pair[int(rng.integers(2))] for pair in pairs])

    @cached_property
    def smallest(self) -> Architecture:
        """Every dimension at its first choice (numbers are sorted, ops and names as written)."""
        return self.decode([0] * len(self.genes))

    @cached_property
    def largest(self) -> Architecture:
        """Every dimension at its last choice."""
        return self.decode([len(gene.choices) - 1 for gene in self.genes])

    def size(self) -> int:
        """How many different architectures the space holds, exactly."""
        total = len(self.resolutions)
        for stage in self.layout.stages:
            blocks = [
                sum(
                    math.prod(len(dial.choices) for _, dial in alternative.dials)
                    for alternative in position.alternatives
                )
                for position in stage.positions
            ]
            depths = sum(math.prod(blocks[:depth]) for depth in stage.depth.choices)
            total *= len(stage.width.choices) * depths
        return total

    def enumerate(self) -> Iterator[Architecture]:
        """Every architecture once, in the order of the genes."""
        per_stage = [_stage_choices(stage) for stage in self.layout.stages]
        for resolution in self.resolutions:
            for stages in itertools.product(*per_stage):
                yield Architecture(resolution, stages)


def _stage_layout(place: str, stage: StageFile, dial: Any) -> StageLayout:
    width = dial(f"{place}.width", stage.width)
    depth = dial(f"{place}.depth", stage.depth)
    positions = []
    for number in range(max(stage.depth)):
        block = f"{place}.blocks[{number}]"
        named = stage.alternatives()
        op = dial(f"{block}.op", tuple(name for name, _ in named))
        alternatives = tuple(
            Alternative(
                name,
                tuple(
                    (key, dial(_gene_name(block, name, key, len(named)), choices))
                    for key, choices in dimensions.items()
                ),
            )
            for name, dimensions in named
        )
        positions.append(Position(op, alternatives))
    return StageLayout(width, depth, tuple(positions))


def _gene_name(block: str, op: str, dimension: str, num_alternatives: int) -> str:
    return f"{block}.{dimension}" if num_alternatives == 1 else f"{block}.{op}.{dimension}"


def _stage_choices(stage: StageLayout) -> list[Stage]:
    choices = []
    for width in stage.width.choices:
        for depth in stage.depth.choices:
            blocks = [_block_choices(position) for position in stage.positions[:depth]]
            choices += [Stage(width, combination) for combination in itertools.product(*blocks)]
    return choices


def _block_choices(position: Position) -> list[Block]:
    blocks = []
    for alternative in position.alternatives:
        names = [name for name, _ in alternative.dials]
        for values in itertools.product(*(dial.choices for _, dial in alternative.dials)):
            named = tuple(zip(names, values, strict=True))
            blocks.append(_interned_block(alternative.op, named))
    return blocks
