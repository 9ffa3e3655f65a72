"""Posterior: what all that a search was told says of each network, beside what was observed of it.

An observed accuracy errs as its images do, and the best of many observed ones errs upwards. What a
predictor believes, from a network and from all that are like it, errs less and not upwards; so the
front, the pick and early ends go by it wherever an objective tells its noise.
"""

from collections.abc import Iterable
from dataclasses import dataclass, replace

import numpy as np

from nassearch.provenance import Z_95, Belief
from nassearch.search.algorithms.gaussian_process import Featuriser, GenePredictor
from nassearch.search.candidate import Candidate
from nassearch.search.feasible_region import key
from nassearch.search.problem import Floats, Problem
from nassearch.space.search_space import Genes

FEWEST = 4
"""Results below which nothing is predicted."""
LOOK_AHEAD, FRONT_ERROR = 0.25, 0.1


@dataclass(frozen=True)
class Outlook:
    """What one candidate more is expected to bring, and the error with which one is observed.

    Both in the unit of the expensive objective: what a front gains on average over the other
    objectives, or, `of_budgets`, the most that the best network within one of them does.
    """

    gain: float
    error: float
    of_budgets: bool = False

    def is_worth_it(self, num_told: int) -> bool:
        """Whether a quarter more candidates may bring more than the noise hides.

        Of a single network that is the error of an observation; of the average over a front, which
        many observations make, a tenth of it. The next candidate is the most promising one, so what
        is expected of a quarter more is an upper bound.
        """
        hidden = self.error * (1.0 if self.of_budgets else FRONT_ERROR)
        return LOOK_AHEAD * num_told * self.gain > hidden


class Posterior:
    """A predictor for each expensive objective of a problem, and the results they learn from."""

    def __init__(self, problem: Problem) -> None:
        self.problem = problem
        self.expensive = [
            index for index, item in enumerate(problem.objectives) if not item.is_cheap
        ]
        self.predictors = {index: GenePredictor() for index in self.expensive}
        cheap = [item for item in problem.quantities if item.is_cheap]
        self.featurise = Featuriser(problem.space, cheap)
        self._signs = np.array([axis.sign for axis in problem.axes])
        self._genes: list[Genes] = []
        self._losses: list[Floats] = []
        self._variances: list[Floats] = []
        self._place: dict[bytes, int] = {}
        self._is_learned = False
        self._believed = np.empty((0, len(problem.axes)))

    def __len__(self) -> int:
        return len(self._genes)

    @property
    def genes(self) -> Genes:
        """Of what was told, (told, genes)."""
        return np.array(self._genes, dtype=np.uint8).reshape(
            len(self), len(self.problem.space.genes)
        )

    def tell(self, candidate: Candidate) -> None:
        """Take in a result, in place of an earlier one of its architecture; a NaN says nothing."""
        axes = self.problem.axes
        values = [candidate.values[axis.name] for axis in axes]
        losses = self._signs * [candidate.rank(axis.name) for axis in axes]
        if not np.isfinite(losses).all():
            return
        genes = np.array(self.problem.space.encode(candidate.architecture), dtype=np.uint8)
        variances = np.array([np.nan if one.variance is None else one.variance for one in values])
        place = self._place.setdefault(key(genes), len(self))
        if place == len(self):
            self._genes.append(genes)
            self._losses.append(losses)
            self._variances.append(variances)
        else:
            self._losses[place], self._variances[place] = losses, variances
        self._is_learned = False

    def learn(self) -> Floats:
        """The losses believed in, (told, objectives): exact where cheap, expected elsewhere."""
        if not self._is_learned:
            self._is_learned = True
            observed, variances = np.array(self._losses), np.array(self._variances)
            features = self.featurise(self.genes)
            self._believed = observed.copy()
            for index in self.expensive:
                predictor = self.predictors[index]
                predictor.fit(features, observed[:, index], variances[:, index])
                self._believed[:, index] = predictor.told_mean()
        return self._believed

    def predict(self, genes: Genes) -> Floats:
        """Losses of new gene vectors, (n, objectives): exact where cheap, expected elsewhere."""
        losses = np.zeros((len(genes), len(self.problem.objectives)))
        features = self.featurise(genes) if self.expensive else None
        for index, objective in enumerate(self.problem.objectives):
            if features is not None and index in self.predictors:
                losses[:, index] = self.predictors[index].mean(features)
            else:
                losses[:, index] = self._signs[index] * objective.numbers(genes)
        return losses

    def believed(self, candidates: Iterable[Candidate]) -> list[Candidate]:
        """The candidates with a Belief of each number that has a known noise and was told.

        One that stopped early is known to be worse than others; nothing else is believed of it.
        """
        candidates = list(candidates)
        if len(self) < FEWEST or not self.expensive:
            return candidates
        self.learn()
        encode = self.problem.space.encode
        rows = [np.array(encode(one.architecture), dtype=np.uint8) for one in candidates]
        places = [self._place.get(key(row)) for row in rows]
        for index in self.expensive:
            name, sign = self.problem.axes[index].name, self._signs[index]
            quantiles = sign * self.predictors[index].told(np.array([0.0, -Z_95, Z_95]))
            candidates = [
                candidate if at is None else _believing(candidate, name, quantiles[:, at])
                for candidate, at in zip(candidates, places, strict=True)
            ]
        return candidates


def _believing(candidate: Candidate, name: str, quantiles: Floats) -> Candidate:
    value = candidate.values[name]
    if value.variance is None or value.stopped_early:
        return candidate
    mean, *interval = map(float, quantiles)
    belief = Belief(mean, min(interval), max(interval))
    return Candidate(
        candidate.architecture, {**candidate.values, name: replace(value, belief=belief)}
    )
