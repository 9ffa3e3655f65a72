"""What is known of a supernet's subnets, kept beside it and shared by every search."""

from collections.abc import Collection
from dataclasses import asdict
from pathlib import Path

import numpy as np

from nassearch.data.dataset import Data
from nassearch.files import append_json_line, read_json_lines
from nassearch.search.candidate import Candidate, ObjectiveValue, Problem
from nassearch.search.feasible_region import FeasibleRegion
from nassearch.search.pareto import non_dominated
from nassearch.search.runner import measure
from nassearch.space import Architecture, SearchSpace

MAX_GIVEN = 200


class EvaluationCache:
    """Accuracies of a supernet, kept beside it and shared by every later search."""

    def __init__(self, run: Path, supernet: str, space: SearchSpace, data: Data) -> None:
        self._path = run / "evaluations.jsonl"
        self._key = f"{supernet} {data.name} {len(data.val)}"
        self._space = space
        self._known: dict[tuple[str, str], ObjectiveValue] = {}
        self._genes: dict[str, tuple[int, ...]] = {}
        for record in read_json_lines(self._path):
            if record.get("supernet") == self._key:
                value = ObjectiveValue(**record["value"])
                self._known[record["objective"], record["architecture"]] = value
                if "genes" in record:
                    self._genes[record["architecture"]] = tuple(record["genes"])

    def genes(self, names: Collection[str]) -> list[tuple[int, ...]]:
        """The gene vectors of all architectures of which every named objective is known."""
        return [
            genes
            for architecture, genes in self._genes.items()
            if all((name, architecture) in self._known for name in names)
        ]

    def get(self, objective: str, architecture: Architecture) -> ObjectiveValue | None:
        return self._known.get((objective, architecture.id))

    def put(self, objective: str, architecture: Architecture, value: ObjectiveValue) -> None:
        self._known[objective, architecture.id] = value
        self._genes[architecture.id] = self._space.encode(architecture)
        record = {
            "supernet": self._key,
            "objective": objective,
            "architecture": architecture.id,
            "genes": list(self._space.encode(architecture)),
            "value": asdict(value),
        }
        append_json_line(self._path, record)


def known_candidates(problem: Problem, cache: EvaluationCache) -> list[Candidate]:
    """What earlier searches of this supernet found within the budgets: at most 200, the least
    dominated ones."""
    expensive = {objective.name for objective in problem.quantities if not objective.is_cheap}
    region = FeasibleRegion(problem)
    genes = np.array(cache.genes(expensive), dtype=np.uint8).reshape(-1, len(problem.space.genes))
    found = [
        Candidate(architecture, measure(problem.quantities, architecture, cache=cache))
        for architecture in problem.space.decode_many(genes[region.is_feasible(genes)])
    ]
    signs = np.array([axis.sign for axis in problem.axes])
    losses = np.array([[one.number(axis.name) for axis in problem.axes] for one in found])
    losses = signs * losses.reshape(-1, len(signs))
    kept: list[Candidate] = []
    left = np.arange(len(found))
    while len(left) and len(kept) < MAX_GIVEN:
        best = non_dominated(losses[left])
        kept += [found[index] for index in left[best]]
        left = left[~best]
    return kept[:MAX_GIVEN]
