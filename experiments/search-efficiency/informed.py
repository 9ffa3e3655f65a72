"""How far learning could take a search of an enumerated space: one that knows all others.

`noise.py search --algorithm informed:TaughtByAll --label "taught by all"` runs it. What even this
one misses is not a fault of a predictor: networks scatter about what their choices make them, and a
result says so of its own network alone.
"""

from dataclasses import dataclass
from pathlib import Path

import numpy as np
from truth import Truth

from nassearch.search.algorithms.gaussian_process import Features, Featuriser, GenePredictor
from nassearch.search.algorithms.guided import Guided
from nassearch.search.feasible_region import FeasibleRegion
from nassearch.search.problem import Floats, Problem

FOLDS = 10


@dataclass(frozen=True)
class _Taught:
    """What a predictor taught all other accuracies of a table, without noise, expects of each."""

    rows: dict[bytes, int]
    losses: Floats
    own: float
    """The variance of what it cannot know: an architecture's own."""

    @classmethod
    def of(cls, truth: Truth, featurise: Featuriser) -> "_Taught":
        features = featurise(truth.genes)
        part = np.random.default_rng(0).permutation(len(truth.genes)) % FOLDS
        losses = np.empty(len(part))
        for number in range(FOLDS):
            others, held_out = part != number, part == number
            predictor = GenePredictor()
            known = Features(features.choices[others], features.sizes[others])
            predictor.fit(known, -truth.accuracies[others], np.zeros(int(others.sum())))
            losses[held_out] = predictor.mean(
                Features(features.choices[held_out], features.sizes[held_out])
            )
        rows = {row: index for index, row in enumerate(_rows(features))}
        return cls(rows, losses, float(np.mean((losses + truth.accuracies) ** 2)))


def _rows(features: Features) -> list[bytes]:
    return [row.tobytes() for row in np.round(features.choices, 6) + 0.0]


class TaughtPredictor:
    """Knows what all other networks tell; each result says something of its own network alone."""

    def __init__(self, taught: _Taught) -> None:
        self._taught = taught

    def fit(self, features: Features, losses: Floats, variances: Floats) -> None:
        self._noise = variances + 1e-12
        expected, own = self.mean(features), self._taught.own
        share = own / (own + self._noise)
        self._believed, self._left = expected + share * (losses - expected), own * (1 - share)

    @property
    def error(self) -> float:
        return float(np.sqrt(np.median(self._noise)))

    def told_mean(self) -> Floats:
        return self._believed

    def told(self, deviations: Floats, *, after_one_more: bool = False) -> Floats:
        return self._believed + deviations[:, None] * np.sqrt(self._left)

    def mean(self, features: Features) -> Floats:
        return self._taught.losses[[self._taught.rows[row] for row in _rows(features)]]

    def quantiles(
        self, features: Features, deviations: Floats, *, after_one_more: bool = False
    ) -> Floats:
        variance = self._taught.own
        if after_one_more:
            variance = variance**2 / (variance + self.error**2)
        return self.mean(features) + deviations[:, None] * np.sqrt(variance)


class TaughtByAll(Guided):
    """Has learned from every other network of the table, without noise, before it starts."""

    def __init__(self, problem: Problem, region: FeasibleRegion, options: Guided.Options) -> None:
        super().__init__(problem, region, options)
        truth = problem.objectives[0].evaluate.__self__  # type: ignore[union-attr]
        self.posterior.predictors = {0: TaughtPredictor(taught(truth, self.posterior.featurise))}  # type: ignore[dict-item]


_TAUGHT: dict[Path, _Taught] = {}


def taught(truth: Truth, featurise: Featuriser) -> _Taught:
    """Made once for each table, for it takes a minute."""
    if truth.table.csv not in _TAUGHT:
        _TAUGHT[truth.table.csv] = _Taught.of(truth, featurise)
    return _TAUGHT[truth.table.csv]
