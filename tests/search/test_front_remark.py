"""A front of one network says why, where the reason shows."""

import dataclasses

import pytest

from nassearch.budget import Budget
from nassearch.config import format_count
from nassearch.provenance import Estimate, Provenance
from nassearch.search.candidate import Candidate
from nassearch.search.front_remark import front_remark
from nassearch.search.pareto import ParetoFront
from nassearch.search.problem import Problem
from tests.search.synthetic import Synthetic

SYNTHETIC = Synthetic("digits_tiny")
SPACE = SYNTHETIC.space
LARGEST_COST = float(SYNTHETIC.cost(SYNTHETIC.genes(SPACE.largest))[0])


def accuracy(value: float, half: float) -> Estimate:
    provenance = Provenance("evaluated", split="val", num_images=200)
    return Estimate(value, provenance, max(0.0, value - half), min(1.0, value + half))


def candidates(*accuracies: Estimate) -> list[Candidate]:
    """Networks from the smallest on, with costs of 1, 2, ..."""
    return [
        Candidate(architecture, {"accuracy": value, "cost": Estimate(cost, Provenance("counted"))})
        for cost, (architecture, value) in enumerate(
            zip(SPACE.enumerate(), accuracies, strict=False), start=1
        )
    ]


def remark(evaluated: list[Candidate], problem: Problem | None = None) -> str | None:
    problem = problem or SYNTHETIC.problem()
    return front_remark(ParetoFront(problem.axes, evaluated), evaluated, problem)


def limited(*limits: float) -> Problem:
    sets = tuple((Budget("cost", limit, "M"),) for limit in limits)
    return dataclasses.replace(SYNTHETIC.problem(), budget_sets=sets)


APART = (accuracy(0.8, 0.03), accuracy(0.6, 0.03), accuracy(0.5, 0.03))


def test_an_accuracy_that_reaches_100_percent_is_saturated() -> None:
    line = remark(candidates(accuracy(1.0, 0.01), accuracy(0.9, 0.02)))
    assert line is not None
    assert line.startswith(
        "the front is one network: its validation accuracy, 100.00% on val (200 images), cannot be"
        " told from 100 %"
    )
    assert "\n" not in line
    assert "try a space with smaller networks" in line


@pytest.mark.parametrize(("high", "is_saturated"), [(0.9976, True), (0.9974, False)])
def test_saturation_is_meant_to_half_an_image(high: float, is_saturated: bool) -> None:
    best = accuracy(0.99, high - 0.99)
    line = remark(candidates(best, accuracy(0.9, 0.02)))
    assert (line is not None) == is_saturated


def test_candidates_that_all_tie_are_named_with_their_spread() -> None:
    line = remark(candidates(accuracy(0.9, 0.04), accuracy(0.89, 0.04), accuracy(0.87, 0.04)))
    assert line is not None
    assert "all 3 candidates tie in accuracy, 87.00% to 90.00% on val (200 images)" in line


def test_equal_numbers_without_an_interval_tie_and_nan_is_passed_over() -> None:
    plain, broken = (Estimate(number, Provenance("mine")) for number in (0.7, float("nan")))
    line = remark(candidates(plain, plain, broken))
    assert line is not None
    assert "all 2 candidates tie" in line
    assert remark(candidates(plain, Estimate(0.6, Provenance("mine")))) is None


def test_budgets_above_the_largest_network_are_named() -> None:
    line = remark(candidates(*APART), limited(LARGEST_COST, 2 * LARGEST_COST))
    assert line is not None
    assert f"above the largest network of the space (cost {format_count(LARGEST_COST)} M)" in line
    assert line.endswith("give a smaller budget")


def test_where_no_reason_shows_nothing_is_said() -> None:
    assert remark(candidates(*APART)) is None
    assert remark(candidates(*APART), limited(LARGEST_COST - 1, 2 * LARGEST_COST)) is None
    assert remark(candidates(accuracy(1.0, 0.0))) is None, "a single candidate is no tie"


@pytest.mark.parametrize(("value", "is_guessing"), [(0.098, True), (0.12, True), (0.16, False)])
def test_a_front_that_learned_nothing_says_so(value: float, is_guessing: bool) -> None:
    line = remark(candidates(accuracy(0.09, 0.03), accuracy(value, 0.03)))
    assert (line is not None) == is_guessing
    if line is not None:
        assert f"guessing one of 10 classes: the best is {value:.2%} on val (200 images)" in line
        assert "\n" not in line


def test_a_front_of_several_networks_needs_no_remark() -> None:
    rising = candidates(accuracy(0.98, 0.02), accuracy(1.0, 0.02))
    assert remark(rising, limited(LARGEST_COST)) is None
