"""Which networks to measure: those that tell most of all the others."""

from collections.abc import Mapping, Sequence

import numpy as np

from nassearch.latency.block_features import counts, features
from nassearch.latency.block_process import covariances
from nassearch.runtimes.runtime import Floats
from nassearch.space import BlockSpec

CANDIDATES = 200
"""Networks of a space that stand for all of them."""
_DESIGNS = 50
_QUANTITY_VARIANCE, _BLOCK_VARIANCE, _NOISE_VARIANCE = 0.01, 0.001, 0.0004
"""Of relative errors: what quantities and blocks are likely to be off by before anything is
measured, and what one measurement is."""


def most_telling(
    networks: Sequence[Sequence[BlockSpec]],
    number: int,
    rng: np.random.Generator,
    *,
    block_ms: Mapping[BlockSpec, float] | None = None,
) -> list[int]:
    """Which `number` of the networks to measure so that the others are known best.

    They are spread over the sizes of the networks, from the smallest to the largest; of fifty such
    draws it is the one that leaves the least variance in what is predicted of all the networks.
    The networks that differ most (D-optimal ones) are not it: they are measured with more noise,
    and blocks add up less in them.

    Args:
        networks: The candidates, by their blocks.
        number: How many to choose.
        rng: Draws.
        block_ms: What blocks take on another device, where that is known; sizes are counted in
            their quantities where it is not.
    """
    if number >= len(networks):
        return list(range(len(networks)))
    prior, sizes = _prior(networks, block_ms)
    strata = np.array_split(np.argsort(sizes, kind="stable"), number)
    designs = [[int(rng.choice(stratum)) for stratum in strata] for _ in range(_DESIGNS)]
    return min(designs, key=lambda rows: _variance_left(prior, rows))


def variance_left(networks: Sequence[Sequence[BlockSpec]], measured: Sequence[int]) -> float:
    """The mean variance of what is predicted of `networks` where some of them were measured."""
    prior, _ = _prior(networks, None)
    return _variance_left(prior, measured)


def _prior(
    networks: Sequence[Sequence[BlockSpec]], block_ms: Mapping[BlockSpec, float] | None
) -> tuple[Floats, Floats]:
    """The covariance of relative errors of networks of which nothing was measured; their sizes."""
    blocks = list(dict.fromkeys(spec for specs in networks for spec in specs))
    held = counts(networks, blocks)
    quantities = np.array([features(spec) for spec in blocks])
    means = (held @ quantities).mean(axis=0)
    shares = quantities[:, means > 0] / means[means > 0]
    if block_ms is None:
        by_block = shares.mean(axis=1)
    else:
        by_block = np.array([block_ms[spec] for spec in blocks])
        by_block = by_block / (held @ by_block).mean()
    sizes = held @ by_block
    columns = np.column_stack([np.ones(len(networks)), sizes, held @ shares]) / sizes[:, None]
    within = held * np.maximum(by_block, 0.1 * np.median(by_block)) / sizes[:, None]
    alike = within @ covariances(blocks, np.arange(len(blocks)))[0] @ within.T
    return (
        _QUANTITY_VARIANCE / columns.shape[1] * (columns @ columns.T) + _BLOCK_VARIANCE * alike,
        sizes,
    )


def _variance_left(prior: Floats, rows: Sequence[int]) -> float:
    known = prior[np.ix_(rows, rows)] + _NOISE_VARIANCE * np.eye(len(rows))
    across = prior[:, rows]
    told = np.sum(across * np.linalg.solve(known, across.T).T)
    return float((np.trace(prior) - told) / len(prior))
