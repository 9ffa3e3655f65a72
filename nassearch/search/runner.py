"""The search loop: ask, evaluate, tell, and write everything down as it happens."""

import math
import time
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal

import numpy as np

from nassearch import interruption
from nassearch.errors import Interrupted, SearchError
from nassearch.progress import Progress, silent
from nassearch.search.algorithm import Algorithm, make_algorithm
from nassearch.search.candidate import Candidate
from nassearch.search.candidate_evaluation import Evaluate, serial
from nassearch.search.journal import Journal
from nassearch.search.pareto import ParetoFront
from nassearch.search.posterior import Outlook, Posterior
from nassearch.search.problem import ACCURACY, Problem
from nassearch.space.architecture import Architecture

SMALLEST_BATCH, LARGEST_BATCH = 2, 10
PATIENCE = 3
"""Times in a row that an algorithm expects too little, before a search ends by it."""
MOST_TRIALS = 2_000
"""Of a search that ends itself or when its time is up, where no number is given."""


@dataclass(frozen=True)
class SearchPlan:
    """How a problem is searched.

    `algorithm` is a name of ALGORITHMS or a user's 'my_package.module:Class', asked for `batch`
    candidates at a time; unset, for as many as `batch_after` says. The architectures in `first`
    are evaluated before any that the algorithm asks for, so that budgets tighter than the
    problem's are sure of a candidate. A new search starts from the candidates `given`, which are
    known already and are no trials. `seconds` is a time in which the search ends: no evaluation
    begins that is not expected to end within it. One that `ends_itself` ends, before its `trials`
    too, where it expects less from going on than the noise hides.
    """

    algorithm: str = "guided"
    options: Mapping[str, object] = field(default_factory=dict)
    trials: int = 100
    batch: int | None = None
    first: tuple[Architecture, ...] = ()
    given: tuple[Candidate, ...] = ()
    seconds: float | None = None
    ends_itself: bool = False

    @classmethod
    def sized(
        cls,
        algorithm: str,
        options: Mapping[str, object],
        *,
        trials: int | Literal["auto"] | None,
        timed: bool,
    ) -> "SearchPlan":
        """A plan for so many trials; by default 100, or what time allows where it is `timed`."""
        if trials == "auto":
            return cls(algorithm, options, MOST_TRIALS, ends_itself=True)
        if trials is None:
            return cls(algorithm, options, MOST_TRIALS if timed else cls.trials)
        return cls(algorithm, options, trials)

    def __post_init__(self) -> None:
        if self.seconds is not None and self.seconds <= 0:
            raise SearchError(
                "leaves no time to search", where="time budget", fix="give a longer one"
            )
        if self.trials < 1 or (self.batch is not None and self.batch < 1):
            raise SearchError(
                "trials and batch must be at least 1",
                where="search plan",
                fix="leave them out, or give 1 or more",
            )


def search(
    problem: Problem,
    plan: SearchPlan,
    *,
    out: Path,
    resume: bool = False,
    evaluate: Evaluate | None = None,
    progress: Progress = silent,
) -> ParetoFront:
    """Evaluate up to `plan.trials` candidates and return the front over the objectives.

    Candidates over budget are never evaluated. With `resume` an interrupted search with the same
    settings goes on to the same total. A candidate with a NaN is recorded, counts as a trial and is
    not on the front. Fewer candidates come back where the space within the budgets holds no more.
    Ctrl-C, SIGTERM and SIGHUP let the candidate under way end; KeyboardInterrupt passes through
    after it and the front so far are written.

    Args:
        problem: the objectives, and the budgets that every candidate keeps.
        plan: the algorithm and how many candidates it may evaluate.
        out: the directory below which the search gets one of its own.
        evaluate: replaces the serial evaluation in this process (see `workers`).

    Raises:
        BudgetError: a budget cannot be reached; nothing was written.
        SearchError: no candidate has finite numbers, or `plan.ends_itself` asks too much of the
            algorithm.
    """
    # first: an unreachable budget leaves no directory behind
    algorithm = make_algorithm(problem, plan.algorithm, options=plan.options)
    if plan.ends_itself and not hasattr(algorithm, "outlook"):
        raise SearchError(
            f"the algorithm {plan.algorithm} does not say what it expects from going on",
            where="trials auto",
            fix="give a number of trials, or search with the algorithm guided",
        )
    with Journal.open(out, problem, algorithm=plan.algorithm, resume=resume) as journal:
        run = _SearchRun(problem, plan, algorithm, journal)
        run.take_known()
        evaluated = evaluate or serial(problem)
        try:
            with interruption.deferred() as interrupted:
                for candidate in evaluated(run.proposals(), to_beat=run.to_beat):
                    run.add(candidate)
                    progress("searching", run.fraction(), run.note())
                    if interrupted.requested:
                        raise KeyboardInterrupt
        except KeyboardInterrupt as error:
            done = f"{journal.num_trials} of {plan.trials} trials are in {journal.directory}"
            raise Interrupted(f"{done}, --resume goes on") from error
        finally:
            run.conclude()
            journal.finish(run.front)
    if not len(run.front):
        raise SearchError(
            f"none of {len(journal.candidates)} candidates has finite numbers",
            where=journal.directory / "candidates.csv",
            fix="look there at which objective is NaN",
        )
    return run.front


def batch_after(done: int) -> int:
    """How many to ask for at once: few at first, while each result teaches most."""
    return min(LARGEST_BATCH, max(SMALLEST_BATCH, done // 16))


class _SearchRun:
    """A search under way: what its algorithm, its front and its journal know."""

    def __init__(
        self, problem: Problem, plan: SearchPlan, algorithm: Algorithm, journal: Journal
    ) -> None:
        self.problem = problem
        self.plan = plan
        self.algorithm = algorithm
        self.journal = journal
        self.reference = Reference(problem)
        self.posterior: Posterior | None = getattr(algorithm, "posterior", None)
        self.clock = Clock(plan.seconds)
        self.remark: str | None = None
        self._idle_asks = 0
        self.front = ParetoFront(problem.axes)

    def take_known(self) -> None:
        """Take in what the journal holds; a new one begins with the candidates given."""
        if not self.journal.candidates:
            for candidate in self.plan.given:
                self.journal.append(candidate, given=True)
        for candidate in list(self.journal.candidates):
            self._take(candidate)

    def add(self, candidate: Candidate) -> None:
        """Write a new candidate down, then take it in."""
        self.clock.end(candidate.architecture)
        self.journal.append(candidate)
        self._take(candidate)

    def _take(self, candidate: Candidate) -> None:
        self.algorithm.tell(candidate)
        if candidate.is_finite:
            self.front.add(candidate)
            self.reference.see(candidate)

    def believe(self) -> None:
        """Replace the front by the one of what the algorithm believes, where it says so.

        New candidates stand on it as they were observed until it has learned from them.
        """
        if self.posterior is not None:
            finite = [item for item in self.journal.candidates if item.is_finite]
            self.front = ParetoFront(self.problem.axes, self.posterior.believed(finite))

    def conclude(self) -> None:
        """Keep in the journal what is believed of each candidate, and the front of that.

        A search whose algorithm learns nothing itself is concluded by a posterior of its own.
        """
        if self.posterior is None:
            self.posterior = Posterior(self.problem)
            for candidate in self.journal.candidates:
                self.posterior.tell(candidate)
        believed = self.posterior.believed(self.journal.candidates)
        self.journal.conclude(believed, remark=self.remark)
        self.believe()

    def proposals(self) -> Iterator[Architecture]:
        """Architectures to evaluate, each once, until the trials are used up."""
        known = {candidate.architecture for candidate in self.journal.candidates}
        waiting = [architecture for architecture in self.plan.first if architecture not in known]
        asked = self.journal.num_trials
        begun = set[Architecture]()
        while asked < self.plan.trials:
            count = min(self.plan.batch or batch_after(asked), self.plan.trials - asked)
            chosen = waiting[:count] or self.algorithm.ask(count)
            self.believe()
            del waiting[:count]
            if not chosen or self._is_done():
                return
            for architecture in chosen:
                if architecture in begun:  # the algorithm knows of `first` only when told
                    continue
                if not self.clock.has_time():
                    self.remark = self._out_of_time()
                    return
                begun.add(architecture)
                asked += 1
                self.clock.begin(architecture)
                yield architecture

    def _is_done(self) -> bool:
        """Whether the algorithm expects less from going on than the noise hides; notes when."""
        outlook: Outlook | None = getattr(self.algorithm, "outlook", None)
        told = len(self.journal.candidates)
        idle = outlook is not None and not outlook.is_worth_it(told)
        self._idle_asks = self._idle_asks + 1 if idle else 0
        if self._idle_asks < PATIENCE:
            return False
        begins = "ended" if self.plan.ends_itself else "could have ended"
        self.remark = self.remark or (
            f"the search {begins} after {self.journal.num_trials} trials: from a quarter more it"
            " expects less than the noise of an accuracy hides"
            + ("" if self.plan.ends_itself else " (--trials auto ends there)")
        )
        return self.plan.ends_itself

    def _out_of_time(self) -> str:
        done = self.journal.num_trials
        return f"the search ended after {done} trials: the time allows no evaluation more"

    def fraction(self) -> float:
        """How much of the trials, or of the time, is used up, 0..1."""
        return min(1.0, max(self.journal.num_trials / self.plan.trials, self.clock.fraction))

    def to_beat(self, architecture: Architecture) -> Mapping[str, float]:
        """The number that the one expensive objective must reach to be on the front."""
        expensive = [item for item in self.problem.objectives if not item.is_cheap]
        if len(expensive) != 1:
            return {}
        cheap = [item for item in self.problem.objectives if item.is_cheap]
        numbers = {item.name: item.evaluate(architecture).value for item in cheap}
        best = self.front.to_beat(expensive[0].name, numbers)
        return {} if best is None else {expensive[0].name: best}

    def note(self) -> str:
        """How far the search is, in a few words."""
        is_known = all(axis.name in self.reference.numbers for axis in self.problem.axes)
        volume = self.front.hypervolume(self.reference.numbers) if is_known else 0.0
        num_trials = self.journal.num_trials
        planned = self.clock.expected(num_trials)
        most = self.plan.trials if planned is None else min(planned, self.plan.trials)
        done = f"{num_trials}/{most}"
        text = f"{done}  front {len(self.front)}  hypervolume {volume:.3g}"
        if len(self.front) and ACCURACY in (best := self.front.sorted()[0]).values:
            text += f"  best {best.number(ACCURACY):.1%}"
        return text


class Clock:
    """The time that a search may take, and what its evaluations take."""

    def __init__(self, seconds: float | None) -> None:
        self._seconds = seconds
        self._began = time.monotonic()
        self._begun: dict[Architecture, float] = {}
        self._durations: list[float] = []

    def begin(self, architecture: Architecture) -> None:
        self._begun[architecture] = time.monotonic()

    def end(self, architecture: Architecture) -> None:
        if architecture in self._begun:
            self._durations.append(time.monotonic() - self._begun.pop(architecture))

    @property
    def fraction(self) -> float:
        """The share of the time that has passed; 0 without a limit."""
        return 0.0 if self._seconds is None else (time.monotonic() - self._began) / self._seconds

    def has_time(self) -> bool:
        """Whether one more evaluation is expected to end in time: as nine of ten did so far.

        One is always made, or nothing would come back.
        """
        if self._seconds is None or not (self._durations or self._begun):
            return True
        usual = float(np.quantile(self._durations, 0.9)) if self._durations else 0.0
        return time.monotonic() - self._began + usual <= self._seconds

    def expected(self, done: int) -> int | None:
        """How many trials there will be when the time is up; None where that is not known."""
        if self._seconds is None or done < 3 or not self.fraction:
            return None
        return max(done, round(done / self.fraction))


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
