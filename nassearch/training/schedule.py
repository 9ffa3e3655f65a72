"""The learning rate over a training, and how far along a training is."""

import math
from dataclasses import dataclass

from nassearch.training.training_recipe import TrainingRecipe

_ENDING = 0.05
_DECAYED = 0.66
_PEAK = 0.2


@dataclass(frozen=True, slots=True)
class StepPosition:
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
    """η after `epochs` epochs: linear warm-up, then down from lr, never below min_lr."""
    rate = recipe.lr * decay(recipe.schedule, epochs / recipe.epochs)
    if epochs < recipe.lr_warmup_epochs:
        rate *= epochs / recipe.lr_warmup_epochs
    return max(recipe.min_lr, rate)


def decay(schedule: str, share: float) -> float:
    """The rate over its peak after this share of the training.

    cosine: (1 + cos(π t / T)) / 2, the schedule of DεpS (Annavajjala et al., 2024).
    constant-ending: max(r^t, 1 / 20), with r such that the floor is reached after 66 % of T, as
    0.97 every 2.4 of 360 epochs does (Yu et al., "BigNAS", ECCV 2020, 3.2).
    triangular: t / 0.2 T, then (T - t) / 0.8 T.
    """
    share = min(share, 1.0)
    if schedule == "cosine":
        return 0.5 * (1 + math.cos(math.pi * share))
    if schedule == "triangular":
        return min(share / _PEAK, (1 - share) / (1 - _PEAK))
    return max(_ENDING ** (share / _DECAYED), _ENDING)
