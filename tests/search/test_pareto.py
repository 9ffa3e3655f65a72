"""ParetoFront: what it keeps, what it picks, and that a file gives back what was written."""

import json

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from synthetic import Synthetic

from nassearch.budget import Budget
from nassearch.errors import BudgetError, SearchError
from nassearch.provenance import Estimate, Provenance
from nassearch.search.candidate import Candidate
from nassearch.search.pareto import ParetoFront, hypervolume, hypervolume_gain, non_dominated
from nassearch.search.problem import Axis
from nassearch.setting import Setting
from nassearch.space import Architecture

AXES = (Axis("accuracy", "max", ""), Axis("latency", "min", "ms"))
small = st.integers(0, 6)
points = st.integers(1, 4).flatmap(
    lambda width: st.lists(st.tuples(*[small] * width), min_size=1, max_size=25)
)


def candidate(number: int, accuracy: float, latency: float) -> Candidate:
    values = {
        "accuracy": Estimate(accuracy, Provenance("validation")),
        "latency": Estimate(latency, Provenance("estimated")),
    }
    return Candidate(Architecture(number, ()), values)


def dominates(first: tuple[int, ...], second: tuple[int, ...]) -> bool:
    no_worse = all(a <= b for a, b in zip(first, second, strict=True))
    return no_worse and first != second


@given(points)
def test_non_dominated_agrees_with_comparing_every_pair(rows: list[tuple[int, ...]]) -> None:
    expected = [not any(dominates(other, row) for other in rows) for row in rows]
    assert non_dominated(np.array(rows, dtype=float)).tolist() == expected


@given(points)
def test_front_keeps_one_candidate_per_non_dominated_point(rows: list[tuple[int, ...]]) -> None:
    axes = [Axis(f"loss{index}", "min", "") for index in range(len(rows[0]))]
    front = ParetoFront(axes)
    for number, row in enumerate(rows):
        values = {axis.name: Estimate(v, Provenance("")) for axis, v in zip(axes, row, strict=True)}
        front.add(Candidate(Architecture(number, ()), values))
    expected = {row for row in rows if not any(dominates(other, row) for other in rows)}
    kept = [tuple(int(c.number(axis.name)) for axis in axes) for c in front]
    assert sorted(kept) == sorted(expected)


@given(
    st.integers(1, 3).flatmap(lambda w: st.lists(st.tuples(*[small] * w), min_size=1, max_size=8))
)
@settings(max_examples=60)
def test_hypervolume_counts_the_dominated_cells(rows: list[tuple[int, ...]]) -> None:
    losses = np.array(rows, dtype=float)
    cells = np.stack(np.meshgrid(*[np.arange(7)] * losses.shape[1]), axis=-1)
    cells = cells.reshape(-1, losses.shape[1])
    dominated = (losses[None] <= cells[:, None]).all(axis=2).any(axis=1)
    reference = np.full(losses.shape[1], 7.0)
    assert hypervolume(losses, reference) == dominated.sum()
    before = hypervolume(losses[1:], reference)
    gain = hypervolume_gain(losses[1:], losses[:1], reference=reference)
    assert gain[0] == pytest.approx(dominated.sum() - before)


def test_points_beyond_the_reference_add_nothing() -> None:
    losses = np.array([[1.0, 1.0], [0.0, 9.0]])
    assert hypervolume(losses, np.array([2.0, 2.0])) == 1.0


def test_a_candidate_that_is_not_a_number_is_never_on_the_front() -> None:
    front = ParetoFront(AXES)
    assert not front.add(candidate(1, float("nan"), 1.0))
    assert len(front) == 0


def test_best_is_the_most_accurate_within_the_budget() -> None:
    front = ParetoFront(AXES, [candidate(1, 0.7, 1), candidate(2, 0.8, 2), candidate(3, 0.9, 4)])
    assert front.best([Budget("latency", 3.0, "ms")]).number("accuracy") == 0.8
    assert front.best().number("accuracy") == 0.9


def test_best_names_the_smallest_value_where_the_front_has_none_within_the_budget() -> None:
    front = ParetoFront(AXES, [candidate(1, 0.7, 1.5), candidate(2, 0.8, 2)])
    with pytest.raises(BudgetError, match=r"latency <= 1 ms; the smallest latency .* is 1.5 ms"):
        front.best([Budget("latency", 1.0, "ms")])


def test_knee_is_where_more_latency_stops_paying() -> None:
    front = ParetoFront(AXES, [candidate(1, 0.5, 1), candidate(2, 0.88, 2), candidate(3, 0.9, 9)])
    assert front.knee().number("latency") == 2


def test_accuracies_that_tie_are_ranked_by_their_loss() -> None:
    images = Provenance("evaluated", split="val", num_images=100)

    def tied(number: int, right: int, loss: float, latency: float) -> Candidate:
        accuracy = Estimate(right / 100, images, loss=loss)
        values = {"accuracy": accuracy, "latency": Estimate(latency, Provenance("estimated"))}
        return Candidate(Architecture(number, ()), values)

    fast, slow, worse = tied(1, 99, 0.4, 1), tied(2, 99, 0.1, 2), tied(3, 99, 0.3, 3)
    more_right = tied(4, 100, 50.0, 4)  # no loss outweighs an image
    front = ParetoFront(AXES, [fast, slow, worse, more_right])
    assert front.sorted() == [more_right, slow, fast]
    assert front.best([Budget("latency", 3, "ms")]) == slow
    assert slow.number("accuracy") == fast.number("accuracy") == 0.99


def test_a_front_as_a_table_says_every_number_interval_and_provenance() -> None:
    synthetic = Synthetic("digits_tiny")
    problem = synthetic.problem()
    rng = np.random.default_rng(0)
    front = ParetoFront(problem.axes)
    for _ in range(30):
        architecture = synthetic.space.sample(rng)
        values = {item.name: item.evaluate(architecture) for item in problem.quantities}
        front.add(Candidate(architecture, values))
    table = front.to_pandas(space=synthetic.space)
    best = front.sorted()[0]
    assert table["architecture"][0] == best.architecture.id
    assert table["accuracy_high"][0] == best.values["accuracy"].high
    assert set(table["cost_provenance"]) == {"counted"}


def test_a_candidate_comes_back_from_its_record_with_all_it_knows() -> None:
    synthetic = Synthetic("digits_tiny")
    setting = Setting("box", "openvino", "int8")
    values = {
        "accuracy": Estimate(0.9, Provenance("evaluated", split="val", num_images=80), 0.8, 0.95),
        "latency": Estimate(1.5, Provenance("interpolated", setting)),
    }
    known = Candidate(synthetic.space.smallest, values)
    record = json.loads(json.dumps(known.to_record(synthetic.space)))
    assert Candidate.from_record(record, space=synthetic.space) == known
    # as version 0.1 wrote it
    for name, value in record["values"].items():
        value["provenance"] = str(known.values[name].provenance)
    assert Candidate.from_record(record, space=synthetic.space) == known


@pytest.mark.parametrize(
    ("place", "nonsense"),
    [("genes", [float("inf")]), ("num_images", {}), ("num_images", 0), ("number", "high")],
)
def test_a_damaged_record_is_refused(place: str, nonsense: object) -> None:
    synthetic = Synthetic("digits_tiny")
    value = Estimate(0.9, Provenance("evaluated", split="val", num_images=80), loss=0.3)
    record = Candidate(synthetic.space.smallest, {"accuracy": value}).to_record(synthetic.space)
    content = json.loads(json.dumps(record))
    estimate = content["values"]["accuracy"]
    {"genes": content, "number": estimate}.get(place, estimate["provenance"])[place] = nonsense
    with pytest.raises(SearchError, match="cannot be read"):
        Candidate.from_record(content, space=synthetic.space)
