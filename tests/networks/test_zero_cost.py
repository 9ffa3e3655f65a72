"""The zero-cost view: DeepMAD's entropy and effectiveness, checked against a sum by hand."""

import math
from collections.abc import Sequence
from typing import Any

import numpy as np
import pytest

from nassearch.networks.zero_cost import StructuralScore, widths
from nassearch.objectives.objective import Context, build
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
    effectiveness = max(2 / math.exp(logs[0] / 2), 5 / math.exp(logs[1] / 5))
    score = StructuralScore(space)
    assert score.of(space.smallest, score.entropy) == pytest.approx(entropy, rel=1e-12)
    assert score.of(space.smallest, score.effectiveness) == pytest.approx(effectiveness, rel=1e-12)


def test_the_heads_convolution_ends_the_last_scale() -> None:
    space = SearchSpace.from_dict({**SMALL, "head": {"expand_width": 64}})
    logs = list(map(math.log, (3 * 9, 8 * 9, 16, 25, 32, 24)))
    entropy = math.log(8 * 8 * 16) * sum(logs[:2]) + 8 * math.log(4 * 4 * 64) * sum(logs)
    score = StructuralScore(space)
    assert score.of(space.smallest, score.entropy) == pytest.approx(entropy, rel=1e-12)


def test_the_deepest_scale_for_its_width_decides_the_effectiveness() -> None:
    """Many narrow layers before few wide ones: the whole network's mean would hide them."""
    narrow = {"op": "separable", "width": 8, "depth": 12, "kernel_size": 1, "stride": 1}
    wide = {"op": "conv", "width": 256, "depth": 4, "kernel_size": 3, "stride": 2}
    both, first = (
        SearchSpace.from_dict({**SMALL, "stages": stages}) for stages in ([narrow, wide], [narrow])
    )
    found = [
        score.of(space.largest, score.effectiveness)
        for space in (both, first)
        for score in (StructuralScore(space),)
    ]
    assert found[0] == pytest.approx(found[1], rel=1e-12)


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
        specs = lower(space, space.decode(row.tolist()))
        scales = _scales(specs)
        assert effectiveness == pytest.approx(max(map(_effectiveness, scales)), rel=1e-9)
        assert entropy == pytest.approx(_entropy(scales), rel=1e-9)


def _scales(specs: Sequence[BlockSpec]) -> list[tuple[float, list[float]]]:
    """Block by block: log(r^2 c) of each scale and log w of all that leads to it.

    A block with a stride ends the scale before it; the head ends the last with its convolution.
    """
    logs: list[float] = []
    found: list[tuple[float, list[float]]] = []
    for number, spec in enumerate(specs):
        head = spec.op == "head"
        if head and spec.get("expand_width") is None:
            continue
        logs = logs + list(map(math.log, widths(spec)))
        if number and spec.stride == 1:
            found.pop()
        channels = spec.get("expand_width") if head else spec.out_channels
        found.append((math.log(spec.out_resolution**2 * channels), logs))
    return found


def _effectiveness(scale: tuple[float, list[float]]) -> float:
    depth = len(scale[1])
    return depth / math.exp(sum(scale[1]) / depth)


def _entropy(scales: list[tuple[float, list[float]]]) -> float:
    terms = [volume * sum(logs) for volume, logs in scales]
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
    assert entropy.evaluate(space.largest).value == entropy.numbers(genes)[0]
