"""The accuracy of every network of an enumerable space, so that regret is exact.

`make` evaluates what the run's evaluations.jsonl does not hold yet, as a search would, and writes
the table of its space; any number of processes share the work. `Truth` reads it.
"""

import hashlib
import multiprocessing
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import pandas as pd
import torch
from rich.progress import track

from nassearch.budget import Budget
from nassearch.objectives.measured import accuracy_estimate
from nassearch.objectives.objective import Context, build
from nassearch.pipeline.trained_supernet import TrainedSupernet
from nassearch.provenance import Estimate, Provenance
from nassearch.search.candidate_evaluation import measure
from nassearch.search.pareto import non_dominated
from nassearch.search.problem import Floats, Objective, Problem
from nassearch.space import Architecture, SearchSpace
from nassearch.space.search_space import Genes
from nassearch.training.evaluation import Accuracy

HERE = Path(__file__).parent


@dataclass(frozen=True)
class Table:
    """Where a space and the accuracies of all its networks stand, and on how many images."""

    space: Path
    csv: Path
    images: int


TABLES = {
    "cifar10": Table(HERE / "space.yaml", HERE / "truth.csv", 5000),
    "fashion": Table(HERE / "fashion_space.yaml", HERE / "fashion_truth.csv", 6000),
}


def make(run: Path, *, table: str, processes: int) -> None:
    """Evaluate every network of the supernet of `run` and write its table."""
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
    (accuracy,) = build("accuracy", trained.context())
    rows = []
    for architecture in trained.space.enumerate():
        found = trained.cache.get(accuracy, architecture)
        assert found is not None, f"{architecture.id} has no accuracy: run this again"
        genes = "-".join(map(str, trained.space.encode(architecture)))
        rows.append({"genes": genes, "accuracy": found.value})
    pd.DataFrame(rows).to_csv(TABLES[table].csv, index=False, float_format="%.6g")


def _evaluate(run: Path, number: int, processes: int) -> None:
    torch.set_num_threads(1)
    trained = TrainedSupernet.load(run)
    (accuracy,) = build("accuracy", trained.context())
    mine = list(trained.space.enumerate())[number::processes]
    for architecture in track(mine, disable=number > 0):
        measure([accuracy], architecture, cache=trained.cache)


def observed(accuracy: float, images: int | None, *, seed: int, name: str) -> Estimate:
    """What so many validation images say of a network, alike for a seed; None: the truth."""
    if images is None:
        return Estimate(accuracy, Provenance("truth"), accuracy, accuracy)
    digest = hashlib.sha256(f"{seed} {name}".encode()).digest()
    right = int(np.random.default_rng(list(digest)).binomial(images, accuracy))
    return accuracy_estimate(Accuracy.of(right, images, split="val"))


class Truth:
    """Every network's accuracy, and its multiply-accumulates.

    `images` are those of an evaluation: binomial noise on the table's accuracy; None: none. With
    `as_measured` the accuracies are the table's, told with the images they were measured on, the
    same ones for all: this is what a search of that supernet sees.
    """

    def __init__(
        self,
        table: str = "cifar10",
        *,
        images: int | None = None,
        as_measured: bool = False,
        seed: int = 0,
    ) -> None:
        self.table = TABLES[table]
        self.space = SearchSpace.load(str(self.table.space))
        rows = pd.read_csv(self.table.csv)
        genes = [tuple(map(int, text.split("-"))) for text in rows.genes]
        self.genes: Genes = np.array(genes, dtype=np.uint8)
        self.accuracies: Floats = rows.accuracy.to_numpy()
        self._row = {row: index for index, row in enumerate(genes)}
        (self._macs,) = build("macs", Context(self.space))
        self.costs: Floats = self._macs.numbers(self.genes)
        self._images, self._as_measured, self._seed = images, as_measured, seed

    def row(self, architecture: Architecture) -> int:
        """Where an architecture stands."""
        return self._row[tuple(self.space.encode(architecture))]

    def losses(self, architectures: Sequence[Architecture]) -> Floats:
        """True error and cost, (n, 2): smaller is better."""
        rows = [self.row(architecture) for architecture in architectures]
        return np.stack([-self.accuracies[rows], self.costs[rows]], axis=1)

    def best_losses(self) -> Floats:
        """The losses of the true front, (n, 2)."""
        losses = np.stack([-self.accuracies, self.costs], axis=1)
        return losses[non_dominated(losses)]

    def reference(self) -> Floats:
        """The worst of both."""
        return np.array([-self.accuracies.min(), self.costs.max()])

    def evaluate(self, architecture: Architecture) -> Estimate:
        accuracy = float(self.accuracies[self.row(architecture)])
        if self._as_measured:
            right = round(accuracy * self.table.images)
            return accuracy_estimate(Accuracy.of(right, self.table.images, split="val"))
        return observed(accuracy, self._images, seed=self._seed, name=architecture.id)

    def problem(
        self, seed: int, *, warm_start_score: bool = False, limits: Sequence[float] = ()
    ) -> Problem:
        """Accuracy, looked up, against multiply-accumulates; the best within each limit is wanted.

        The limits are told to the search, which may still evaluate networks beyond them.
        """
        accuracy = Objective("accuracy", "max", "", self.evaluate)
        wanted = tuple((Budget(self._macs.name, limit, ""),) for limit in limits)
        problem = Problem(self.space, (accuracy, self._macs), seed=seed, budget_sets=wanted)
        if warm_start_score:
            recorded = build("zero_cost", Context(self.space))
            problem = replace(problem, recorded=tuple(recorded), warm_start_score="zero_cost")
        return problem
