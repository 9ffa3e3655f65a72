"""Costs that add up over blocks, for one architecture or for millions, and their exact minimum."""

import itertools
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial
from typing import Any

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

    def index(self, columns: Genes) -> npt.NDArray[np.int32]:
        """Where in `values` each architecture's block stands, (n,), of genes, (genes, n)."""
        index = np.zeros(columns.shape[1], dtype=np.int32)
        for gene, stride in zip(self.slot.genes, self.strides, strict=True):
            index += columns[gene] * np.int32(stride)
        return index


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
            yield lookup.values[lookup.index(columns)]


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

    def __call__(self, architecture: Architecture) -> float:
        """The cost of one architecture."""
        specs = lower(self.space, architecture)
        return self.constant + sum(self._cost_of(spec) for spec in specs)

    def of_genes(self, genes: Genes) -> Floats:
        """Costs, (n,), of gene vectors, (n, genes)."""
        return self.constant + self._sum.of_genes(genes)

    def minimum(self) -> tuple[Architecture, float]:
        """The cheapest architecture of the space and its cost, exactly."""

        def options(number: int, before: int, fixed: Mapping[int, int]) -> Iterator[Option]:
            yield 0, *_best(self._sum.lookups[number], fixed)

        return cheapest(self.space, options, constant=self.constant)


@dataclass(frozen=True, slots=True)
class _PolicyLookup:
    """One slot's costs: `blocks`, (precisions, n), and `borders`, (before, after, n), both indexed
    as `lookup` says."""

    lookup: _Lookup
    blocks: Floats
    borders: Floats


class PolicyCost:
    """constant + what each block of a space of policies costs in its precision, and each border.

    `cost_of(spec, precision)` is of a block; `border(spec, before, after)` is of a block of the
    precision `after` that follows one of another precision, `before`.
    """

    def __init__(
        self,
        space: SearchSpace,
        cost_of: Callable[[BlockSpec, str], float],
        *,
        border: Callable[[BlockSpec, str, str], float] = lambda spec, before, after: 0.0,
        constant: float = 0.0,
    ) -> None:
        assert space.policies is not None
        self.space = space
        self.constant = constant
        self._cost_of, self._border = cost_of, border
        self._policies = space.policies
        names = space.precisions
        self._places = [
            _PolicyLookup(
                _lookup(slot, lambda spec: 0.0),
                np.stack([_lookup(slot, partial(_of, cost_of, name)).values for name in names]),
                np.stack(
                    [
                        [_lookup(slot, partial(_at, border, old, new)).values for new in names]
                        for old in names
                    ]
                ),
            )
            for slot in slots(space)
        ]

    def __call__(self, architecture: Architecture) -> float:
        """The cost of one architecture with its policy."""
        specs = lower(self.space, architecture)
        policy = architecture.precisions or (self.space.precisions[-1],) * len(specs)
        total, before = self.constant, policy[0]
        for spec, precision in zip(specs, policy, strict=True):
            total += self._cost_of(spec, precision)
            if precision != before:
                total += self._border(spec, before, precision)
            before = precision
        return total

    def of_genes(self, genes: Genes) -> Floats:
        """Costs, (n,), of gene vectors, (n, genes)."""
        return self.constant + sum(self._each(genes), np.zeros(len(genes)))

    def largest_of_genes(self, genes: Genes) -> Floats:
        """The largest cost of a block and the border before it, instead of their sum, (n,)."""
        return np.max([np.zeros(len(genes)), *self._each(genes)], axis=0)

    def _each(self, genes: Genes) -> Iterator[Floats]:
        """What each place's block costs, with the border before it."""
        columns = np.ascontiguousarray(genes.T)
        chosen = genes[:, self._policies.columns]
        there = self._policies.present(genes)
        before = chosen[:, 0]
        for number, place in enumerate(self._places):
            own = np.where(there[:, number], chosen[:, number], before)
            index = place.lookup.index(columns)
            cost = place.blocks[own, index] + place.borders[before, own, index]
            yield np.where(there[:, number], cost, 0.0)
            before = own

    def minimum(self) -> tuple[Architecture, float]:
        """The cheapest architecture of the space, with its policy, and its cost, exactly."""
        first = self._policies.columns.start

        def options(number: int, before: int | None, fixed: Mapping[int, int]) -> Iterator[Option]:
            place = self._places[number]
            for precision, values in enumerate(place.blocks):
                if before is not None:
                    values = values + place.borders[before, precision]
                cost, genes = _best(replace(place.lookup, values=values), fixed)
                yield precision, cost, {**genes, first + number: precision}

        return cheapest(self.space, options, constant=self.constant, start=None)


def _of(cost_of: Callable[[BlockSpec, str], float], precision: str, spec: BlockSpec) -> float:
    return cost_of(spec, precision)


def _at(
    border: Callable[[BlockSpec, str, str], float], before: str, after: str, spec: BlockSpec
) -> float:
    return 0.0 if before == after else border(spec, before, after)


Option = tuple[Any, float, dict[int, int]]
"""How a block may be: what the next one has to know of it, its least cost, and its own genes."""
Options = Callable[[int, Any, Mapping[int, int]], Iterator[Option]]
"""The options of a place, by its number, what the block before it was, and the genes given."""
_Paths = dict[Any, tuple[float, dict[int, int]]]
"""State -> the least cost that reaches it, and the genes that do."""


def cheapest(
    space: SearchSpace, options: Options, *, constant: float, start: Any = 0
) -> tuple[Architecture, float]:
    """The cheapest architecture of a space and its cost, exactly.

    Blocks are independent once the resolution, the widths and the depths are given and what each
    has to know of the one before, so each takes its best own choice, and stages are chained by
    dynamic programming over widths and that knowledge; the first block's is `start`. Kernels of
    blocks run patch by patch are given too: the tiles before depend on them. So are the widths that
    a head reads beside the last stage's.
    """
    best: tuple[float, dict[int, int]] | None = None
    for fixed in _starts(space):
        found = _cheapest_from(space, options, fixed, constant=constant, start=start)
        if best is None or found[0] < best[0]:
            best = found
    assert best is not None
    genes = [0] * len(space.genes)
    for gene, value in best[1].items():
        genes[gene] = value
    return space.decode(genes), best[0]


def _starts(space: SearchSpace) -> Iterator[dict[int, int]]:
    """Every value of the genes that make the rest independent."""
    layout = space.layout
    dimensions = (layout.resolution, layout.grid, layout.patched_stages)
    for chosen in itertools.product(*(range(len(dimension.choices)) for dimension in dimensions)):
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
        widths = [layout.stages[index].width.gene for index in head_stages(space)[:-1]]
        shared += [gene for gene in widths if gene is not None]
        lengths = (range(len(space.genes[gene].choices)) for gene in shared)
        for values in itertools.product(*lengths):
            yield {**given, **dict(zip(shared, values, strict=True))}


def _cheapest_from(
    space: SearchSpace, options: Options, fixed: Mapping[int, int], *, constant: float, start: Any
) -> tuple[float, dict[int, int]]:
    """The least cost where some genes are fixed, and the genes that reach it."""
    number = 0
    # (width choice of the stage before, what the block before was) -> how it is reached
    paths: _Paths = {(0, start): (constant, dict(fixed))}
    if space.definition.stem is not None:
        states = _through(options, [0], {start: (constant, dict(fixed))})
        paths, number = {(0, state): path for state, path in states.items()}, 1
    previous: int | None = None
    for stage in space.layout.stages:
        reached: _Paths = {}
        choices = itertools.product(
            paths.items(), range(len(stage.width.choices)), range(len(stage.depth.choices))
        )
        for ((before, state), (cost, chosen)), width, depth in choices:
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
            places = range(number, number + stage.depth.choices[depth])
            for last, path in _through(options, places, {state: (cost, genes)}).items():
                _keep_least(reached, (width, last), path)
        paths, previous = reached, stage.width.gene
        number += len(stage.positions)
    ends: _Paths = {}
    for (_, state), path in paths.items():
        heads = [number] if space.definition.has_head else []
        for last, end in _through(options, heads, {state: path}).items():
            _keep_least(ends, last, end)
    return min(ends.values(), key=lambda end: end[0])


def _through(options: Options, places: Iterable[int], paths: _Paths) -> _Paths:
    """The cheapest ways through some places, by what the last block was."""
    for place in places:
        reached: _Paths = {}
        for before, (cost, genes) in paths.items():
            for state, added, own in options(place, before, genes):
                _keep_least(reached, state, (cost + added, {**genes, **own}))
        paths = reached
    return paths


def _keep_least(paths: _Paths, state: Any, path: tuple[float, dict[int, int]]) -> None:
    if state not in paths or path[0] < paths[state][0]:
        paths[state] = path


def _lookup(slot: Slot, cost_of: Callable[[BlockSpec], float]) -> _Lookup:
    known: dict[BlockSpec, float] = {}
    values = np.zeros(len(slot.specs))
    for index, spec in enumerate(slot.specs):
        if spec is not None:
            if spec not in known:
                known[spec] = cost_of(spec)
            values[index] = known[spec]
    strides = [1] if slot.shape else []
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
