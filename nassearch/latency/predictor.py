"""The predictor: a table's sum over blocks, corrected by whole networks, with an interval."""

import hashlib
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property
from typing import Literal, get_args

import numpy as np

from nassearch.errors import TableError
from nassearch.latency.calibration import Calibration, fit, fit_transfer
from nassearch.latency.design import CANDIDATES, most_telling
from nassearch.latency.interval import repeatability
from nassearch.latency.table import LatencyTable
from nassearch.provenance import Estimate, Provenance
from nassearch.runtimes.runtime import Floats
from nassearch.setting import Setting
from nassearch.space import Architecture, BlockSpec, SearchSpace, block_specs, lower
from nassearch.space.additive import AdditiveCost
from nassearch.space.search_space import Genes

MIN_PAIRS = 5
ALIKE = 2.0  # a network up to this many times faster or slower than any of the space's is like them
Source = Literal["estimated", "interpolated", "measured"]
"""Where block times come from, the least certain first."""
Pair = tuple[SearchSpace, Architecture, float]
"""A network and its measured milliseconds."""


@dataclass(frozen=True)
class LatencyPredictor:
    """Latencies of every architecture of `space` in one setting.

    `source` is where the block times come from: measured, interpolated or estimated.
    """

    space: SearchSpace
    setting: Setting
    source: Source
    block_ms: Mapping[BlockSpec, float]
    calibration: Calibration = Calibration()  # noqa: RUF009 (it is frozen)
    pairs: tuple[Pair, ...] = ()
    noise_floor: float = 0.0
    """Of the measurements behind it: no interval is narrower."""
    leave_one_out_ms: Mapping[tuple[SearchSpace, Architecture], float] = field(default_factory=dict)
    """Of networks that blocks were timed in: the sum of their blocks as timed in other networks."""
    other: Setting | None = None
    """The setting that the block times were measured in, where it is not this one."""

    @classmethod
    def from_table(cls, table: LatencyTable, space: SearchSpace) -> "LatencyPredictor":
        """The predictor of a table, calibrated on the whole networks measured beside it: those of
        the size of the space's networks, where there are enough of them.

        A table may hold whole networks only. Raises MissingKeyError where it holds blocks, but
        lacks some of the space's.
        """
        noise = table.noise_floor(space) or 0.0
        if not table.blocks and table.networks:
            pairs = [
                (owner, architecture, network.measurement.median_ms)
                for owner, architecture, network in table.pairs(space)
            ]
            return cls.from_networks(space, table.setting, pairs, noise_floor=noise)
        specs = block_specs(space)
        table.require_space(space, specs)
        sources = {table[spec.key].source for spec in specs}
        source = next(s for s in get_args(Source) if s in sources)
        known = {spec: table[spec.key].median_ms for spec in specs}
        pairs, elsewhere = [], {}
        for owner, architecture, network in table.pairs(space):
            lowered = lower(owner, architecture)
            if all(spec.key in table.blocks for spec in lowered):
                known |= {spec: table[spec.key].median_ms for spec in lowered}
                pairs.append((owner, architecture, network.measurement.median_ms))
                if network.leave_one_out_ms is not None:
                    elsewhere[owner, architecture] = network.leave_one_out_ms
        blank = cls(
            space, table.setting, source, known, noise_floor=noise, leave_one_out_ms=elsewhere
        )
        alike = blank.alike(pairs)
        return blank.calibrate(alike if len(alike) >= MIN_PAIRS else pairs)

    def alike(self, pairs: Sequence[Pair]) -> list[Pair]:
        """Those of about the latencies that the space's networks have by the table.

        What is off in a network of 0.1 ms says nothing about those of 10 ms in the same table.
        """
        smallest, largest = (
            sum(self.block_ms[spec] for spec in lower(self.space, extreme))
            for extreme in (self.space.smallest, self.space.largest)
        )
        return [pair for pair in pairs if smallest / ALIKE < pair[2] < largest * ALIKE]

    @classmethod
    def from_networks(
        cls,
        space: SearchSpace,
        setting: Setting,
        pairs: Sequence[Pair],
        *,
        noise_floor: float = 0.0,
    ) -> "LatencyPredictor":
        """The predictor of a device that was measured in whole networks only.

        The networks may be of other spaces, as long as their blocks are of the same kinds.
        Raises TableError where there are fewer than five.
        """
        _enough(pairs, setting)
        known = dict.fromkeys(block_specs(space), 0.0) | dict.fromkeys(_blocks(pairs), 0.0)
        blank = cls(space, setting, "measured", known, noise_floor=noise_floor)
        return blank.calibrate(pairs)

    def networks_to_measure(self, number: int, rng: np.random.Generator) -> list[Architecture]:
        """The networks whose times in another setting tell `transfer` most of all the others."""
        candidates = self.space.sample_many(rng, CANDIDATES)
        known = {spec: self.calibration.block_ms(spec, ms) for spec, ms in self.block_ms.items()}
        networks = [lower(self.space, architecture) for architecture in candidates]
        chosen = most_telling(networks, number, rng, block_ms=known)
        return [candidates[index] for index in chosen]

    def transfer(self, setting: Setting, pairs: Sequence[Pair]) -> "LatencyPredictor":
        """The predictor of another setting or device: this one's blocks, calibrated on `pairs`.

        Where the devices are unlike, the networks alone, or a mixture of both, tell more:
        whichever predicts networks better that it did not see is taken, and `transferred` says
        which.

        Raises TableError where there are fewer than five, or where this predictor does not know
        their blocks.
        """
        _enough(pairs, setting)
        unknown = next((spec for spec in _blocks(pairs) if spec not in self.block_ms), None)
        if unknown is not None:
            raise TableError(
                f"the predictor does not know {unknown.key}",
                where=self.setting,
                fix="give networks of the space that it was made for",
            )
        known = {spec: self.calibration.block_ms(spec, ms) for spec, ms in self.block_ms.items()}
        blank = LatencyPredictor(self.space, setting, self.source, known, other=self.setting)
        return blank.calibrate(pairs)

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
        return cls(space, setting, "estimated", known, Calibration(ratio=ratio))

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
        if self.calibration.ratio is None:
            raise TableError(
                "has no whole networks to tell the prediction's error from",
                where=self.setting,
                fix=f"run 'nassearch profile --device {self.setting.device}'",
            )
        predicted = self.predict(architectures)
        return (
            predicted / (1 + self.calibration.ratio),
            predicted * (1 + self.calibration.ratio),
        )

    def estimate(self, architecture: Architecture) -> Estimate:
        """Milliseconds of one architecture, with their interval where it is known."""
        provenance = Provenance(self.source, self.setting)
        milliseconds = float(self.predict([architecture])[0])
        if self.calibration.ratio is None:
            return Estimate(milliseconds, provenance)
        low, high = self.interval([architecture])
        return Estimate(milliseconds, provenance, float(low[0]), float(high[0]))

    def calibrate(self, pairs: Sequence[Pair]) -> "LatencyPredictor":
        """A new predictor fitted on these measured networks as well as those known before."""
        merged = {(space, arch): ms for space, arch, ms in (*self.pairs, *pairs)}
        known = tuple((space, arch, ms) for (space, arch), ms in merged.items())
        if len(known) < MIN_PAIRS:
            return self._with(self.calibration, known)
        networks = [lower(space, architecture) for space, architecture, _ in known]
        measured = np.array([ms for _, _, ms in known])
        calibration = self._fitted(known, networks, measured)
        assert calibration.ratio is not None
        floor = max(self.noise_floor, repeatability(measured))
        return self._with(replace(calibration, ratio=max(calibration.ratio, floor)), known)

    def _fitted(
        self,
        pairs: Sequence[Pair],
        networks: Sequence[Sequence[BlockSpec]],
        measured: Floats,
    ) -> Calibration:
        if self.other is not None:
            return fit_transfer(networks, measured, self.block_ms)
        sums = [
            self.leave_one_out_ms.get(
                (space, architecture), sum(self.block_ms[spec] for spec in specs)
            )
            for (space, architecture, _), specs in zip(pairs, networks, strict=True)
        ]
        return fit(networks, measured, self.block_ms, sums=np.array(sums), own_table=any(sums))

    def _with(self, calibration: Calibration, pairs: tuple[Pair, ...]) -> "LatencyPredictor":
        return replace(self, calibration=calibration, pairs=pairs)

    @property
    def provenance(self) -> str:
        """How a prediction must be called: 'predicted' from measurements, or 'estimated'."""
        made = "estimated" if self.source == "estimated" else f"predicted from {self.source}"
        return made if self.transferred is None else f"{made}, {self.transferred}"

    @property
    def transferred(self) -> str | None:
        """What was taken of another setting's blocks; None where these are this setting's own."""
        if self.other is None:
            return None
        share = self.calibration.share
        if share == 0.0:
            return f"from its own networks, without {self.other}"
        if share < 1.0:
            return f"{share:.0%} transferred from {self.other}, the rest from its own networks"
        return f"transferred from {self.other}"

    @cached_property
    def fingerprint(self) -> str:
        """Eight hexadecimal digits that change when any prediction does."""
        values = [self.calibration.block_ms(spec, ms) for spec, ms in self.block_ms.items()]
        rounded = np.array([self.calibration.constant, *values]).round(9)
        return hashlib.sha256(rounded.tobytes()).hexdigest()[:8]

    def minimum(self) -> tuple[Architecture, float]:
        """The fastest architecture of the space and its predicted milliseconds, exactly."""
        return self.additive.minimum()

    @cached_property
    def additive(self) -> AdditiveCost:
        """The prediction as a sum over blocks."""
        return AdditiveCost(
            self.space,
            lambda spec: self.calibration.block_ms(spec, self.block_ms[spec]),
            constant=self.calibration.constant,
        )


def _blocks(pairs: Sequence[Pair]) -> set[BlockSpec]:
    return {spec for space, architecture, _ in pairs for spec in lower(space, architecture)}


def _enough(pairs: Sequence[Pair], setting: Setting) -> None:
    if len(pairs) < MIN_PAIRS:
        raise TableError(
            f"{len(pairs)} measured networks say too little",
            where=setting,
            fix=f"measure at least {MIN_PAIRS}, small and large ones",
        )
