"""Evaluations of a supernet's subnets, kept beside it and shared by every search."""

from collections.abc import Collection, Sequence
from contextlib import suppress
from pathlib import Path

import numpy as np

from nassearch.errors import SearchError
from nassearch.files import append_json_line, read_json_lines
from nassearch.provenance import Estimate
from nassearch.search.candidate import Candidate
from nassearch.search.candidate_evaluation import measure
from nassearch.search.feasible_region import FeasibleRegion
from nassearch.search.pareto import non_dominated
from nassearch.search.problem import Objective, Problem
from nassearch.space import Architecture, SearchSpace

MAX_GIVEN = 200


class EvaluationCache:
    """Values of expensive objectives; `supernet` names the weights and the images they are of."""

    def __init__(self, run: Path, supernet: str, space: SearchSpace) -> None:
        self._path = run / "evaluations.jsonl"
        self._supernet = supernet
        self._space = space
        self._known: dict[tuple[str, str, str], Estimate] = {}
        self._genes: dict[str, tuple[int, ...]] = {}
        for record in read_json_lines(self._path):
            if record.get("supernet") != supernet:
                continue
            with suppress(SearchError, KeyError):  # a damaged line: it is evaluated again
                name, source = str(record["objective"]), str(record["source"])
                found = Candidate.from_record(
                    {**record, "values": {name: record["value"]}}, space=space
                )
                self._known[name, source, found.architecture.id] = found.values[name]
                self._genes[found.architecture.id] = space.encode(found.architecture)

    def genes(self, objectives: Collection[Objective]) -> list[tuple[int, ...]]:
        """The gene vectors of all architectures of which every objective is known."""
        return [
            genes
            for architecture, genes in self._genes.items()
            if all((item.name, item.source, architecture) in self._known for item in objectives)
        ]

    def get(self, objective: Objective, architecture: Architecture) -> Estimate | None:
        return self._known.get((objective.name, objective.source, architecture.id))

    def put(self, objective: Objective, architecture: Architecture, value: Estimate) -> None:
        self._known[objective.name, objective.source, architecture.id] = value
        self._genes[architecture.id] = self._space.encode(architecture)
        record = {
            "supernet": self._supernet,
            "objective": objective.name,
            "source": objective.source,
            "architecture": architecture.id,
            "genes": list(self._space.encode(architecture)),
            "value": value.to_dict(),
        }
        append_json_line(self._path, record)


def known_candidates(
    problem: Problem, cache: EvaluationCache, *, rows: Sequence[Sequence[int]] = ()
) -> list[Candidate]:
    """Candidates that earlier searches evaluated within the budgets, and those of the genes `rows`:
    at most 200, the least dominated ones."""
    region = FeasibleRegion(problem)
    known = dict.fromkeys([*map(tuple, rows), *cache.genes(problem.expensive)])
    genes = np.array(list(known), dtype=np.uint8).reshape(-1, len(problem.space.genes))
    candidates = [
        Candidate(architecture, measure(problem.quantities, architecture, cache=cache))
        for architecture in problem.space.decode_many(genes[region.is_feasible(genes)])
    ]
    signs = np.array([axis.sign for axis in problem.axes])
    losses = np.array([[item.rank(axis.name) for axis in problem.axes] for item in candidates])
    losses = signs * losses.reshape(-1, len(signs))
    kept: list[Candidate] = []
    left = np.arange(len(candidates))
    while len(left) and len(kept) < MAX_GIVEN:
        best = non_dominated(losses[left])
        kept += [candidates[index] for index in left[best]]
        left = left[~best]
    return kept[:MAX_GIVEN]
