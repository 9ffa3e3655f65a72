"""The predictor of networks whose blocks differ in precision: what each takes, and each border.

A block takes what the runtime's table of its precision says. Where a block follows one of another
precision, its input is quantized or dequantized, and what the runtime fuses ends: the border costs
something for itself and something for each element of that tensor. Both are fitted on whole mixed
networks, and with them one scale for each precision: tables of two precisions were measured at two
times, and a machine's speed drifts.
"""

import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property

import numpy as np
from scipy.optimize import nnls

from nassearch.errors import MissingKeyError
from nassearch.latency.interval import half_width, misses
from nassearch.latency.predictor import LatencyPredictor, Pair, Source
from nassearch.latency.table import LatencyTable
from nassearch.provenance import Estimate, Provenance
from nassearch.runtimes.runtime import Floats
from nassearch.setting import MIXED, Setting
from nassearch.space import Architecture, BlockSpec, SearchSpace, lower
from nassearch.space.additive import PolicyCost
from nassearch.space.search_space import Genes

MIN_NETWORKS = 20
"""Fewer mixed networks do not tell borders from scales."""
_PULL = 1e-3
"""Of the mean latency's share: how strongly scales are drawn to one and borders to nothing."""
Border = tuple[str, str]
"""The precision before and after."""


@dataclass(frozen=True)
class Borders:
    """What whole mixed networks teach: ms = constant + scales x tables + borders.

    `scales` are by precision, `each_ms` and `element_ms` by border. `residuals` are those of the
    networks in order, each predicted without itself: 1 - prediction / measurement.
    """

    constant: float
    scales: Mapping[str, float]
    each_ms: Mapping[Border, float]
    element_ms: Mapping[Border, float]
    residuals: tuple[float, ...] = ()

    @property
    def ratio(self) -> float:
        """The half-width of the interval, a share of the prediction."""
        return half_width(misses(np.array(self.residuals)))

    def border_ms(self, spec: BlockSpec, before: str, after: str) -> float:
        """What a block takes more because the one before it has another precision."""
        each, element = self.each_ms[before, after], self.element_ms[before, after]
        return each + element * elements(spec)


def elements(spec: BlockSpec) -> int:
    """Elements of one image's tensor that a block is given."""
    return spec.in_channels * spec.resolution**2


@dataclass(frozen=True)
class MixedPredictor:
    """Latencies of every architecture and policy of a mixed space in one setting.

    `parts` are the predictors of its precisions, of the plain space.
    """

    space: SearchSpace
    setting: Setting
    parts: Mapping[str, LatencyPredictor]
    borders: Borders
    pairs: tuple[Pair, ...] = ()
    noise_floor: float = 0.0
    """Of the measurements behind it: no interval is narrower."""

    @classmethod
    def from_table(
        cls, table: LatencyTable, space: SearchSpace, parts: Mapping[str, LatencyPredictor]
    ) -> "MixedPredictor":
        """The predictor of a table of mixed networks, beside those of single precisions.

        Raises MissingKeyError, naming the command that measures them, where the table holds too few
        networks of the space.
        """
        pairs = [
            (owner, architecture, network.measurement.median_ms)
            for owner, architecture, network in table.pairs(space)
            if owner == space
        ]
        if len(pairs) < MIN_NETWORKS:
            raise MissingKeyError(
                f"holds {len(pairs)} mixed networks of the space {space.name}, too few to tell what"
                " a change of precision costs",
                where=table.setting,
                fix=how_to_measure_borders(table.setting, space),
            )
        noise = table.noise_floor(space) or 0.0
        blank = cls(space, table.setting, parts, _no_borders(parts), noise_floor=noise)
        return blank.calibrate(pairs)

    def calibrate(self, pairs: Sequence[Pair]) -> "MixedPredictor":
        """A new predictor fitted on these measured networks as well as those known before."""
        merged = {(space, arch): ms for space, arch, ms in (*self.pairs, *pairs)}
        known = tuple((space, arch, ms) for (space, arch), ms in merged.items())
        return replace(self, pairs=known, borders=self._fit(known))

    def _fit(self, pairs: Sequence[Pair]) -> Borders:
        """Non-negative ridge regression on relative errors, drawn to scales of one."""
        names = list(self.parts)
        kinds = [(one, other) for one in names for other in names if one != other]
        rows = np.array([self._quantities(architecture, kinds) for _, architecture, _ in pairs])
        measured = np.array([ms for _, _, ms in pairs])
        # each column in units in which its coefficient is a share of the mean latency
        means = np.maximum(rows.mean(axis=0), 1e-12)
        units = measured.mean() / means
        prior = np.zeros(rows.shape[1])
        prior[: len(names)] = 1 / units[: len(names)]
        design = rows * units / measured[:, None]
        pull = _PULL * np.sqrt(len(pairs))

        def solve(kept: Floats) -> Floats:
            system = np.vstack([design[kept], pull * np.eye(design.shape[1])])
            goal = np.concatenate([np.ones(int(kept.sum())), pull * prior])
            return np.asarray(nnls(system, goal)[0])

        every = np.ones(len(pairs), dtype=bool)
        residuals = []
        for number in range(len(pairs)):
            kept = every.copy()
            kept[number] = False
            residuals.append(1 - float(design[number] @ solve(kept)))
        found = solve(every) * units
        borders = found[len(names) + 1 :].reshape(2, len(kinds))
        return Borders(
            constant=float(found[len(names)]),
            scales=dict(zip(names, map(float, found), strict=False)),
            each_ms=dict(zip(kinds, map(float, borders[0]), strict=True)),
            element_ms=dict(zip(kinds, map(float, borders[1]), strict=True)),
            residuals=tuple(residuals),
        )

    def _quantities(self, architecture: Architecture, kinds: Sequence[Border]) -> list[float]:
        """Table sums by precision, one, then numbers and elements by kind of border."""
        specs = lower(self.space, architecture)
        policy = architecture.precisions
        assert policy is not None
        sums = dict.fromkeys(self.parts, 0.0)
        counts, moved = dict.fromkeys(kinds, 0.0), dict.fromkeys(kinds, 0.0)
        for number, (spec, precision) in enumerate(zip(specs, policy, strict=True)):
            sums[precision] += self._table_ms(spec, precision)
            border = (policy[max(0, number - 1)], precision)
            if border in counts:
                counts[border] += 1
                moved[border] += elements(spec)
        return [*sums.values(), 1.0, *counts.values(), *moved.values()]

    def _table_ms(self, spec: BlockSpec, precision: str) -> float:
        part = self.parts[precision]
        return part.calibration.block_ms(spec, part.block_ms[spec])

    def block_ms(self, spec: BlockSpec, precision: str) -> float:
        """What a block takes in a precision, between others of the same."""
        return self.borders.scales[precision] * self._table_ms(spec, precision)

    @cached_property
    def additive(self) -> PolicyCost:
        """The prediction as a sum over blocks and borders."""
        return PolicyCost(
            self.space,
            self.block_ms,
            border=self.borders.border_ms,
            constant=self.borders.constant,
        )

    def predict(self, architectures: Sequence[Architecture]) -> Floats:
        """Milliseconds, (n,)."""
        genes = np.array([self.space.encode(a) for a in architectures], dtype=np.uint8)
        return self.predict_genes(genes.reshape(len(architectures), len(self.space.genes)))

    def predict_genes(self, genes: Genes) -> Floats:
        """Milliseconds, (n,), of gene vectors, (n, genes)."""
        return self.additive.of_genes(genes)

    @property
    def ratio(self) -> float:
        """The half-width of the interval, a share of the prediction."""
        return max(self.borders.ratio, self.noise_floor)

    def interval(self, architectures: Sequence[Architecture]) -> tuple[Floats, Floats]:
        """Lower and upper milliseconds, (n,) each, that hold the measurement nine times in ten."""
        predicted = self.predict(architectures)
        return predicted / (1 + self.ratio), predicted * (1 + self.ratio)

    def estimate(self, architecture: Architecture) -> Estimate:
        """Milliseconds of one architecture with their interval."""
        low, high = self.interval([architecture])
        milliseconds = float(self.predict([architecture])[0])
        provenance = Provenance(self.source, self.setting)
        return Estimate(milliseconds, provenance, float(low[0]), float(high[0]))

    def minimum(self) -> tuple[Architecture, float]:
        """The fastest network of the space and its predicted milliseconds, exactly."""
        return self.additive.minimum()

    @property
    def source(self) -> Source:
        """Where block times come from, the least certain of its precisions."""
        sources = {part.source for part in self.parts.values()}
        return next(
            source for source in ("estimated", "interpolated", "measured") if source in sources
        )

    @property
    def provenance(self) -> str:
        """How a prediction must be called."""
        return f"predicted from {self.source}"

    @cached_property
    def fingerprint(self) -> str:
        """Eight hexadecimal digits that change when any prediction does."""
        numbers = [self.borders.constant, *self.borders.scales.values()]
        numbers += [*self.borders.each_ms.values(), *self.borders.element_ms.values()]
        digest = hashlib.sha256(np.array(numbers).round(12).tobytes())
        for part in self.parts.values():
            digest.update(part.fingerprint.encode())
        return digest.hexdigest()[:8]


def _no_borders(parts: Mapping[str, LatencyPredictor]) -> Borders:
    return Borders(0.0, dict.fromkeys(parts, 1.0), {}, {})


def how_to_measure_borders(setting: Setting, space: SearchSpace) -> str:
    """What to do where nothing says what a change of precision costs."""
    options = replace(setting, precision=MIXED).options
    return f"measure them: nassearch profile {options} --space {space.source}"
