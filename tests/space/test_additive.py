"""Additive costs: looked up over genes as walked block by block, and their exact minimum."""

from typing import Any

import numpy as np
import pytest

from nassearch.space import BlockSpec, SearchSpace
from nassearch.space.additive import AdditiveCost


def _price(spec: BlockSpec) -> float:
    """A cost without structure: what is cheapest cannot be guessed from the choices."""
    return float(sum(map(ord, spec.key)) * 7919 % 1009) + 1.0


@pytest.fixture
def space() -> SearchSpace:
    stage = {"op": "conv", "width": [8, 16], "depth": [1, 2], "kernel_size": [3, 5]}
    choice = {
        "op": [{"op": "conv", "kernel_size": [3, 5]}, {"op": "mbconv", "expand_ratio": [2, 4]}],
        "width": [16, 24],
        "depth": [1, 2],
        "stride": 2,
        "kernel_size": 3,
    }
    return SearchSpace.from_dict({"name": "toy", "resolution": [8, 12], "stages": [stage, choice]})


def test_looked_up_costs_are_the_walked_costs(space: SearchSpace, rng: np.random.Generator) -> None:
    cost = AdditiveCost(space, _price, constant=3.0)
    genes = space.sample_genes(rng, 200)
    walked = [cost(space.decode(row)) for row in genes.tolist()]
    np.testing.assert_allclose(cost.of_genes(genes), walked)


@pytest.mark.parametrize("patches", [None, {"grid": [1, 2], "stages": [1, 2]}])
def test_the_minimum_is_the_cheapest_of_all(
    space: SearchSpace, patches: dict[str, Any] | None
) -> None:
    if patches is not None:  # tiles make blocks depend on one another
        choice = {"op": "conv", "width": [8, 16], "depth": [1, 2], "kernel_size": [1, 5]}
        stages = [choice, {**choice, "stride": 2, "kernel_size": [3, 5]}]
        definition = {"name": "toy", "resolution": [8, 12], "stages": stages, "patches": patches}
        space = SearchSpace.from_dict(definition)
    cost = AdditiveCost(space, _price)
    cheapest, value = cost.minimum()
    assert value == pytest.approx(min(cost(architecture) for architecture in space.enumerate()))
    assert cost(cheapest) == pytest.approx(value)
