"""What a search believes of noisy results, and how its front, its end and its promise go by it."""

from collections.abc import Iterable, Iterator
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from synthetic import Synthetic

from nassearch.errors import SearchError
from nassearch.provenance import Belief, Estimate, Provenance
from nassearch.search.candidate import Candidate
from nassearch.search.candidate_evaluation import ToBeat, measure
from nassearch.search.journal import load_latest
from nassearch.search.pareto import ParetoFront
from nassearch.search.posterior import Outlook, Posterior
from nassearch.search.problem import Problem
from nassearch.search.runner import MOST_TRIALS, Clock, SearchPlan, search
from nassearch.space import Architecture

ERROR = 0.01


class Noisy(Synthetic):
    """Its accuracies err by one point, and say so."""

    def evaluate(self, architecture: Architecture) -> Estimate:
        value = super().evaluate(architecture).value
        half = 1.959964 * self.noise
        return Estimate(value, Provenance("synthetic"), value - half, value + half)


def told(synthetic: Noisy, *, count: int) -> tuple[Posterior, list[Candidate]]:
    problem = synthetic.problem()
    genes = np.unique(synthetic.space.sample_genes(np.random.default_rng(0), 2 * count), axis=0)[
        :count
    ]
    candidates = [
        Candidate(architecture, measure(problem.quantities, architecture, cache=None))
        for architecture in synthetic.space.decode_many(genes)
    ]
    posterior = Posterior(problem)
    for candidate in candidates:
        posterior.tell(candidate)
    return posterior, candidates


def truth(synthetic: Synthetic, candidate: Candidate) -> float:
    return float(synthetic.accuracy(synthetic.genes(candidate.architecture))[0])


def belief(candidate: Candidate) -> Belief:
    found = candidate.values["accuracy"].belief
    assert found is not None
    return found


def test_what_is_believed_errs_less_than_what_was_observed_and_its_interval_holds() -> None:
    synthetic = Noisy("mobilenet_v3", noise=ERROR)
    posterior, candidates = told(synthetic, count=80)
    believed = posterior.believed(candidates)
    true = np.array([truth(synthetic, one) for one in candidates])
    observed = np.array([one.number("accuracy") for one in candidates])
    expected = np.array([belief(one).mean for one in believed])
    assert np.std(expected - true) < 0.6 * np.std(observed - true)
    within = [
        belief(one).low <= t <= belief(one).high for one, t in zip(believed, true, strict=True)
    ]
    assert np.mean(within) >= 0.85


def test_the_luckiest_network_is_believed_less() -> None:
    synthetic = Noisy("mobilenet_v3", noise=ERROR)
    posterior, candidates = told(synthetic, count=80)
    luckiest = max(candidates, key=lambda one: one.number("accuracy") - truth(synthetic, one))
    (believed,) = posterior.believed([luckiest])
    assert believed.number("accuracy") == luckiest.number("accuracy")  # what was observed stays
    assert believed.rank("accuracy") == belief(believed).mean < luckiest.number("accuracy") - ERROR


def test_exact_numbers_are_believed_as_they_are() -> None:
    synthetic = Noisy("mobilenet_v3", noise=0.0)
    posterior, candidates = told(synthetic, count=30)
    for one in posterior.believed(candidates):
        assert belief(one).mean == pytest.approx(one.number("accuracy"), abs=1e-4)


def test_nothing_is_believed_of_numbers_without_a_known_noise_or_that_were_cut_short() -> None:
    synthetic = Noisy("mobilenet_v3", noise=ERROR)
    posterior, (first, second, *_) = told(synthetic, count=30)
    value = first.values["accuracy"]
    unknown = Candidate(
        first.architecture, {**first.values, "accuracy": replace(value, low=None, high=None)}
    )
    short = Candidate(
        second.architecture,
        {**second.values, "accuracy": replace(second.values["accuracy"], stopped_early=True)},
    )
    assert posterior.believed([unknown, short]) == [unknown, short]


def test_a_result_told_again_replaces_the_first() -> None:
    synthetic = Noisy("mobilenet_v3", noise=ERROR)
    posterior, candidates = told(synthetic, count=30)
    exact = truth(synthetic, candidates[0])
    again = Estimate(exact, Provenance("synthetic"), exact, exact)
    posterior.tell(
        Candidate(candidates[0].architecture, {**candidates[0].values, "accuracy": again})
    )
    assert len(posterior) == 30
    (one, *_) = posterior.believed(candidates)
    assert belief(one).mean == pytest.approx(exact, abs=1e-4)


@pytest.mark.parametrize("algorithm", ["guided", "random"])
def test_the_front_is_that_of_what_is_believed_and_is_read_back(
    algorithm: str, tmp_path: Path
) -> None:
    synthetic = Noisy("digits_tiny", noise=ERROR)
    problem = synthetic.problem(cost=900.0)
    front = search(problem, SearchPlan(algorithm, trials=24), out=tmp_path)
    assert all(one.values["accuracy"].belief is not None for one in front)
    past = load_latest(tmp_path, space=synthetic.space)
    assert len(past.candidates) == 24
    again = ParetoFront(problem.axes, past.candidates)
    assert {one.architecture for one in front} == {one.architecture for one in again}
    assert {one.architecture for one in front} == {one.architecture for one in past.front}
    known = {one.architecture: belief(one) for one in past.candidates}
    assert all(known[one.architecture] == belief(one) for one in front)


def test_what_going_on_is_worth() -> None:
    assert Outlook(gain=0.001, error=0.1).is_worth_it(100)  # 0.025 against 0.01
    assert not Outlook(gain=0.001, error=0.1).is_worth_it(30)
    assert not Outlook(gain=0.001, error=0.1, of_budgets=True).is_worth_it(100)
    assert Outlook(gain=0.005, error=0.1, of_budgets=True).is_worth_it(100)


def test_a_search_that_may_ends_where_noise_hides_what_it_expects(tmp_path: Path) -> None:
    synthetic = Noisy("digits_tiny", noise=0.05)
    problem = synthetic.problem(cost=900.0)
    plan = SearchPlan(trials=MOST_TRIALS, ends_itself=True)
    search(problem, plan, out=tmp_path / "auto")
    ended = load_latest(tmp_path / "auto", space=synthetic.space)
    assert 12 <= len(ended.candidates) < 100
    assert ended.remark is not None and f"ended after {len(ended.candidates)} tr" in ended.remark
    search(problem, SearchPlan(trials=len(ended.candidates) + 6), out=tmp_path / "fixed")
    fixed = load_latest(tmp_path / "fixed", space=synthetic.space)
    assert len(fixed.candidates) == len(ended.candidates) + 6
    assert fixed.remark is not None and "could have ended after" in fixed.remark


def test_an_algorithm_that_expects_nothing_cannot_end_a_search(tmp_path: Path) -> None:
    problem = Noisy("digits_tiny", noise=ERROR).problem()
    with pytest.raises(SearchError, match=r"random does not say.*give a number of trials"):
        search(problem, SearchPlan("random", ends_itself=True), out=tmp_path)
    assert not any(tmp_path.iterdir())


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Iterator[list[float]]:
    """The time that a search sees; an evaluation takes ten seconds of it."""
    now = [0.0]
    monkeypatch.setattr("nassearch.search.runner.time.monotonic", lambda: now[0])
    yield now


def slow(problem: Problem, now: list[float]) -> Problem:
    accuracy = problem.objectives[0]

    def evaluate(architecture: Architecture) -> Estimate:
        now[0] += 10.0
        return accuracy.evaluate(architecture)

    return replace(
        problem, objectives=(replace(accuracy, evaluate=evaluate), *problem.objectives[1:])
    )


@pytest.mark.parametrize(("seconds", "trials"), [(95.0, 9), (100.0, 10), (1.0, 1)])
def test_a_search_ends_within_its_time(
    seconds: float, trials: int, clock: list[float], tmp_path: Path
) -> None:
    synthetic = Noisy("digits_tiny", noise=ERROR)
    problem = slow(synthetic.problem(cost=900.0), clock)
    notes: list[tuple[float, str]] = []
    search(
        problem,
        SearchPlan(trials=MOST_TRIALS, seconds=seconds),
        out=tmp_path,
        progress=lambda _, done, note: notes.append((done, note)),
    )
    past = load_latest(tmp_path, space=synthetic.space)
    assert len(past.candidates) == trials
    assert past.remark is not None and f"after {trials} trials: the time" in past.remark
    assert notes[-1][0] == pytest.approx(min(1.0, 10.0 * trials / seconds))
    if trials == 10:
        assert notes[4][1].startswith("5/10 ")


def test_a_clock_without_a_limit_always_has_time(clock: list[float]) -> None:
    one = Clock(None)
    clock[0] = 1e9
    assert one.has_time() and one.fraction == 0.0 and one.expected(50) is None


def test_a_search_is_sized_by_number_by_time_or_by_itself() -> None:
    def sized(trials: object, *, timed: bool = False) -> tuple[int, bool]:
        plan = SearchPlan.sized("guided", {}, trials=trials, timed=timed)  # type: ignore[arg-type]
        return plan.trials, plan.ends_itself

    assert sized(None) == (100, False)
    assert sized(7, timed=True) == (7, False)
    assert sized(None, timed=True) == (MOST_TRIALS, False)
    assert sized("auto") == (MOST_TRIALS, True)
    with pytest.raises(SearchError, match="no time"):
        SearchPlan(seconds=0.0)


def test_evaluations_end_early_by_what_is_believed(tmp_path: Path) -> None:
    synthetic = Noisy("digits_tiny", noise=0.02)
    problem = synthetic.problem(cost=900.0)
    asked: list[float] = []

    def evaluate(architectures: Iterable[Architecture], *, to_beat: ToBeat) -> Iterator[Candidate]:
        for architecture in architectures:
            asked.extend(to_beat(architecture).values())
            yield Candidate(architecture, measure(problem.quantities, architecture, cache=None))

    search(problem, SearchPlan(trials=40), out=tmp_path, evaluate=evaluate)
    past = load_latest(tmp_path, space=synthetic.space)
    observed = {one.number("accuracy") for one in past.candidates}
    assert len(asked) > 20
    later = asked[len(asked) // 2 :]
    assert sum(number in observed for number in later) < 0.3 * len(later)
    assert max(later) < max(observed)
