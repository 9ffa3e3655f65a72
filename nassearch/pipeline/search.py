"""Searching a supernet and choosing the best network for each budget, measured where it can be."""

import time
import warnings
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from torch import nn

from nassearch import config
from nassearch.budget import Budget, BudgetSet, ShareBudget
from nassearch.data.dataset import Data
from nassearch.errors import BudgetError, ConfigError, Interrupted, SearchError
from nassearch.latency.device import resolve_setting
from nassearch.latency.table import LatencyTable
from nassearch.latency.target import Target, load_target, target_from_table
from nassearch.objectives.measured import accuracy_by, metric_objective, network_accuracy
from nassearch.objectives.objective import Context, build
from nassearch.pipeline.accuracy_table import AccuracyTable
from nassearch.pipeline.budget_limits import loosest, resolve_budgets
from nassearch.pipeline.evaluation_cache import known_candidates
from nassearch.pipeline.evaluation_workers import evaluation
from nassearch.pipeline.pick import (
    MEASURE_SECONDS,
    MeasuredLatency,
    Pick,
    choose,
    keep_snapshots,
    measure_front,
    recalibrated,
    write_picks,
)
from nassearch.pipeline.run_directory import torch_threads
from nassearch.pipeline.search_result import SearchResult
from nassearch.pipeline.trained_supernet import TrainedSupernet
from nassearch.progress import Progress, silent
from nassearch.search.feasible_region import FeasibleRegion
from nassearch.search.front_remark import front_remark
from nassearch.search.journal import latest_search, load_latest
from nassearch.search.pareto import ParetoFront
from nassearch.search.problem import ACCURACY, LATENCY, SENSITIVITY, Objective, Problem
from nassearch.search.runner import SearchPlan, search
from nassearch.setting import INT8, Setting
from nassearch.space import Architecture, SearchSpace
from nassearch.training.evaluation import warn_of_coarse_validation
from nassearch.training.task import Metric, as_metric

MAX_ROUNDS = 3
TIME_MARGIN = 0.05
"""The share of a time budget that is left for what is slower than it was before."""
LATER_SHARE = 4
LATER_LEAST = 8
WARM_START_SCORE = "zero_cost"

ObjectiveName = str | Callable[..., Any]


@dataclass(frozen=True)
class SearchRequest:
    """A search to be made, and with how much.

    Each of `budgets` gets a pick of its own. `evaluate` replaces the accuracy: a metric of images
    with targets, or see `objectives.network_accuracy`; so do `accuracies` that are known. Unless
    `cold`, a search starts from what earlier ones of the same weights evaluated. `workers` are
    Ray's; 0 evaluates in this process. `time_budget`, '1h', is a time in which the search ends, its
    measurements of the front among it.
    """

    budgets: tuple[BudgetSet, ...] = ()
    objectives: tuple[ObjectiveName, ...] = (ACCURACY, LATENCY)
    evaluate: Metric | Callable[[nn.Module], float | tuple[float, float]] | None = None
    plan: SearchPlan = field(default_factory=SearchPlan)
    seed: int = 0
    cold: bool = False
    workers: int = 0
    ray_address: str | None = None
    time_budget: str | None = None
    accuracies: AccuracyTable | None = None

    def __post_init__(self) -> None:
        if isinstance(self.evaluate, Metric) and (self.workers or self.ray_address is not None):
            raise ConfigError(
                "is measured in this process",
                where="evaluate",
                fix="search without workers, which know no metric of yours",
            )
        if self.accuracies is None:
            return
        if self.evaluate is not None:
            raise ConfigError("excludes evaluate", where="accuracies", fix="give one of them")
        if ACCURACY not in self.objectives:
            raise ConfigError(
                "are given, and not searched for",
                where="accuracies",
                fix=f"name the objective {ACCURACY}, or leave them out",
            )

    @property
    def texts(self) -> list[str]:
        """The budgets as they were given, a line for each set."""
        return [_text(budgets) for budgets in self.budgets]


Evaluate = str | Metric | Callable[..., Any]
"""What measures a network: of images with classes a function of it, or its name; of those with
targets a Metric."""


def resolve_evaluate(
    given: Evaluate | None, images: Data | None
) -> Metric | Callable[[nn.Module], float | tuple[float, float]] | None:
    """The metric, or function of a network, that `evaluate` gives or names.

    Raises ConfigError where it is none, or does not say which way is better.
    """
    found = config.resolve({}, given, kind="metric") if isinstance(given, str) else given
    if found is None or isinstance(found, Metric):
        return found
    if images is not None and images.has_targets:
        return as_metric(found)
    if not callable(found):
        raise ConfigError(
            f"is a {type(found).__name__}, not a function",
            where="evaluate",
            fix="give a function of the network that returns its accuracy",
        )
    function: Callable[[nn.Module], float | tuple[float, float]] = found
    return function


def usual_objectives(
    supernet: TrainedSupernet,
    evaluate: object = None,
    *,
    knows_accuracy: bool = False,
) -> tuple[ObjectiveName, ...]:
    """What is searched for where nobody says; without images a score of the structure alone."""
    if isinstance(evaluate, Metric):
        return (evaluate.name, LATENCY)
    if supernet.images is not None and supernet.images.has_targets and not knows_accuracy:
        raise ConfigError(
            "has targets of its own, and nobody says what is measured",
            where=supernet.images.name,
            fix="give evaluate=..., a function of a network and batches, or its name, --evaluate"
            " my_package.module:function",
        )
    if supernet.images is not None or knows_accuracy:
        return (ACCURACY, LATENCY)
    warnings.warn(
        f"{supernet.directory} has no images, so no accuracy is measured: networks are ranked by"
        f" {WARM_START_SCORE}, the entropy of their structure, which knows nothing of these"
        " weights; name images of its classes with --data",
        stacklevel=2,
    )
    return (WARM_START_SCORE, LATENCY)


def make_target(
    device: str | LatencyTable | Target,
    space: SearchSpace,
    *,
    places: Sequence[Path],
    runtime: str | None = None,
    precision: str | None = None,
    batch: int | None = None,
    threads: int | None = None,
) -> Target:
    """The target that a device's name, one of its settings, or a table stands for."""
    if isinstance(device, Target):
        return device
    if isinstance(device, LatencyTable):
        return target_from_table(device, space)
    known, setting = resolve_setting(
        device, runtime=runtime, precision=precision, batch=batch, threads=threads
    )
    return load_target(space, known, setting, places=places)


def search_supernet(
    supernet: TrainedSupernet,
    targets: Sequence[Target],
    request: SearchRequest,
    *,
    out: Path | None = None,
    resume: bool = False,
    progress: Progress = silent,
) -> SearchResult:
    """Search a supernet and choose the best network for each set of budgets.

    The search runs under the loosest of all sets. Where a target is this machine, the front is
    measured, and a network is chosen only when it was measured within its budgets; where
    predictions were too hopeful, they are fitted on the measurements and the search goes on.

    Raises:
        BudgetError: a budget cannot be read or reached; nothing was evaluated.
        SearchError: no network was measured within a budget in three rounds, or the time budget
            leaves none to search.
    """
    if supernet.is_unfinished:
        warnings.warn(
            f"{supernet.directory} is trained to step {supernet.step} of {supernet.num_steps};"
            f" go on with nassearch train-supernet --resume --out {supernet.directory}",
            stacklevel=2,
        )
    supernet = supernet.deployed_in(common_precisions(targets))
    end = deadline(request.time_budget, targets)
    out = supernet.directory if out is None else out
    targets = list(targets)
    budget_sets = resolve_budgets(request.budgets, supernet.context(targets))
    measured: dict[tuple[Setting, str], MeasuredLatency] = {}
    for number in range(MAX_ROUNDS):
        context = supernet.context(targets)
        problem = make_problem(request, context, budget_sets)
        front = _one_round(
            supernet,
            problem,
            timed(request, end),
            number,
            out=out,
            resume=resume,
            progress=progress,
        )
        keep_snapshots(out, targets)
        try:
            measured |= measure_front(front, supernet, targets)
        except KeyboardInterrupt as error:
            found = f"{len(front)} networks on the front are in {latest_search(out)}"
            raise Interrupted(f"{found}, --resume measures them") from error
        chosen = [choose(budgets, front, context, measured) for budgets in budget_sets]
        if None not in chosen:
            picks = tuple(
                Pick(text, *choice, supernet, out)
                for text, choice in zip(request.texts or [""], chosen, strict=True)
                if choice is not None
            )
            past = load_latest(out, space=supernet.space)
            remark = front_remark(front, past.candidates, problem) or past.remark
            write_picks(picks, measured, remark=remark)
            _warn_of_extrapolation(request, picks)
            return SearchResult(front, picks, supernet, out, remark)
        targets = [recalibrated(target, front, measured) for target in targets]
    missed = request.texts[chosen.index(None)]
    raise SearchError(
        f"no network was measured within {missed} in {MAX_ROUNDS} rounds",
        where=out,
        fix="profile the device again for longer, or give a larger budget",
    )


def common_precisions(targets: Sequence[Target]) -> tuple[str, ...]:
    """The precisions that blocks are deployed in on all targets; nothing where settings say one.

    Raises ConfigError where targets differ in it: a network with a policy has no latency in a
    setting of one precision.
    """
    found = {target.space.precisions: target for target in targets}
    if len(found) > 1:
        one, other = list(found.values())[:2]
        raise ConfigError(
            f"{one.setting} and {other.setting} do not deploy the same networks",
            where="devices",
            fix="search mixed settings apart from those of one precision",
        )
    return next(iter(found), ())


def deadline(time_budget: str | None, targets: Sequence[Target]) -> float | None:
    """When the last evaluation must end, by `time.monotonic()`, so that the front is measured."""
    if time_budget is None:
        return None
    seconds = config.parse_seconds(time_budget)
    measuring = MEASURE_SECONDS * sum(item.is_here for item in targets)
    if (1 - TIME_MARGIN) * seconds <= measuring:
        raise BudgetError(
            f"is too short: measuring the front alone takes {config.format_seconds(measuring)}",
            where=f"time budget {time_budget}",
            fix=f"allow at least {config.format_seconds(2 * measuring)}",
        )
    return time.monotonic() + (1 - TIME_MARGIN) * seconds - measuring


def timed(request: SearchRequest, end: float | None) -> SearchRequest:
    """The request with the seconds that are left; a round begun late is a short one."""
    if end is None:
        return request
    seconds = max(end - time.monotonic(), 1e-3)
    return replace(request, plan=replace(request.plan, seconds=seconds))


def _one_round(
    supernet: TrainedSupernet,
    problem: Problem,
    request: SearchRequest,
    number: int,
    *,
    out: Path,
    resume: bool,
    progress: Progress,
) -> ParetoFront:
    """A search of `request.plan`; a later round is shorter and starts from all that is known."""
    trials = request.plan.trials
    is_cold = request.cold and number == 0
    table = request.accuracies
    listed = () if table is None or problem.expensive else table.listed.genes.tolist()
    plan = replace(
        request.plan,
        trials=trials if number == 0 else max(LATER_LEAST, trials // LATER_SHARE),
        batch=request.plan.batch or 2 * request.workers or None,
        first=feasible_points(problem),
        given=() if is_cold else tuple(known_candidates(problem, supernet.cache, rows=listed)),
    )
    measures = ACCURACY in request.objectives and request.evaluate is None and table is None
    if number == 0 and measures:
        warn_of_coarse_validation(supernet.data)
    workers = {"workers": request.workers, "address": request.ray_address}
    with (
        torch_threads(supernet.recipe.threads),
        evaluation(supernet, problem, supernet.cache, **workers) as evaluate,  # type: ignore[arg-type]
    ):
        return search(problem, plan, out=out, resume=resume, evaluate=evaluate, progress=progress)


def _warn_of_extrapolation(request: SearchRequest, picks: Sequence[Pick]) -> None:
    """Say which picks take what no network of the accuracies given takes."""
    if request.accuracies is None:
        return
    for architecture in dict.fromkeys(pick.architecture for pick in picks):
        beyond = request.accuracies.beyond(architecture)
        if beyond:
            warnings.warn(
                f"the accuracy of {architecture.id} is extrapolated: no network of"
                f" {request.accuracies.path} takes {', '.join(beyond)}; measure it before you rely"
                " on it",
                stacklevel=2,
            )


def make_problem(
    request: SearchRequest,
    context: Context,
    budget_sets: Sequence[tuple[Budget, ...]],
) -> Problem:
    """The named objectives under the loosest of the sets of budgets; budgeted ones are recorded."""
    chosen = [item for name in request.objectives for item in _build(name, request, context)]
    kinds = {item.kind for item in chosen}
    metric = request.evaluate.name if isinstance(request.evaluate, Metric) else ACCURACY
    budgeted = {budget.kind for budgets in budget_sets for budget in budgets}
    recorded = [item for kind in sorted(budgeted - kinds) for item in build(kind, context)]
    score = WARM_START_SCORE if metric in kinds else None
    if request.accuracies is not None:
        score = ACCURACY  # it is known of every network, as well as it ever will be
    if score is not None and score not in kinds | budgeted:
        recorded += build(score, context)
    if INT8 in context.space.precisions and ACCURACY in kinds and request.evaluate is None:
        recorded += build(SENSITIVITY, context) if SENSITIVITY not in kinds | budgeted else []
    return Problem(
        context.space,
        tuple(chosen),
        loosest(budget_sets),
        seed=request.seed,
        recorded=tuple(recorded),
        warm_start_score=score,
        budget_sets=tuple(budgets for budgets in budget_sets if budgets),
    )


def _build(name: ObjectiveName, request: SearchRequest, context: Context) -> list[Objective]:
    if isinstance(request.evaluate, Metric) and name in (ACCURACY, request.evaluate.name):
        return [metric_objective(request.evaluate, context)]
    if (
        name == ACCURACY
        and request.evaluate is not None
        and not isinstance(request.evaluate, Metric)
    ):
        return [network_accuracy(request.evaluate, context)]
    if name == ACCURACY and request.accuracies is not None:
        return [accuracy_by(request.accuracies, context)]
    return build(name, context)


def feasible_points(problem: Problem) -> tuple[Architecture, ...]:
    """For each set of budgets an architecture that keeps it.

    Raises BudgetError where a set cannot be reached, before anything is evaluated.
    """
    regions = [FeasibleRegion(problem.under(budgets)) for budgets in problem.budget_sets or ((),)]
    points = [problem.space.decode(region.feasible_point.tolist()) for region in regions]
    return tuple(dict.fromkeys(points))


def _text(budgets: BudgetSet) -> str:
    if isinstance(budgets, str | Budget | ShareBudget):
        return str(budgets)
    return " and ".join(map(str, budgets))
