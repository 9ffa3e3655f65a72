"""Named quantities: those over genes are those of each network."""

import numpy as np
import pytest

from nassearch.networks.activation_memory import peak_activation_bytes, peak_memory_bytes
from nassearch.objectives import OBJECTIVES, Context, build
from nassearch.space import SearchSpace, lower

COUNTED = [name for name in OBJECTIVES if name not in ("accuracy", "loss", "latency")]


@pytest.mark.parametrize("name", COUNTED)
def test_over_genes_it_is_what_each_network_has(name: str, rng: np.random.Generator) -> None:
    known = SearchSpace.load("digits_tiny")
    (objective,) = build(name, Context(known))
    assert objective.is_cheap
    genes = known.sample_genes(rng, 30)
    alone = [objective.evaluate(architecture).value for architecture in known.decode_many(genes)]
    np.testing.assert_allclose(objective.numbers(genes), alone, rtol=1e-9)


def test_memory_is_that_of_the_blocks() -> None:
    space = SearchSpace.load("digits_tiny")
    specs = lower(space, space.largest)
    for name, expected in (
        ("peak_activation_bytes", peak_activation_bytes(specs)),
        ("peak_memory_bytes", peak_memory_bytes(specs)),
    ):
        (objective,) = build(name, Context(space))
        assert objective.direction == "min"
        assert objective.evaluate(space.largest).value == expected
