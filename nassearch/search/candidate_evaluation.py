"""Measuring candidates: each quantity of a problem, from the cache where it is known."""

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from types import MappingProxyType
from typing import Protocol

from nassearch.provenance import Estimate
from nassearch.search.candidate import Candidate
from nassearch.search.problem import Objective, Problem
from nassearch.space.architecture import Architecture


class Cache(Protocol):
    """Values of expensive objectives that are known already.

    The owner knows of which supernet and split; an objective's `source` says the rest.
    """

    def get(self, objective: Objective, architecture: Architecture) -> Estimate | None: ...

    def put(self, objective: Objective, architecture: Architecture, value: Estimate) -> None: ...


ToBeat = Callable[[Architecture], Mapping[str, float]]
"""The numbers a candidate must beat to be of use; empty where any would be."""


class Evaluate(Protocol):
    """Evaluates candidates in any order and yields each as it is done.

    Architectures are taken one by one when their evaluation can begin: later ones are chosen by
    what the earlier ones gave.
    """

    def __call__(
        self, architectures: Iterable[Architecture], *, to_beat: ToBeat
    ) -> Iterator[Candidate]: ...


def serial(problem: Problem, *, cache: Cache | None = None) -> Evaluate:
    """Evaluation in this process, one architecture after the other."""

    def evaluate(architectures: Iterable[Architecture], *, to_beat: ToBeat) -> Iterator[Candidate]:
        for architecture in architectures:
            needed = to_beat(architecture)
            values = measure(problem.quantities, architecture, cache=cache, to_beat=needed)
            yield Candidate(architecture, values)

    return evaluate


def measure(
    objectives: Sequence[Objective],
    architecture: Architecture,
    *,
    cache: Cache | None,
    to_beat: Mapping[str, float] = MappingProxyType({}),
) -> dict[str, Estimate]:
    """Every objective's value; expensive ones come from the cache where it has them.

    One that will surely not reach the number `to_beat` is cut short, and not kept in the cache.
    """
    values = {}
    for objective in objectives:
        known = None if cache is None or objective.is_cheap else cache.get(objective, architecture)
        value = known or _value(objective, architecture, to_beat=to_beat.get(objective.name))
        if cache is not None and known is None:
            keep_value(cache, objective, architecture, value)
        values[objective.name] = value
    return values


def keep_value(
    cache: Cache, objective: Objective, architecture: Architecture, value: Estimate
) -> None:
    """Put into the cache what is expensive and whole."""
    if not objective.is_cheap and value.is_finite and not value.stopped_early:
        cache.put(objective, architecture, value)


def _value(objective: Objective, architecture: Architecture, *, to_beat: float | None) -> Estimate:
    """One objective's value, cut short where it can be and will surely not reach `to_beat`."""
    if to_beat is None or objective.evaluate_early_stop is None:
        return objective.evaluate(architecture)
    return objective.evaluate_early_stop(architecture, to_beat)
