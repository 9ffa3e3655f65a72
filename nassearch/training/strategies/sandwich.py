"""Strategy `sandwich`: largest, smallest and random subnets in every step, from the start."""

from collections.abc import Callable
from dataclasses import replace

import numpy as np

from nassearch.space import Architecture, SearchSpace
from nassearch.training.sampling import draw
from nassearch.training.schedule import StepPosition, learning_rate
from nassearch.training.strategy import StepPlan, SubnetPass
from nassearch.training.training_recipe import SandwichRule, TrainingRecipe


class Sandwich:
    """BigNAS's sandwich rule with in-place distillation (Yu et al., "BigNAS", ECCV 2020, 3.1).

    The paper's other parts are options of the recipe: zero_gamma, dropout and drop_path (which act
    on the largest network alone) and schedule=constant-ending.
    """

    def __init__(self, space: SearchSpace, recipe: TrainingRecipe) -> None:
        self._space = space
        self._recipe = recipe

    def step(self, moment: StepPosition, rng: np.random.Generator) -> StepPlan:
        rule = self._recipe.sandwich_rule or "together"
        passes = sandwich(self._space, self._recipe, moment, rng, rule=rule, weight=lambda _: 1.0)
        return StepPlan(passes, learning_rate(self._recipe, moment.epochs))


def sandwich(
    space: SearchSpace,
    recipe: TrainingRecipe,
    moment: StepPosition,
    rng: np.random.Generator,
    *,
    rule: SandwichRule,
    weight: Callable[[Architecture], float],
) -> tuple[SubnetPass, ...]:
    """The largest on the labels; the smallest and random ones on its predictions, by `weight`.

    In turn, each of these networks has a step of its own instead, all on the labels: for the same
    arithmetic the supernet sees as many times the images.
    """
    subnets = [space.smallest, *(draw(space, recipe, rng) for _ in range(recipe.num_random))]
    taught = (SubnetPass(subnet, weight(subnet), "in-place") for subnet in subnets)
    passes = (SubnetPass(space.largest), *taught)
    if rule == "together":
        return passes
    return (replace(passes[moment.step % len(passes)], target="labels"),)
