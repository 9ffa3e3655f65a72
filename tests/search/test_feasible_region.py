"""Region: budgets are kept before anything is evaluated, tight, several or contradictory ones."""

import numpy as np
import pytest
from synthetic import Synthetic

from nassearch.budget import Budget
from nassearch.errors import BudgetError, NassearchError
from nassearch.search.feasible_region import FeasibleRegion, key, smallest
from nassearch.search.problem import Problem


def quantile(synthetic: Synthetic, share: float) -> float:
    """The cost that `share` of the space's random architectures keep."""
    genes = synthetic.space.sample_genes(np.random.default_rng(9), 20_000)
    return float(np.quantile(synthetic.cost(genes), share))


@pytest.mark.parametrize(
    ("name", "share"),
    [("digits_tiny", 0.01), ("digits_tiny", 1.0), ("mobilenet_v3", 0.001), ("mobilenet_v3", 0.1)],
)
def test_samples_are_new_and_within_the_budget(name: str, share: float) -> None:
    synthetic = Synthetic(name)
    region = FeasibleRegion(synthetic.problem(cost=quantile(synthetic, share)))
    rng = np.random.default_rng(0)
    first = region.sample(3, rng=rng)
    genes = region.sample(3, rng=rng, exclude=[key(row) for row in first])
    assert region.is_feasible(genes).all()
    assert len({key(row) for row in [*first, *genes]}) == len(first) + len(genes)
    assert len(first) == 3


def test_a_tight_budget_in_a_huge_space_still_gives_many_different_samples() -> None:
    synthetic = Synthetic("mobilenet_v3")
    region = FeasibleRegion(synthetic.problem(cost=quantile(synthetic, 0.001)))
    genes = region.sample(500, rng=np.random.default_rng(0))
    assert len({key(row) for row in genes}) == 500
    assert region.is_feasible(genes).all()


def test_repair_stays_near_the_edge_of_the_budget() -> None:
    synthetic = Synthetic("mobilenet_v3")
    limit = quantile(synthetic, 0.3)
    region = FeasibleRegion(synthetic.problem(cost=limit))
    rng = np.random.default_rng(0)
    genes = synthetic.space.sample_genes(rng, 400)
    inside = region.is_feasible(genes)
    repaired = region.repair(genes, rng=rng)
    assert region.is_feasible(repaired).all()
    np.testing.assert_array_equal(repaired[inside], genes[inside])
    assert np.median(synthetic.cost(repaired[~inside])) > 0.93 * limit


@pytest.mark.parametrize("name", ["digits_tiny", "mobilenet_v3"])
def test_an_unreachable_budget_is_refused_with_the_smallest_reachable_value(name: str) -> None:
    with pytest.raises(BudgetError, match=r"cost <= 99 M: cannot be reached.* is 100 M"):
        FeasibleRegion(Synthetic(name).problem(cost=99.0))


def test_the_smallest_reachable_value_is_itself_reachable() -> None:
    synthetic = Synthetic("mobilenet_v3")
    region = FeasibleRegion(synthetic.problem(cost=100.0))
    genes = region.sample(5, rng=np.random.default_rng(0))
    assert synthetic.cost(genes).max() <= 100.0


def test_descent_finds_a_minimum_that_is_not_the_smallest_architecture() -> None:
    synthetic = Synthetic("mobilenet_v3")
    problem = synthetic.problem()
    target = synthetic.space.sample_genes(np.random.default_rng(3), 1)
    odd = problem.recorded[0].__class__(
        "odd",
        "min",
        "",
        problem.recorded[0].evaluate,
        lambda genes: (genes != target).sum(axis=1).astype(np.float64),
    )
    number, genes = smallest(odd, synthetic.space, rng=np.random.default_rng(0))
    assert number == 0.0
    np.testing.assert_array_equal(genes, target[0])


def test_several_budgets_hold_together() -> None:
    synthetic = Synthetic("mobilenet_v3")
    region = FeasibleRegion(synthetic.problem(cost=quantile(synthetic, 0.05), choices=18))
    genes = region.sample(50, rng=np.random.default_rng(0))
    assert genes.sum(axis=1).max() <= 18
    assert synthetic.cost(genes).max() <= quantile(synthetic, 0.05)
    assert len(genes) == 50


def test_budgets_that_contradict_each_other_are_refused_together() -> None:
    synthetic = Synthetic("digits_tiny")
    base = synthetic.problem()
    opposite = base.recorded[0].__class__(
        "missing",
        "min",
        "",
        base.recorded[0].evaluate,
        lambda genes: 20.0 - genes.sum(axis=1).astype(np.float64),
    )
    budgets = (Budget("choices", 2.0, ""), Budget("missing", 10.0, ""))
    problem = Problem(base.space, base.objectives, budgets, 0, (*base.recorded, opposite))
    with pytest.raises(BudgetError, match="choices <= 2 and missing <= 10 together"):
        FeasibleRegion(problem)


def test_a_small_region_is_exhausted_and_no_more() -> None:
    synthetic = Synthetic("digits_tiny")
    everything = np.array([synthetic.space.encode(a) for a in synthetic.space.enumerate()])
    limit = float(np.sort(synthetic.cost(everything))[6])
    region = FeasibleRegion(synthetic.problem(cost=limit))
    genes = region.sample(1000, rng=np.random.default_rng(0))
    assert len(genes) == (synthetic.cost(everything) <= limit).sum()


def test_a_budget_on_something_unknown_or_expensive_is_refused() -> None:
    synthetic = Synthetic("digits_tiny")
    with pytest.raises(BudgetError, match="energy, which is not computed; known here: accuracy"):
        synthetic.problem(energy=1.0)
    with pytest.raises(NassearchError, match="accuracy, which is only known after an evaluation"):
        synthetic.problem(accuracy=0.5)
