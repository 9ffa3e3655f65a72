"""How many evaluations a search needs, and what it costs beside them.

    python experiments/search-efficiency/bench.py truth --run RUN     # every network, once; --table
    python experiments/search-efficiency/bench.py enumerable          # regret against truth.csv
    python experiments/search-efficiency/bench.py large               # 10^19 networks, a stand-in
    python experiments/search-efficiency/bench.py overhead            # seconds beside evaluation
    python experiments/search-efficiency/bench.py settings            # 3 and 20 devices at once
    python experiments/search-efficiency/bench.py run --run RUN       # a supernet: Ray, early ends
    python experiments/search-efficiency/bench.py budgets --run RUN   # measured within budget?
    python experiments/search-efficiency/bench.py report              # tables and plots

RUN is a run of recipe.yaml: nassearch train-supernet --recipe experiments/search-efficiency/
recipe.yaml --data imagefolder:CIFAR10_FOLDER --out RUN. Searches that results.jsonl holds are not
made again.
"""

import argparse
import time
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from landscape import Landscape, best_front
from rich.console import Console
from truth import TABLES, Truth, make

from nassearch import files
from nassearch.search.algorithm import make_algorithm
from nassearch.search.candidate import Candidate
from nassearch.search.candidate_evaluation import measure
from nassearch.search.pareto import hypervolume, non_dominated
from nassearch.search.problem import Floats, Problem
from nassearch.search.runner import batch_after
from nassearch.space import Architecture

HERE = Path(__file__).parent
RESULTS = HERE / "results.jsonl"
SEEDS = range(10)
BUDGET_SHARES = (0.1, 0.3, 0.5, 0.7, 0.9)
AFTER = 60
# How long each may search; gp takes a second a candidate.
ENUMERABLE = {"guided": 200, "tpe": 500, "gp": 150, "nsga2": 1000, "nsga3": 1000, "random": 1000}
LARGE = {"guided": 200, "tpe": 600, "nsga2": 600, "random": 600}
MARKS = (20, 40, 60, 100, 150, 200, 300, 600)
SPACE = "mobilenet_v3"
TOLD = ("nothing", "hint", "budgets")  # what the search knows beside its objectives
console = Console(width=160)


def main() -> None:
    parser = argparse.ArgumentParser()
    parts = {"enumerable": enumerable, "large": large, "overhead": overhead, "settings": settings}
    parser.add_argument("what", choices=["truth", *parts, "run", "budgets", "report"])
    parser.add_argument("--run", type=Path, default=Path("runs/search-efficiency"))
    parser.add_argument("--table", choices=list(TABLES), default="cifar10")
    parser.add_argument("--processes", type=int, default=2)
    arguments = parser.parse_args()
    if arguments.what == "truth":
        make(arguments.run, table=arguments.table, processes=arguments.processes)
    elif arguments.what == "run":
        from supernet import run

        run(arguments.run)
    elif arguments.what == "budgets":
        from supernet import budgets

        budgets(arguments.run)
    elif arguments.what == "report":
        from tables import report

        report()
    else:
        parts[arguments.what]()


# -- searches --------------------------------------------------------------------------------------


def drive(problem: Problem, name: str, trials: int) -> Iterator[list[Architecture]]:
    """A search without journal or processes, batch by batch, as the runner makes it."""
    algorithm = make_algorithm(problem, name)
    done = 0
    while done < trials:
        batch = algorithm.ask(min(batch_after(done), trials - done))
        if not batch:
            return
        for architecture in batch:
            values = measure(problem.quantities, architecture, cache=None)
            algorithm.tell(Candidate(architecture, values))
        done += len(batch)
        yield batch


def missing(wanted: Sequence[dict[str, Any]]) -> Iterator[dict[str, Any]]:
    """The searches of `wanted` that results.jsonl lacks."""
    done = files.read_json_lines(RESULTS) if RESULTS.exists() else []
    for one in wanted:
        if not any(one.items() <= line.items() for line in done):
            yield one


def keep(one: dict[str, Any], found: dict[str, Any]) -> None:
    files.append_json_line(RESULTS, {**one, **found})
    console.print({**one, **{key: value for key, value in found.items() if key != "volumes"}})


def enumerable() -> None:
    """Hypervolume after every evaluation, and regret within five budgets after 60."""
    truth = Truth()
    losses = np.stack([-truth.accuracies, truth.costs], axis=1)
    reference = losses.max(axis=0)
    whole = hypervolume(losses[non_dominated(losses)], reference)
    limits = np.quantile(truth.costs, BUDGET_SHARES)
    best = [truth.accuracies[truth.costs <= limit].max() for limit in limits]
    wanted = [
        {"part": "enumerable", "algorithm": name, "told": told, "seed": seed}
        for seed in SEEDS
        for name in ENUMERABLE
        for told in (TOLD if name == "guided" else TOLD[:1])
    ]
    wanted.sort(key=lambda one: one["algorithm"] == "gp")  # the slow one last
    for one in missing(wanted):
        problem = truth.problem(
            one["seed"],
            warm_start_score=one["told"] == "hint",
            limits=limits if one["told"] == "budgets" else (),
        )
        rows: list[int] = []
        volumes, reached = [], None
        for batch in drive(problem, one["algorithm"], ENUMERABLE[one["algorithm"]]):
            for architecture in batch:
                rows.append(truth.row(architecture))
                volumes.append(hypervolume(losses[rows], reference) / whole)
                if reached is None and volumes[-1] >= 0.99:
                    reached = len(rows)
            if reached is not None and len(rows) >= AFTER:
                break
        first = np.array(rows[:AFTER])
        regrets = [
            100 * (top - truth.accuracies[first[truth.costs[first] <= limit]].max(initial=0.0))
            for top, limit in zip(best, limits, strict=True)
        ]
        found = {"reached": reached, "regrets": [round(float(each), 4) for each in regrets]}
        keep(one, {**found, "volumes": [round(each, 5) for each in volumes]})


def large() -> None:
    """True hypervolume of what was evaluated, of the best front known, for each landscape."""
    wanted = [
        {"part": "large", "algorithm": name, "noise": noise, "seed": seed}
        for seed in SEEDS
        for noise in (False, True)
        for name in LARGE
    ]
    fronts: dict[int, tuple[Floats, float]] = {}
    for one in missing(wanted):
        images = 2000 if one["noise"] else None
        landscape = Landscape(SPACE, seed=one["seed"], images=images)
        if one["seed"] not in fronts:
            reference = landscape.reference()
            fronts[one["seed"]] = reference, hypervolume(best_front(landscape), reference)
        reference, whole = fronts[one["seed"]]
        problem = landscape.problem(one["seed"])
        asked: list[Architecture] = []
        volumes = {}
        for batch in drive(problem, one["algorithm"], LARGE[one["algorithm"]]):
            before = len(asked)
            asked += batch
            for mark in MARKS:
                if before < mark <= len(asked):
                    share = hypervolume(landscape.losses(asked[:mark]), reference) / whole
                    volumes[mark] = round(share, 5)
        keep(one, {"volumes": volumes})


def overhead() -> None:
    """CPU milliseconds a candidate over 1,000, evaluation by the stand-in included."""
    landscape = Landscape(SPACE, seed=0, images=2000)
    for one in missing([{"part": "overhead", "algorithm": name} for name in ("guided", "nsga2")]):
        start, parts, done = time.process_time(), [], 0
        for batch in drive(landscape.problem(0), one["algorithm"], 1000):
            done += len(batch)
            if done >= 100 * (len(parts) + 1):
                parts.append(round(10 * (time.process_time() - start), 1))
                start = time.process_time()
        keep(one, {"milliseconds": float(np.mean(parts)), "by_hundred": parts})
    genes = landscape.space.sample_genes(np.random.default_rng(0), 1_000_000)
    start = time.process_time()
    landscape.cost(genes)
    rate = len(genes) / (time.process_time() - start)
    console.print(f"cheap objectives: {rate:.3g} architectures a second on one core")


def settings() -> None:
    """Evaluations until every front is nearly whole: several settings alone, and at once."""
    from devices import THREE, TWENTY, several

    wanted = [(THREE, {"part": "settings", "seed": seed}) for seed in SEEDS]
    wanted += [(TWENTY, {"part": "twenty", "seed": seed}) for seed in SEEDS[:3]]
    for group, line in wanted:
        for one in missing([line]):
            keep(one, several(SPACE, one["seed"], drive, settings=group))


if __name__ == "__main__":
    main()
