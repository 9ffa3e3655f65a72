"""Strategy of this experiment: delayed shrinking in turn, with a frozen teacher."""

from dataclasses import replace

import numpy as np

from nassearch.space import SearchSpace
from nassearch.training.schedule import StepPosition
from nassearch.training.strategies.delayed_shrinking import (
    DelayedShrinking,
    DelayedShrinkingOptions,
)
from nassearch.training.strategy import StepPlan
from nassearch.training.training_recipe import TrainingRecipe


class Taught:
    """Delayed shrinking; the largest network, frozen when subnets come in, teaches from then on."""

    Options = DelayedShrinkingOptions

    def __init__(self, space: SearchSpace, recipe: TrainingRecipe) -> None:
        self._in_turn = DelayedShrinking(space, recipe)

    def step(self, position: StepPosition, rng: np.random.Generator) -> StepPlan:
        plan = self._in_turn.step(position, rng)
        return replace(plan, freeze_teacher=plan.sort_channels)
