"""The accuracy of every network of the enumerable space, so that regret is exact.

`make` evaluates what the run's evaluations.jsonl does not hold yet, as a search would, and writes
truth.csv; any number of processes share the work. `Truth` reads it.
"""

import multiprocessing
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
import pandas as pd
import torch
from rich.progress import track

from nassearch import objectives
from nassearch.budget import Budget
from nassearch.pipeline.search import TrainedSupernet
from nassearch.provenance import Estimate, Provenance
from nassearch.search.candidate_evaluation import measure
from nassearch.search.problem import Floats, Objective, Problem
from nassearch.space import Architecture, SearchSpace
from nassearch.space.search_space import Genes

HERE = Path(__file__).parent
CSV = HERE / "truth.csv"


def make(run: Path, *, processes: int) -> None:
    """Evaluate every network of the supernet of `run` and write truth.csv."""
    context = multiprocessing.get_context("spawn")
    workers = [
        context.Process(target=_evaluate, args=(run, number, processes))
        for number in range(processes)
    ]
    for worker in workers:
        worker.start()
    for worker in workers:
        worker.join()
    trained = TrainedSupernet.load(run)
    rows = []
    for architecture in trained.space.enumerate():
        found = trained.cache.get("accuracy", architecture)
        assert found is not None, f"{architecture.id} has no accuracy: run this again"
        genes = "-".join(map(str, trained.space.encode(architecture)))
        rows.append({"genes": genes, "accuracy": found.number})
    pd.DataFrame(rows).to_csv(CSV, index=False, float_format="%.6g")


def _evaluate(run: Path, number: int, processes: int) -> None:
    torch.set_num_threads(1)
    trained = TrainedSupernet.load(run)
    (accuracy,) = objectives.build("accuracy", trained.context(()))
    mine = list(trained.space.enumerate())[number::processes]
    for architecture in track(mine, disable=number > 0):
        measure([accuracy], architecture, cache=trained.cache)


class Truth:
    """Every network's accuracy, and its multiply-accumulates."""

    def __init__(self) -> None:
        self.space = SearchSpace.load(str(HERE / "space.yaml"))
        table = pd.read_csv(CSV)
        genes = [tuple(map(int, text.split("-"))) for text in table.genes]
        self.genes: Genes = np.array(genes, dtype=np.uint8)
        self.accuracies: Floats = table.accuracy.to_numpy()
        self._row = {row: index for index, row in enumerate(genes)}
        (self._macs,) = objectives.build("macs", objectives.Context(self.space))
        self.costs: Floats = self._macs.numbers(self.genes)

    def row(self, architecture: Architecture) -> int:
        """Where an architecture stands."""
        return self._row[tuple(self.space.encode(architecture))]

    def problem(
        self, seed: int, *, warm_start_score: bool = False, limits: Sequence[float] = ()
    ) -> Problem:
        """Accuracy, looked up, against multiply-accumulates; the best within each limit is wanted.

        The limits are told to the search, which may still evaluate networks beyond them.
        """

        def evaluate(architecture: Architecture) -> Estimate:
            return Estimate(float(self.accuracies[self.row(architecture)]), Provenance("truth.csv"))

        accuracy = Objective("accuracy", "max", "", evaluate)
        wanted = tuple((Budget(self._macs.name, limit, ""),) for limit in limits)
        problem = Problem(self.space, (accuracy, self._macs), seed=seed, budget_sets=wanted)
        if warm_start_score:
            recorded = objectives.build("zero_cost", objectives.Context(self.space))
            problem = replace(problem, recorded=tuple(recorded), warm_start_score="zero_cost")
        return problem
