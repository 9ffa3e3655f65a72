"""Strategy `sandwich`: largest, smallest and random subnets in every step, from the start."""

import numpy as np

from nassearch.space import SearchSpace
from nassearch.training.recipe import TrainingRecipe
from nassearch.training.schedule import Moment
from nassearch.training.strategy import Pass


class Sandwich:
    """BigNAS's sandwich rule with in-place distillation (Yu et al., "BigNAS", ECCV 2020, 3.1)."""

    def __init__(self, space: SearchSpace, recipe: TrainingRecipe) -> None:
        self._space = space
        self._num_random = recipe.num_random

    def step(self, moment: Moment, rng: np.random.Generator) -> tuple[Pass, ...]:
        return sandwich(self._space, rng, num_random=self._num_random)


def sandwich(
    space: SearchSpace, rng: np.random.Generator, *, num_random: int, weight: float = 1.0
) -> tuple[Pass, ...]:
    """The largest on the labels; the smallest and random ones on its predictions, by `weight`."""
    subnets = [space.smallest, *(space.sample(rng) for _ in range(num_random))]
    taught = (Pass(subnet, weight, "teacher") for subnet in subnets)
    return (Pass(space.largest), *taught)
