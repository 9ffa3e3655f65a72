"""The protocol of a runtime, and of the sessions in which it times a network."""

from dataclasses import dataclass
from typing import Protocol

import numpy as np
import numpy.typing as npt

from nassearch.networks import Subnet
from nassearch.setting import Setting

Floats = npt.NDArray[np.float64]


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
