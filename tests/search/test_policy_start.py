"""A search of policies starts from those that quantize the most tolerant places."""

import numpy as np
import pytest

from nassearch.provenance import Estimate, Provenance
from nassearch.search.algorithm import make_algorithm
from nassearch.search.algorithms.gaussian_process import Featuriser
from nassearch.search.problem import SENSITIVITY, Floats, Objective, Problem
from nassearch.space import Architecture, SearchSpace
from nassearch.space.search_space import Genes


@pytest.fixture
def space() -> SearchSpace:
    return SearchSpace.load("digits_tiny").mixed(("int8", "fp32"))


def sensitivity(space: SearchSpace) -> Objective:
    """The later a place, the more it minds int8."""
    assert space.policies is not None
    columns = space.policies.columns
    weights = np.arange(1.0, columns.stop - columns.start + 1)

    def of_genes(genes: Genes) -> Floats:
        return np.asarray(1.0 + (genes[:, columns] == 0) @ weights)

    def evaluate(architecture: Architecture) -> Estimate:
        genes = np.array([space.encode(architecture)], dtype=np.uint8)
        return Estimate(float(of_genes(genes)[0]), Provenance("test"))

    return Objective(SENSITIVITY, "min", "", evaluate, of_genes)


def accuracy(space: SearchSpace) -> Objective:
    return Objective("accuracy", "max", "", lambda _: Estimate(0.5, Provenance("test")))


def low_places(architecture: Architecture) -> list[int]:
    return [at for at, name in enumerate(architecture.precisions or ()) if name == "int8"]


def test_half_of_the_first_policies_follow_the_sensitivities(space: SearchSpace) -> None:
    problem = Problem(space, (accuracy(space),), recorded=(sensitivity(space),))
    asked = make_algorithm(problem, "guided", options={"num_start": 20}).ask(20)
    follow = [low == list(range(len(low))) for low in map(low_places, asked) if len(low) > 0]
    assert sum(follow) >= 7
    shares = [len(low_places(item)) / len(item.precisions or (1,)) for item in asked]
    assert min(shares) == 0.0
    assert max(shares) == 1.0


def test_precision_is_not_tied_to_size(space: SearchSpace) -> None:
    problem = Problem(space, (accuracy(space),))
    asked = make_algorithm(problem, "guided", options={"num_start": 40}).ask(40)
    genes = np.array([space.encode(item) for item in asked], dtype=float)
    assert space.policies is not None
    columns = space.policies.columns
    size, precision = genes[:, : columns.start].sum(1), genes[:, columns].sum(1)
    assert abs(np.corrcoef(size[2:], precision[2:])[0, 1]) < 0.6


def test_a_policy_s_latency_does_not_pass_for_a_network_s_size(space: SearchSpace) -> None:
    assert space.policies is not None
    columns = space.policies.columns

    def milliseconds(genes: Genes) -> Floats:
        return (1.0 + genes.sum(axis=1)) * (1.0 + 9.0 * genes[:, columns].mean(axis=1))

    def taken(architecture: Architecture) -> Estimate:
        genes = np.array([space.encode(architecture)], dtype=np.uint8)
        return Estimate(float(milliseconds(genes)[0]), Provenance("test"))

    featurise = Featuriser(space, [Objective("latency", "min", "ms", taken, milliseconds)])
    genes = space.sample_genes(np.random.default_rng(0), 20)
    low = genes.copy()
    low[:, columns] = 0
    sizes = featurise(genes).sizes
    np.testing.assert_array_equal(sizes, featurise(low).sizes)
    assert len(np.unique(sizes)) > 5
