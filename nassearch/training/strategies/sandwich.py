"""Strategy `sandwich`: largest, smallest and random subnets in every step, from the start."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from typing import Annotated, Any, ClassVar, Literal

import numpy as np
from pydantic import Field, model_validator

from nassearch.space import Architecture, SearchSpace
from nassearch.training.sampling import SamplingOptions, draw
from nassearch.training.schedule import StepPosition, learning_rate
from nassearch.training.strategy import StepPlan, SubnetPass
from nassearch.training.training_recipe import TrainingRecipe

SandwichRule = Literal["together", "in-turn", "apart"]


class SandwichOptions(SamplingOptions):
    """Keys of the strategies that train a sandwich of subnets."""

    usual_rule: ClassVar[SandwichRule] = "together"

    num_random: Annotated[int, Field(ge=0)] = 2
    """Random subnets in each sandwich; where it is not said six if they take turns, else two."""
    sandwich_rule: SandwichRule | None = None
    """together: a step trains every network of the sandwich on one batch, as published. in-turn: a
    step trains one of them, on the labels of images of its own. apart: a step trains every one,
    each on the labels of its part of the batch. Unset: in-turn for delayed-shrinking, together for
    sandwich."""

    @model_validator(mode="before")
    @classmethod
    def _count_random(cls, keys: Any) -> Any:
        """Six random networks for each largest and smallest that has a step of its own."""
        if (
            not isinstance(keys, Mapping)
            or (keys.get("sandwich_rule") or cls.usual_rule) != "in-turn"
        ):
            return keys
        return {"num_random": 6, **keys}

    @property
    def rule(self) -> SandwichRule:
        return self.sandwich_rule or self.usual_rule


class Sandwich:
    """BigNAS's sandwich rule with in-place distillation (Yu et al., "BigNAS", ECCV 2020, 3.1).

    The paper's other parts are options of the recipe: zero_gamma, dropout and drop_path (which act
    on the largest network alone) and schedule=constant-ending.
    """

    Options = SandwichOptions

    def __init__(self, space: SearchSpace, recipe: TrainingRecipe) -> None:
        assert isinstance(recipe.options, SandwichOptions)
        self._space, self._recipe, self._options = space, recipe, recipe.options

    def step(self, position: StepPosition, rng: np.random.Generator) -> StepPlan:
        passes = sandwich(self._space, self._options, position, rng, weight=lambda _: 1.0)
        return StepPlan(passes, learning_rate(self._recipe, position.epochs))


def sandwich(
    space: SearchSpace,
    options: SandwichOptions,
    position: StepPosition,
    rng: np.random.Generator,
    *,
    weight: Callable[[Architecture], float],
) -> tuple[SubnetPass, ...]:
    """The largest on the labels; the smallest and random ones on its predictions, by `weight`.

    In turn, each of these networks has a step of its own instead, all on the labels: for the same
    arithmetic the supernet sees as many times the images. Apart, each has a part of the batch in
    every step, all on the labels: as many images, and no network undoes what another just learned.
    """
    subnets = [space.smallest, *(draw(space, options, rng) for _ in range(options.num_random))]
    taught = (SubnetPass(subnet, weight(subnet), "in-place") for subnet in subnets)
    passes = (SubnetPass(space.largest), *taught)
    if options.rule == "together":
        return passes
    if options.rule == "apart":
        return apart([taken.architecture for taken in passes], [taken.weight for taken in passes])
    return (replace(passes[position.step % len(passes)], target="labels"),)


def apart(
    networks: Sequence[Architecture], weights: Sequence[float] | None = None
) -> tuple[SubnetPass, ...]:
    """A pass of each network on the labels of its part of the batch; the step's loss is a mean."""
    count = len(networks)
    return tuple(
        SubnetPass(network, weight / count, part=(index, count))
        for index, (network, weight) in enumerate(
            zip(networks, weights or count * [1.0], strict=True)
        )
    )
