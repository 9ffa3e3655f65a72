"""Strategy `growing`: the smaller choices of every dimension first, then ever more of the space."""

from collections.abc import Sequence
from typing import Annotated

import numpy as np
from pydantic import Field

from nassearch.config import StrictModel
from nassearch.data.augmentation import Fraction
from nassearch.space import Architecture, SearchSpace
from nassearch.training.schedule import StepPosition, learning_rate
from nassearch.training.strategies.sandwich import apart
from nassearch.training.strategy import StepPlan
from nassearch.training.training_recipe import TrainingRecipe


class GrowingOptions(StrictModel):
    """Keys of growing: from what size on, until when, and how many networks a step trains."""

    grow_from: Fraction = 0.2
    """The share of each dimension's choices, counted from the smallest, that the start allows; all
    of them where a training goes on from another's weights (`start_from`)."""
    grow_until: Fraction = 0.85
    """The share of the training after which every choice is allowed."""
    num_random: Annotated[int, Field(ge=0)] = 2
    """Random subnets in each step, beside the largest and the smallest allowed."""


class Growing:
    """Small networks first, which cost little, and whose weights larger ones then start from.

    Each step trains the largest network allowed so far, the smallest and random ones between, each
    on the labels of its part of the batch. A dimension of k choices allows its first
    1 + round(s (k - 1)), and s rises in a line from `grow_from` to 1 at `grow_until`. With
    `zero_gamma` and `outer_gamma` what comes in changes little of what is there.

    The order is that of early growth (GrowTAS, SuperFast; experiments/cifar10-front), against that
    of delayed shrinking: of a training of few epochs, most images are seen by networks that are
    cheap, and the largest still ends higher.
    """

    Options = GrowingOptions

    def __init__(self, space: SearchSpace, recipe: TrainingRecipe) -> None:
        assert isinstance(recipe.options, GrowingOptions)
        self._space, self._recipe, self._options = space, recipe, recipe.options

    def step(self, position: StepPosition, rng: np.random.Generator) -> StepPlan:
        tops = self._tops(position)
        randoms = [
            self._decode([int(rng.integers(top + 1)) for top in tops])
            for _ in range(self._options.num_random)
        ]
        passes = apart([self._decode(tops), self._space.smallest, *randoms])
        return StepPlan(passes, learning_rate(self._recipe, position.epochs))

    def _decode(self, ranks: Sequence[int]) -> Architecture:
        """The network of choices counted from each gene's smallest."""
        orders = self._space.by_size
        return self._space.decode([at[rank] for at, rank in zip(orders, ranks, strict=True)])

    def _tops(self, position: StepPosition) -> list[int]:
        """The largest choice allowed of each gene, counted from its smallest."""
        first, until = self._options.grow_from, self._options.grow_until
        if self._recipe.start_from is not None:
            first = 1.0
        passed = position.epochs / self._recipe.epochs
        share = 1.0 if passed >= until else first + (1 - first) * passed / until
        return [round(share * (len(gene.choices) - 1)) for gene in self._space.genes]
