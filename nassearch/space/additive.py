"""Costs that add up over blocks, for one architecture or for millions, and their exact minimum."""

import itertools
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from nassearch.space.architecture import Architecture, BlockSpec
from nassearch.space.lowering import Slot, head_stages, lower, slots
from nassearch.space.search_space import Genes, SearchSpace

Floats = npt.NDArray[np.float64]


@dataclass(frozen=True, slots=True)
class _Lookup:
    """One slot's costs, flat, with the genes that index them and their strides."""

    slot: Slot
    strides: tuple[int, ...]
    values: Floats


class SlotSum:
    """The sum of `cost_of(spec)` over the blocks that stand in some slots of a space.

    Looked up slot by slot over genes, so a million architectures take about as many nanoseconds
    each as there are slots.
    """

    def __init__(self, places: Sequence[Slot], cost_of: Callable[[BlockSpec], float]) -> None:
        self.lookups = [_lookup(slot, cost_of) for slot in places]

    def of_genes(self, genes: Genes) -> Floats:
        """Sums, (n,), of gene vectors, (n, genes)."""
        total = np.zeros(len(genes))
        for found in self._each(genes):
            total += found
        return total

    def largest_of_genes(self, genes: Genes) -> Floats:
        """The largest cost of a block instead of their sum, (n,); at least 0."""
        largest = np.zeros(len(genes))
        for found in self._each(genes):
            np.maximum(largest, found, out=largest)
        return largest

    def _each(self, genes: Genes) -> Iterator[Floats | float]:
        """What each slot's block costs."""
        columns = np.ascontiguousarray(genes.T)
        for lookup in self.lookups:
            if not lookup.slot.genes:
                yield lookup.values[0]
                continue
            index = np.zeros(len(genes), dtype=np.int32)
            for gene, stride in zip(lookup.slot.genes, lookup.strides, strict=True):
                index += columns[gene] * np.int32(stride)
            yield lookup.values[index]


class AdditiveCost:
    """constant + the sum of `cost_of(spec)` over an architecture's blocks; `minimum` is exact."""

    def __init__(
        self,
        space: SearchSpace,
        cost_of: Callable[[BlockSpec], float],
        *,
        constant: float = 0.0,
    ) -> None:
        self.space = space
        self.constant = constant
        self._cost_of = cost_of
        self._sum = SlotSum(slots(space), cost_of)
        widths = [space.layout.stages[index].width.gene for index in head_stages(space)[:-1]]
        self._head_genes = [gene for gene in widths if gene is not None]

    def __call__(self, architecture: Architecture) -> float:
        """The cost of one architecture."""
        specs = lower(self.space, architecture)
        return self.constant + sum(self._cost_of(spec) for spec in specs)

    def of_genes(self, genes: Genes) -> Floats:
        """Costs, (n,), of gene vectors, (n, genes)."""
        return self.constant + self._sum.of_genes(genes)

    def minimum(self) -> tuple[Architecture, float]:
        """The cheapest architecture of the space and its cost, exactly.

        Blocks are independent once the resolution, the widths and the depths are given, so each
        block takes its best own choice, and stages are chained by dynamic programming over widths.
        Kernels of blocks run patch by patch are given too: the tiles before depend on them. So are
        the widths that a head reads beside the last stage's.
        """
        best: tuple[float, tuple[int, ...]] | None = None
        for fixed in self._starts():
            cost, chosen = self._cheapest(fixed)
            if best is None or cost < best[0]:
                genes = [0] * len(self.space.genes)
                for gene, value in chosen.items():
                    genes[gene] = value
                best = (cost, tuple(genes))
        assert best is not None
        return self.space.decode(best[1]), best[0]

    def _starts(self) -> Iterator[dict[int, int]]:
        """Every value of the genes that make the rest independent."""
        layout = self.space.layout
        dimensions = (layout.resolution, layout.grid, layout.patched_stages)
        for chosen in itertools.product(
            *(range(len(dimension.choices)) for dimension in dimensions)
        ):
            patches = layout.patches(
                layout.grid.choices[chosen[1]], layout.patched_stages.choices[chosen[2]]
            )
            if patches is None and chosen[2]:
                continue  # the same network as with the first number of stages
            given = {
                dimension.gene: choice
                for dimension, choice in zip(dimensions, chosen, strict=True)
                if dimension.gene is not None
            }
            stages = layout.stages[: patches.stages if patches else 0]
            shared = [gene for stage in stages for gene in stage.tile_genes()]
            shared += self._head_genes
            lengths = (range(len(self.space.genes[gene].choices)) for gene in shared)
            for values in itertools.product(*lengths):
                yield {**given, **dict(zip(shared, values, strict=True))}

    def _cheapest(self, fixed: Mapping[int, int]) -> tuple[float, dict[int, int]]:
        lookups = iter(self._sum.lookups)
        start = self.constant
        if self.space.definition.stem is not None:
            start += _best(next(lookups), fixed)[0]
        # width choice of the stage before -> cost so far and the genes that reach it
        paths: dict[int, tuple[float, dict[int, int]]] = {0: (start, dict(fixed))}
        previous: int | None = None
        for stage in self.space.layout.stages:
            positions = [next(lookups) for _ in stage.positions]
            reached: dict[int, tuple[float, dict[int, int]]] = {}
            options = itertools.product(
                paths.items(), range(len(stage.width.choices)), range(len(stage.depth.choices))
            )
            for (before, (cost, chosen)), width, depth in options:
                if stage.depth.gene is not None and fixed.get(stage.depth.gene, depth) != depth:
                    continue
                if stage.width.gene is not None and fixed.get(stage.width.gene, width) != width:
                    continue
                genes = dict(chosen)
                for gene, value in (
                    (previous, before),
                    (stage.width.gene, width),
                    (stage.depth.gene, depth),
                ):
                    if gene is not None:
                        genes[gene] = value
                for lookup in positions[: stage.depth.choices[depth]]:
                    added, own = _best(lookup, genes)
                    cost += added
                    genes.update(own)
                if width not in reached or cost < reached[width][0]:
                    reached[width] = (cost, genes)
            paths, previous = reached, stage.width.gene
        head = next(lookups, None)
        ends = []
        for cost, genes in paths.values():
            ends.append((cost if head is None else cost + _best(head, genes)[0], genes))
        return min(ends, key=lambda end: end[0])


def _lookup(slot: Slot, cost_of: Callable[[BlockSpec], float]) -> _Lookup:
    known: dict[BlockSpec, float] = {}
    values = np.zeros(len(slot.specs))
    for index, spec in enumerate(slot.specs):
        if spec is not None:
            if spec not in known:
                known[spec] = cost_of(spec)
            values[index] = known[spec]
    strides = [1]
    for length in slot.shape[:0:-1]:
        strides.insert(0, strides[0] * length)
    return _Lookup(slot, tuple(strides), values)


def _best(lookup: _Lookup, fixed: Mapping[int, int]) -> tuple[float, dict[int, int]]:
    """The least cost of a slot when some genes are fixed, and its own genes that reach it."""
    slot = lookup.slot
    if not slot.genes:
        return float(lookup.values[0]), {}
    table = lookup.values.reshape(slot.shape)
    own = slot.genes[: slot.num_own]
    others = slot.genes[slot.num_own :]  # one that is not fixed says nothing here
    table = table[
        (*(fixed.get(gene, slice(None)) for gene in own), *(fixed.get(gene, 0) for gene in others))
    ]
    free = [gene for gene in own if gene not in fixed]
    at = np.unravel_index(int(np.argmin(table)), table.shape)
    return float(np.min(table)), dict(zip(free, map(int, at), strict=True))
