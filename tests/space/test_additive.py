"""Additive costs: looked up over genes as walked block by block, and their exact minimum."""

from typing import Any

import numpy as np
import pytest

from nassearch.space import BlockSpec, SearchSpace, lower
from nassearch.space.additive import AdditiveCost, PolicyCost


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


def _price_in(spec: BlockSpec, precision: str) -> float:
    slow = "int8" if spec.op == "head" else "fp32"
    return _price(spec) + (400.0 if precision == slow else 0.0)


def _border(spec: BlockSpec, before: str, after: str) -> float:
    return (20.0 if before == "int8" else 9.0) + 3.0 * spec.in_channels


@pytest.fixture
def mixed(space: SearchSpace) -> SearchSpace:
    return space.mixed(("int8", "fp32"))


def test_costs_of_policies_are_looked_up_as_walked(
    mixed: SearchSpace, rng: np.random.Generator
) -> None:
    cost = PolicyCost(mixed, _price_in, border=_border, constant=3.0)
    genes = mixed.sample_genes(rng, 300)
    architectures = mixed.decode_many(genes)
    np.testing.assert_allclose(cost.of_genes(genes), [cost(item) for item in architectures])
    walked = []
    for architecture in architectures:
        specs, policy = lower(mixed, architecture), architecture.precisions
        assert policy is not None
        each = [_price_in(spec, name) for spec, name in zip(specs, policy, strict=True)]
        for number in range(1, len(specs)):
            if policy[number] != policy[number - 1]:
                each[number] += _border(specs[number], policy[number - 1], policy[number])
        walked.append((3.0 + sum(each), max(each)))
    np.testing.assert_allclose(cost.of_genes(genes), [total for total, _ in walked])
    np.testing.assert_allclose(cost.largest_of_genes(genes), [largest for _, largest in walked])


def test_the_minimum_over_policies_is_the_cheapest_of_all(mixed: SearchSpace) -> None:
    cost = PolicyCost(mixed, _price_in, border=_border)
    cheapest, value = cost.minimum()
    assert value == pytest.approx(min(cost(architecture) for architecture in mixed.enumerate()))
    assert cost(cheapest) == pytest.approx(value)
    assert len(set(cheapest.precisions or ())) == 2  # neither precision alone is the cheapest
