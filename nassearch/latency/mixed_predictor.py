"""The predictor of networks whose blocks differ in precision: what each takes, and each border.

A block takes what the runtime's table of its precision says. Where a block follows one of another
precision, its input is quantized or dequantized, and what the runtime fuses ends: the border costs
something for itself and something for each element of that tensor. Both are fitted on whole mixed
networks, and with them a scale for each precision and op and a time for each block of a precision:
tables of two precisions were measured at two times, among networks of their own kind, and a block
whose weights the caches have lost to its neighbours takes longer than one beside small ones.
"""

import hashlib
from collections import defaultdict
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
_PULL, _SCALE_PULL = 1e-3, 3e-3
"""How strongly a share of the mean latency is drawn to nothing, and a scale to one: without the
second an op that takes little everywhere, such as a stem, is told to take nothing."""
Border = tuple[str, str]
"""The precision before and after."""
Kind = tuple[str, str]
"""The precision and the op of a block."""


@dataclass(frozen=True)
class Borders:
    """What whole mixed networks teach: ms = constant + blocks (scales x tables + more) + borders.

    `scales` are by precision and op, `more_ms` by precision, `each_ms` and `element_ms` by border.
    `residuals` are those of the networks in order, each predicted without itself: 1 - prediction /
    measurement.
    """

    constant: float
    scales: Mapping[Kind, float]
    more_ms: Mapping[str, float]
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
        blank = cls(space, table.setting, parts, Borders(0.0, {}, {}, {}, {}), noise_floor=noise)
        return blank.calibrate(pairs)

    def calibrate(self, pairs: Sequence[Pair]) -> "MixedPredictor":
        """A new predictor fitted on these measured networks as well as those known before."""
        merged = {(space, arch): ms for space, arch, ms in (*self.pairs, *pairs)}
        known = tuple((space, arch, ms) for (space, arch), ms in merged.items())
        return replace(self, pairs=known, borders=self._fit(known))

    def _fit(self, pairs: Sequence[Pair]) -> Borders:
        """Non-negative ridge regression on relative errors, drawn to scales of one."""
        names = list(self.parts)
        kinds = [(name, op) for name in names for op in self._ops]
        borders = [(one, other) for one in names for other in names if one != other]
        columns = [
            *(("scale", kind) for kind in kinds),
            "constant",
            *(("more", name) for name in names),
            *(("each", border) for border in borders),
            *(("element", border) for border in borders),
        ]
        quantities = [self._quantities(architecture) for _, architecture, _ in pairs]
        rows = np.array([[row.get(column, 0.0) for column in columns] for row in quantities])
        measured = np.array([ms for _, _, ms in pairs])
        # each column in units in which its coefficient is a share of the mean latency
        means = np.maximum(rows.mean(axis=0), 1e-12)
        units = measured.mean() / means
        prior = np.zeros(rows.shape[1])
        prior[: len(kinds)] = 1 / units[: len(kinds)]
        design = rows * units / measured[:, None]
        pull = np.full(rows.shape[1], _PULL * np.sqrt(len(pairs)))
        pull[: len(kinds)] = _SCALE_PULL * np.sqrt(len(pairs)) * units[: len(kinds)]

        def solve(kept: Floats) -> Floats:
            system = np.vstack([design[kept], np.diag(pull)])
            goal = np.concatenate([np.ones(int(kept.sum())), pull * prior])
            return np.asarray(nnls(system, goal)[0])

        every = np.ones(len(pairs), dtype=bool)
        residuals = []
        for number in range(len(pairs)):
            kept = every.copy()
            kept[number] = False
            residuals.append(1 - float(design[number] @ solve(kept)))
        found = dict(zip(columns, map(float, solve(every) * units), strict=True))
        return Borders(
            constant=found["constant"],
            scales={kind: found["scale", kind] for kind in kinds},
            more_ms={name: found["more", name] for name in names},
            each_ms={border: found["each", border] for border in borders},
            element_ms={border: found["element", border] for border in borders},
            residuals=tuple(residuals),
        )

    @property
    def _ops(self) -> list[str]:
        return sorted({spec.op for part in self.parts.values() for spec in part.block_ms})

    def _quantities(self, architecture: Architecture) -> dict[object, float]:
        """What each coefficient of a fit is multiplied by."""
        policy = architecture.precisions
        assert policy is not None
        quantities: defaultdict[object, float] = defaultdict(float)
        quantities["constant"] = 1.0
        specs = lower(self.space, architecture)
        for before, spec, precision in zip((policy[0], *policy), specs, policy, strict=False):
            quantities["scale", (precision, spec.op)] += self._table_ms(spec, precision)
            quantities["more", precision] += 1
            if before != precision:
                quantities["each", (before, precision)] += 1
                quantities["element", (before, precision)] += elements(spec)
        return quantities

    def _table_ms(self, spec: BlockSpec, precision: str) -> float:
        part = self.parts[precision]
        return part.calibration.block_ms(spec, part.block_ms[spec])

    def block_ms(self, spec: BlockSpec, precision: str) -> float:
        """What a block takes in a precision, between others of the same."""
        scale, more = self.borders.scales[precision, spec.op], self.borders.more_ms[precision]
        return scale * self._table_ms(spec, precision) + more

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
        told = self.borders
        numbers = [told.constant]
        for values in (told.scales, told.more_ms, told.each_ms, told.element_ms):
            numbers += values.values()
        digest = hashlib.sha256(np.array(numbers).round(12).tobytes())
        for part in self.parts.values():
            digest.update(part.fingerprint.encode())
        return digest.hexdigest()[:8]


def how_to_measure_borders(setting: Setting, space: SearchSpace) -> str:
    """What to do where nothing says what a change of precision costs."""
    options = replace(setting, precision=MIXED).options
    return f"measure them: nassearch profile {options} --space {space.source}"
