"""What the default search would be without a part of it, or with one it does not have; and a peer.

`noise.py` runs them beside it: each is an algorithm, 'variants:Class'.
"""

from dataclasses import replace

import numpy as np
from scipy.linalg import cho_solve, cholesky, solve_triangular
from scipy.optimize import minimize

from nassearch.search.algorithms import gaussian_process, guided
from nassearch.search.algorithms.gaussian_process import Features, GenePredictor
from nassearch.search.algorithms.guided import LEVELS, Guided
from nassearch.search.candidate import Candidate
from nassearch.search.feasible_region import FeasibleRegion, key
from nassearch.search.posterior import FEWEST
from nassearch.search.problem import Floats, Problem
from nassearch.space import Architecture
from nassearch.space.search_space import Genes


class FittedNoise(Guided):
    """Is not told how large each observation's error is."""

    def tell(self, candidate: Candidate) -> None:
        values = {
            name: replace(value, low=None, high=None) for name, value in candidate.values.items()
        }
        super().tell(Candidate(candidate.architecture, values))


class ObservedFront(Guided):
    """Returns and picks by what was observed."""

    returns_observed = True


class CuriousDespiteNoise(Guided):
    """Expects to know a network's accuracy once it is evaluated, however noisy that is."""

    def _draws(self, pool: Genes, mean: Floats) -> Floats:
        draws = np.tile(mean, (len(LEVELS), 1, 1))
        for index in self.posterior.expensive:
            predictor = self.posterior.predictors[index]
            draws[:, :, index] = predictor.quantiles(self.posterior.featurise(pool), LEVELS)
        return draws


class _Constant(Guided):
    """With a constant of the predictor's module changed."""

    name, value = "", 0.0

    def ask(self, count: int) -> list[Architecture]:
        before = getattr(gaussian_process, self.name)
        setattr(gaussian_process, self.name, self.value)
        try:
            return super().ask(count)
        finally:
            setattr(gaussian_process, self.name, before)


class BentPredictor(GenePredictor):
    """Takes logarithms of what was observed, as it is."""

    def fit(self, features: Features, losses: Floats, variances: Floats) -> None:
        if len(losses) >= 1.25 * self._fitted_at:
            self._fitted_at = len(losses)
            results = gaussian_process._Results(features, losses, variances, None)
            self._log = gaussian_process._best_hyperparameters(self._log, results)
        self._condition(features, gaussian_process._Link.of(losses, variances, self._log))


class BentLogarithm(_Constant):
    """Takes logarithms however bent they are over the noise."""

    name, value = "STRAIGHT", 0.0

    def __init__(self, problem: Problem, region: FeasibleRegion, options: Guided.Options) -> None:
        super().__init__(problem, region, options)
        self.posterior.predictors = {index: BentPredictor() for index in self.posterior.expensive}


class NothingOfItsOwn(Guided):
    """Takes networks to be what their choices make them and nothing else."""

    def ask(self, count: int) -> list[Architecture]:
        for predictor in self.posterior.predictors.values():
            predictor._log[gaussian_process.OWN] = -9.0
        low, high = gaussian_process.LOWEST, gaussian_process.HIGHEST
        before = low[gaussian_process.OWN], high[gaussian_process.OWN]
        low[gaussian_process.OWN] = high[gaussian_process.OWN] = -9.0
        try:
            return super().ask(count)
        finally:
            low[gaussian_process.OWN], high[gaussian_process.OWN] = before


class EvolvedPool(Guided):
    """Looks for candidates by evolution also where it could look at all networks."""

    def _pool(self, genes: Genes, believed: Floats) -> Genes:
        everything, guided.EVERYTHING = guided.EVERYTHING, 0
        try:
            return super()._pool(genes, believed)
        finally:
            guided.EVERYTHING = everything


class SeparateOpening(Guided):
    """Opens with twenty points whose genes are scaled separately, around a size in common."""

    def __init__(self, problem: Problem, region: FeasibleRegion, options: Guided.Options) -> None:
        super().__init__(problem, region, Guided.Options(num_start=20))

    def _start_set(self) -> Genes:
        space, count = self.problem.space, self._num_start
        top = np.array([len(gene.choices) - 1 for gene in space.genes])
        ranks = np.stack([self._rng.permutation(count) for _ in top], axis=1)
        offset = (ranks + self._rng.random(ranks.shape)) / count - 0.5
        level = np.clip(np.linspace(0.0, 1.0, count)[:, None] + 0.6 * offset, 0.0, 1.0)
        start = np.minimum(np.floor(level * (top + 1)), top).astype(np.uint8)
        start[0], start[-1] = 0, top
        order = [0, count - 1, *self._rng.permutation(np.arange(1, count - 1))]
        start = self.region.repair(space.canonical(start[order]), rng=self._rng)
        _, first = np.unique(start, axis=0, return_index=True)
        return start[np.sort(first)]


class BudgetsAlone(Guided):
    """Gives whole batches to the budgets."""

    def _best_within(self, believed: Floats, pool: Genes, *, count: int) -> list[int]:
        return super()._best_within(believed, pool, count=2 * count)


class MeasuredAgain(Guided):
    """Near the end measures candidates again where that promises more than new ones do."""

    def again(self, count: int) -> list[Architecture]:
        """Up to `count` told architectures that are better measured again than new ones asked for.

        For each region that is asked for: the one whose next result is expected to raise what is
        believed of the best there by most (Frazier et al. 2008, "knowledge gradient", taking errors
        as independent), where that is more than a new one is expected to bring.
        """
        if len(self.posterior) < FEWEST or 0 not in self.posterior.expensive:
            return []
        genes, believed = self.posterior.genes, self.posterior.learn()
        pool = self._pool(genes, believed)
        draws = self.posterior.predictors[0].told(LEVELS, after_one_more=True)
        found: dict[bytes, tuple[float, Genes]] = {}
        for region in self._asked_for:
            places = np.flatnonzero(region.is_feasible(genes))
            if len(places) < 2:
                continue
            order = places[np.argsort(believed[places, 0])]
            best, second = believed[order[:2], 0]
            others = np.where(places == order[0], second, best)
            # measured again the best may turn out worse than the second, another better than it
            gains = np.maximum(others - draws[:, places], 0.0).mean(axis=0)
            gains -= np.maximum(others - believed[places, 0], 0.0)
            at = int(gains.argmax())
            _, new = self._most_improving(region, pool, believed)
            if gains[at] > max(new, found.get(key(genes[places[at]]), (0.0,))[0]):
                found[key(genes[places[at]])] = float(gains[at]), genes[places[at]]
        chosen = sorted(found.values(), key=lambda one: -one[0])[:count]
        return [self.problem.space.decode(row.tolist()) for _, row in chosen]


class PlainPredictor:
    """A squared exponential over choices and sizes; length scales, variance and noise fitted."""

    def __init__(self) -> None:
        self._log = np.zeros(4)  # of the length scales, the variance and that of the noise
        self._log[3] = -3.0
        self._fitted_at = 0

    def fit(self, features: Features, losses: Floats, variances: Floats) -> None:
        self._train = features
        self._centre, self._spread = float(losses.mean()), max(float(losses.std()), 1e-12)
        self._target = (losses - self._centre) / self._spread
        if len(losses) >= 1.1 * self._fitted_at:
            self._fitted_at = len(losses)
            found = minimize(
                self._cost, self._log, method="L-BFGS-B", bounds=[(-4, 4)] * 2 + [(-4, 4), (-9, 1)]
            )
            self._log = found.x
        self._root = self._cholesky(self._log)
        self._weights = cho_solve((self._root, True), self._target)

    @property
    def error(self) -> float:
        return self._spread * float(np.exp(self._log[3] / 2))

    def told_mean(self) -> Floats:
        return self.mean(self._train)

    def told(self, deviations: Floats) -> Floats:
        return self.quantiles(self._train, deviations)

    def mean(self, features: Features) -> Floats:
        return self._centre + self._spread * (
            self._kernel(features, self._train, self._log) @ self._weights
        )

    def quantiles(
        self, features: Features, deviations: Floats, *, after_one_more: bool = False
    ) -> Floats:
        cross = self._kernel(features, self._train, self._log)
        solved = solve_triangular(self._root, cross.T, lower=True)
        variances = np.maximum(np.exp(self._log[2]) - (solved**2).sum(axis=0), 1e-9)
        mean = cross @ self._weights
        return self._centre + self._spread * (mean + deviations[:, None] * np.sqrt(variances))

    def _cholesky(self, log: Floats) -> Floats:
        kernel = self._kernel(self._train, self._train, log)
        kernel[np.diag_indices_from(kernel)] += np.exp(log[3]) + 1e-6
        return cholesky(kernel, lower=True)

    def _cost(self, log: Floats) -> float:
        try:
            root = self._cholesky(log)
        except np.linalg.LinAlgError:
            return 1e9
        solved = solve_triangular(root, self._target, lower=True)
        return float(0.5 * solved @ solved + np.log(np.diag(root)).sum() + 0.02 * (log**2).sum())

    @staticmethod
    def _kernel(first: Features, second: Features, log: Floats) -> Floats:
        distance = np.zeros((len(first.choices), len(second.choices)))
        parts = ((first.choices, second.choices), (first.sizes, second.sizes))
        for (one, other), scale in zip(parts, log[:2], strict=True):
            square = (one**2).sum(1)[:, None] + (other**2).sum(1) - 2 * one @ other.T
            distance += np.maximum(square, 0.0) * np.exp(-2 * scale)
        return np.asarray(np.exp(log[2] - 0.5 * distance))


class PlainGP(Guided):
    """A plain Gaussian process with expected hypervolume improvement over the same pool."""

    def __init__(self, problem: Problem, region: FeasibleRegion, options: Guided.Options) -> None:
        super().__init__(problem, region, options)
        self.posterior.predictors = {index: PlainPredictor() for index in self.posterior.expensive}  # type: ignore[misc]
