"""Expensive objectives on Ray workers, everything else here."""

from collections.abc import Iterable, Iterator, Mapping
from contextlib import AbstractContextManager, nullcontext
from functools import partial
from pathlib import Path

import torch

from nassearch import objectives
from nassearch.search import runner
from nassearch.search.candidate import Candidate, ObjectiveValue, Problem
from nassearch.search.runner import Cache, Evaluate, ToBeat
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
        for found in self._workers(architectures, to_beat=to_beat, known=self._known):
            for name, value in found.values.items():
                is_new = self._cache.get(name, found.architecture) is None
                if is_new and value.is_finite and not value.stopped_early:
                    self._cache.put(name, found.architecture, value)
            yield self._complete(found.architecture, found.values)

    def _known(self, architecture: Architecture) -> dict[str, ObjectiveValue] | None:
        """The expensive values where the cache has all of them."""
        found = {}
        for objective in self._problem.quantities:
            if not objective.is_cheap:
                value = self._cache.get(objective.name, architecture)
                if value is None:
                    return None
                found[objective.name] = value
        return found

    def _complete(
        self, architecture: Architecture, expensive: Mapping[str, ObjectiveValue]
    ) -> Candidate:
        values = {
            objective.name: expensive[objective.name]
            if objective.name in expensive
            else objective.evaluate(architecture)
            for objective in self._problem.quantities
        }
        return Candidate(architecture, values)


def open_workers(
    run: Path, problem: Problem, *, workers: int, address: str | None
) -> AbstractContextManager[Workers | None]:
    """The workers that hold the supernet of `run`, or None where none were asked for."""
    if not workers and address is None:
        return nullcontext()
    names = [one.name for one in problem.quantities if not one.is_cheap]
    factory = partial(_measure_expensive, run.resolve(), tuple(names))
    return Workers(factory, workers=max(1, workers), address=address)


def evaluator(problem: Problem, cache: Cache, workers: Workers | None) -> Evaluate | None:
    """What evaluates candidates; None leaves it to the runner, in this process."""
    return None if workers is None else Distributed(problem, cache, workers)


def _measure_expensive(run: Path, names: tuple[str, ...]) -> Measure:
    """In a worker: load the supernet once, then measure architectures."""
    from nassearch.pipeline.search import TrainedSupernet

    torch.set_num_threads(1)
    context = TrainedSupernet.load(run).context(())
    wanted = [one for name in names for one in objectives.build(name, context)]

    def measure(
        architecture: Architecture, to_beat: Mapping[str, float]
    ) -> dict[str, ObjectiveValue]:
        return runner.measure(wanted, architecture, cache=None, to_beat=to_beat)

    return measure
