"""Strategy `delayed-shrinking`: the largest network first, then ever more of the subnets."""

import numpy as np

from nassearch.space import SearchSpace
from nassearch.training.recipe import TrainingRecipe
from nassearch.training.sandwich import sandwich
from nassearch.training.schedule import Moment, learning_rate
from nassearch.training.strategy import Pass


class DelayedShrinking:
    """DεpS (Annavajjala et al., "DεpS: Delayed ε-Shrinking", ECCV 2024).

    With N steps an epoch, T_w = fm_warmup x epochs and s = ramp_epochs, at epoch t:

        t < T_w - s         the largest network alone (full-model warm-up)
        T_w - s <= t        the sandwich; the subnets' losses are multiplied by
            t < T_w             β = k / (s N) x η(T_w) / η(t) at the ramp's k-th step, k = 1, 2, ...
            T_w <= t            β = 1

    With SGD the subnets' effective rate ε(t) = β η(t) so rises linearly from 0 to η(T_w), then
    follows η. With AdamW, which divides a gradient's scale out, β is their weight in the mixture.
    """

    def __init__(self, space: SearchSpace, recipe: TrainingRecipe) -> None:
        self._space = space
        self._recipe = recipe

    def step(self, moment: Moment, rng: np.random.Generator) -> tuple[Pass, ...]:
        beta = self.beta(moment)
        if beta == 0.0:
            return (Pass(self._space.largest),)
        return sandwich(self._space, rng, num_random=self._recipe.num_random, weight=beta)

    def beta(self, moment: Moment) -> float:
        """What the subnets' losses are multiplied by; 0 before the ramp, 1 after it."""
        full_rate = self._recipe.fm_warmup * self._recipe.epochs
        end = round(full_rate * moment.steps_per_epoch)
        length = min(end, round(self._recipe.ramp_epochs * moment.steps_per_epoch))
        ramped = moment.step - (end - length) + 1
        if ramped <= 0:
            return 0.0
        if ramped > length:
            return 1.0
        rate = learning_rate(self._recipe, moment.epochs)
        return ramped / length * learning_rate(self._recipe, full_rate) / rate
