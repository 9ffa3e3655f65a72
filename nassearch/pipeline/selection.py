"""Searching a supernet and choosing the best network for each budget, measured where it can be."""

from collections.abc import Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

from nassearch import config, objectives
from nassearch.errors import BudgetError, SearchError
from nassearch.export.export_file import LatencyFile
from nassearch.files import append_json_line, read_json_lines, write_json
from nassearch.latency import RUNTIMES
from nassearch.latency.device import Device
from nassearch.latency.predictor import LatencyPredictor
from nassearch.latency.setting import Setting
from nassearch.latency.table import LatencyTable
from nassearch.latency.timing import interleave
from nassearch.networks import Supernet
from nassearch.pipeline.prediction import make_runtime, one_thread, predictor, table_places
from nassearch.pipeline.run import run_recipe
from nassearch.search import ALGORITHMS
from nassearch.search.candidate import Budget, Candidate, Problem, Value
from nassearch.search.pareto import ParetoFront
from nassearch.search.region import Region
from nassearch.search.runner import search
from nassearch.space import Architecture
from nassearch.training import checkpoint
from nassearch.training.data import Data, load_data
from nassearch.training.evaluation import Evaluator

MEASURE_SECONDS = 6.0


@dataclass(frozen=True)
class Pick:
    """The network chosen for a budget; `measured_ms` where the device is this machine."""

    budget: str
    candidate: Candidate
    latency: tuple[LatencyFile, ...]


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
    batch: int = 8,
    seed: int = 0,
    out: Path | None = None,
    resume: bool = False,
    progress: Any = None,
) -> Outcome:
    """Search the supernet of a run and choose the best network for each set of budgets.

    Budgets of one set hold together; the search runs under the loosest of all sets. Where a device
    is this machine, the front is measured and only networks measured within budget are chosen.
    """
    out = run if out is None else out
    saved = checkpoint.load(run)
    supernet = checkpoint.load_supernet(run)
    space = supernet.space
    recipe = run_recipe(run)
    data = load_data(recipe.data, seed=recipe.seed)
    found = [predictor(space, device, one, table_places(run)) for device, one in settings]
    context = objectives.Context(
        space,
        tuple(one for one, _ in found),
        Evaluator(supernet, data),
        supernet=f"{run.name} step {saved.step}",
    )
    chosen = [one for name in names for one in objectives.build(name, context)]
    sets = [parse_budgets(texts, context) for texts in budgets]
    budgeted = {budget.objective.partition(":")[0] for one in sets for budget in one}
    wanted = {objective.name.partition(":")[0] for objective in chosen}
    measures = [one for name in budgeted - wanted for one in objectives.build(name, context)]
    problem = Problem(space, tuple(chosen), _loosest(sets), seed=seed, measures=tuple(measures))
    for one in sets:  # a single unreachable budget is refused before anything is evaluated
        Region(replace(problem, budgets=tuple(one)))
    front = search(
        problem,
        algorithm=config.resolve(ALGORITHMS, algorithm, kind="algorithm"),
        trials=trials,
        out=out,
        batch=batch,
        resume=resume,
        cache=EvaluationCache(run, f"{space.fingerprint}-{saved.step}", data),
        progress=progress,
    )
    measured = measure_front(front, supernet, found, settings)
    picks = tuple(
        _pick(" and ".join(texts), one, front, found, measured)
        for texts, one in zip(budgets, sets, strict=True)
    )
    _write_picks(out, run, picks, measured)
    return Outcome(front, picks, out)


class EvaluationCache:
    """Accuracies of a supernet, kept beside it and shared by every later search."""

    def __init__(self, run: Path, supernet: str, data: Data) -> None:
        self._path = run / "evaluations.jsonl"
        self._key = f"{supernet} {data.name} {len(data.val)}"
        self._known: dict[tuple[str, str], Value] = {}
        for record in read_json_lines(self._path):
            if record.get("supernet") == self._key:
                value = Value(**record["value"])
                self._known[record["objective"], record["architecture"]] = value

    def get(self, objective: str, architecture: Architecture) -> Value | None:
        return self._known.get((objective, architecture.id))

    def put(self, objective: str, architecture: Architecture, value: Value) -> None:
        self._known[objective, architecture.id] = value
        record = {
            "supernet": self._key,
            "objective": objective,
            "architecture": architecture.id,
            "value": asdict(value),
        }
        append_json_line(self._path, record)


Measured = dict[tuple[str, str], tuple[float, float, float]]
"""(device, architecture id) -> (measured ms, reference ms of the table, noise floor)."""


def measure_front(
    front: ParetoFront,
    supernet: Supernet,
    found: Sequence[tuple[LatencyPredictor, LatencyTable | None]],
    settings: Sequence[tuple[Device, Setting]],
) -> Measured:
    """Measure every network of the front on the devices that are this machine."""
    measured: Measured = {}
    for (_, table), (device, setting) in zip(found, settings, strict=True):
        if table is None or not device.present or setting.runtime not in RUNTIMES:
            continue
        runtime = make_runtime(setting)
        with one_thread():
            sessions = [
                runtime.load(supernet.extract(candidate.architecture)) for candidate in front
            ]
            timing = interleave(
                [session.run_ms for session in sessions], runtime, seconds=MEASURE_SECONDS
            )
        reference = float(table.facts.get("reference_ms", timing.reference))
        rows = timing.measurements(reference_ms=reference)
        for candidate, row in zip(front, rows, strict=True):
            key = (device.name, candidate.architecture.id)
            measured[key] = (row.median_ms, reference, timing.noise_floor)
    return measured


def _pick(
    text: str,
    budgets: Sequence[Budget],
    front: ParetoFront,
    found: Sequence[tuple[LatencyPredictor, LatencyTable | None]],
    measured: Measured,
) -> Pick:
    """The most accurate candidate that keeps the budgets, measured where it can be.

    A measurement must stay within the budget by the noise floor it was made with.
    """
    limits = {budget.objective: budget.limit for budget in budgets}
    single = len(found) == 1
    for candidate in front.within(budgets):
        files, kept = [], True
        for one, _ in found:
            device = one.setting.device
            name = "latency" if single else f"latency:{device}"
            key = (device, candidate.architecture.id)
            limit = limits.get(name)
            if key in measured and limit is not None:
                median, _, noise = measured[key]
                kept &= median * (1 + noise) <= limit
            files.append(_latency_file(candidate, one, limit, measured.get(key)))
        if kept:
            return Pick(text, candidate, tuple(files))
    raise SearchError(
        f"no network of the front was measured within {', '.join(map(str, budgets))}",
        fix="profile the device again for longer, or give a larger budget",
    )


def _latency_file(
    candidate: Candidate,
    one: LatencyPredictor,
    limit: float | None,
    measured: tuple[float, float, float] | None,
) -> LatencyFile:
    predicted = float(one.predict([candidate.architecture])[0])
    low = high = None
    if one.correction.ratio is not None:
        lows, highs = one.interval([candidate.architecture])
        low, high = float(lows[0]), float(highs[0])
    return LatencyFile(
        **asdict(one.setting),
        source=one.source,
        predicted_ms=predicted,
        low_ms=low,
        high_ms=high,
        measured_ms=None if measured is None else measured[0],
        reference_ms=None if measured is None else measured[1],
        budget_ms=limit,
    )


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


def _write_picks(out: Path, run: Path, picks: Sequence[Pick], measured: Measured) -> None:
    write_json(
        out / "search" / "picks.json",
        {
            "run": str(run.resolve()),
            "picks": [
                {
                    "budget": pick.budget,
                    "architecture": pick.candidate.architecture.to_dict(),
                    "latency": [item.model_dump(exclude_none=True) for item in pick.latency],
                }
                for pick in picks
            ],
            "measured": [
                {"device": device, "id": name, "ms": row[0], "noise_floor": row[2]}
                for (device, name), row in measured.items()
            ],
        },
    )
