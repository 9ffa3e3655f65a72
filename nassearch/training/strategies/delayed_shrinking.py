"""Strategy `delayed-shrinking`: the largest network first, then ever more of the subnets."""

import numpy as np

from nassearch.networks.cost import macs
from nassearch.space import Architecture, SearchSpace, lower
from nassearch.training.schedule import StepPosition, learning_rate
from nassearch.training.strategies.sandwich import sandwich
from nassearch.training.strategy import StepPlan, SubnetPass
from nassearch.training.training_recipe import TrainingRecipe

_RAMP_EPOCHS = 5.0
_WHOLE = 4  # resolutions of the warm-up are multiples of this many pixels


class DelayedShrinking:
    """DεpS (Annavajjala et al., "DεpS: Delayed ε-Shrinking", ECCV 2024).

    With N steps an epoch, T_w = fm_warmup x epochs and s = ramp_epochs, at epoch t:

        t < T_w - s         the largest network alone (full-model warm-up)
        T_w - s <= t        the sandwich; the subnets' losses are multiplied by
            t < T_w             β = k / (s N) x η(T_w) / η(t) at the ramp's k-th step, k = 1, 2, ...
            T_w <= t            β = 1

    With SGD the subnets' effective rate ε(t) = β η(t) so rises linearly from 0 to η(T_w), then
    follows η. With AdamW, which divides a gradient's scale out, β is their weight in the mixture.

    This is the paper with sandwich_rule=together and fm_warmup=0.5. By default each network of the
    sandwich has a step of its own instead, after a warm-up of 0.15: for the same arithmetic that
    was better at every size (experiments/cifar10-strategies).

    Beyond the paper too: `ramp_by_size` r makes the ramp s (1 + r (1 - m)) epochs long for a
    network with the share m of the largest one's multiply-accumulates; `warmup_resolution` starts
    the warm-up on smaller images, which grow to full size until it ends.
    """

    def __init__(self, space: SearchSpace, recipe: TrainingRecipe) -> None:
        self._space = space
        self._recipe = recipe

    def step(self, moment: StepPosition, rng: np.random.Generator) -> StepPlan:
        rate = learning_rate(self._recipe, moment.epochs)
        start, _ = self._ramp(moment)
        if moment.step < start:
            return StepPlan(
                (SubnetPass(self._space.largest, resolution=self._pixels(moment, start)),), rate
            )
        passes = sandwich(
            self._space,
            self._recipe,
            moment,
            rng,
            rule=self._recipe.sandwich_rule or "in-turn",
            weight=lambda subnet: self.beta(moment, subnet),
        )
        switches = moment.step == start > 0
        return StepPlan(passes, rate, sort_channels=switches and self._recipe.sort_channels)

    def beta(self, moment: StepPosition, subnet: Architecture) -> float:
        """What the loss of `subnet` is multiplied by; 0 before the ramp, 1 after it."""
        start, length = self._ramp(moment)
        if self._recipe.ramp_by_size:
            share = macs(lower(self._space, subnet)) / macs(lower(self._space, self._space.largest))
            length = round(length * (1 + self._recipe.ramp_by_size * (1 - share)))
        ramped = moment.step - start + 1
        if ramped <= 0:
            return 0.0
        if ramped > length:
            return 1.0
        full = self._recipe.fm_warmup * self._recipe.epochs
        rate = learning_rate(self._recipe, moment.epochs)
        return min(1.0, ramped / length * learning_rate(self._recipe, full) / rate)

    def _ramp(self, moment: StepPosition) -> tuple[int, int]:
        """The first step of the ramp and how many steps it takes."""
        full = self._recipe.fm_warmup * self._recipe.epochs
        end = round(full * moment.steps_per_epoch)
        epochs = self._recipe.ramp_epochs
        if epochs is None:
            epochs = min(_RAMP_EPOCHS, full / 2)
        length = min(end, round(epochs * moment.steps_per_epoch))
        return end - length, length

    def _pixels(self, moment: StepPosition, steps: int) -> int | None:
        """The size of the warm-up's images: from `warmup_resolution` to full size, None there."""
        first, full = self._recipe.warmup_resolution, self._space.largest.resolution
        share = first + (1 - first) * moment.step / steps
        pixels = max(_WHOLE, round(share * full / _WHOLE) * _WHOLE)
        return pixels if pixels < full else None
