"""Budgets and objectives as users write them, on one device and on several."""

import shutil
import textwrap
from dataclasses import replace
from pathlib import Path

import pytest
import torch

from nassearch.errors import BudgetError, ConfigError, SearchError
from nassearch.export.export_config import read_export
from nassearch.latency.target import Target
from nassearch.objectives.objective import Context, build
from nassearch.pipeline.profile import table_places
from nassearch.pipeline.search import (
    SearchRequest,
    deadline,
    loosest,
    make_problem,
    make_target,
    resolve_budgets,
    search_supernet,
    timed,
)
from nassearch.pipeline.search_result import SearchResult
from nassearch.pipeline.trained_supernet import TrainedSupernet
from nassearch.provenance import Estimate, Provenance
from nassearch.search.problem import Objective
from nassearch.setting import Setting
from nassearch.space import Architecture, SearchSpace
from tests.pipeline.conftest import CommandLine

SPACE = SearchSpace.load("digits_tiny")


def target(device: str) -> Target:
    return make_target(device, SPACE, places=table_places(None))


@pytest.fixture(scope="module")
def pi() -> Target:
    return target("raspberry_pi_4")


@pytest.fixture(scope="module")
def a100() -> Target:
    return target("a100")


def half(item: Target) -> float:
    """The milliseconds half of the way from the fastest network to the largest."""
    fastest = item.predictor.minimum()[1]
    return (fastest + float(item.predictor.predict([SPACE.largest])[0])) / 2


@pytest.mark.parametrize(
    ("text", "limit"),
    [
        ("30us", 0.030),
        ("latency=30us", 0.030),
        ("latency:raspberry_pi_4=30us", 0.030),
        ("latency:raspberry_pi_4/onnxruntime-fp32-b1=30us", 0.030),
        ("50%", None),
        ("latency=50%", None),
        ("latency:raspberry_pi_4=50%", None),
    ],
)
def test_a_latency_budget_may_name_its_one_device(
    pi: Target, text: str, limit: float | None
) -> None:
    text = text.replace("raspberry_pi_4/onnxruntime-fp32-b1", str(pi.setting))
    ((budget,),) = resolve_budgets([text], Context(SPACE, (pi,)))
    assert budget.name == "latency"
    assert budget.limit == pytest.approx(half(pi) if limit is None else limit)


def test_a_share_is_each_devices_own_whatever_their_order(pi: Target, a100: Target) -> None:
    for targets in ((pi, a100), (a100, pi)):
        (budgets,) = resolve_budgets(["50%"], Context(SPACE, targets))
        limits = {budget.name: budget.limit for budget in budgets}
        assert limits == {
            "latency:raspberry_pi_4": pytest.approx(half(pi)),
            "latency:a100": pytest.approx(half(a100)),
        }
    (budgets,) = resolve_budgets([("latency:a100=50%", "params=50K")], Context(SPACE, (pi, a100)))
    assert [budget.name for budget in budgets] == ["latency:a100", "params"]


def test_a_budget_for_a_device_that_is_not_searched_for_is_refused(pi: Target) -> None:
    with pytest.raises(BudgetError, match=r"names a device that is not searched.*raspberry_pi_4"):
        resolve_budgets(["latency:a100=50%"], Context(SPACE, (pi,)))


@pytest.mark.parametrize("text", ["5", "0%", "120%", "latency:=5ms", "5 parsecs", "params=lots"])
def test_what_is_no_budget_is_refused(pi: Target, text: str) -> None:
    with pytest.raises(BudgetError):
        resolve_budgets([text], Context(SPACE, (pi,)))


def test_two_settings_of_one_device_make_a_front_each() -> None:
    space = SearchSpace.load("mobilenet_v3")
    context = Context(
        space,
        tuple(
            make_target(f"zen4/{stem}", space, places=table_places(None))
            for stem in ("openvino-fp32-b1-t1", "openvino-int8-b1-t1")
        ),
    )
    names = [objective.name for objective in build("latency", context)]
    assert names == ["latency:zen4/openvino-fp32-b1-t1", "latency:zen4/openvino-int8-b1-t1"]
    request = SearchRequest(("8ms",), objectives=("macs", "latency"))
    problem = make_problem(request, context, resolve_budgets(request.budgets, context))
    assert problem.fronts == ((0, 1), (0, 2))
    assert set(problem.limits) == set(names)
    estimate = problem.quantity(names[1]).evaluate(space.smallest)
    assert estimate.provenance.setting == Setting("zen4", "openvino", "int8")


def test_the_search_runs_under_the_loosest_of_the_sets(pi: Target) -> None:
    context = Context(SPACE, (pi,))
    sets = resolve_budgets(["30us", ("60us", "params=50K")], context)
    assert [(budget.name, budget.limit) for budget in loosest(sets)] == [("latency", 0.060)]


@pytest.fixture
def mine(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> str:
    """A module of a user's with two objectives, found in the working directory."""
    (tmp_path / "my_objectives.py").write_text(
        textwrap.dedent("""
            def joules(architecture):
                return float(architecture.resolution)
            joules.is_cheap = True
            joules.unit = "J"

            def dollars(architecture):
                return 2.0 * len(architecture.stages)

            def nothing(architecture):
                return None

            def pair(architecture):
                return 1.0, 2.0

            def array(architecture):
                import numpy
                return numpy.zeros(3)

            def fails(architecture):
                raise RuntimeError("no\\nway")

            broken = 7
        """)
    )
    monkeypatch.chdir(tmp_path)
    monkeypatch.syspath_prepend(str(tmp_path))
    return "my_objectives"


def test_two_objectives_of_one_module_are_traded_like_any_others(mine: str, pi: Target) -> None:
    names = (f"{mine}:joules", f"{mine}:dollars")
    request = SearchRequest((f"{mine}:joules=100",), objectives=(*names, "latency"))
    context = Context(SPACE, (pi,))
    problem = make_problem(request, context, resolve_budgets(request.budgets, context))
    assert problem.fronts == ((0, 1, 2),)
    assert problem.limits == {names[0]: 100.0}
    estimate = problem.quantity(names[0]).evaluate(SPACE.largest)
    assert (estimate.value, estimate.provenance.source) == (SPACE.largest.resolution, names[0])


def test_a_budget_on_an_expensive_function_says_how_to_make_it_cheap(mine: str, pi: Target) -> None:
    request = SearchRequest((f"{mine}:dollars=100",), objectives=("latency",))
    context = Context(SPACE, (pi,))
    with pytest.raises(BudgetError, match="is_cheap = True"):
        make_problem(request, context, resolve_budgets(request.budgets, context))


def test_an_objective_that_is_no_function_or_gives_no_number_is_one_line(mine: str) -> None:
    with pytest.raises(ConfigError, match=r"my_objectives:broken: is a int, not a function"):
        build(f"{mine}:broken", Context(SPACE))
    (objective,) = build(f"{mine}:nothing", Context(SPACE))
    with pytest.raises(SearchError, match=r"my_objectives:nothing: returned a NoneType"):
        objective.evaluate(SPACE.smallest)


@pytest.mark.parametrize(
    ("name", "says"),
    [
        ("pair", "returned a tuple"),
        ("array", "returned a ndarray"),
        ("fails", r"raised RuntimeError for [0-9a-f]{8} \(no way\)"),
    ],
)
def test_what_an_objective_gives_that_is_no_number_is_one_line(
    mine: str, name: str, says: str
) -> None:
    (objective,) = build(f"{mine}:{name}", Context(SPACE))
    with pytest.raises(SearchError, match=f"my_objectives:{name}: {says}") as caught:
        objective.evaluate(SPACE.smallest)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("own", [[], ["my_objectives:dollars"]])
def test_a_search_may_do_without_accuracy(
    run: Path, nassearch: CommandLine, tmp_path: Path, mine: str, own: list[str]
) -> None:
    """Or begin with an objective of the user's: what is best is decided by the first."""
    monkey = [word for name in (*own, "latency") for word in ("--objective", name)]
    (tmp_path / "runs").symlink_to(run.parent, target_is_directory=True)
    (tmp_path / "latency_tables").symlink_to(run.parents[1] / "latency_tables")
    answer = nassearch(
        "search", "--supernet", run, "--device", "box", "--budget", "1s", "--trials", 3, *monkey,
        "--out", tmp_path / "found", "--json",
    )  # fmt: skip
    assert answer.code == 0, answer.err
    (pick,) = answer.json()["picks"]
    assert "accuracy" not in pick.get("values", {})


def test_a_training_that_was_interrupted_is_searched_with_a_warning(
    run: Path, tmp_path: Path
) -> None:
    supernet = TrainedSupernet.load(run)
    assert not supernet.is_unfinished
    half = replace(supernet, step=1)
    with (
        pytest.warns(UserWarning, match=r"is trained to step 1 of \d+; go on with .*--resume"),
        pytest.raises(BudgetError),
    ):
        search_supernet(half, [], SearchRequest(("params=1",)), out=tmp_path / "found")


def test_accuracies_of_other_weights_are_none_of_these(run: Path, tmp_path: Path) -> None:
    """A supernet that was trained again in its place."""
    copied = Path(shutil.copytree(run, tmp_path / "run"))
    supernet = TrainedSupernet.load(copied)
    accuracy = Objective("accuracy", "max", "", supernet.accuracy)
    supernet.cache.put(accuracy, SPACE.smallest, Estimate(0.5, Provenance("evaluated")))
    again = TrainedSupernet.load(copied)
    assert again.cache.get(accuracy, SPACE.smallest) is not None
    with torch.no_grad():
        next(again.supernet.parameters()).add_(1e-3)
    other = replace(again)
    assert other.fingerprint != supernet.fingerprint
    assert other.cache.get(accuracy, SPACE.smallest) is None


def test_an_edited_function_is_another_objective() -> None:
    def first(architecture: Architecture) -> float:
        return 1.0

    class Second:
        source = "version 2"

        def __call__(self, architecture: Architecture) -> float:
            return 2.0

    (before,), (after,) = build(first, Context(SPACE)), build(Second(), Context(SPACE))
    assert before.source and before.source != after.source == "version 2"


def test_a_search_whose_front_is_one_network_says_why_and_keeps_it(
    run: Path, nassearch: CommandLine, tmp_path: Path
) -> None:
    arguments = ["--objective", "accuracy", "--trials", 3, "--algorithm", "random", "--json"]
    answer = nassearch("search", "--device", "box", "--budget", "1s", *arguments, "--out", tmp_path)
    assert answer.code == 0, answer.err
    remark = answer.json()["remark"]
    assert "above the largest network of the space (latency" in remark
    assert remark in answer.err
    assert SearchResult.load(tmp_path).remark == remark


def test_what_a_search_expects_is_promised_beside_what_it_observed(
    run: Path, nassearch: CommandLine, tmp_path: Path
) -> None:
    """In its answer, read back, and in the export's config and card."""
    arguments = ["--trials", 12, "--out", tmp_path / "found", "--json"]
    answer = nassearch("search", "--device", "raspberry_pi_4", "--budget", "60%", *arguments)
    assert answer.code == 0, answer.err
    (pick,) = answer.json()["picks"]
    accuracy = pick["values"]["accuracy"]
    expected = accuracy["expected"]
    assert expected["low"] <= expected["mean"] <= expected["high"]
    assert expected["mean"] != accuracy["number"]
    result = SearchResult.load(tmp_path / "found")
    belief = result.picks[0].candidate.values["accuracy"].belief
    assert belief is not None and belief.to_dict() == expected
    answer = nassearch(
        "export", tmp_path / "found", "--out", tmp_path / "out", "--format", "config"
    )
    assert answer.code == 0, answer.err
    config = read_export(tmp_path / "out" / pick["id"])
    promised = config.accuracy.expected
    assert promised is not None and promised.value == expected["mean"]
    assert config.accuracy.value == accuracy["number"]
    card = (tmp_path / "out" / pick["id"] / "README.md").read_text()
    assert f"{promised.value:.2%} is expected" in card
    other = config.accuracy.model_copy(update={"expected": None})
    assert config.accuracy.is_same(other)


def test_a_time_budget_leaves_what_measuring_the_front_takes(
    pi: Target, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("nassearch.pipeline.search.time.monotonic", lambda: 1000.0)
    request = SearchRequest(time_budget="100s")
    assert timed(request, deadline(None, [pi])) == request
    elsewhere = timed(request, deadline("100s", [pi]))
    assert elsewhere.plan.seconds == pytest.approx(95.0)  # what is not here is not measured
    monkeypatch.setitem(pi.__dict__, "reason_unmeasured", None)
    assert timed(request, deadline("100s", [pi])).plan.seconds == pytest.approx(89.0)
    monkeypatch.setattr("nassearch.pipeline.search.time.monotonic", lambda: 1e6)
    assert timed(request, 1095.0).plan.seconds == pytest.approx(1e-3)  # one evaluation at least


@pytest.mark.parametrize("text", ["abc", "0", "-3", "1.5"])
def test_trials_that_are_no_number_are_refused(nassearch: CommandLine, text: str) -> None:
    answer = nassearch("search", "--device", "a100", f"--trials={text}")
    assert answer.code != 0
    assert f"--trials: is '{text}'" in answer.err and "give 1 or more, or auto" in answer.err


@pytest.mark.parametrize("text", ["1s", "nonsense"])
def test_a_time_that_ends_before_it_begins_is_refused(
    run: Path, nassearch: CommandLine, tmp_path: Path, text: str
) -> None:
    answer = nassearch("search", "--device", "box", "--time-budget", text, "--out", tmp_path)
    assert answer.code != 0
    assert ("too short" in answer.err) or ("is not a time" in answer.err)
    assert not any(tmp_path.iterdir())
