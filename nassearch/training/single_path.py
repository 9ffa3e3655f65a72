"""Strategy `single-path`: one random subnet a step, trained on the labels."""

import numpy as np

from nassearch.space import SearchSpace
from nassearch.training.recipe import TrainingRecipe
from nassearch.training.schedule import Moment
from nassearch.training.strategy import Pass


class SinglePath:
    """Uniform sampling (Guo et al., "Single Path One-Shot NAS", ECCV 2020, 3.2)."""

    def __init__(self, space: SearchSpace, recipe: TrainingRecipe) -> None:
        self._space = space

    def step(self, moment: Moment, rng: np.random.Generator) -> tuple[Pass, ...]:
        return (Pass(self._space.sample(rng)),)
