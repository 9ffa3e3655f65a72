"""A strategy that trains one network of a space alone, for `run.py flagship-alone`."""

import numpy as np

from nassearch.config import StrictModel
from nassearch.space import SearchSpace
from nassearch.training.schedule import StepPosition, learning_rate
from nassearch.training.strategy import StepPlan, SubnetPass
from nassearch.training.training_recipe import TrainingRecipe


class OneNetworkOptions(StrictModel):
    genes: list[int]
    """The network, as its space encodes it."""


class OneNetwork:
    Options = OneNetworkOptions

    def __init__(self, space: SearchSpace, recipe: TrainingRecipe) -> None:
        assert isinstance(recipe.options, OneNetworkOptions)
        self._network, self._recipe = space.decode(recipe.options.genes), recipe

    def step(self, position: StepPosition, rng: np.random.Generator) -> StepPlan:
        del rng
        rate = learning_rate(self._recipe, position.epochs)
        return StepPlan((SubnetPass(self._network),), rate)
