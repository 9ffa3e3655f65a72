"""Strategy `single-path`: one random subnet a step, trained on the labels."""

import numpy as np

from nassearch.space import SearchSpace
from nassearch.training.sampling import draw
from nassearch.training.schedule import StepPosition, learning_rate
from nassearch.training.strategy import StepPlan, SubnetPass
from nassearch.training.training_recipe import TrainingRecipe


class SinglePath:
    """Uniform sampling (Guo et al., "Single Path One-Shot NAS", ECCV 2020, 3.2)."""

    def __init__(self, space: SearchSpace, recipe: TrainingRecipe) -> None:
        self._space = space
        self._recipe = recipe

    def step(self, moment: StepPosition, rng: np.random.Generator) -> StepPlan:
        subnet = draw(self._space, self._recipe, rng)
        return StepPlan((SubnetPass(subnet),), learning_rate(self._recipe, moment.epochs))
