"""Expensive objectives on Ray workers, everything else here."""

from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from functools import partial
from pathlib import Path

import torch

from nassearch.objectives.objective import build
from nassearch.pipeline.trained_supernet import TrainedSupernet
from nassearch.provenance import Estimate
from nassearch.search import candidate_evaluation
from nassearch.search.candidate import Candidate
from nassearch.search.candidate_evaluation import Cache, Evaluate, ToBeat
from nassearch.search.problem import Problem
from nassearch.search.workers import Measure, Workers
from nassearch.space import Architecture


class Distributed:
    """Follows the runner's Evaluate protocol: what is not known yet is measured on the workers."""

    def __init__(self, problem: Problem, cache: Cache, workers: Workers) -> None:
        self._problem = problem
        self._cache = cache
        self._workers = workers

    def __call__(
        self, architectures: Iterable[Architecture], *, to_beat: ToBeat
    ) -> Iterator[Candidate]:
        for measured in self._workers(architectures, to_beat=to_beat, known=self._known):
            architecture, values = measured.architecture, dict(measured.values)
            for objective in self._problem.expensive:
                if self._cache.get(objective, architecture) is None:
                    value = values[objective.name]
                    candidate_evaluation.keep_value(self._cache, objective, architecture, value)
            for objective in self._problem.quantities:
                if objective.is_cheap:
                    values[objective.name] = objective.evaluate(architecture)
            ordered = {item.name: values[item.name] for item in self._problem.quantities}
            yield Candidate(architecture, ordered)

    def _known(self, architecture: Architecture) -> dict[str, Estimate] | None:
        """The expensive values where the cache has all of them."""
        values = {}
        for objective in self._problem.expensive:
            value = self._cache.get(objective, architecture)
            if value is None:
                return None
            values[objective.name] = value
        return values


@contextmanager
def evaluation(
    supernet: TrainedSupernet, problem: Problem, cache: Cache, *, workers: int, address: str | None
) -> Iterator[Evaluate]:
    """How candidates are evaluated: on workers that hold the supernet, or in this process."""
    if not workers and address is None:
        yield candidate_evaluation.serial(problem, cache=cache)
        return
    kinds = [objective.kind for objective in problem.expensive]
    factory = partial(
        _measure_expensive, supernet.directory.resolve(), tuple(kinds), supernet.precisions
    )
    with Workers(factory, workers=max(1, workers), address=address) as pool:
        yield Distributed(problem, cache, pool)


def _measure_expensive(run: Path, kinds: tuple[str, ...], precisions: tuple[str, ...]) -> Measure:
    """In a worker: load the supernet once, then measure architectures."""
    torch.set_num_threads(1)
    context = TrainedSupernet.load(run).deployed_in(precisions).context()
    expensive = [item for kind in kinds for item in build(kind, context)]

    def measure(architecture: Architecture, to_beat: Mapping[str, float]) -> dict[str, Estimate]:
        return candidate_evaluation.measure(expensive, architecture, cache=None, to_beat=to_beat)

    return measure
