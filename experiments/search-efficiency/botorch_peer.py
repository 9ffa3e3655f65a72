"""A peer: BoTorch's noisy expected hypervolume improvement, as its users set it up.

`pip install botorch`, then `noise.py search --algorithm botorch_peer:NoisyImprovement --label
qLogNEHVI`. Opening, batches, pool and how fronts are returned are those of `guided`, so that what
differs is the model and what is expected of a candidate.
"""

import warnings

import numpy as np
import torch
from botorch.acquisition.multi_objective.logei import qLogNoisyExpectedHypervolumeImprovement
from botorch.fit import fit_gpytorch_mll
from botorch.models import ModelList, SingleTaskGP
from botorch.models.deterministic import GenericDeterministicModel
from botorch.models.transforms import Standardize
from botorch.optim import optimize_acqf_discrete
from botorch.sampling.get_sampler import get_sampler
from gpytorch.mlls import ExactMarginalLogLikelihood
from torch import Tensor

from nassearch.search.algorithms.gaussian_process import Features
from nassearch.search.algorithms.guided import POOL, Guided
from nassearch.search.feasible_region import FeasibleRegion
from nassearch.search.problem import Floats, Problem
from nassearch.space.search_space import Genes, SearchSpace

SAMPLES = 64
LEAST_VARIANCE = 1e-8


class Ranks:
    """Genes as numbers from 0 to 1, the way discrete parameters are usually given to BoTorch."""

    def __init__(self, space: SearchSpace) -> None:
        self._top = np.array([max(1, len(gene.choices) - 1) for gene in space.genes])

    def __call__(self, genes: Genes) -> Features:
        return Features(genes / self._top, np.zeros((len(genes), 0)))

    def genes(self, ranks: Tensor) -> Genes:
        return np.rint(ranks.numpy() * self._top).astype(np.uint8)


class SingleTask:
    """SingleTaskGP with the known variances and its default priors."""

    def fit(self, features: Features, losses: Floats, variances: Floats) -> None:
        self.points = torch.tensor(features.choices)
        known = np.maximum(variances, LEAST_VARIANCE)
        self.model = SingleTaskGP(
            self.points,
            torch.tensor(-losses)[:, None],
            torch.tensor(known)[:, None],
            outcome_transform=Standardize(1),
        )
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            fit_gpytorch_mll(ExactMarginalLogLikelihood(self.model.likelihood, self.model))
        self.error = float(np.sqrt(np.median(known)))

    def told_mean(self) -> Floats:
        return self._moments(self.points)[0]

    def told(self, deviations: Floats, *, after_one_more: bool = False) -> Floats:
        mean, spread = self._moments(self.points)
        return mean + deviations[:, None] * spread

    def mean(self, features: Features) -> Floats:
        return self._moments(torch.tensor(features.choices))[0]

    def quantiles(
        self, features: Features, deviations: Floats, *, after_one_more: bool = False
    ) -> Floats:
        mean, spread = self._moments(torch.tensor(features.choices))
        return mean + deviations[:, None] * spread

    def _moments(self, points: Tensor) -> tuple[Floats, Floats]:
        with torch.no_grad():
            found = self.model.posterior(points)
        return -found.mean[:, 0].numpy(), found.variance[:, 0].sqrt().numpy()


class NoisyImprovement(Guided):
    """qLogNEHVI over accuracy and a cost that is known exactly."""

    def __init__(self, problem: Problem, region: FeasibleRegion, options: Guided.Options) -> None:
        super().__init__(problem, region, options)
        self._ranks = Ranks(problem.space)
        self.posterior.featurise = self._ranks  # type: ignore[assignment]
        self.posterior.predictors = {0: SingleTask()}  # type: ignore[dict-item]

    def _chosen(self, count: int) -> list[Genes]:
        told, believed = self.posterior.genes, self.posterior.learn()
        pool = self._pool(told, believed)
        pool = pool[self._select(self.posterior.predict(pool), POOL)]
        learned = self.posterior.predictors[0]
        assert isinstance(learned, SingleTask)
        unit = float(np.ptp(believed[:, 1]))

        def cheapness(points: Tensor) -> Tensor:
            flat = self._ranks.genes(points.reshape(-1, points.shape[-1]))
            costs = self.problem.objectives[1].numbers(flat) / unit
            return -torch.tensor(costs).reshape(*points.shape[:-1], 1)

        worst = believed.max(axis=0)
        both = ModelList(learned.model, GenericDeterministicModel(cheapness, num_outputs=1))
        posterior = both.posterior(learned.points)
        gain = qLogNoisyExpectedHypervolumeImprovement(
            both,
            ref_point=[-float(worst[0]), -float(worst[1]) / unit],
            X_baseline=learned.points,
            sampler=get_sampler(posterior, torch.Size([SAMPLES]), seed=len(told)),
            prune_baseline=True,
        )
        points, _ = optimize_acqf_discrete(
            gain, q=count, choices=torch.tensor(self._ranks(pool).choices), max_batch_size=512
        )
        return list(self._ranks.genes(points))
