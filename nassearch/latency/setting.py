"""What a latency was measured in, and the sessions that measure it."""

from dataclasses import dataclass
from typing import Protocol

import numpy as np
import numpy.typing as npt

from nassearch.networks import Subnet

Floats = npt.NDArray[np.float64]


@dataclass(frozen=True, slots=True)
class Setting:
    """Where and how a network runs. Latencies of different settings are never mixed."""

    device: str
    runtime: str
    precision: str = "fp32"
    batch: int = 1
    threads: int | None = 1

    @property
    def stem(self) -> str:
        """The name of the table's file: 'onnxruntime-fp32-b1-t1'."""
        threads = "" if self.threads is None else f"-t{self.threads}"
        return f"{self.runtime}-{self.precision}-b{self.batch}{threads}"

    def __str__(self) -> str:
        return f"{self.device}/{self.stem}"


@dataclass(frozen=True, slots=True)
class BlockTimes:
    """`block_ms`, (runs, blocks); `num_events`, (blocks,): how often a block was interrupted to
    be timed, so that the cost of the timing itself can be taken off.
    """

    block_ms: Floats
    num_events: npt.NDArray[np.int64]


class Session(Protocol):
    """A network loaded into a runtime."""

    def run_ms(self) -> float:
        """Run one inference; its wall-clock milliseconds."""
        ...


class Trace(Protocol):
    """A network loaded with the runtime's own profiler on."""

    def run_ms(self) -> float:
        """Run one inference; its wall-clock milliseconds, the profiler's own time included."""
        ...

    def finish(self) -> "BlockTimes":
        """What every run since loading took; unloads."""
        ...


class Runtime(Protocol):
    """Runs networks in one setting; constructed as `Runtime(setting)`.

    The constructor raises RuntimeUnavailableError, naming what to install, where it cannot run.
    """

    version: str

    def __init__(self, setting: Setting) -> None: ...

    def load(self, network: Subnet) -> Session:
        """The network, ready to be timed."""
        ...

    def trace(self, network: Subnet) -> Trace:
        """The network, ready to be timed block by block."""
        ...
