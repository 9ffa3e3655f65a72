"""SearchSpace: what may be chosen, and architectures as vectors of choice indices (genes)."""

import gc
import hashlib
import json
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import replace
from functools import cached_property
from pathlib import Path

import numpy as np

from nassearch import config
from nassearch.errors import ArchitectureError, ConfigError, SpaceError
from nassearch.space.architecture import NORM_EPS, Architecture, Stage
from nassearch.space.block_graph import BlockGraph
from nassearch.space.enumeration import architectures, num_architectures
from nassearch.space.gene_encoding import encode
from nassearch.space.layout import (
    Gene,
    Layout,
    block_graphs,
    layout_of,
)
from nassearch.space.layout import Genes as Genes
from nassearch.space.policy import PrecisionLayout, check_policy
from nassearch.space.space_config import SpaceConfig

# The most decoded stages a space remembers for each of its stages, some 50 MB in all.
KNOWN_STAGES = 20_000


class SearchSpace:
    """A set of architectures, loaded from a strict YAML file.

    Immutable and hashable; `fingerprint` is the hash of its canonical form and goes into every
    checkpoint, journal and export.

    Examples:
        >>> import nassearch as ns
        >>> space = ns.SearchSpace.load("digits_tiny")
        >>> space.decode(space.encode(space.smallest)) == space.smallest
        True
    """

    def __init__(
        self, definition: SpaceConfig, *, source: object = "", precisions: Sequence[str] = ()
    ) -> None:
        self.definition = definition
        self.source = str(source) or definition.name
        self.precisions = tuple(precisions)
        """What each block's precision may be, the lowest first; nothing in a plain space."""

    @classmethod
    def load(cls, name: str | Path) -> "SearchSpace":
        """Load a search space.

        Args:
            name: One that ships (`nassearch list spaces`), or the path of a YAML file.

        Returns:
            The space.

        Raises:
            ConfigError: There is no such space or file.
            SpaceError: It cannot work; the message names the key.
        """
        path = config.find_file("search_spaces", str(name), kind="search space")
        config.look_beside(path)
        content = config.read_yaml(path)
        if isinstance(content, dict) and isinstance(content.get("graphs"), str):
            beside = path.parent / content["graphs"]
            content = {**content, "graphs": config.read_yaml(beside)}
        return cls.from_dict(content, where=path)

    @classmethod
    def from_dict(cls, value: object, *, where: object = "search space") -> "SearchSpace":
        """The space of a mapping as the YAML holds it."""
        try:
            return cls(config.parse(SpaceConfig, value, where=where), source=where)
        except ConfigError as error:
            raise SpaceError(error.what, where=error.where, fix=error.fix) from error

    def to_dict(self) -> dict[str, object]:
        """The canonical form; `from_dict` inverts it."""
        return self.definition.model_dump(mode="json", exclude_none=True)

    def for_data(self, *, in_channels: int, num_classes: int) -> "SearchSpace":
        """This space with the stem and the classifier of other images."""
        update = {"in_channels": in_channels, "num_classes": num_classes}
        definition = self.definition.model_copy(update=update)
        return SearchSpace(definition, source=self.source, precisions=self.precisions)

    def mixed(self, precisions: Sequence[str]) -> "SearchSpace":
        """This space with a policy beside each architecture: a precision for each block.

        Its fingerprint is that of the plain space: supernets and tables serve both.

        Args:
            precisions: What there is to choose among, the lowest first.

        Example:
            >>> import nassearch
            >>> space = nassearch.load_space("digits_tiny").mixed(("int8", "fp32"))
            >>> sorted(set(space.smallest.precisions)), sorted(set(space.largest.precisions))
            (['int8'], ['fp32'])
        """
        if tuple(precisions) == self.precisions:
            return self
        return SearchSpace(self.definition, source=self.source, precisions=precisions)

    @cached_property
    def plain(self) -> "SearchSpace":
        """This space without policies."""
        return self.mixed(())

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
    def norm_eps(self) -> float:
        """Batch norm's epsilon."""
        said = self.definition.norm_eps
        return NORM_EPS if said is None else said

    @property
    def resolutions(self) -> tuple[int, ...]:
        return self.definition.resolution

    @cached_property
    def graphs(self) -> Mapping[str, BlockGraph]:
        """The graphs of traced blocks by name."""
        return block_graphs(self.definition)

    @cached_property
    def fingerprint(self) -> str:
        """Sixteen hexadecimal digits of what the space holds, however its file spells it."""
        said = ("name", "description", "origin", "op_numbers")  # of the networks, not which
        content = {key: value for key, value in self.to_dict().items() if key not in said}
        content["stages"] = [
            [stage.width, stage.depth, stage.stride, stage.alternatives()]
            + [said for said in (stage.shortcut, stage.graph) if said is not None]
            for stage in self.definition.stages
        ]
        text = json.dumps(content, sort_keys=True, separators=(",", ":"))
        return hashlib.sha256(text.encode()).hexdigest()[:16]

    def __eq__(self, other: object) -> bool:
        return isinstance(other, SearchSpace) and self._identity == other._identity

    def __hash__(self) -> int:
        return hash(self._identity)

    @property
    def _identity(self) -> tuple[str, tuple[str, ...]]:
        return self.fingerprint, self.precisions

    def __repr__(self) -> str:
        return f"SearchSpace({self.name!r}, {len(self.genes)} genes, {self.size():.3g} networks)"

    # -- genes ---------------------------------------------------------------------------------

    @cached_property
    def layout(self) -> Layout:
        return layout_of(self.definition)

    @cached_property
    def policies(self) -> PrecisionLayout | None:
        """Where the policy stands in the gene vector; None in a plain space."""
        if not self.precisions:
            return None
        has_stem, has_head = self.definition.stem is not None, self.definition.has_head
        return PrecisionLayout(self.layout, self.precisions, has_stem, has_head)

    @cached_property
    def genes(self) -> tuple[Gene, ...]:
        """The elastic dimensions, in the order of the gene vector; precisions come last."""
        return self.layout.genes + (() if self.policies is None else self.policies.genes)

    def decode(self, genes: Sequence[int]) -> Architecture:
        """The architecture of a gene vector; genes of blocks beyond a stage's depth say nothing."""
        if len(genes) != len(self.genes):
            raise ArchitectureError(
                f"{len(genes)} genes where the space {self.name} has {len(self.genes)}",
                where="genes",
                fix="give one index for each of `space.genes`",
            )
        layout = self.layout
        self._check_genes(genes, layout.ahead)
        stages = []
        for stage, known in zip(self.layout.stages, self._known_stages, strict=True):
            own = tuple(genes[stage.genes])
            found = known.get(own)
            if found is None:
                self._check_genes(genes, stage.genes)
                found = stage.decode(genes)
                if len(known) < KNOWN_STAGES:
                    known[own] = found
            stages.append(found)
        patches = layout.patches(layout.grid.value(genes), layout.patched_stages.value(genes))
        policy = None
        if self.policies is not None:
            self._check_genes(genes, self.policies.columns)
            policy = self.policies.decode(genes)
        return Architecture(layout.resolution.value(genes), tuple(stages), patches, policy)

    @cached_property
    def _known_stages(self) -> tuple[dict[tuple[int, ...], Stage], ...]:
        """For each stage, what its genes decode to: stages recur far more often than networks."""
        return tuple({} for _ in self.layout.stages)

    def _check_genes(self, genes: Sequence[int], which: slice) -> None:
        for value, gene in zip(genes[which], self.genes[which], strict=True):
            if not 0 <= value < len(gene.choices):
                raise ArchitectureError(
                    f"gene {gene.name} is {value}",
                    where=f"space {self.name}",
                    fix=f"0 to {len(gene.choices) - 1}",
                )

    def decode_many(self, genes: Genes) -> list[Architecture]:
        """The architectures of gene vectors, (n, genes), about ten times as fast as one by one."""
        counts = np.array([len(gene.choices) for gene in self.genes], dtype=np.int64)
        if genes.ndim != 2 or genes.shape[1] != len(counts):
            raise ArchitectureError(
                f"genes of shape {genes.shape} where the space {self.name} has (n, {len(counts)})",
                where="genes",
                fix="give one row for each architecture, one column for each of `space.genes`",
            )
        outside = np.argwhere(genes >= counts)
        if len(outside):
            self._check_genes(genes[outside[0, 0]].tolist(), slice(0, len(counts)))
        layout = self.layout
        resolutions = layout.resolution.values(genes)
        patches = map(
            layout.patches, layout.grid.values(genes), layout.patched_stages.values(genes)
        )
        with _nothing_collected():
            stages = [stage.decode_many(genes, counts.tolist()) for stage in layout.stages]
            chosen = zip(*stages, strict=True)
            if self.policies is None:
                return list(map(Architecture, resolutions, chosen, patches))
            policies = self.policies.decode_many(genes)
            return list(map(Architecture, resolutions, chosen, patches, policies))

    def encode(
        self, architecture: Architecture, *, where: object = "architecture"
    ) -> tuple[int, ...]:
        """The gene vector of an architecture, 0 for blocks that do not exist.

        Raises ArchitectureError, naming `where` and the place in it, where the architecture is not
        in the space.
        """
        if self.policies is not None:
            depths = [len(stage.blocks) for stage in architecture.stages]
            own = encode(self.layout, architecture, name=self.name, where=where)
            return (*own, *self.policies.encode(architecture.precisions, depths, where=where))
        if architecture.precisions is not None:
            raise ArchitectureError(
                f"has a policy, the space {self.name} none",
                where=where,
                fix="take `architecture.plain`, or a space that is `mixed`",
            )
        return encode(self.layout, architecture, name=self.name, where=where)

    def check(self, architecture: Architecture, *, where: object = "architecture") -> Architecture:
        """`architecture` itself; ArchitectureError where it is not in this space.

        Of a policy alone its length is checked: it is deployed, and no part of the space.
        """
        encode(self.layout, architecture, name=self.name, where=where)
        if architecture.precisions is not None:
            check_policy(architecture.precisions, self.num_blocks(architecture.stages), where=where)
        return architecture

    def uniform(self, architecture: Architecture, precision: str) -> Architecture:
        """The architecture with one precision for all its blocks."""
        policy = (precision,) * self.num_blocks(architecture.stages)
        return replace(architecture, precisions=policy)

    def num_blocks(self, stages: Sequence[Stage] = ()) -> int:
        """How many blocks an architecture of these stages lowers to; without any, its ends."""
        ends = (self.definition.stem is not None) + self.definition.has_head
        return ends + sum(len(stage.blocks) for stage in stages)

    def canonical(self, genes: Genes) -> Genes:
        """Gene vectors, (n, genes), with every gene that says nothing set to 0."""
        genes = genes.copy()
        grid, patched = self.layout.grid, self.layout.patched_stages
        if grid.gene is not None and patched.gene is not None and grid.choices[0] == 1:
            genes[genes[:, grid.gene] == 0, patched.gene] = 0
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
                    dimensions = [
                        dimension.gene
                        for _, dimension in alternative.dimensions
                        if dimension.gene is not None
                    ]
                    if dimensions:
                        rows = np.flatnonzero(genes[:, position.op.gene] != choice)
                        genes[rows[:, None], dimensions] = 0
        if self.policies is not None:
            self.policies.canonical(genes)
        return genes

    # -- choosing ------------------------------------------------------------------------------

    def sample_genes(self, rng: np.random.Generator, count: int) -> Genes:
        """Canonical gene vectors, (count, genes), every choice uniform and independent."""
        counts = np.array([len(gene.choices) for gene in self.genes])
        return self.canonical(rng.integers(0, counts, (count, len(counts)), dtype=np.uint8))

    def sample(self, rng: np.random.Generator) -> Architecture:
        """Draw an architecture, every choice uniform and independent.

        Example:
            >>> import nassearch
            >>> import numpy as np
            >>> space = nassearch.SearchSpace.load("digits_tiny")
            >>> space.check(space.sample(np.random.default_rng(0))).resolution
            8
        """
        return self.decode([int(rng.integers(len(gene.choices))) for gene in self.genes])

    def sample_many(self, rng: np.random.Generator, count: int) -> list[Architecture]:
        """`count` random architectures, every choice uniform and independent."""
        return self.decode_many(self.sample_genes(rng, count))

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
    def by_size(self) -> tuple[tuple[int, ...], ...]:
        """For each gene its choices, by index, from the smallest network's to the largest's.

        Numbers are sorted; ops and names stand as written, but for ops that a space gives no
        dimension (`skip`), which are the least there can be wherever they are written.
        """
        orders = [tuple(range(len(gene.choices))) for gene in self.genes]
        for stage in self.layout.stages:
            for position in stage.positions:
                if position.op.gene is not None:
                    has_dimensions = [bool(item.dimensions) for item in position.alternatives]
                    order = sorted(orders[position.op.gene], key=has_dimensions.__getitem__)
                    orders[position.op.gene] = tuple(order)
        return tuple(orders)

    @cached_property
    def smallest(self) -> Architecture:
        """Every dimension at its smallest choice, as `by_size` has them."""
        return self.decode([order[0] for order in self.by_size])

    @cached_property
    def largest(self) -> Architecture:
        """Every dimension at its largest choice, as `by_size` has them."""
        return self.decode([order[-1] for order in self.by_size])

    def size(self) -> int:
        """How many different architectures the space holds, exactly; policies count."""
        return num_architectures(self.layout, self.precisions, num_ends=self.num_blocks())

    def enumerate(self) -> Iterator[Architecture]:
        """Every architecture once, in the order of the genes; each with its every policy."""
        return architectures(self.layout, self.precisions, num_ends=self.num_blocks())


@contextmanager
def _nothing_collected() -> Iterator[None]:
    """No garbage collection within: walking live objects over and over takes half of the time."""
    enabled = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        if enabled:
            gc.enable()
