"""Strategy `delayed-shrinking`: the largest network first, then ever more of the subnets."""

from typing import Annotated, ClassVar

import numpy as np
from pydantic import Field

from nassearch.data.augmentation import Fraction, NonNegative
from nassearch.networks.cost import macs
from nassearch.space import Architecture, SearchSpace, lower
from nassearch.training.schedule import StepPosition, learning_rate
from nassearch.training.strategies.sandwich import SandwichOptions, SandwichRule, sandwich
from nassearch.training.strategy import StepPlan, SubnetPass
from nassearch.training.training_recipe import TrainingRecipe

_RAMP_EPOCHS = 5.0
_WHOLE = 4  # resolutions of the warm-up are multiples of this many pixels


class DelayedShrinkingOptions(SandwichOptions):
    """Keys of delayed-shrinking: when the subnets come in, and on what images."""

    usual_rule: ClassVar[SandwichRule] = "in-turn"

    fm_warmup: Fraction = 0.05
    """The share of the training after which subnets learn at the full rate (0.5 in the paper)."""
    ramp_epochs: NonNegative | None = None
    """Epochs before that over which the subnets' rate rises from zero. Unset: five, or half of the
    warm-up where that is less."""
    ramp_by_size: NonNegative = 0.0
    """The ramp is longer by this share for a network of no size at all."""
    warmup_resolution: Annotated[float, Field(gt=0, le=1)] = 1.0
    """The share of the largest resolution at which the warm-up starts."""
    sort_channels: bool = True
    """Sort inner channels by importance before subnets first take some of them."""


class DelayedShrinking:
    """DεpS (Annavajjala et al., "DεpS: Delayed ε-Shrinking", ECCV 2024).

    With N steps an epoch, T_w = fm_warmup x epochs and s = ramp_epochs, at epoch t:

        t < T_w - s         the largest network alone (full-model warm-up)
        T_w - s <= t        the sandwich; the subnets' losses are multiplied by
            t < T_w             β = k / (s N) x η(T_w) / η(t) at the ramp's k-th step, k = 1, 2, ...
            T_w <= t            β = 1

    With SGD the subnets' effective rate ε(t) = β η(t) so rises linearly from 0 to η(T_w), then
    follows η. With AdamW, which divides a gradient's scale out, β is their weight in the mixture.

    This is the paper with sandwich_rule=together and fm_warmup=0.5. Unless asked, each network of
    the sandwich has a step of its own instead, six random ones among eight, after a warm-up of
    0.05: for the same arithmetic that was better at every size (experiments/cifar10-strategies and
    cifar10-front).

    Beyond the paper too: `ramp_by_size` r makes the ramp s (1 + r (1 - m)) epochs long for a
    network with the share m of the largest one's multiply-accumulates; `warmup_resolution` starts
    the warm-up on smaller images, which grow to full size until it ends.
    """

    Options = DelayedShrinkingOptions

    def __init__(self, space: SearchSpace, recipe: TrainingRecipe) -> None:
        assert isinstance(recipe.options, DelayedShrinkingOptions)
        self._space, self._recipe, self._options = space, recipe, recipe.options

    def step(self, position: StepPosition, rng: np.random.Generator) -> StepPlan:
        rate = learning_rate(self._recipe, position.epochs)
        start, _ = self._ramp(position)
        if position.step < start:
            return StepPlan(
                (SubnetPass(self._space.largest, resolution=self._pixels(position, start)),), rate
            )
        passes = sandwich(
            self._space,
            self._options,
            position,
            rng,
            weight=lambda subnet: self.beta(position, subnet),
        )
        switches = position.step == start > 0
        return StepPlan(passes, rate, sort_channels=switches and self._options.sort_channels)

    def beta(self, position: StepPosition, subnet: Architecture) -> float:
        """What the loss of `subnet` is multiplied by; 0 before the ramp, 1 after it."""
        start, length = self._ramp(position)
        if self._options.ramp_by_size:
            share = macs(lower(self._space, subnet)) / macs(lower(self._space, self._space.largest))
            length = round(length * (1 + self._options.ramp_by_size * (1 - share)))
        ramped = position.step - start + 1
        if ramped <= 0:
            return 0.0
        if ramped > length:
            return 1.0
        full = self._options.fm_warmup * self._recipe.epochs
        rate = learning_rate(self._recipe, position.epochs)
        if rate == 0.0:  # at the first step of a warm-up nothing moves, whatever the weight
            return 1.0
        return min(1.0, ramped / length * learning_rate(self._recipe, full) / rate)

    def _ramp(self, position: StepPosition) -> tuple[int, int]:
        """The first step of the ramp and how many steps it takes."""
        full = self._options.fm_warmup * self._recipe.epochs
        end = round(full * position.steps_per_epoch)
        epochs = self._options.ramp_epochs
        if epochs is None:
            epochs = min(_RAMP_EPOCHS, full / 2)
        length = min(end, round(epochs * position.steps_per_epoch))
        return end - length, length

    def _pixels(self, position: StepPosition, steps: int) -> int | None:
        """The size of the warm-up's images: from `warmup_resolution` to full size, None there."""
        first, full = self._options.warmup_resolution, self._space.largest.resolution
        share = first + (1 - first) * position.step / steps
        pixels = max(_WHOLE, round(share * full / _WHOLE) * _WHOLE)
        return pixels if pixels < full else None
