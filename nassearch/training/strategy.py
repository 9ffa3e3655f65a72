"""What a strategy is: for each step, which subnets are trained, on what, and how strongly."""

from dataclasses import dataclass
from typing import Literal, Protocol

import numpy as np

from nassearch.config import resolve
from nassearch.space import Architecture, SearchSpace
from nassearch.training import STRATEGIES
from nassearch.training.recipe import TrainingRecipe
from nassearch.training.schedule import Moment

Target = Literal["labels", "teacher"]


@dataclass(frozen=True, slots=True)
class Pass:
    """One subnet's forward and backward pass within a step.

    Its loss is multiplied by `weight`. The target is the labels, or the predictions of the step's
    teacher: its first pass, without gradient.
    """

    architecture: Architecture
    weight: float = 1.0
    target: Target = "labels"


class Strategy(Protocol):
    """A class made from a space and a recipe. `step` is pure: equal arguments, equal passes."""

    def __init__(self, space: SearchSpace, recipe: TrainingRecipe) -> None: ...

    def step(self, moment: Moment, rng: np.random.Generator) -> tuple[Pass, ...]:
        """The passes of a step, in order, at least one; gradients add up to one optimizer step."""


def make_strategy(space: SearchSpace, recipe: TrainingRecipe) -> Strategy:
    """The strategy the recipe names; ConfigError where there is none of that name."""
    strategy: Strategy = resolve(STRATEGIES, recipe.strategy, kind="strategy")(space, recipe)
    return strategy
