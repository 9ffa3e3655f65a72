"""A time budget becomes the epochs that end within it."""

import time
from pathlib import Path

import pytest
import torch

from nassearch.data.dataset import Data
from nassearch.errors import ConfigError
from nassearch.networks.cost import macs
from nassearch.space import SearchSpace, lower
from nassearch.training import time_plan
from nassearch.training.state import TrainingState, start
from nassearch.training.time_plan import MARGIN, Pace, most_epochs, plan_time, training_seconds
from nassearch.training.training_recipe import TrainingRecipe


def begin(space: SearchSpace, data: Data, out: Path, **keys: object) -> TrainingState:
    recipe = TrainingRecipe(batch_size=128, **keys)  # type: ignore[arg-type]
    return start(space, data, recipe=recipe, out=out, resume=False)


def test_a_pace_is_the_line_through_timed_steps() -> None:
    pace = Pace.of([(1e6, 0.3), (2e6, 0.5), (3e6, 0.7)], checkpoint=0.0, evaluation=0.0)
    assert (pace.step, pace.mac) == (pytest.approx(0.1), pytest.approx(2e-7))


@pytest.mark.parametrize(
    ("steps", "step", "mac"),
    [
        ([(1e6, 0.5), (1e6, 0.7)], 0.6, 0.0),  # one network: its mean
        ([(1e6, 0.5), (3e6, 0.1)], 0.3, 0.0),  # noise: more arithmetic does not save time
        ([(1e6, 0.1), (3e6, 0.7)], 0.0, 2e-7),  # nor does a step without any
    ],
)
def test_no_part_of_a_pace_is_below_zero(
    steps: list[tuple[float, float]], step: float, mac: float
) -> None:
    pace = Pace.of(steps, checkpoint=0.0, evaluation=0.0)
    assert (pace.step, pace.mac) == (pytest.approx(step), pytest.approx(mac))


@pytest.mark.parametrize(("epochs", "evaluations"), [(4, 1), (5, 1), (6, 2), (10, 2), (11, 3)])
def test_evaluations_and_the_one_at_the_end_are_counted(epochs: int, evaluations: int) -> None:
    pace = Pace(step=0.1, mac=1e-6, checkpoint=2.0, evaluation=100.0)
    seconds = training_seconds(epochs, pace, mean_macs=4e5, steps_per_epoch=20, eval_every=5)
    assert seconds == pytest.approx(epochs * (20 * 0.5 + 2.0) + 100 * evaluations)


@pytest.mark.parametrize(
    ("available", "epochs"), [(2.9, 0), (3.0, 1), (5.9, 1), (6.0, 2), (3e3 + 1, 1000)]
)
def test_as_many_epochs_as_fit(available: float, epochs: int) -> None:
    assert most_epochs(available, lambda number: 3.0 * number) == epochs


@pytest.fixture
def a_second_a_step(monkeypatch: pytest.MonkeyPatch) -> None:
    """Steps take a second, checkpoints and evaluations one as well, and the clock stands."""
    pace = Pace(step=1.0, mac=0.0, checkpoint=1.0, evaluation=1.0)
    monkeypatch.setattr(time_plan, "measure_pace", lambda *_, **__: pace)
    monkeypatch.setattr(time, "monotonic", lambda: 100.0)


@pytest.mark.usefixtures("a_second_a_step")
def test_a_budget_ends_with_its_margin_left(
    space: SearchSpace, digits: Data, tmp_path: Path
) -> None:
    state = begin(space, digits, tmp_path, eval_every=100)
    assert state.steps_per_epoch == 8
    plan = plan_time(state, "100s", began=90.0)
    assert plan.epochs == 9  # of 9 s each, an evaluation of 1 s, 10 s are gone, 5 s are left
    assert plan.seconds == 82.0 <= 100 * (1 - MARGIN) - 10
    assert str(plan) == "9 epochs of about 9.11s"


@pytest.mark.usefixtures("a_second_a_step")
def test_a_budget_too_short_for_an_epoch_says_what_is_needed(
    space: SearchSpace, digits: Data, tmp_path: Path
) -> None:
    state = begin(space, digits, tmp_path)
    with pytest.raises(
        ConfigError,
        match=r"time_budget: 15s is too short for one epoch, which takes 10s.*at least 21\.5s$",
    ):
        plan_time(state, "15s", began=90.0)
    assert plan_time(begin(space, digits, tmp_path), "21.5s", began=90.0).epochs == 1


def test_the_average_step_is_that_of_the_whole_schedule(
    space: SearchSpace, digits: Data, tmp_path: Path
) -> None:
    """Twelve epochs: three of the largest network alone, then the whole sandwich."""
    keys = {"fm_warmup": 0.25, "ramp_epochs": 0.0, "num_random": 0, "sandwich_rule": "together"}
    keys |= {"strategy": "delayed-shrinking"}
    state = begin(space, digits, tmp_path, **keys)
    largest, smallest = (macs(lower(space, a)) for a in (space.largest, space.smallest))
    expected = 3 * (largest + 0.75 * smallest)
    assert time_plan._mean_macs(state, 12) == pytest.approx(expected)
    assert time_plan._mean_macs(state, 10_000) == pytest.approx(expected)


def test_a_teacher_frozen_on_the_way_is_counted(
    space: SearchSpace, digits: Data, tmp_path: Path
) -> None:
    state = begin(space, digits, tmp_path, strategy="progressive-shrinking")
    untaught, taught = (
        [plan for plan, is_taught in time_plan._schedule(state, state.recipe) if is_taught is one]
        for one in (False, True)
    )
    assert 0.2 < len(untaught) / (len(untaught) + len(taught)) < 0.5
    counted = time_plan._macs(state, taught[0], taught=True)
    alone = time_plan._macs(state, taught[0], taught=False)
    assert counted - alone == macs(lower(space, space.largest))


@pytest.mark.parametrize("strategy", ["delayed-shrinking", "progressive-shrinking"])
def test_timing_moves_no_weight_and_draws_from_nobody_s_generator(
    strategy: str, space: SearchSpace, digits: Data, tmp_path: Path
) -> None:
    state = begin(space, digits, tmp_path / "run", strategy=strategy, epochs=4)
    before = [parameter.clone() for parameter in state.supernet.parameters()]
    torch.manual_seed(0)
    expected = torch.rand(3)
    torch.manual_seed(0)
    pace = time_plan.measure_pace(state, seconds=0.0)
    assert torch.equal(torch.rand(3), expected)
    assert min(pace.checkpoint, pace.evaluation, pace.step + pace.mac) > 0
    assert all(map(torch.equal, state.supernet.parameters(), before))
    assert not (tmp_path / "run").exists()
