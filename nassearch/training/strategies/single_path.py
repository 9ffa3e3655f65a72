"""Strategy `single-path`: one random subnet a step, trained on the labels."""

import numpy as np

from nassearch.space import SearchSpace
from nassearch.training.sampling import SamplingOptions, draw
from nassearch.training.schedule import StepPosition, learning_rate
from nassearch.training.strategy import StepPlan, SubnetPass
from nassearch.training.training_recipe import TrainingRecipe


class SinglePath:
    """Uniform sampling (Guo et al., "Single Path One-Shot NAS", ECCV 2020, 3.2)."""

    Options = SamplingOptions

    def __init__(self, space: SearchSpace, recipe: TrainingRecipe) -> None:
        assert isinstance(recipe.options, SamplingOptions)
        self._space, self._recipe, self._options = space, recipe, recipe.options

    def step(self, position: StepPosition, rng: np.random.Generator) -> StepPlan:
        subnet = draw(self._space, self._options, rng)
        return StepPlan((SubnetPass(subnet),), learning_rate(self._recipe, position.epochs))
