"""The zero-cost view: DeepMAD's entropy and effectiveness, checked against a sum by hand."""

import math
from collections.abc import Sequence
from typing import Any

import numpy as np
import pytest

from nassearch.networks.entropy import StructuralScore, widths
from nassearch.objectives import Context, build
from nassearch.space import BlockSpec, SearchSpace, lower

SMALL: dict[str, Any] = {
    "name": "small",
    "resolution": 16,
    "num_classes": 4,
    "stem": {"op": "conv", "width": 8, "kernel_size": 3, "stride": 2},
    "stages": [
        {"op": "conv", "width": 16, "kernel_size": 3, "stride": 1},
        {
            "op": "mbconv", "width": 24, "depth": [1, 2], "kernel_size": 5, "expand_ratio": 2,
            "stride": 2, "attention": "se",
        },
    ],
}  # fmt: skip


def test_a_small_network_by_hand() -> None:
    """Scale one, 8 pixels: stem 3x3 from 3, 3x3 from 8. Scale two, 4 pixels: the inverted residual.

    Squeeze-and-excitation and the classifier do not count.
    """
    space = SearchSpace.from_dict(SMALL)
    first = [3 * 9, 8 * 9]
    block = [16, 25, 32]  # 1x1 from 16, depthwise 5x5, 1x1 from 32
    logs = [sum(map(math.log, first)), sum(map(math.log, first + block))]
    entropy = math.log(8 * 8 * 16) * logs[0] + 8 * math.log(4 * 4 * 24) * logs[1]
    effectiveness = 5 / math.exp(logs[1] / 5)
    score = StructuralScore(space)
    assert score.of(space.smallest, score.entropy) == pytest.approx(entropy, rel=1e-12)
    assert score.of(space.smallest, score.effectiveness) == pytest.approx(effectiveness, rel=1e-12)


def test_shortcuts_are_not_in_the_chain() -> None:
    spec = BlockSpec("basic", 8, 16, 8, 2, (("kernel_size", 3),))
    assert widths(spec) == (8 * 9, 16 * 9)


@pytest.mark.parametrize("name", ["digits_tiny", "mixer_choice", "mobilenet_v3", "resnet50"])
def test_over_genes_it_is_the_sum_over_each_networks_blocks(
    name: str, rng: np.random.Generator
) -> None:
    space = SearchSpace.load(name)
    genes = space.sample_genes(rng, 50)
    score = StructuralScore(space)
    found = zip(genes, score.effectiveness(genes), score.entropy(genes), strict=True)
    for row, effectiveness, entropy in found:
        specs = lower(space, space.decode(row.tolist()))[:-1]
        logs = [math.log(width) for spec in specs for width in widths(spec)]
        assert effectiveness == pytest.approx(len(logs) / math.exp(np.mean(logs)), rel=1e-9)
        assert entropy == pytest.approx(_entropy(specs), rel=1e-9)


def _entropy(specs: Sequence[BlockSpec]) -> float:
    """Block by block: a block with a stride ends the scale before it."""
    through, terms = 0.0, []
    for number, spec in enumerate(specs):
        if number == 0 or spec.stride > 1:
            terms.append(0.0)
        through += sum(map(math.log, widths(spec)))
        terms[-1] = math.log(spec.out_resolution**2 * spec.out_channels) * through
    return sum(terms) + 7 * terms[-1]


def test_more_of_anything_has_more_entropy() -> None:
    space = SearchSpace.load("mobilenet_v3")
    score = StructuralScore(space)
    assert score.of(space.largest, score.entropy) > score.of(space.smallest, score.entropy)


def test_it_is_a_cheap_objective_to_maximise() -> None:
    space = SearchSpace.load("digits_tiny")
    (entropy,) = build("zero_cost", Context(space))
    (effectiveness,) = build("effectiveness", Context(space))
    assert (entropy.direction, effectiveness.direction) == ("max", "min")
    assert entropy.is_cheap and effectiveness.is_cheap
    genes = np.array([space.encode(space.largest)], dtype=np.uint8)
    assert entropy.evaluate(space.largest).number == entropy.numbers(genes)[0]
