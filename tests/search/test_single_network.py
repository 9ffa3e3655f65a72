"""A space of one network is searched like any other, by every algorithm."""

from pathlib import Path

import pytest

from nassearch.provenance import Estimate, Provenance
from nassearch.search.algorithms import ALGORITHMS
from nassearch.search.problem import Objective, Problem
from nassearch.search.runner import SearchPlan, search
from nassearch.space import Architecture, SearchSpace
from nassearch.space.additive import AdditiveCost

STAGE = {"op": "conv", "width": 8, "kernel_size": 3}


@pytest.mark.parametrize("algorithm", ALGORITHMS)
def test_a_space_of_one_network_is_searched(algorithm: str, tmp_path: Path) -> None:
    space = SearchSpace.from_dict({"name": "single", "resolution": 16, "stages": [STAGE]})
    blocks = AdditiveCost(space, lambda spec: 1.0)

    def evaluate(architecture: Architecture) -> Estimate:
        return Estimate(0.5, Provenance("synthetic"))

    def count(architecture: Architecture) -> Estimate:
        return Estimate(blocks(architecture), Provenance("counted"))

    accuracy = Objective("accuracy", "max", "", evaluate)
    cost = Objective("cost", "min", "", count, blocks.of_genes)
    problem = Problem(space, (accuracy, cost))
    front = search(problem, SearchPlan(algorithm, trials=5), out=tmp_path)
    assert [item.architecture for item in front.candidates] == [space.smallest]
