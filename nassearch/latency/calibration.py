"""Calibration: what a block takes, learnt from the times of whole networks.

A network's time is modelled as a constant plus a sum over its blocks, so whatever is learnt stays
additive: a million architectures are looked up in a second and the fastest one is found exactly.
The same regression serves a measured table that is to be corrected, another device's table that is
to be transferred, no table at all, and a table whose gaps are to be filled (each block is then a
network of its own).
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace

import numpy as np

from nassearch.latency.block_features import Indices, counts, features
from nassearch.latency.block_process import (
    Evidence,
    Process,
    covariances,
    fit_process,
)
from nassearch.latency.interval import MIN_RANKED_NETWORKS, REPEATABLE, half_width, misses
from nassearch.runtimes.runtime import Floats
from nassearch.space import BlockSpec

MIN_TABLE_DEVIATIONS = 60
"""Networks from which blocks deviate from a table's own times of them."""
MIN_DEVIATIONS = 10
"""Networks from which blocks deviate from what physical quantities, or another device, tell."""
MAX_HELD_OUT = 300
"""Networks up to which each is predicted by a fit that did not see it; of more, one network hardly
moves what the fit chose, and leave-one-out within it is as honest."""
_GROUPS, _LARGE_GROUPS = 10, 5  # of up to 60 networks, of more
_NEGLIGIBLE = 0.1  # of a mixture
_RIDGES = np.logspace(-6, 3, 28)
_MAX_FREEDOM = 0.6  # of as many degrees of freedom as there are networks
_HUBER = 1.5  # residuals beyond this many robust standard deviations lose weight
_REWEIGHTINGS = 4


@dataclass(frozen=True)
class Calibration:
    """ms = constant + sum over blocks of (scale x table + weights . features + deviation).

    `ratio` is the half-width of the interval as a share of the prediction (see `half_width`);
    `error` is the mean size of the leave-one-out residuals. None where nothing was fitted.
    `residuals` are those of the networks, in order: 1 - prediction without it / measurement.
    `share` is what the table has of a mixture with what was learnt without it.
    """

    constant: float = 0.0
    scale: float = 1.0
    weights: tuple[float, ...] = ()
    deviations: Mapping[BlockSpec, float] = field(default_factory=dict)
    ratio: float | None = None
    error: float | None = None
    residuals: tuple[float, ...] = ()
    share: float = 1.0

    def block_ms(self, spec: BlockSpec, table_ms: float) -> float:
        """What a block of `table_ms` contributes."""
        extra = self.deviations.get(spec, 0.0)
        if self.weights:
            extra += float(np.dot(self.weights, features(spec)))
        return self.scale * table_ms + extra

    def mixed(self, other: "Calibration", share: float) -> "Calibration":
        """`share` of this one's predictions and the rest of another's, of the same networks.

        The interval takes the two's errors not to cancel: the share was chosen on them.
        """

        def part(own: float, others: float) -> float:
            return share * own + (1 - share) * others

        def each(own: Sequence[float], others: Sequence[float]) -> tuple[float, ...]:
            return tuple(part(one, two) for one, two in zip(own, others, strict=True))

        blocks = dict.fromkeys((*self.deviations, *other.deviations))
        residuals = each(self.residuals, other.residuals)
        sizes = share * misses(np.array(self.residuals)) + (1 - share) * misses(
            np.array(other.residuals)
        )
        return Calibration(
            constant=part(self.constant, other.constant),
            scale=part(self.scale, other.scale),
            weights=each(self.weights, other.weights),
            deviations={
                spec: part(self.deviations.get(spec, 0.0), other.deviations.get(spec, 0.0))
                for spec in blocks
            },
            ratio=half_width(sizes),
            error=float(np.mean(np.abs(residuals))),
            residuals=residuals,
            share=share,
        )


def fit(
    networks: Sequence[Sequence[BlockSpec]],
    measured_ms: Floats,
    table_ms: Mapping[BlockSpec, float],
    *,
    sums: Floats | None = None,
    own_table: bool = False,
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
    leave-one-out. A Gaussian process over blocks learns what the physical quantities do not explain
    (Rasmussen and Williams, 2006, section 2.7, with the ridge's columns as explicit basis
    functions), where it predicts networks better: from 10 networks on, or from 60 where the table
    is this very device's, `own_table`, whose blocks were measured one by one.
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
    problem = _Problem(design, 1 - start * sums / measured_ms, cautious=bool(sums.any()))
    ridge = problem.ridge()
    blocks = list(table_ms)
    within, parts = np.zeros((len(networks), 0)), []
    if len(networks) >= (MIN_TABLE_DEVIATIONS if own_table else MIN_DEVIATIONS):
        weights = (ridge.shares * scales)[2:]
        # a block deviates in proportion to what it is expected to take
        expected = np.array([start * table_ms[b] + np.dot(weights, features(b)) for b in blocks])
        expected = np.maximum(np.abs(expected), 0.1 * float(np.median(np.abs(expected))))
        within = counts(networks, blocks) * expected / measured_ms[:, None]
        held = np.flatnonzero(within.any(axis=0))
        within, parts = within[:, held], covariances(blocks, held)
        problem = problem.with_parts([within @ part[held] @ within.T for part in parts])
    fitted = problem.fit(ridge)
    deviations: dict[BlockSpec, float] = {}
    shares = ridge.shares
    if isinstance(fitted, Process):
        shares = fitted.variances[0] * (design.T @ fitted.solved)
        behind = within.T @ fitted.solved
        own = sum(v * (p @ behind) for v, p in zip(fitted.variances[1:], parts, strict=True))
        deviations = dict(zip(blocks, map(float, own * expected), strict=True))
    coefficients = shares * scales
    residuals = problem.held_out() if len(networks) <= MAX_HELD_OUT else fitted.residuals
    return Calibration(
        constant=float(coefficients[0]),
        scale=float(start * (1 + coefficients[1])),
        weights=tuple(map(float, coefficients[2:])),
        deviations=deviations,
        ratio=half_width(misses(residuals)),
        error=float(np.mean(np.abs(residuals))),
        residuals=tuple(map(float, residuals)),
    )


def fit_transfer(
    networks: Sequence[Sequence[BlockSpec]],
    measured_ms: Floats,
    other_ms: Mapping[BlockSpec, float],
) -> Calibration:
    """The correction of another device's blocks, what the networks alone tell, or a mixture.

    The odds are told by errors of networks that neither saw, squared, and by how much more networks
    differ from one another than from the other device's sums of them: few errors alone would often
    choose wrongly. One in ten or less is none. Mixtures of sums over blocks are such sums.
    """
    corrected = fit(networks, measured_ms, other_ms)
    alone = replace(fit(networks, measured_ms, dict.fromkeys(other_ms, 0.0)), scale=0.0)
    sums = np.array([sum(other_ms[spec] for spec in specs) for specs in networks])
    unlike = _spread(measured_ms / sums) / _spread(measured_ms)
    odds = np.array([(corrected.error or 0.0) * unlike, alone.error or 0.0]) ** 2
    share = float(odds[1] / odds.sum()) if odds.sum() > 0 else 1.0
    if min(share, 1 - share) <= _NEGLIGIBLE:
        share = float(round(share))
    return corrected.mixed(alone, share)


def _spread(values: Floats) -> float:
    return float(np.mean(np.abs(1 - np.median(values) / values)))


@dataclass(frozen=True, slots=True)
class _Problem:
    """Relative errors to explain: (networks, columns) of the design, (networks,) of the target, and
    covariances of what blocks do beside, (networks, networks) each; none where too little is known.
    """

    design: Floats
    target: Floats
    cautious: bool
    parts: tuple[Floats, ...] = ()

    def with_parts(self, parts: Sequence[Floats]) -> "_Problem":
        return replace(self, parts=tuple(parts))

    def ridge(self) -> "_Ridge":
        return _robust_ridge(self.design, self.target, cautious=self.cautious)

    def fit(self, ridge: "_Ridge") -> "_Ridge | Process":
        """A process over blocks where it predicts networks better, else the ridge regression."""
        if not self.parts or np.mean(np.abs(ridge.residuals)) < REPEATABLE:
            return ridge
        columns = int(np.count_nonzero(self.design.any(axis=0)))
        process = fit_process(self.evidence, residuals=ridge.residuals, columns=columns)
        better = np.mean(np.abs(process.residuals)) < np.mean(np.abs(ridge.residuals))
        return process if better else ridge

    @property
    def evidence(self) -> Evidence:
        return Evidence(self.target, (self.design @ self.design.T, *self.parts))

    def held_out(self) -> Floats:
        """Residuals of networks that the fit did not see, nor what it chose."""
        count = len(self.target)
        order = np.random.default_rng(0).permutation(count)
        residuals = np.zeros(count)
        groups = _GROUPS if count < MIN_RANKED_NETWORKS else _LARGE_GROUPS
        for group in np.array_split(order, min(count, groups)):
            kept = np.setdiff1d(order, group)
            known = self._of(kept)
            fitted = known.fit(known.ridge())
            if isinstance(fitted, Process):
                predicted = fitted.predict(self.evidence.across(group, kept))
            else:
                predicted = self.design[group] @ fitted.shares
            residuals[group] = self.target[group] - predicted
        return residuals

    def _of(self, rows: Indices) -> "_Problem":
        parts = tuple(part[np.ix_(rows, rows)] for part in self.parts)
        return replace(self, design=self.design[rows], target=self.target[rows], parts=parts)


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
