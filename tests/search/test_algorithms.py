"""Promises that every algorithm of the table keeps, and that guidance pays."""

import dataclasses

import numpy as np
import pytest
from synthetic import Synthetic

from nassearch.budget import Budget
from nassearch.errors import BudgetError, ConfigError
from nassearch.provenance import Estimate, Provenance
from nassearch.search.algorithm import Algorithm, make_algorithm
from nassearch.search.algorithms import ALGORITHMS
from nassearch.search.candidate import Candidate
from nassearch.search.candidate_evaluation import measure
from nassearch.search.pareto import hypervolume
from nassearch.search.problem import Objective, Problem
from nassearch.space import Architecture

SEEDS = range(4)


def drive(algorithm: Algorithm, problem: Problem, *, count: int, batch: int) -> list[Architecture]:
    asked: list[Architecture] = []
    while len(asked) < count:
        architectures = algorithm.ask(min(batch, count - len(asked)))
        if not architectures:
            break
        for architecture in architectures:
            values = measure(problem.quantities, architecture, cache=None)
            algorithm.tell(Candidate(architecture, values))
        asked += architectures
    return asked


def count_for(name: str) -> int:
    return {"gp": 12, "tpe": 24}.get(name, 40)  # those two fit a model for every proposal


@pytest.mark.parametrize("name", ALGORITHMS)
def test_asks_stay_in_space_and_budget_and_never_repeat(name: str) -> None:
    synthetic = Synthetic("digits_tiny", noise=0.005)
    problem = synthetic.problem(cost=900.0)
    asked = drive(make_algorithm(problem, name), problem, count=count_for(name), batch=4)
    assert len(asked) == count_for(name)
    assert len({architecture.id for architecture in asked}) == len(asked)
    for architecture in asked:
        synthetic.space.check(architecture)
        assert synthetic.cost(synthetic.genes(architecture))[0] <= 900.0


@pytest.mark.parametrize("name", ALGORITHMS)
def test_a_seed_decides_everything(name: str) -> None:
    def once(seed: int) -> list[str]:
        problem = Synthetic("digits_tiny").problem(cost=900.0, seed=seed)
        asked = drive(make_algorithm(problem, name), problem, count=count_for(name) - 2, batch=6)
        return [architecture.id for architecture in asked]

    first = once(3)
    assert once(3) == first
    assert once(4) != first


@pytest.mark.parametrize("name", [name for name in ALGORITHMS if name != "gp"])
def test_a_tight_budget_in_a_huge_space_is_kept(name: str) -> None:
    synthetic = Synthetic("mobilenet_v3")
    genes = synthetic.space.sample_genes(np.random.default_rng(9), 20_000)
    limit = float(np.quantile(synthetic.cost(genes), 0.001))
    problem = synthetic.problem(cost=limit)
    asked = drive(make_algorithm(problem, name), problem, count=30, batch=10)
    assert len({architecture.id for architecture in asked}) == 30
    assert max(synthetic.cost(synthetic.genes(a))[0] for a in asked) <= limit


@pytest.mark.parametrize("name", ALGORITHMS)
def test_a_used_up_region_ends_the_asking(name: str) -> None:
    synthetic = Synthetic("digits_tiny")
    everything = np.array([synthetic.space.encode(a) for a in synthetic.space.enumerate()])
    costs = synthetic.cost(everything)
    limit = float(np.sort(costs)[4])
    problem = synthetic.problem(cost=limit)
    asked = drive(make_algorithm(problem, name), problem, count=50, batch=3)
    assert len({a.id for a in asked}) == len(asked) == (costs <= limit).sum()


@pytest.mark.parametrize("name", ALGORITHMS)
def test_an_unreachable_budget_is_refused_at_once(name: str) -> None:
    with pytest.raises(BudgetError, match=r"the smallest cost .* is 100 M"):
        make_algorithm(Synthetic("digits_tiny").problem(cost=50.0), name)


@pytest.mark.parametrize("name", ALGORITHMS)
def test_results_of_an_earlier_search_and_nan_are_taken_in_and_not_asked_again(name: str) -> None:
    synthetic = Synthetic("digits_tiny")
    problem = synthetic.problem(cost=900.0)
    evaluated = drive(make_algorithm(problem, "random"), problem, count=12, batch=12)
    algorithm = make_algorithm(problem, name)
    for index, architecture in enumerate(evaluated):
        values = measure(problem.quantities, architecture, cache=None)
        if index % 3 == 0:
            values["accuracy"] = Estimate(float("nan"), Provenance("broken"))
        algorithm.tell(Candidate(architecture, values))
    asked = drive(algorithm, problem, count=4, batch=2)
    assert len(asked) == 4
    assert not {a.id for a in asked} & {a.id for a in evaluated}


def test_guided_starts_from_what_the_hint_says_most_of() -> None:
    synthetic = Synthetic("mobilenet_v3")
    warm_start_score = Objective(
        "good",
        "max",
        "",
        lambda _: Estimate(0.0, Provenance("stand-in")),
        lambda genes: synthetic.accuracy(genes),
    )
    plain = synthetic.problem()
    hinted = dataclasses.replace(
        plain, recorded=(*plain.recorded, warm_start_score), warm_start_score="good"
    )

    def above_trend(problem: Problem) -> float:
        problems = [dataclasses.replace(problem, seed=seed) for seed in SEEDS]
        starts = [make_algorithm(item, "guided").ask(8) for item in problems]
        genes = np.vstack(
            [synthetic.genes(architecture) for asked in starts for architecture in asked]
        )
        cost, accuracy = np.log(synthetic.cost(genes)), synthetic.accuracy(genes)
        return float(np.mean(accuracy - np.interp(cost, *trend)))

    many = synthetic.space.sample_genes(np.random.default_rng(0), 4000)
    order = np.argsort(synthetic.cost(many))
    trend = np.log(synthetic.cost(many))[order], synthetic.accuracy(many)[order]
    assert above_trend(hinted) > above_trend(plain)


def test_guided_finds_better_networks_for_the_budgets_it_is_told() -> None:
    synthetic = Synthetic("cifar_small")
    costs = synthetic.cost(synthetic.space.sample_genes(np.random.default_rng(0), 2000))
    limits = np.quantile(costs, (0.1, 0.3, 0.7))

    def best(problem: Problem) -> float:
        """The mean over the limits of the best accuracy within each."""
        asked = drive(make_algorithm(problem, "guided"), problem, count=30, batch=6)
        genes = np.vstack([synthetic.genes(architecture) for architecture in asked])
        accuracy, cost = synthetic.accuracy(genes), synthetic.cost(genes)
        return float(np.mean([accuracy[cost <= limit].max() for limit in limits]))

    problems = [dataclasses.replace(synthetic.problem(), seed=seed) for seed in SEEDS]
    budget_sets = tuple((Budget("cost", float(limit), ""),) for limit in limits)
    informed = [best(dataclasses.replace(problem, budget_sets=budget_sets)) for problem in problems]
    assert np.mean(informed) > np.mean([best(problem) for problem in problems])


def test_guided_that_was_told_enough_goes_past_its_starting_set() -> None:
    synthetic = Synthetic("mobilenet_v3")
    problem = synthetic.problem()
    corners = {synthetic.space.smallest, synthetic.space.largest}
    starting_set = set(make_algorithm(problem, "guided").ask(20)) - corners
    informed = make_algorithm(problem, "guided")
    for architecture in drive(make_algorithm(problem, "random"), problem, count=30, batch=10):
        values = measure(problem.quantities, architecture, cache=None)
        informed.tell(Candidate(architecture, values))
    # one or two may be what the predictor wants
    assert len(starting_set & set(informed.ask(10))) <= 3


@pytest.mark.parametrize("limit", [None, 1800.0])
def test_guided_needs_fewer_evaluations_than_random_and_nsga2(limit: float | None) -> None:
    synthetic = Synthetic("mobilenet_v3", noise=0.001)
    limits = {} if limit is None else {"cost": limit}
    largest = synthetic.cost(synthetic.genes(synthetic.space.largest))[0]
    reference = np.array([-0.68, limit or 1.01 * largest])

    def volume(name: str, count: int) -> float:
        problem = synthetic.problem(seed=1, **limits)
        asked = drive(make_algorithm(problem, name), problem, count=count, batch=10)
        genes = np.array([synthetic.space.encode(a) for a in asked], dtype=np.uint8)
        losses = np.stack([-synthetic.accuracy(genes), synthetic.cost(genes)], axis=1)
        return hypervolume(losses, reference)

    guided = volume("guided", 50)
    assert guided > volume("random", 150)
    assert guided > volume("nsga2", 150)


def test_latencies_of_several_devices_make_a_front_each() -> None:
    synthetic = Synthetic("digits_tiny")
    accuracy, cost = synthetic.problem().objectives
    named = [
        dataclasses.replace(cost, kind="latency", device="box"),
        dataclasses.replace(cost, kind="macs"),
        dataclasses.replace(cost, kind="latency", device="pi"),
    ]
    problem = Problem(synthetic.space, (accuracy, *named))
    assert problem.fronts == ((0, 1, 2), (0, 2, 3))
    assert synthetic.problem().fronts == ((0, 1),)
    mine = [dataclasses.replace(cost, kind=f"my.module:{name}") for name in ("joules", "dollars")]
    assert Problem(synthetic.space, (accuracy, *mine)).fronts == ((0, 1, 2),)
    assert drive(make_algorithm(problem, "guided"), problem, count=40, batch=10)


def test_an_algorithm_states_its_options() -> None:
    problem = Synthetic("digits_tiny").problem()
    assert make_algorithm(problem, "nsga2", options={"population_size": 10})
    with pytest.raises(ConfigError, match=r"algorithm guided: unknown key 'num_starts'.*num_start"):
        make_algorithm(problem, "guided", options={"num_starts": 10})
