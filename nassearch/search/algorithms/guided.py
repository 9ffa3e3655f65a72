"""Guided: the default search; a predictor learns from every result and proposes the next ones.

Cheap objectives are known exactly, so only the expensive ones are predicted. An inner evolution
over thousands of gene vectors finds the predicted front within the budgets; of it a batch
is taken one by one for the largest expected hypervolume gain, each taken one counted as if it had
come out as predicted (Ginsbourger et al. 2010, "kriging believer"), which keeps a batch diverse.
Where budgets are given, up to half of a batch goes to what is asked for first, one network for each
set of them: the one expected to improve most on its best.
"""

from collections.abc import Sequence
from functools import cached_property
from typing import Annotated

import numpy as np
import numpy.typing as npt
from pydantic import Field
from scipy.stats import norm
from threadpoolctl import threadpool_limits

from nassearch.config import StrictModel
from nassearch.search.candidate import Candidate
from nassearch.search.feasible_region import FeasibleRegion, key, neighbours
from nassearch.search.pareto import hypervolume_gain, non_dominated
from nassearch.search.posterior import FEWEST, Outlook, Posterior
from nassearch.search.problem import SENSITIVITY, Floats, Problem
from nassearch.space.architecture import Architecture
from nassearch.space.search_space import Genes

POPULATION = 400
GENERATIONS = 10
FRONT = 250
POOL = 300
DRAWS = 16
LEVELS = norm.ppf((np.arange(DRAWS) + 0.5) / DRAWS)  # each as likely as the next
TRIES = 8
RECOUNTED = 16
HOPEFUL = 64
EVERYTHING = 5_000


class Guided:
    """Ask/tell by prediction."""

    class Options(StrictModel):
        """`num_start` candidates are evaluated before the first prediction."""

        num_start: Annotated[int, Field(ge=4)] = 10

    def __init__(self, problem: Problem, region: FeasibleRegion, options: Options) -> None:
        self.problem = problem
        self.region = region
        self._num_start = options.num_start
        asked_for = problem.budget_sets or (((),) if problem.budgets else ())
        self._asked_for = [FeasibleRegion(problem.under(budgets)) for budgets in asked_for]
        self._rng = np.random.default_rng([problem.seed, 2])
        self._known: set[bytes] = set()
        self._pending: dict[bytes, npt.NDArray[np.uint8]] = {}
        self.posterior = Posterior(problem)
        self.outlook: Outlook | None = None
        self._start = list(self._start_set())
        self._population = np.array(self._start, dtype=np.uint8)

    def ask(self, count: int) -> list[Architecture]:
        rows: list[Genes] = []
        if len(self.posterior) >= self._num_start:
            self._start.clear()  # an earlier search has told as much
        while self._start and len(rows) < count:
            row = self._start.pop(0)
            if key(row) not in self._known:
                self._known.add(key(row))
                rows.append(row)
        if len(rows) < count and len(self.posterior) >= FEWEST:
            # threads of linear algebra wait for one another, on a busy machine most of the time
            with threadpool_limits(limits=1, user_api="blas"):
                rows += self._chosen(count - len(rows))
        if len(rows) < count:
            more = self.region.sample(count - len(rows), rng=self._rng, exclude=self._known)
            rows += list(more)
        self._known.update(key(row) for row in rows)
        self._pending |= {key(row): row for row in rows}
        return [self.problem.space.decode(row.tolist()) for row in rows]

    def tell(self, candidate: Candidate) -> None:
        genes = np.array(self.problem.space.encode(candidate.architecture), dtype=np.uint8)
        self._known.add(key(genes))
        self._pending.pop(key(genes), None)
        self.posterior.tell(candidate)

    def _start_set(self) -> Genes:
        """Corners, then all genes scaled together, rounded at random, and a few random vectors.

        Scaling all genes together spreads the sizes evenly, where independent choices would all
        have about the mean size; rounding at random keeps the choices from being aliased. Of
        several roundings the problem's warm-start score takes the most promising. Under a budget
        the scale ends a little beyond it, and what is over budget is repaired.
        """
        space = self.problem.space
        top = np.array([len(gene.choices) - 1 for gene in space.genes])
        random = space.sample_genes(self._rng, self._num_start // 5)
        steps = np.linspace(0.0, 1.0, 65)[:, None]
        within = self.region.is_feasible(space.canonical(np.rint(steps * top).astype(np.uint8)))
        furthest = min(1.0, 1.15 * float(np.max(steps[within], initial=0.1)))
        scale = np.linspace(0.0, furthest, self._num_start - len(random))[:, None] * np.ones(
            len(top)
        )
        if space.policies is not None:  # or precision could not be told from size
            columns = space.policies.columns
            scale[1:-1, columns] = self._rng.permutation(scale[1:-1, columns])
        tries = 1 if self.problem.warm_start_score is None else TRIES
        chance = self._rng.random((tries, len(scale), len(top))) * (scale < 1.0)
        rounded = np.minimum(np.floor(scale * top + chance), top).astype(np.uint8)
        if space.policies is not None and self._tolerant_first is not None:
            columns = space.policies.columns  # half of the policies: the most tolerant places low
            rounded[:, 1:-1:2, columns] = self._by_tolerance(scale[1:-1:2, columns][:, 0])
        scaled = self._most_promising(rounded)
        scaled[0] = 0
        order = [0, len(scaled) - 1, *self._rng.permutation(np.arange(1, len(scaled) - 1))]
        start = space.canonical(np.vstack([scaled[order], random]))
        start = self.region.repair(start, rng=self._rng)
        _, first = np.unique(start, axis=0, return_index=True)
        return start[np.sort(first)]

    @cached_property
    def _tolerant_first(self) -> npt.NDArray[np.intp] | None:
        """Places of a space of policies, those that mind the lowest precision least first.

        None where no quantity tells.
        """
        space, known = self.problem.space, {item.name for item in self.problem.quantities}
        if space.policies is None or SENSITIVITY not in known:
            return None
        columns = space.policies.columns
        highest = np.array(space.encode(space.largest), dtype=np.uint8)
        probes = np.tile(highest, (columns.stop - columns.start, 1))
        probes[:, columns][np.diag_indices(len(probes))] = 0
        return np.argsort(self.problem.quantity(SENSITIVITY).numbers(probes), kind="stable")

    def _by_tolerance(self, shares: Floats) -> Genes:
        """Policies, (n, places), with such shares of their places in the highest precision."""
        assert self._tolerant_first is not None
        places = len(self._tolerant_first)
        highest = len(self.problem.space.precisions) - 1
        rank = np.empty(places, dtype=np.intp)
        rank[self._tolerant_first] = np.arange(places)
        low = rank < np.rint((1 - shares) * places)[:, None]
        return np.where(low, 0, highest).astype(np.uint8)

    def _most_promising(self, tries: Genes) -> Genes:
        """Of (tries, n, genes) for each of the n the one of the best warm-start score."""
        if self.problem.warm_start_score is None:
            return tries[0]
        flat = self.problem.space.canonical(tries.reshape(-1, tries.shape[2]))
        warm_start_score = self.problem.quantity(self.problem.warm_start_score)
        promising = (-warm_start_score.axis.sign * warm_start_score.numbers(flat)).reshape(
            tries.shape[:2]
        )
        return flat.reshape(tries.shape)[promising.argmax(axis=0), np.arange(tries.shape[1])]

    def _chosen(self, count: int) -> list[Genes]:
        """Up to `count` new gene vectors: the best for what is asked for, then for the front."""
        genes, believed = self.posterior.genes, self.posterior.learn()
        pool = self._pool(genes, believed)
        if not len(pool):
            return []
        mean = self.posterior.predict(pool)
        chosen = self._best_within(believed, pool, count=(count + 1) // 2)
        near = chosen + [
            int(place) for place in self._select(mean, POOL) if place not in set(chosen)
        ]
        pool, mean, chosen = pool[near], mean[near], list(range(len(chosen)))
        draws = self._draws(pool, mean)
        gain = _ExpectedGain(believed, self.problem.fronts)
        gain.count(mean[chosen])
        if self._pending:  # on workers: asked for and not told yet
            gain.count(self.posterior.predict(np.array(list(self._pending.values()))))
        gains = gain(draws)
        self.outlook = self._outlook(believed, pool, gains=gains, unit=gain.unit)
        gains[chosen] = -np.inf
        counted = np.full(len(pool), len(chosen))
        # As the front grows an expected gain only shrinks, so one that was the largest and still is
        # when it is counted again is the largest of all (Minoux 1978, "lazy greedy").
        while len(chosen) < min(count, len(pool)):
            top = np.argsort(-gains)[:RECOUNTED]
            if not np.isfinite(gains[top[0]]):
                break  # of what is left nothing is expected that is a number
            if counted[top[0]] == len(chosen):
                chosen.append(int(top[0]))
                gains[top[0]] = -np.inf
                gain.count(mean[top[:1]])
                continue
            stale = top[(counted[top] < len(chosen)) & np.isfinite(gains[top])]
            gains[stale] = gain(draws[:, stale])
            counted[stale] = len(chosen)
        return [pool[index] for index in chosen]

    def _outlook(
        self, believed: Floats, pool: Genes, *, gains: Floats, unit: Floats
    ) -> Outlook | None:
        """What the most promising candidate is expected to bring to what is asked for."""
        if len(self.posterior.expensive) != 1:
            return None
        (index,) = self.posterior.expensive
        error = self.posterior.predictors[index].error
        if index == 0 and self.problem.budget_sets:
            improvements = [self._most_improving(r, pool, believed)[1] for r in self._asked_for]
            return Outlook(max(improvements), error, of_budgets=True)
        return Outlook(float(gains.max()) * float(unit[index]), error)

    def _draws(self, pool: Genes, mean: Floats) -> Floats:
        """What will be believed of a pool once it has been evaluated, (draws, n, objectives)."""
        features = self.posterior.featurise(pool)
        draws = np.tile(mean, (len(LEVELS), 1, 1))
        for index in self.posterior.expensive:
            drawn = self.posterior.predictors[index].quantiles(
                features, LEVELS, after_one_more=True
            )
            # the errors of several objectives are taken as independent
            one = len(self.posterior.expensive) == 1
            draws[:, :, index] = drawn if one else self._rng.permuted(drawn, axis=0)
        return draws

    def _most_improving(
        self, region: FeasibleRegion, pool: Genes, believed: Floats
    ) -> tuple[int | None, float]:
        """The place in the pool of the largest expected improvement on the best told in a region
        (Jones et al. 1998), and that improvement of the first loss."""
        places = np.flatnonzero(region.is_feasible(pool))
        if not len(places):
            return None, 0.0
        losses = self.posterior.predict(pool[places])
        hopeful = np.argsort(losses[:, 0])[:HOPEFUL]
        places, losses = places[hopeful], losses[hopeful]
        within = region.is_feasible(self.posterior.genes)
        best = believed[within, 0].min(initial=believed[:, 0].max())
        draws = self._draws(pool[places], losses)[:, :, 0]
        improvement = np.maximum(best - draws, 0.0).mean(axis=0)
        return int(places[improvement.argmax()]), float(improvement.max())

    def _best_within(self, believed: Floats, pool: Genes, *, count: int) -> list[int]:
        """Places in the pool of up to `count` networks, one for each region that is asked for.

        Regions take turns, from batch to batch too.
        """
        chosen: list[int] = []
        for region in self._asked_for[:count]:
            left = np.ones(len(pool), dtype=bool)
            left[chosen] = False
            rows = np.flatnonzero(left)
            place, _ = self._most_improving(region, pool[rows], believed)
            if place is not None:
                chosen.append(int(rows[place]))
        self._asked_for = self._asked_for[count:] + self._asked_for[:count]
        return chosen

    def _pool(self, genes: Genes, believed: Floats) -> Genes:
        """New gene vectors to choose from: all where they are few, else what an evolution finds."""
        if (everything := self.region.everything(EVERYTHING)) is not None:
            pool = everything
        else:
            pool = self._evolve(genes[np.argsort(believed[:, 0])])
            pool = np.vstack([pool, *self._neighbours(genes, believed[:, 0])])
            pool = pool[_first_of_equal(pool)]
        return pool[[key(row) not in self._known for row in pool]]

    def _neighbours(self, genes: Genes, believed: Floats) -> list[Genes]:
        """What differs in one gene from the best told within each region that is asked for."""
        found = []
        for region in self._asked_for:
            places = np.flatnonzero(region.is_feasible(genes))
            if len(places):
                best = genes[places[believed[places].argmin()]]
                around = self.problem.space.canonical(neighbours(best, self.problem.space))
                found.append(around[region.is_feasible(around)])
        return found

    def _evolve(self, best_first: Genes) -> Genes:
        """The predicted front within the budgets and what lies near it.

        It starts from `best_first`, the gene vectors evaluated so far.
        """
        population = np.vstack([self._population, best_first[:POPULATION]])
        population = population[_first_of_equal(population)]
        losses = self.posterior.predict(population)
        for _ in range(GENERATIONS):
            children = self._children(population)
            population = np.vstack([population, children])
            losses = np.vstack([losses, self.posterior.predict(children)])
            first = _first_of_equal(population)
            population, losses = population[first], losses[first]
            kept = self._select(losses, FRONT)
            population, losses = population[kept], losses[kept]
        self._population = population
        near = self.region.repair(
            self.region.mutate(np.repeat(population, 2, axis=0), rng=self._rng), rng=self._rng
        )
        return np.vstack([population, near])

    def _select(self, losses: Floats, count: int) -> npt.NDArray[np.intp]:
        """Up to `count` rows for each of the fronts that are asked for, those near it."""
        parts = [
            _select(losses[:, list(view)], count, rng=self._rng) for view in self.problem.fronts
        ]
        return np.concatenate(parts) if len(parts) == 1 else np.unique(np.concatenate(parts))

    def _children(self, parents: Genes) -> Genes:
        """Copies, some crossed, with a gene or two redrawn, repaired into the budgets."""
        first, second = self._rng.integers(len(parents), size=(2, POPULATION))
        swap = self._rng.random((POPULATION, parents.shape[1])) < 0.5
        swap &= self._rng.random((POPULATION, 1)) < 0.3
        children = np.where(swap, parents[second], parents[first])
        children = self.region.mutate(children, rng=self._rng, changes=1.5)
        return self.region.repair(children, rng=self._rng)


class _ExpectedGain:
    """The gain that candidates bring to the hypervolume of each front asked for, as a share."""

    def __init__(self, losses: Floats, fronts: Sequence[tuple[int, ...]]) -> None:
        self._views = [list(view) for view in fronts]
        span = np.maximum(np.ptp(losses, axis=0), 1e-12)
        self.unit = span
        """What a gain of 1 is in each objective, averaged over the others."""
        self._reference = losses.max(axis=0) + 0.05 * span
        columns = [losses[:, view] for view in self._views]
        self._fronts = [part[non_dominated(part)] for part in columns]

    def __call__(self, draws: Floats) -> Floats:
        """The mean gain of n candidates, (n,), over draws of their losses, (draws, n, all)."""
        total = np.zeros(draws.shape[1])
        for view, front in zip(self._views, self._fronts, strict=True):
            points = draws[:, :, view].reshape(-1, len(view))
            gains = hypervolume_gain(front, points, reference=self._reference[view])
            total += gains.reshape(draws.shape[:2]).mean(axis=0) / self.unit[view].prod()
        return total

    def count(self, losses: Floats) -> None:
        """Take losses, (n, all), as if they had been told."""
        self._fronts = [
            np.vstack([front, losses[:, view]])
            for view, front in zip(self._views, self._fronts, strict=True)
        ]


def _first_of_equal(genes: Genes) -> npt.NDArray[np.intp]:
    """The rows of (n, genes) that equal none before them."""
    rows = (key(row) for row in genes)
    return np.fromiter({row: index for index, row in reversed(list(enumerate(rows)))}.values(), int)


def _select(losses: Floats, count: int, *, rng: np.random.Generator) -> npt.NDArray[np.intp]:
    """Up to `count` rows, those dominated by the fewest first; a longer front is thinned evenly.

    Rows are compared pair by pair: aiming at points of the front from an ideal point instead, as
    decomposition does, leaves its steep end sparse.
    """
    no_worse = np.ones((len(losses), len(losses)), dtype=bool)
    better = np.zeros_like(no_worse)
    for column in losses.T:
        no_worse &= column[:, None] <= column
        better |= column[:, None] < column
    dominated_by = (no_worse & better).sum(axis=0)
    front = np.flatnonzero(dominated_by == 0)
    if len(front) <= count:
        return np.lexsort((losses[:, 0], dominated_by))[:count]
    if losses.shape[1] == 2:
        front = front[np.argsort(losses[front, 0])]
        return front[np.linspace(0, len(front) - 1, count).astype(int)]
    ends = front[losses[front].argmin(axis=0)]
    return np.array(list(dict.fromkeys([*ends, *rng.permutation(front)]))[:count])
