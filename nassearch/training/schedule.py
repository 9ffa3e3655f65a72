"""The learning rate over a training, and how far along a training is."""

import math
from dataclasses import dataclass

from nassearch.training.recipe import TrainingRecipe


@dataclass(frozen=True, slots=True)
class Moment:
    """A step of a training: `step` counts from 0 over all epochs."""

    step: int
    steps_per_epoch: int

    @property
    def epoch(self) -> int:
        return self.step // self.steps_per_epoch

    @property
    def step_in_epoch(self) -> int:
        return self.step % self.steps_per_epoch

    @property
    def epochs(self) -> float:
        """Epochs passed, with the fraction of the current one."""
        return self.step / self.steps_per_epoch


def learning_rate(recipe: TrainingRecipe, epochs: float) -> float:
    """η after `epochs` epochs: linear warm-up, then a half cosine from lr down to min_lr.

    η(t) = max(η_min, η0 (1 + cos(π t / T)) / 2), the schedule of DεpS (Annavajjala et al., 2024).
    """
    cosine = 0.5 * recipe.lr * (1 + math.cos(math.pi * min(epochs / recipe.epochs, 1.0)))
    if epochs < recipe.lr_warmup_epochs:
        cosine *= epochs / recipe.lr_warmup_epochs
    return max(recipe.min_lr, cosine)
