"""Measurement and MeasuredNetwork: what a device took for a block, or for a whole network."""

import math
from dataclasses import dataclass, replace

from nassearch.space import Architecture, SearchSpace

SOURCES = ("measured", "interpolated", "estimated")
# No block of an image classifier takes this long; seconds or microseconds were probably meant.
IMPLAUSIBLE_MS = 60_000.0


@dataclass(frozen=True, slots=True)
class Measurement:
    """Milliseconds of a block or a network: median, 10th and 90th percentile over `runs` runs.

    `energy_mj`: millijoules of one run, where they were measured as well.
    """

    median_ms: float
    p10_ms: float
    p90_ms: float
    runs: int
    source: str = "measured"
    energy_mj: float | None = None

    @property
    def problem(self) -> str | None:
        """Why these cannot be measurements; None where they can."""
        if not 0 < self.median_ms < IMPLAUSIBLE_MS:
            return f"{self.median_ms:g} ms is not plausible"
        if not 0 <= self.p10_ms <= self.median_ms <= self.p90_ms < math.inf:
            return "percentile 10, median and percentile 90 are out of order"
        if self.runs < 0:
            return f"{self.runs} runs are no number of runs"
        if self.source not in SOURCES:
            return f"unknown source '{self.source}', not one of {', '.join(SOURCES)}"
        if self.energy_mj is not None and not 0 < self.energy_mj < math.inf:
            return f"{self.energy_mj:g} mJ is not plausible"
        return None


@dataclass(frozen=True, slots=True)
class MeasuredNetwork:
    """A whole network measured on the device, by its genes in a space (name:fingerprint).

    `leave_one_out_ms`: the sum of its blocks as they were timed in the other networks of its
    profile, which is what the table would say of it had it not been measured.
    """

    space: str
    genes: tuple[int, ...]
    resolution: int
    measurement: Measurement
    leave_one_out_ms: float | None = None

    @classmethod
    def of(
        cls,
        space: SearchSpace,
        architecture: Architecture,
        measurement: Measurement,
        *,
        leave_one_out_ms: float | None = None,
    ) -> "MeasuredNetwork":
        """`architecture` may be of a resolution that `space` does not offer."""
        offered = architecture.resolution in space.resolutions
        inside = architecture if offered else replace(architecture, resolution=space.resolutions[0])
        genes = space.encode(inside)
        return cls(
            space_identity(space), genes, architecture.resolution, measurement, leave_one_out_ms
        )

    @property
    def problem(self) -> str | None:
        """Why this cannot have been measured; None where it can."""
        if self.leave_one_out_ms is not None and not 0 < self.leave_one_out_ms < math.inf:
            return f"{self.leave_one_out_ms:g} ms of its blocks is not plausible"
        return self.measurement.problem


def space_identity(space: SearchSpace) -> str:
    """name:fingerprint, by which tables know a space."""
    return f"{space.name}:{space.fingerprint}"
