"""FeasibleRegion: the part of a space within every budget, known before anything is evaluated."""

from collections.abc import Callable, Iterable
from functools import lru_cache

import numpy as np
import numpy.typing as npt

from nassearch.errors import BudgetError
from nassearch.search.problem import Floats, Objective, Problem
from nassearch.space.search_space import Genes, SearchSpace

# A space of up to this many architectures is enumerated once: sampling in it is then exact.
ENUMERABLE = 20_000
ROUNDS = 60
DESCENTS = 8
Mask = npt.NDArray[np.bool_]


def key(genes: npt.NDArray[np.uint8]) -> bytes:
    """The key of a canonical gene vector, (genes,), in a set."""
    return genes.tobytes()


class FeasibleRegion:
    """The architectures that keep every budget.

    Budgets are on cheap objectives, so membership of thousands of gene vectors is one vectorised
    call. Raises BudgetError, naming the smallest reachable value, where a budget cannot be met, or
    where budgets that can be met one by one contradict each other.
    """

    def __init__(self, problem: Problem) -> None:
        self.space = problem.space
        self._budgets = [(problem.quantity(name), limit) for name, limit in problem.limits.items()]
        self._counts = np.array([len(gene.choices) for gene in self.space.genes])
        self._pool: Genes | None = None
        rng = np.random.default_rng(0)  # the region is the problem's, whatever the seed
        if self.space.size() <= ENUMERABLE:
            everything = _all_genes(self.space)
            self._pool = everything[self.is_feasible(everything)]
        self.feasible_point = self._find_feasible_point(rng)

    def everything(self, most: int) -> Genes | None:
        """All gene vectors within the budgets, (n, genes), where n is at most `most`; else None."""
        return None if self._pool is None or len(self._pool) > most else self._pool

    def is_feasible(self, genes: Genes) -> Mask:
        """Mask the canonical gene vectors, (n, genes), that keep every budget, (n,)."""
        mask = np.ones(len(genes), dtype=bool)
        for objective, limit in self._budgets:
            if mask.any():
                mask[mask] = objective.numbers(genes[mask]) <= limit
        return mask

    def violation(self, genes: Genes) -> Floats:
        """How far beyond the budgets, relative to each limit and summed, (n,); 0 is within."""
        total = np.zeros(len(genes))
        for objective, limit in self._budgets:
            excess = objective.numbers(genes) - limit
            total += np.clip(excess, 0.0, None) / max(abs(limit), 1e-12)
        return total

    def repair(self, genes: Genes, *, rng: np.random.Generator) -> Genes:
        """Gene vectors moved just far enough towards the anchor to keep every budget, (n, genes).

        Genes are taken over from the anchor in a random order; how many, is found by bisection, so
        the result lies near the edge of the budget. Vectors within it stay as they are.
        """
        repaired = genes.copy()
        rows = np.flatnonzero(~self.is_feasible(genes))
        if not len(rows):
            return repaired
        over_budget = genes[rows]
        rank = rng.permuted(np.tile(np.arange(genes.shape[1]), (len(rows), 1)), axis=1)
        best = np.tile(self.feasible_point, (len(rows), 1))
        low, high = np.zeros(len(rows), int), np.full(len(rows), genes.shape[1])
        while (high - low > 1).any():
            middle = (low + high) // 2
            trial = self.space.canonical(
                np.where(rank < middle[:, None], self.feasible_point, over_budget).astype(np.uint8)
            )
            fits = self.is_feasible(trial)
            best[fits] = trial[fits]
            high, low = np.where(fits, middle, high), np.where(fits, low, middle)
        repaired[rows] = best
        return repaired

    def mutate(self, genes: Genes, *, rng: np.random.Generator, changes: float = 2.0) -> Genes:
        """Copies with about `changes` genes redrawn each, (n, genes); they may leave the region."""
        redraw = rng.random(genes.shape) < min(1.0, changes / max(1, genes.shape[1]))
        drawn = rng.integers(0, self._counts, genes.shape, dtype=np.uint8)
        return self.space.canonical(np.where(redraw, drawn, genes))

    def sample(
        self, count: int, *, rng: np.random.Generator, exclude: Iterable[bytes] = ()
    ) -> Genes:
        """Up to `count` different gene vectors within the budgets, (<= count, genes).

        Uniform where the space can be enumerated; elsewhere random vectors, those over budget
        repaired, and then walks within the region. Fewer than `count` come back where the region
        holds no more, or where a bounded number of rounds found no more.
        """
        known = set(exclude)
        if self._pool is not None:
            new = [row for row in rng.permutation(self._pool) if key(row) not in known]
            return _stack(new[:count], self._pool.shape[1])
        sampled: list[npt.NDArray[np.uint8]] = []
        walkers = self.feasible_point[None]
        for number in range(ROUNDS):
            if len(sampled) >= count:
                break
            if number < 4:
                proposals = self.repair(self.space.sample_genes(rng, 4 * count + 16), rng=rng)
            else:
                picked = walkers[rng.integers(len(walkers), size=4 * count + 16)]
                proposals = self.mutate(picked, rng=rng)
                proposals = proposals[self.is_feasible(proposals)]
            for row in proposals:
                if key(row) not in known:
                    known.add(key(row))
                    sampled.append(row)
            walkers = np.vstack([walkers, proposals])[-1024:]
        return _stack(sampled[:count], len(self._counts))

    def _find_feasible_point(self, rng: np.random.Generator) -> Genes:
        """An architecture within every budget to repair towards: as far within as was found."""
        if not self._budgets:
            return np.zeros(len(self._counts), dtype=np.uint8)
        starts = []
        for objective, limit in self._budgets:
            number, genes = smallest(objective, self.space, rng=rng)
            if number > limit:
                architecture = self.space.decode(genes.tolist())
                budget = objective.budget(limit)
                raise BudgetError(
                    f"cannot be reached: the smallest {objective.name} in the"
                    f" space {self.space.name} is {number:.6g} {objective.unit}".rstrip()
                    + f" (architecture {architecture.id})",
                    where=f"budget {budget}",
                    fix=f"allow at least {number:.6g} {objective.unit}".rstrip(),
                )
            starts.append(genes)
        population = np.vstack([starts, self.space.sample_genes(rng, 256)])
        genes, excess = _descend(self.violation, population, self.space)
        if excess > 0:
            budgets = [str(item.budget(limit)) for item, limit in self._budgets]
            nearest = [
                f"{item.name} {item.numbers(genes[None])[0]:.6g} {item.unit}".rstrip()
                for item, _ in self._budgets
            ]
            raise BudgetError(
                f"no architecture of the space {self.space.name} keeps"
                f" {' and '.join(budgets)} together",
                where="budgets",
                fix=f"the nearest found has {', '.join(nearest)}: allow that much",
            )
        return genes


def smallest(
    objective: Objective, space: SearchSpace, *, rng: np.random.Generator
) -> tuple[float, Genes]:
    """The smallest number of a cheap objective in the space, and genes, (genes,), that have it.

    Exact where the objective knows its own minimum or the space can be enumerated; elsewhere the
    best of descents, one choice at a time, from the smallest architecture and random ones.
    """
    if objective.minimum is not None:
        number, architecture = objective.minimum()
        return number, np.array(space.encode(architecture), dtype=np.uint8)
    if space.size() <= ENUMERABLE:
        everything = _all_genes(space)
        numbers = objective.numbers(everything)
        index = int(numbers.argmin())
        return float(numbers[index]), everything[index]
    starts = np.vstack([np.zeros((1, len(space.genes)), np.uint8), space.sample_genes(rng, 256)])
    genes, number = _descend(objective.numbers, starts, space)
    return number, genes


def _descend(
    function: Callable[[Genes], Floats], starts: Genes, space: SearchSpace
) -> tuple[Genes, float]:
    """Steepest descent, one choice at a time, from the best few of the starts, (n, genes)."""
    values = function(starts)
    order = np.argsort(values, kind="stable")[:DESCENTS]
    best, lowest = starts[order[0]], float(values[order[0]])
    for index in order:
        genes, value = starts[index], float(values[index])
        for _ in range(ROUNDS):
            steps = space.canonical(neighbours(genes, space))
            numbers = function(steps)
            step = int(numbers.argmin())
            if numbers[step] >= value:
                break
            genes, value = steps[step], float(numbers[step])
        if value < lowest:
            best, lowest = genes, value
    return best, lowest


def neighbours(genes: Genes, space: SearchSpace) -> Genes:
    """Every vector that differs from `genes`, (genes,), in one gene."""
    rows = []
    for index, gene in enumerate(space.genes):
        for choice in range(len(gene.choices)):
            if choice != genes[index]:
                row = genes.copy()
                row[index] = choice
                rows.append(row)
    return np.array(rows, dtype=np.uint8).reshape(len(rows), len(genes))


@lru_cache(maxsize=4)
def _all_genes(space: SearchSpace) -> Genes:
    """The gene vectors of a small space, (size, genes)."""
    everything = np.array([space.encode(item) for item in space.enumerate()], dtype=np.uint8)
    return everything.reshape(space.size(), len(space.genes))


def _stack(rows: list[npt.NDArray[np.uint8]], num_genes: int) -> Genes:
    return np.array(rows, dtype=np.uint8).reshape(len(rows), num_genes)
