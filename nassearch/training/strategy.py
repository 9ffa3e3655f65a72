"""What a strategy is: for each step, which subnets are trained, on what, and how strongly."""

from dataclasses import dataclass
from typing import ClassVar, Literal, Protocol

import numpy as np

from nassearch.config import StrictModel, resolve
from nassearch.space import Architecture, SearchSpace
from nassearch.training.schedule import StepPosition
from nassearch.training.strategies import STRATEGIES
from nassearch.training.training_recipe import TrainingRecipe

Target = Literal["labels", "in-place"]


@dataclass(frozen=True, slots=True)
class SubnetPass:
    """One subnet's forward and backward pass within a step.

    On images of `resolution` pixels where that is not the subnet's own. Its loss is multiplied by
    `weight`. The target is the labels (and a teacher's predictions, where the training has a
    teacher), or the predictions of the step's first pass, without gradient. Of the batch it sees
    `part` (i, n): the images at positions i, i + n, ...; only passes on the labels may see a part.
    """

    architecture: Architecture
    weight: float = 1.0
    target: Target = "labels"
    resolution: int | None = None
    part: tuple[int, int] = (0, 1)


@dataclass(frozen=True, slots=True)
class StepPlan:
    """One optimizer step: its passes, in order, at least one; their gradients add up.

    Before it, `sort_channels` sorts the inner channels of every block by importance, and
    `freeze_teacher` makes a copy of the largest network the teacher of all that follows.
    """

    passes: tuple[SubnetPass, ...]
    learning_rate: float
    sort_channels: bool = False
    freeze_teacher: bool = False


class Strategy(Protocol):
    """A class made from a space and a recipe; its own options are `recipe.options`.

    `Options` is the model of the recipe's keys that only this strategy reads; `StrictModel` itself
    where there are none. `step` is pure: for equal arguments it returns equal plans.
    """

    Options: ClassVar[type[StrictModel]]

    def __init__(self, space: SearchSpace, recipe: TrainingRecipe) -> None: ...

    def step(self, position: StepPosition, rng: np.random.Generator) -> StepPlan: ...


def make_strategy(space: SearchSpace, recipe: TrainingRecipe) -> Strategy:
    """The strategy the recipe names; ConfigError where there is none of that name."""
    strategy: Strategy = resolve(STRATEGIES, recipe.strategy, kind="strategy")(space, recipe)
    return strategy
