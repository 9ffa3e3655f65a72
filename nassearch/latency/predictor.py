"""The predictor: a table's sum over blocks, corrected by whole networks, with an interval."""

import hashlib
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property, lru_cache
from typing import Literal, get_args

import numpy as np

from nassearch.errors import TableError
from nassearch.latency.setting import Floats, Setting
from nassearch.latency.table import LatencyTable
from nassearch.networks import cost
from nassearch.space import Architecture, BlockSpec, SearchSpace, block_specs, lower
from nassearch.space.additive import AdditiveCost
from nassearch.space.search_space import Genes

COVERAGE = 0.9
MIN_PAIRS = 5
_KINDS = ("dense", "pointwise", "depthwise", "grouped", "linear")
Source = Literal["estimated", "interpolated", "measured"]
"""Where block times come from, the least certain first."""
_RIDGES = np.logspace(-6, 3, 28)

Pair = tuple[SearchSpace, Architecture, float]
"""A network and its measured milliseconds."""


@lru_cache(maxsize=65536)
def features(spec: BlockSpec) -> tuple[float, ...]:
    """The physical quantities of one block that add up over a network.

    A block (an overhead each), multiply-accumulates by kind, elements written, weight bytes.
    """
    counted = cost(spec)
    macs = counted.macs_by_kind
    return (
        1.0,
        *(float(macs.get(kind, 0)) for kind in _KINDS),
        float(counted.activations),
        float(counted.weight_bytes),
    )


@dataclass(frozen=True)
class Correction:
    """milliseconds = constant + scale x table sum + weights . sums of `features`.

    Fitted in relative error by ridge regression towards the plain table sum; the strength is
    chosen by leave-one-out. `ratio` is the half-width of the interval as a share of the prediction:
    the conformal quantile of the leave-one-out residuals.
    """

    constant: float = 0.0
    scale: float = 1.0
    weights: tuple[float, ...] = ()
    ratio: float | None = None

    def block_ms(self, spec: BlockSpec, table_ms: float) -> float:
        """What a block of `table_ms` contributes."""
        extra = 0.0
        if self.weights:
            extra = float(np.dot(self.weights, features(spec)))
        return self.scale * table_ms + extra


@dataclass(frozen=True)
class LatencyPredictor:
    """Latencies of every architecture of `space` in one setting.

    `source` is where the block times come from: measured, interpolated or estimated.
    """

    space: SearchSpace
    setting: Setting
    source: Source
    block_ms: Mapping[BlockSpec, float]
    correction: Correction = Correction()
    pairs: tuple[Pair, ...] = ()

    @classmethod
    def from_table(cls, table: LatencyTable, space: SearchSpace) -> "LatencyPredictor":
        """The predictor of a table, calibrated on the whole networks measured beside it.

        Raises MissingKeyError where the table lacks blocks of the space.
        """
        specs = block_specs(space)
        table.require_space(space, specs)
        sources = {table[spec.key].source for spec in specs}
        source = next(s for s in get_args(Source) if s in sources)
        known = {spec: table[spec.key].median_ms for spec in specs}
        pairs = []
        for owner, architecture, measured in table.pairs(space):
            lowered = lower(owner, architecture)
            if all(spec.key in table.blocks for spec in lowered):
                known |= {spec: table[spec.key].median_ms for spec in lowered}
                pairs.append((owner, architecture, measured.median_ms))
        return cls(space, table.setting, source, known).calibrate(pairs)

    @classmethod
    def estimated(
        cls,
        space: SearchSpace,
        setting: Setting,
        block_ms: Callable[[BlockSpec], float],
        *,
        ratio: float,
    ) -> "LatencyPredictor":
        """The predictor of a device nobody here owns; `ratio` is the estimate's relative error."""
        known = {spec: block_ms(spec) for spec in block_specs(space)}
        return cls(space, setting, "estimated", known, Correction(ratio=ratio))

    def predict(self, architectures: Sequence[Architecture]) -> Floats:
        """Milliseconds, (n,)."""
        genes = np.array([self.space.encode(a) for a in architectures], dtype=np.uint8)
        return self.predict_genes(genes.reshape(len(architectures), len(self.space.genes)))

    def predict_genes(self, genes: Genes) -> Floats:
        """Milliseconds, (n,), of gene vectors, (n, genes)."""
        return self.additive.of_genes(genes)

    def interval(self, architectures: Sequence[Architecture]) -> tuple[Floats, Floats]:
        """Lower and upper milliseconds, (n,) each, that hold the measurement nine times in ten.

        Raises TableError where no whole network was measured, so that nothing says how far off
        the sum is.
        """
        if self.correction.ratio is None:
            raise TableError(
                "has no whole networks to tell the prediction's error from",
                where=self.setting,
                fix=f"run 'nassearch profile --device {self.setting.device}'",
            )
        predicted = self.predict(architectures)
        return (
            predicted / (1 + self.correction.ratio),
            predicted * (1 + self.correction.ratio),
        )

    def calibrate(self, pairs: Sequence[Pair]) -> "LatencyPredictor":
        """A new predictor fitted on these measured networks as well as those known before."""
        merged = {(space, arch): ms for space, arch, ms in (*self.pairs, *pairs)}
        known = tuple((space, arch, ms) for (space, arch), ms in merged.items())
        if len(known) < MIN_PAIRS:
            return self._with(self.correction, known)
        return self._with(fit(known, self.block_ms), known)

    def _with(self, correction: Correction, pairs: tuple[Pair, ...]) -> "LatencyPredictor":
        return LatencyPredictor(
            self.space, self.setting, self.source, self.block_ms, correction, pairs
        )

    @property
    def provenance(self) -> str:
        """How a prediction must be called: 'predicted' from measurements, or 'estimated'."""
        return "estimated" if self.source == "estimated" else f"predicted from {self.source}"

    @cached_property
    def fingerprint(self) -> str:
        """Eight hexadecimal digits that change when any prediction does."""
        values = [self.correction.block_ms(spec, ms) for spec, ms in self.block_ms.items()]
        rounded = np.array([self.correction.constant, *values]).round(9)
        return hashlib.sha256(rounded.tobytes()).hexdigest()[:8]

    def minimum(self) -> tuple[Architecture, float]:
        """The fastest architecture of the space and its predicted milliseconds, exactly."""
        return self.additive.minimum()

    @cached_property
    def additive(self) -> AdditiveCost:
        """The prediction as a sum over blocks."""
        return AdditiveCost(
            self.space,
            lambda spec: self.correction.block_ms(spec, self.block_ms[spec]),
            constant=self.correction.constant,
        )


def fit(pairs: Sequence[Pair], block_ms: Mapping[BlockSpec, float]) -> Correction:
    """The correction that brings sums of `block_ms` closest to measured networks.

    Ridge regression on relative errors: with s_i the table sum, F_i the summed features and y_i the
    measurement, minimise sum_i (1 - (c + (1 + a) s_i + w . F_i) / y_i)^2 + ridge |(c, a, w)|^2,
    each column scaled so that its coefficient is a share of the mean latency.
    """
    measured = np.array([ms for _, _, ms in pairs])
    lowered = [lower(space, architecture) for space, architecture, _ in pairs]
    sums = np.array([sum(block_ms[spec] for spec in specs) for specs in lowered])
    quantities = np.array([np.sum([features(s) for s in specs], axis=0) for specs in lowered])
    columns = np.column_stack([np.ones(len(pairs)), sums, quantities])
    means = columns.mean(axis=0)
    used = means > 0
    scales = np.where(used, measured.mean() / np.where(used, means, 1.0), 0.0)
    design = columns * scales / measured[:, None]
    target = 1 - sums / measured
    shares, residuals = _ridge(design, target)
    coefficients = shares * scales
    rank = min(len(residuals), int(np.ceil((len(residuals) + 1) * COVERAGE))) - 1
    return Correction(
        constant=float(coefficients[0]),
        scale=float(1 + coefficients[1]),
        weights=tuple(map(float, coefficients[2:])),
        ratio=float(np.sort(np.abs(residuals))[rank]),
    )


def _ridge(design: Floats, target: Floats) -> tuple[Floats, Floats]:
    """Coefficients and leave-one-out residuals at the ridge whose leave-one-out error is least."""
    left, singular, right = np.linalg.svd(design, full_matrices=False)
    best: tuple[float, Floats, Floats] | None = None
    for ridge in _RIDGES:
        shrink = singular**2 / (singular**2 + ridge)
        fitted = left @ (shrink * (left.T @ target))
        leverage = np.sum(left**2 * shrink, axis=1)
        residuals = (target - fitted) / (1 - np.minimum(leverage, 0.999))
        error = float(np.mean(residuals**2))
        if best is None or error < best[0]:
            solution = right.T @ (singular / (singular**2 + ridge) * (left.T @ target))
            best = (error, solution, residuals)
    assert best is not None
    return best[1], best[2]
