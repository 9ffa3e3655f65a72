"""Optuna's samplers under hard budgets: TPE, NSGA-II, NSGA-III, GP and random search.

The study is the sampler's memory and lives in this process; what is kept on disk is the journal's
business, so every algorithm is resumed in the same way.

How a sampler learns of a budget (Optuna 5): a proposal over budget gets its constraint values and
the state PRUNED, without objective values, for it is never evaluated and no accuracy is made up.
TPE ranks such trials by violation among the bad ones. NSGA-II, NSGA-III and GP only look at
COMPLETE trials: the genetic samplers thus breed from parents within the budget only, and GP fits
its constraint models to the slack of the trials within it. A proposal that was asked before is
FAIL, which no sampler reads.
"""

import warnings
from typing import Annotated, ClassVar

import numpy as np
import optuna
from optuna.samplers import (
    BaseSampler,
    GPSampler,
    NSGAIIISampler,
    NSGAIISampler,
    RandomSampler,
    TPESampler,
)
from optuna.trial import TrialState
from pydantic import Field

from nassearch.config import StrictModel
from nassearch.search.candidate import Candidate
from nassearch.search.feasible_region import FeasibleRegion, key
from nassearch.search.problem import Problem
from nassearch.space.architecture import Architecture
from nassearch.space.search_space import Genes

# Proposals a sampler may make for each architecture before its last one is repaired. More of them
# cost more than they teach: every sampler walks over all trials, refused ones too, at each ask.
ATTEMPTS = 3


class SamplerOptions(StrictModel):
    """Proposals a sampler may make for each architecture before its last one is repaired."""

    attempts: Annotated[int, Field(ge=1)] = ATTEMPTS


class PopulationOptions(SamplerOptions):
    """Of the genetic samplers also how many candidates make a generation."""

    population_size: Annotated[int, Field(ge=2)] = 50


class OneAttempt(SamplerOptions):
    """Of samplers that learn nothing from a proposal that was refused."""

    attempts: Annotated[int, Field(ge=1)] = 1


class OptunaSearch:
    """Ask/tell over one Optuna sampler, with one parameter per gene.

    Choices are integers, in the order the space lists them: numbers are sorted there, so that a
    model may use their order.
    """

    Options: ClassVar[type[StrictModel]] = SamplerOptions

    def __init__(
        self,
        problem: Problem,
        region: FeasibleRegion,
        options: SamplerOptions,
        *,
        sampler: BaseSampler,
    ) -> None:
        optuna.logging.set_verbosity(optuna.logging.WARNING)
        self.problem = problem
        self.region = region
        self._rng = np.random.default_rng([problem.seed, 1])
        self._attempts = options.attempts
        self._known: set[bytes] = set()
        self._running: dict[bytes, optuna.Trial] = {}
        directions = [
            "maximize" if objective.direction == "max" else "minimize"
            for objective in problem.objectives
        ]
        self._study = optuna.create_study(directions=directions, sampler=sampler)

    def ask(self, count: int) -> list[Architecture]:
        asked: list[Architecture] = []
        while len(asked) < count:
            trial, genes = self._propose()
            if trial is None:
                break
            self._known.add(key(genes))
            self._running[key(genes)] = trial
            asked.append(self.problem.space.decode(genes.tolist()))
        return asked

    def tell(self, candidate: Candidate) -> None:
        genes = np.array(self.problem.space.encode(candidate.architecture), dtype=np.uint8)
        self._known.add(key(genes))
        trial = self._running.pop(key(genes), None)
        if trial is None:
            trial = self._fixed(genes, quickly=True)
        values = [candidate.number(axis.name) for axis in self.problem.axes]
        if np.isfinite(values).all():
            self._constrain(trial, genes)
            self._study.tell(trial, values)
        else:
            self._study.tell(trial, state=TrialState.FAIL)

    def _propose(self) -> tuple[optuna.Trial | None, Genes]:
        """A running trial and its genes, new and within the budgets; None where none is left."""
        genes = self.region.feasible_point
        for _ in range(self._attempts):
            trial = self._study.ask()
            genes = self._suggest(trial)
            if key(genes) in self._known:
                self._study.tell(trial, state=TrialState.FAIL)
            elif self.region.is_feasible(genes[None])[0]:
                return trial, genes
            else:
                self._constrain(trial, genes)
                self._study.tell(trial, state=TrialState.PRUNED)
        repaired = self.region.repair(genes[None], rng=self._rng)
        if key(repaired[0]) in self._known:
            near = self.region.mutate(np.tile(genes, (32, 1)), rng=self._rng)
            near = self.region.repair(near, rng=self._rng)
            repaired = near[[key(row) not in self._known for row in near]]
        if not len(repaired):
            repaired = self.region.sample(1, rng=self._rng, exclude=self._known)
        if not len(repaired):
            return None, genes
        return self._fixed(repaired[0]), repaired[0]

    def _suggest(self, trial: optuna.Trial) -> Genes:
        """The canonical genes, (genes,), of a trial's parameters."""
        choices = [
            trial.suggest_int(gene.name, 0, len(gene.choices) - 1)
            for gene in self.problem.space.genes
        ]
        return self.problem.space.canonical(np.array([choices], dtype=np.uint8))[0]

    def _fixed(self, genes: Genes, *, quickly: bool = False) -> optuna.Trial:
        """A running trial of the given genes.

        `quickly` keeps model-based samplers from fitting a model that would not be used; the
        genetic ones must see the trial, for they number its generation.
        """
        names = [gene.name for gene in self.problem.space.genes]
        self._study.enqueue_trial(dict(zip(names, genes.tolist(), strict=True)))
        sampler = self._study.sampler
        if quickly and isinstance(sampler, TPESampler | GPSampler):
            self._study.sampler = RandomSampler(seed=self.problem.seed)
        trial = self._study.ask()
        self._suggest(trial)
        self._study.sampler = sampler
        return trial

    def _constrain(self, trial: optuna.Trial, genes: Genes) -> None:
        """Say by how much, relative to the limit, each budget is exceeded (below 0: kept)."""
        for name, limit in self.problem.limits.items():
            number = float(self.problem.quantity(name).numbers(genes[None])[0])
            trial.set_constraint(name, (number - limit) / max(abs(limit), 1e-12))


class Random(OptunaSearch):
    """Independent uniform choices; those over budget are repaired."""

    Options = OneAttempt

    def __init__(self, problem: Problem, region: FeasibleRegion, options: OneAttempt) -> None:
        super().__init__(problem, region, options, sampler=RandomSampler(seed=problem.seed))


class TPE(OptunaSearch):
    """Tree-structured Parzen estimator, multivariate (Watanabe, "TPE: Understanding Its
    Algorithm Components", 2023)."""

    def __init__(self, problem: Problem, region: FeasibleRegion, options: SamplerOptions) -> None:
        sampler = TPESampler(seed=problem.seed, multivariate=True, constant_liar=True)
        super().__init__(problem, region, options, sampler=sampler)


class NSGA2(OptunaSearch):
    """NSGA-II with Optuna's population of 50 (Deb et al. 2002)."""

    Options = PopulationOptions

    def __init__(
        self, problem: Problem, region: FeasibleRegion, options: PopulationOptions
    ) -> None:
        sampler = NSGAIISampler(seed=problem.seed, population_size=options.population_size)
        super().__init__(problem, region, options, sampler=sampler)


class NSGA3(OptunaSearch):
    """NSGA-III with Optuna's population of 50, for three and more objectives (Deb & Jain 2014)."""

    Options = PopulationOptions

    def __init__(
        self, problem: Problem, region: FeasibleRegion, options: PopulationOptions
    ) -> None:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", optuna.exceptions.ExperimentalWarning)
            sampler = NSGAIIISampler(seed=problem.seed, population_size=options.population_size)
        super().__init__(problem, region, options, sampler=sampler)


class GP(OptunaSearch):
    """A Gaussian process with (log) expected hypervolume improvement; seconds a candidate."""

    Options = OneAttempt

    def __init__(self, problem: Problem, region: FeasibleRegion, options: OneAttempt) -> None:
        super().__init__(problem, region, options, sampler=GPSampler(seed=problem.seed))
