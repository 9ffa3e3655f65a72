"""Calibration: what a block takes, learnt from the times of whole networks.

A network's time is modelled as a constant plus a sum over its blocks, so whatever is learnt stays
additive: a million architectures are looked up in a second and the fastest one is found exactly.
The same regression serves a measured table that is to be corrected, another device's table that is
to be transferred, no table at all, and a table whose gaps are to be filled (each block is then a
network of its own).
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import lru_cache

import numpy as np

from nassearch.networks import block_cost
from nassearch.runtimes.runtime import Floats
from nassearch.space import BlockSpec
from nassearch.space.architecture import NAMES, NUMBERS

COVERAGE = 0.9
MIN_DEVIATION_NETWORKS = 60
MIN_RANKED_NETWORKS = 60  # from which the interval is told by rank: 3.9 points of coverage, 1 sd
LENGTH_SCALE = 3.0
_KINDS = ("dense", "pointwise", "depthwise", "grouped", "linear")
_RIDGES = np.logspace(-6, 3, 28)
_AMPLITUDES = np.logspace(-1, 4, 6)
_MAX_FREEDOM = 0.6  # of as many degrees of freedom as there are networks
_HUBER = 1.5  # residuals beyond this many robust standard deviations lose weight
_REWEIGHTINGS = 4


@lru_cache(maxsize=65536)
def features(spec: BlockSpec) -> tuple[float, ...]:
    """The physical quantities of one block that add up over a network.

    A block (an overhead each), multiply-accumulates by kind, elements written, by depthwise
    convolutions, under an attention and under an activation that costs more than a comparison,
    and weight bytes.
    """
    counted = block_cost(spec)
    macs = counted.macs_by_kind
    written = float(counted.activations)
    depthwise = sum(times * layer.outputs for layer, times in counted.layers if _swept(layer.kind))
    return (
        1.0,
        *(float(macs.get(kind, 0)) for kind in _KINDS),
        written,
        float(depthwise),
        written if spec.get("attention") is not None else 0.0,
        written if spec.get("activation") not in (None, "relu", "relu6") else 0.0,
        float(counted.weight_bytes),
    )


def _swept(kind: str) -> bool:
    return kind in ("depthwise", "grouped")


@dataclass(frozen=True)
class Calibration:
    """ms = constant + sum over blocks of (scale x table + weights . features + deviation).

    `ratio` is the half-width of the interval as a share of the prediction (see `half_width`);
    `error` is the mean size of the leave-one-out residuals. None where nothing was fitted.
    `residuals` are those of the networks, in order: 1 - prediction without it / measurement.
    """

    constant: float = 0.0
    scale: float = 1.0
    weights: tuple[float, ...] = ()
    deviations: Mapping[BlockSpec, float] = field(default_factory=dict)
    ratio: float | None = None
    error: float | None = None
    residuals: tuple[float, ...] = ()

    def block_ms(self, spec: BlockSpec, table_ms: float) -> float:
        """What a block of `table_ms` contributes."""
        extra = self.deviations.get(spec, 0.0)
        if self.weights:
            extra += float(np.dot(self.weights, features(spec)))
        return self.scale * table_ms + extra


def fit(
    networks: Sequence[Sequence[BlockSpec]],
    measured_ms: Floats,
    table_ms: Mapping[BlockSpec, float],
    *,
    sums: Floats | None = None,
) -> Calibration:
    """The correction that brings sums of `table_ms` closest to the networks' `measured_ms`.

    `sums`, (networks,), are other sums to start from, where those of the table know more of these
    networks than of the ones that will be predicted: blocks that were timed in these very networks.

    `table_ms` holds every block of the networks, and every block that will be predicted; all zero
    where there is no table. Ridge regression on relative errors: with s_i the table sum times the
    median ratio, F_i the summed features and y_i the measurement, minimise
    sum_i v_i (1 - (c + (1 + a) s_i + w . F_i) / y_i)^2 + ridge |(c, a, w)|^2,
    each column scaled so that its coefficient is a share of the mean latency. The weights v_i are
    Huber's (a measurement that something disturbed counts for less); the ridge is chosen by
    leave-one-out. From 60 networks on a Gaussian process over blocks learns what the physical
    quantities do not explain (Rasmussen and Williams, 2006, section 2.7, with the ridge's columns
    as explicit basis functions).
    """
    if sums is None:
        sums = np.array([sum(table_ms[spec] for spec in specs) for specs in networks])
    start = float(np.median(measured_ms / sums)) if sums.any() else 1.0
    quantities = np.array([np.sum([features(s) for s in specs], axis=0) for specs in networks])
    columns = np.column_stack([np.ones(len(networks)), start * sums, quantities])
    means = columns.mean(axis=0)
    used = means > 0
    scales = np.where(used, measured_ms.mean() / np.where(used, means, 1.0), 0.0)
    design = columns * scales / measured_ms[:, None]
    target = 1 - start * sums / measured_ms
    ridge = _robust_ridge(design, target, cautious=bool(sums.any()))
    shares = ridge.shares
    residuals = ridge.residuals
    deviations: dict[BlockSpec, float] = {}
    if len(networks) >= MIN_DEVIATION_NETWORKS:
        weights = tuple((shares * scales)[2:])
        blocks = list(table_ms)
        # a block deviates in proportion to what it is expected to take
        expected = np.array([start * table_ms[b] + np.dot(weights, features(b)) for b in blocks])
        expected = np.maximum(np.abs(expected), 0.1 * float(np.median(np.abs(expected))))
        counts = _counts(networks, blocks)
        process = _process(design, target, counts * expected / measured_ms[:, None], blocks, ridge)
        if process is not None:
            shares, by_block, residuals = process
            deviations = dict(zip(blocks, map(float, by_block * expected), strict=True))
    coefficients = shares * scales
    return Calibration(
        constant=float(coefficients[0]),
        scale=float(start * (1 + coefficients[1])),
        weights=tuple(map(float, coefficients[2:])),
        deviations=deviations,
        ratio=half_width(residuals),
        error=float(np.mean(np.abs(residuals))),
        residuals=tuple(map(float, residuals)),
    )


def half_width(residuals: Floats) -> float:
    """What nine in ten residuals of further networks stay below, from those of n networks.

    From 60 networks on it is the conformal quantile (Vovk et al., 2005): nine in ten are covered on
    average whatever the errors look like, as long as the networks were drawn like those they are
    compared with. Of fewer that rank is the largest error or the one below it, and as uncertain.
    There the sizes of errors are taken to fall off exponentially, of which all n tell the scale;
    the size of the next one exceeds q with probability (1 + q / (n mean))^-n (the scale is not
    known better than n errors tell it).
    """
    sizes = np.sort(np.abs(residuals))
    count = len(sizes)
    if count < MIN_RANKED_NETWORKS:
        return float(count * ((1 - COVERAGE) ** (-1 / count) - 1) * np.mean(sizes))
    return float(sizes[min(count, int(np.ceil((count + 1) * COVERAGE))) - 1])


@dataclass(frozen=True, slots=True)
class _Ridge:
    """Shares, (columns,); leave-one-out residuals and Huber weights, (networks,); the strength."""

    shares: Floats
    residuals: Floats
    weights: Floats
    ridge: float

    @property
    def loss(self) -> float:
        return float(np.mean(self.weights * self.residuals**2))


def _robust_ridge(design: Floats, target: Floats, *, cautious: bool) -> _Ridge:
    """Ridge regression, reweighted until what is far off no longer decides."""
    weights = np.ones(len(target))
    fitted = _ridge(design, target, weights, cautious=cautious)
    if len(target) < 2 * np.count_nonzero(design.any(axis=0)):
        return fitted  # too few networks to tell what is far off
    for _ in range(_REWEIGHTINGS):
        weights = _huber(target - design @ fitted.shares)
        fitted = _ridge(design, target, weights, cautious=cautious)
    return fitted


def _huber(residuals: Floats) -> Floats:
    size = np.abs(residuals)
    spread = max(1e-6, 1.4826 * float(np.median(size)))
    return np.minimum(1.0, _HUBER * spread / np.maximum(size, 1e-12))


def _ridge(design: Floats, target: Floats, weights: Floats, *, cautious: bool) -> _Ridge:
    """The ridge of least weighted leave-one-out error among those that do not interpolate.

    Where there is a table, `cautious` takes the strongest ridge within one standard error of that
    (Hastie et al., 2009, section 7.10): sums of many block measurements are worth more than a
    correction that a handful of networks hardly supports.
    """
    root = np.sqrt(weights)
    left, singular, right = np.linalg.svd(design * root[:, None], full_matrices=False)
    goal = left.T @ (target * root)
    tried: list[_Ridge] = []
    for ridge in _RIDGES[::-1]:
        shrink = singular**2 / (singular**2 + ridge)
        if tried and shrink.sum() > _MAX_FREEDOM * len(target):
            break
        shares = right.T @ (singular / (singular**2 + ridge) * goal)
        leverage = np.sum(left**2 * shrink, axis=1)
        residuals = (target - design @ shares) / (1 - np.minimum(leverage, 0.999))
        tried.append(_Ridge(shares, residuals, weights, float(ridge)))
    best = min(tried, key=lambda fitted: fitted.loss)
    if not cautious:
        return best
    spread = float(np.std(weights * best.residuals**2)) / np.sqrt(len(target))
    return next(fitted for fitted in tried if fitted.loss <= best.loss + spread)


def _process(
    design: Floats,
    target: Floats,
    blocks_design: Floats,
    blocks: Sequence[BlockSpec],
    ridge: _Ridge,
) -> tuple[Floats, Floats, Floats] | None:
    """Shares of columns, deviation of each block, leave-one-out residuals; None if no better.

    In units of the noise, the covariance of two networks is that of the ridge's columns plus
    `amplitude` times the covariance of their blocks.
    """
    block_covariance = np.exp(-0.5 * _squared_distances(blocks))
    across = blocks_design @ block_covariance
    columns = design @ design.T / ridge.ridge
    deviation = across @ blocks_design.T
    noise = np.diag(1 / ridge.weights)
    best_loss, best = ridge.loss, None
    for amplitude in _AMPLITUDES:
        inverse = np.linalg.inv(columns + amplitude * deviation + noise)
        solved = inverse @ target
        residuals = solved / np.diag(inverse)
        loss = float(np.mean(ridge.weights * residuals**2))
        if loss < best_loss:
            shares = design.T @ solved / ridge.ridge
            best_loss, best = loss, (shares, amplitude * (across.T @ solved), residuals)
    return best


def _counts(networks: Sequence[Sequence[BlockSpec]], blocks: Sequence[BlockSpec]) -> Floats:
    place = {spec: index for index, spec in enumerate(blocks)}
    counts = np.zeros((len(networks), len(blocks)))
    for row, specs in enumerate(networks):
        for spec in specs:
            counts[row, place[spec]] += 1
    return counts


def _squared_distances(blocks: Sequence[BlockSpec]) -> Floats:
    """How unlike blocks are: logarithms of their numbers in units of their spread, and names."""
    numbers = np.array(
        [
            [
                np.log(spec.in_channels),
                np.log(spec.out_channels),
                np.log(spec.run_resolution),
                np.log(spec.grid),
                np.log(spec.stride),
                *(np.log(spec.get(name, 1)) for name in NUMBERS),
            ]
            for spec in blocks
        ]
    )
    spread = numbers.std(axis=0)
    numbers = numbers[:, spread > 0] / (LENGTH_SCALE * spread[spread > 0])
    squares = np.sum(numbers**2, axis=1)
    distances = np.maximum(squares[:, None] + squares - 2 * numbers @ numbers.T, 0.0)
    for names in (
        [spec.op for spec in blocks],
        *([str(spec.get(name)) for spec in blocks] for name in NAMES),
    ):
        codes = np.unique(names, return_inverse=True)[1]
        distances += (codes[:, None] != codes) / LENGTH_SCALE
    return distances
