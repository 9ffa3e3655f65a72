"""The search loop: ask, evaluate, tell, and write everything down as it happens."""

import math
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from types import MappingProxyType
from typing import Protocol

import numpy as np

from nassearch.errors import SearchError
from nassearch.search.algorithm import Algorithm
from nassearch.search.candidate import Candidate, Objective, ObjectiveValue, Problem
from nassearch.search.journal import Journal
from nassearch.search.pareto import ParetoFront
from nassearch.space.architecture import Architecture

SMALLEST_BATCH, LARGEST_BATCH = 4, 10


class Cache(Protocol):
    """Values of expensive objectives known already; the owner knows of which supernet and split."""

    def get(self, objective: str, architecture: Architecture) -> ObjectiveValue | None: ...

    def put(self, objective: str, architecture: Architecture, value: ObjectiveValue) -> None: ...


class Progress(Protocol):
    """Called after each candidate; `best` is the best in the first objective within the budgets."""

    def __call__(
        self,
        *,
        done: int,
        total: int,
        front_size: int,
        hypervolume: float,
        best: Candidate | None,
    ) -> None: ...


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


def search(
    problem: Problem,
    *,
    algorithm: Callable[[Problem], Algorithm],
    trials: int,
    out: Path,
    batch: int | None = None,
    resume: bool = False,
    cache: Cache | None = None,
    progress: Progress | None = None,
    evaluate: Evaluate | None = None,
    first: Sequence[Architecture] = (),
    given: Sequence[Candidate] = (),
) -> ParetoFront:
    """Evaluate up to `trials` candidates and return the front over the problem's objectives.

    `algorithm` is a class of ALGORITHMS. It is asked for `batch` candidates at a time; unset, for
    as many as `batch_after` says. Candidates over budget are never evaluated. With `resume`
    an interrupted search with the same settings goes on to the same total. A candidate with a NaN
    is recorded, counts as a trial and is not on the front. `evaluate` replaces the serial
    evaluation in this process (see `workers`). Those in `first` are evaluated before any that the
    algorithm asks for, so that budgets tighter than the problem's are sure of a candidate. A new
    search starts from the candidates `given`, which are known already and are no trials. Fewer
    candidates come back where the space within the budgets holds no more.

    Raises BudgetError where a budget cannot be reached, SearchError where no candidate has finite
    numbers. KeyboardInterrupt passes through after the front so far is written.
    """
    if trials < 1 or (batch is not None and batch < 1):
        raise SearchError("trials and batch must be at least 1")
    chooser = algorithm(problem)  # first: an unreachable budget leaves no directory behind
    reference = Reference(problem)
    front = ParetoFront(problem.axes)

    expensive = [objective for objective in problem.objectives if not objective.is_cheap]

    def to_beat(architecture: Architecture) -> Mapping[str, float]:
        if len(expensive) != 1:
            return {}
        (one,) = expensive
        others = [other for other in problem.objectives if other is not one]
        numbers = {other.name: other.evaluate(architecture).number for other in others}
        best = front.to_beat(one.name, numbers)
        return {} if best is None else {one.name: best}

    def take(candidate: Candidate) -> None:
        chooser.tell(candidate)
        if candidate.is_finite:
            front.add(candidate)
            reference.see(candidate)

    name = f"{getattr(algorithm, '__module__', '')}:{getattr(algorithm, '__qualname__', '')}"
    with Journal.open(out, problem, algorithm=name, resume=resume) as journal:
        if not journal.candidates:
            for candidate in given:
                journal.append(candidate, given=True)
        for candidate in list(journal.candidates):
            take(candidate)
        told = {candidate.architecture for candidate in journal.candidates}
        waiting = [architecture for architecture in first if architecture not in told]

        def proposals(asked: int) -> Iterator[Architecture]:
            begun = set[Architecture]()
            while asked < trials:
                count = min(batch or batch_after(asked), trials - asked)
                chosen = waiting[:count] or chooser.ask(count)
                del waiting[:count]
                if not chosen:
                    return
                for architecture in chosen:
                    if architecture not in begun:  # the algorithm knows of `first` only when told
                        begun.add(architecture)
                        asked += 1
                        yield architecture

        evaluated = evaluate or serial(problem, cache=cache)
        try:
            for candidate in evaluated(proposals(journal.num_trials), to_beat=to_beat):
                journal.append(candidate)
                take(candidate)
                if progress is not None:
                    progress(
                        done=journal.num_trials,
                        total=trials,
                        front_size=len(front),
                        hypervolume=front.hypervolume(reference.numbers),
                        best=front.sorted()[0] if len(front) else None,
                    )
        finally:
            journal.finish(front)
    if not len(front):
        raise SearchError(
            f"none of {len(journal.candidates)} candidates has finite numbers",
            where=journal.directory / "candidates.csv",
            fix="look there at which objective is NaN",
        )
    return front


def batch_after(done: int) -> int:
    """How many to ask for at once: few at first, while each result teaches most."""
    return min(LARGEST_BATCH, max(SMALLEST_BATCH, done // 16))


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
) -> dict[str, ObjectiveValue]:
    """Every objective's value; expensive ones come from the cache where it has them.

    One that will surely not reach the number `to_beat` is cut short, and not kept in the cache.
    """
    values = {}
    for objective in objectives:
        known = None
        if cache is not None and not objective.is_cheap:
            known = cache.get(objective.name, architecture)
        value = known or _value(objective, architecture, to_beat=to_beat.get(objective.name))
        is_new = known is None and not objective.is_cheap
        if cache is not None and is_new and value.is_finite and not value.stopped_early:
            cache.put(objective.name, architecture, value)
        values[objective.name] = value
    return values


def _value(
    objective: Objective, architecture: Architecture, *, to_beat: float | None
) -> ObjectiveValue:
    """One objective's value, cut short where it can be and will surely not reach `to_beat`."""
    if to_beat is None or objective.evaluate_early_stop is None:
        return objective.evaluate(architecture)
    return objective.evaluate_early_stop(architecture, to_beat)


class Reference:
    """The point hypervolume is measured from: fixed early, so that progress only ever grows.

    A budgeted objective has its limit; another cheap one its worst among the corners and random
    architectures; an expensive one the worst of the first candidates.
    """

    FIRST = 5

    def __init__(self, problem: Problem) -> None:
        self._first: list[Candidate] = []
        self._axes = problem.axes
        self.numbers: dict[str, float] = {}
        space = problem.space
        corners = [space.encode(space.smallest), space.encode(space.largest)]
        genes = np.vstack([corners, space.sample_genes(np.random.default_rng(0), 256)])
        for objective in problem.objectives:
            if objective.name in problem.limits and objective.direction == "min":
                self.numbers[objective.name] = problem.limits[objective.name]
            elif objective.is_cheap:
                losses = objective.axis.sign * objective.numbers(genes.astype(np.uint8))
                self.numbers[objective.name] = float(objective.axis.sign * losses.max())
        self._open = [axis for axis in self._axes if axis.name not in self.numbers]

    def see(self, candidate: Candidate) -> None:
        """Take in a candidate, in the order told."""
        if len(self._first) >= self.FIRST:
            return
        self._first.append(candidate)
        for axis in self._open:
            worst = max(axis.sign * item.number(axis.name) for item in self._first)
            if math.isfinite(worst):
                self.numbers[axis.name] = axis.sign * worst
