"""Searching a supernet and choosing the best network for each budget, measured where it can be."""

from collections.abc import Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

from nassearch import config, objectives
from nassearch.data.dataset import load_data
from nassearch.errors import BudgetError, SearchError
from nassearch.latency.device import Device
from nassearch.latency.predictor import LatencyPredictor
from nassearch.networks import Supernet
from nassearch.pipeline.evaluation_cache import EvaluationCache, known_candidates
from nassearch.pipeline.evaluation_workers import evaluator, open_workers
from nassearch.pipeline.pick import (
    Measured,
    Pick,
    choose,
    keep_bases,
    measure_front,
    recalibrated,
    write_picks,
)
from nassearch.pipeline.profile import predictor, table_places
from nassearch.pipeline.run_directory import run_recipe, torch_threads
from nassearch.recipe import Recipe
from nassearch.search.algorithms import ALGORITHMS
from nassearch.search.candidate import Budget, Problem
from nassearch.search.feasible_region import FeasibleRegion
from nassearch.search.pareto import ParetoFront
from nassearch.search.runner import search
from nassearch.setting import Setting
from nassearch.space import Architecture, SearchSpace
from nassearch.training import checkpoint
from nassearch.training.evaluation import Evaluator

MAX_ROUNDS = 3
LATER_SHARE = 4
LATER_LEAST = 8


@dataclass(frozen=True)
class Outcome:
    """What a search found."""

    front: ParetoFront
    picks: tuple[Pick, ...]
    directory: Path

    def to_dict(self) -> dict[str, Any]:
        """The choices and the front as JSON."""
        return {
            "directory": str(self.directory),
            "picks": [
                {
                    "budget": pick.budget,
                    "id": pick.candidate.architecture.id,
                    "values": {k: asdict(v) for k, v in pick.candidate.values.items()},
                    "latency": [item.model_dump(exclude_none=True) for item in pick.latency],
                }
                for pick in self.picks
            ],
            "front": [
                {
                    "id": candidate.architecture.id,
                    "values": {k: asdict(v) for k, v in candidate.values.items()},
                }
                for candidate in self.front.sorted()
            ],
        }


def budget_ms(text: str, predictors: Sequence[LatencyPredictor]) -> float:
    """A latency budget in milliseconds; '40%' lies so far from the fastest to the slowest."""
    if not text.endswith("%"):
        return config.parse_milliseconds(text)
    try:
        share = float(text[:-1]) / 100
    except ValueError as error:
        raise BudgetError(
            f"'{text}' is not a budget", fix="write it as 5ms, 800us or 40%"
        ) from error
    first = predictors[0]
    fastest = first.minimum()[1]
    return fastest + share * (float(first.predict([first.space.largest])[0]) - fastest)


def parse_budgets(texts: Sequence[str], context: objectives.Context) -> list[Budget]:
    """Budgets as the user writes them: '5ms' on every device, 'params=3M', 'latency=800us'."""
    latencies = [objectives.latency_name(context, one) for one in context.predictors]
    found = []
    for text in texts:
        name, equals, amount = text.rpartition("=")
        if not equals or name == "latency":
            limit = budget_ms(amount, context.predictors)
            found += [Budget(latency, limit, "ms") for latency in latencies]
        elif name in latencies:
            found.append(Budget(name, config.parse_milliseconds(amount), "ms"))
        else:
            found.append(Budget(name, config.parse_count(amount), ""))
    return found


def search_supernet(
    run: Path,
    *,
    settings: Sequence[tuple[Device, Setting]],
    budgets: Sequence[Sequence[str]],
    names: Sequence[str] = ("accuracy", "latency"),
    algorithm: str = "guided",
    trials: int = 100,
    batch: int | None = None,
    seed: int = 0,
    out: Path | None = None,
    resume: bool = False,
    cold: bool = False,
    workers: int = 0,
    ray_address: str | None = None,
    progress: Any = None,
) -> Outcome:
    """Search the supernet of a run and choose the best network for each set of budgets.

    Budgets of one set hold together; the search runs under the loosest of all sets. Where a device
    is this machine, the front is measured and only networks measured within budget are chosen.
    Unless `cold`, the search starts from what earlier ones of this supernet found.
    """
    out = run if out is None else out
    trained = TrainedSupernet.load(run)
    found = [predictor(trained.space, device, one, table_places(run)) for device, one in settings]
    limits = [_in_milliseconds(texts, [one for one, _ in found]) for texts in budgets]
    measured: Measured = {}
    for number in range(MAX_ROUNDS):
        context = trained.context([one for one, _ in found])
        sets = [parse_budgets(texts, context) for texts in limits]
        problem = _problem(context, names, sets, seed=seed)
        first = _anchors(problem, sets)
        with (
            torch_threads(trained.recipe.threads),
            open_workers(run, problem, workers=workers, address=ray_address) as pool,
        ):
            front = search(
                problem,
                algorithm=config.resolve(ALGORITHMS, algorithm, kind="algorithm"),
                # a later round starts from all that is known
                trials=trials if number == 0 else max(LATER_LEAST, trials // LATER_SHARE),
                out=out,
                batch=batch or 2 * workers or None,
                resume=resume,
                cache=trained.cache,
                progress=progress,
                evaluate=evaluator(problem, trained.cache, pool),
                first=first,
                given=[] if cold and number == 0 else known_candidates(problem, trained.cache),
            )
        keep_bases(out, found, settings)
        measured |= measure_front(front, trained.supernet, found, settings)
        picks = [
            choose(text, one, front, found, measured)
            for text, one in zip(map(" and ".join, budgets), sets, strict=True)
        ]
        kept = [pick for pick in picks if pick is not None]
        if len(kept) == len(picks):
            write_picks(out, run, kept, measured)
            return Outcome(front, tuple(kept), out)
        # The predictions were too hopeful for this budget: learn from the measurements, go on.
        found = [(recalibrated(one, front, measured), table) for one, table in found]
    missed = [one for one, pick in zip(budgets, picks, strict=True) if pick is None]
    raise SearchError(
        f"no network was measured within {' and '.join(missed[0])} in {MAX_ROUNDS} rounds",
        where=out,
        fix="profile the device again for longer, or give a larger budget",
    )


@dataclass(frozen=True)
class TrainedSupernet:
    """A trained supernet with what is needed to evaluate its subnets."""

    supernet: Supernet
    recipe: Recipe
    evaluator: Evaluator
    cache: EvaluationCache
    name: str

    @classmethod
    def load(cls, run: Path) -> "TrainedSupernet":
        """The supernet of a run."""
        recipe = run_recipe(run)
        saved = checkpoint.load(run)
        supernet = checkpoint.load_supernet(run)
        data = load_data(recipe.data, seed=recipe.seed)
        key = f"{supernet.space.fingerprint}-{saved.step}"
        cache = EvaluationCache(run, key, supernet.space, data)
        name = f"{run.resolve().name} step {saved.step}"
        return cls(supernet, recipe, Evaluator(supernet, data), cache, name)

    @property
    def space(self) -> SearchSpace:
        return self.supernet.space

    def context(self, predictors: Sequence[LatencyPredictor]) -> objectives.Context:
        return objectives.Context(self.space, tuple(predictors), self.evaluator, self.name)


def _problem(
    context: objectives.Context,
    names: Sequence[str],
    sets: Sequence[Sequence[Budget]],
    *,
    seed: int,
) -> Problem:
    """What is searched for: the named objectives, under the loosest of the sets of budgets."""
    chosen = [one for name in names for one in objectives.build(name, context)]
    budgeted = {budget.objective.partition(":")[0] for one in sets for budget in one}
    wanted = {objective.name.partition(":")[0] for objective in chosen}
    recorded = [one for name in budgeted - wanted for one in objectives.build(name, context)]
    warm_start_score = None
    if "accuracy" in wanted:
        warm_start_score = "zero_cost"
        if warm_start_score not in wanted | budgeted:
            recorded += objectives.build(warm_start_score, context)
    return Problem(
        context.space,
        tuple(chosen),
        _loosest(sets),
        seed=seed,
        recorded=tuple(recorded),
        warm_start_score=warm_start_score,
        wanted=tuple(tuple(one) for one in sets if one),
    )


def _anchors(problem: Problem, sets: Sequence[Sequence[Budget]]) -> list[Architecture]:
    """For each set of budgets an architecture that keeps it.

    Raises BudgetError where a set cannot be reached, before anything is evaluated.
    """
    regions = [FeasibleRegion(replace(problem, budgets=(*problem.budgets, *one))) for one in sets]
    found = [problem.space.decode(region.feasible_point.tolist()) for region in regions]
    return list(dict.fromkeys(found))


def _in_milliseconds(texts: Sequence[str], predictors: Sequence[LatencyPredictor]) -> list[str]:
    """Budgets with shares ('40%') fixed to what they mean before anything is recalibrated."""
    return [f"{budget_ms(text, predictors)}ms" if text.endswith("%") else text for text in texts]


def _loosest(sets: Sequence[Sequence[Budget]]) -> tuple[Budget, ...]:
    """For each objective that every set limits, its largest limit."""
    if not sets:
        return ()
    shared = set.intersection(*({budget.objective for budget in one} for one in sets))
    loosest: dict[str, Budget] = {}
    for one in sets:
        for budget in one:
            known = loosest.get(budget.objective)
            if budget.objective in shared and (known is None or budget.limit > known.limit):
                loosest[budget.objective] = budget
    return tuple(loosest.values())
