"""How many epochs end within a given time: some real steps are timed, the schedule is reckoned."""

import os
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cache

import torch

from nassearch.config import format_seconds, parse_seconds
from nassearch.data.seeding import Stream, numpy_generator
from nassearch.errors import ConfigError
from nassearch.networks.cost import macs
from nassearch.space import lower
from nassearch.training import checkpoint
from nassearch.training.allocator import keep_buffers
from nassearch.training.batch import Batch, epoch_batches
from nassearch.training.evaluation import Evaluator
from nassearch.training.metrics import monitored, monitored_subnets, step_macs
from nassearch.training.schedule import StepPosition
from nassearch.training.state import TrainingState, freeze_teacher
from nassearch.training.strategy import StepPlan, make_strategy
from nassearch.training.trainer import train_step
from nassearch.training.training_recipe import TrainingRecipe

MARGIN = 0.05
"""The share of a time budget that is left for what is slower than it was when it was timed."""
_LOOKED_AT = 400  # steps of a schedule whose arithmetic is counted
_WARM, _FEWEST, _MOST = 3, 8, 32  # steps: before timing, and timed
_SHARE = 0.03  # of the budget, that timing steps may take
_GOLDEN = 0.6180339887498949  # its multiples cover 0..1 evenly, however many are taken


@dataclass(frozen=True)
class Pace:
    """Seconds that a training takes here: `step` + `mac` x its arithmetic for each step, the
    checkpoint at each epoch's end, and each evaluation of the subnets that are followed."""

    step: float
    mac: float
    checkpoint: float = 0.0
    evaluation: float = 0.0

    @classmethod
    def of(
        cls, steps: Sequence[tuple[float, float]], *, checkpoint: float, evaluation: float
    ) -> "Pace":
        """The pace of timed steps, (multiply-accumulates, seconds): their least-squares line.

        Neither a step without arithmetic nor arithmetic itself takes less than no time.
        """
        mean = sum(count for count, _ in steps) / len(steps)
        seconds = sum(taken for _, taken in steps) / len(steps)
        spread = sum((count - mean) ** 2 for count, _ in steps)
        together = sum((count - mean) * (taken - seconds) for count, taken in steps)
        slope = min(max(0.0, together / spread if spread else 0.0), seconds / mean)
        return cls(seconds - slope * mean, slope, checkpoint, evaluation)


@dataclass(frozen=True)
class TimePlan:
    """The epochs that end within a time, and the seconds that they are to take."""

    epochs: int
    seconds: float

    def __str__(self) -> str:
        each = format_seconds(self.seconds / self.epochs)
        return f"{self.epochs} epoch{'s' * (self.epochs > 1)} of about {each}"


def training_seconds(
    epochs: int,
    pace: Pace,
    *,
    mean_macs: float,
    steps_per_epoch: int,
    eval_every: int,
) -> float:
    """What a training of so many epochs takes, its evaluations and checkpoints among it.

    `mean_macs` is the arithmetic of the average step of its schedule.
    """
    steps = epochs * steps_per_epoch * (pace.step + pace.mac * mean_macs)
    evaluations = epochs // eval_every + bool(epochs % eval_every)
    return steps + epochs * pace.checkpoint + evaluations * pace.evaluation


def most_epochs(available: float, seconds: Callable[[int], float]) -> int:
    """The most epochs whose `seconds` are `available`; 0 where not even one's are."""
    fits, too_many = 0, 1
    while seconds(too_many) <= available:
        fits, too_many = too_many, 2 * too_many
    while too_many - fits > 1:
        middle = (fits + too_many) // 2
        if seconds(middle) <= available:
            fits = middle
        else:
            too_many = middle
    return fits


def plan_time(state: TrainingState, budget: str, *, began: float) -> TimePlan:
    """How many epochs the training of `state` may have to end within `budget`, '2h'.

    Steps of the whole schedule are timed, for at most a few per cent of the time. The state is a
    different one afterwards: train another.

    Args:
        state: A training that has not begun; its recipe's epochs are not used.
        budget: From `began` on.
        began: `time.monotonic()` when the command did.

    Raises:
        ConfigError: the time is too short for one epoch; says what would be needed.
    """
    seconds = parse_seconds(budget)
    pace = measure_pace(state, seconds=_SHARE * seconds)

    @cache
    def taken(epochs: int) -> float:
        return training_seconds(
            epochs,
            pace,
            mean_macs=_mean_macs(state, epochs),
            steps_per_epoch=state.steps_per_epoch,
            eval_every=state.recipe.eval_every,
        )

    spent = time.monotonic() - began
    epochs = most_epochs((1 - MARGIN) * seconds - spent, taken)
    if not epochs:
        needed = format_seconds(1.02 * (spent + taken(1)) / (1 - MARGIN))
        raise ConfigError(
            f"{budget} is too short for one epoch, which takes {format_seconds(taken(1))} here"
            f" after {format_seconds(spent)} of preparation",
            where="training.time_budget",
            fix=f"give at least {needed}",
        )
    return TimePlan(epochs, taken(epochs))


def measure_pace(state: TrainingState, *, seconds: float) -> Pace:
    """Time steps from all over the schedule for about so long.

    The weights stay as they are; the statistics of norms and the optimizer's memory do not.
    """
    keep_buffers()
    plans = [*_schedule(state, state.recipe)]
    # multiples of the golden ratio: every part of the schedule is seen, however early time is up
    chosen = [plans[int(number * _GOLDEN % 1 * len(plans))] for number in range(_WARM + _MOST)]
    batches = _endless(state)
    given, frozen = state.teacher, None
    if any(taught for _, taught in chosen):
        freeze_teacher(state)
        frozen = state.teacher
    timed: list[tuple[float, float]] = []
    with torch.random.fork_rng():
        for number, (plan, taught) in enumerate(chosen):
            if number == _WARM:
                timed.clear()
                began = time.perf_counter()
            state.teacher = frozen if taught else given
            taken = _time_step(state, plan, batches)
            timed.append((_macs(state, plan, taught=taught), taken))
            is_enough = len(timed) >= _FEWEST and number >= _WARM
            if is_enough and time.perf_counter() - began > seconds:
                break
    return Pace.of(
        timed, checkpoint=_checkpoint_seconds(state), evaluation=_evaluation_seconds(state)
    )


def _schedule(state: TrainingState, recipe: TrainingRecipe) -> Iterator[tuple[StepPlan, bool]]:
    """The steps of a schedule in order, and whether a teacher was frozen before each.

    A schedule is in proportion to its length: one with few steps an epoch stands for the real one.
    """
    steps_per_epoch = max(1, min(state.steps_per_epoch, _LOOKED_AT // recipe.epochs))
    strategy, frozen = make_strategy(state.space, recipe), False
    for step in range(recipe.epochs * steps_per_epoch):
        position = StepPosition(step, steps_per_epoch)
        plan = strategy.step(position, numpy_generator(recipe.seed, Stream.SUBNETS, step))
        frozen |= plan.freeze_teacher
        yield plan, frozen


def _mean_macs(state: TrainingState, epochs: int) -> float:
    """Multiply-accumulates of the average step of a schedule of so many epochs, for one image."""
    recipe = state.recipe.model_copy(update={"epochs": min(epochs, _LOOKED_AT)})
    counted = [_macs(state, plan, taught=taught) for plan, taught in _schedule(state, recipe)]
    return sum(counted) / len(counted)


def _macs(state: TrainingState, plan: StepPlan, *, taught: bool) -> float:
    """Multiply-accumulates of a step; a teacher frozen on the way is the largest network."""
    teacher = macs(lower(state.space, state.space.largest)) if taught else state.teacher_macs
    return step_macs(state.space, plan.passes, teacher_macs=teacher)


def _time_step(state: TrainingState, plan: StepPlan, batches: Iterator[Batch]) -> float:
    """Seconds of a step at a rate of 0, its batch's making among them."""
    for parameters in state.optimizer.param_groups:
        parameters["lr"] = 0.0
    began = time.perf_counter()
    train_step(state, plan.passes, *next(batches))
    return time.perf_counter() - began


def _endless(state: TrainingState) -> Iterator[Batch]:
    while True:
        yield from epoch_batches(state)


def _checkpoint_seconds(state: TrainingState) -> float:
    began = time.perf_counter()
    parts: dict[str, Mapping[str, object]] = {
        "model": state.supernet.state_dict(),
        "optimizer": state.optimizer.state_dict(),
        "average": {} if state.average is None else state.average.state_dict(),
    }
    content = checkpoint.serialise(parts)
    with tempfile.TemporaryFile() as file:
        file.write(content)
        file.flush()
        os.fsync(file.fileno())
    return time.perf_counter() - began


def _evaluation_seconds(state: TrainingState) -> float:
    began = time.perf_counter()
    evaluator = Evaluator(state.evaluated, state.data)
    for architecture in monitored_subnets(state).values():
        monitored(state, evaluator, architecture)
    return time.perf_counter() - began
