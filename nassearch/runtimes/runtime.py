"""The protocol of a runtime, of the sessions in which it times a network, and how one is made."""

from collections.abc import Collection, Mapping
from dataclasses import dataclass, replace
from typing import ClassVar, Protocol, cast

import numpy as np
import numpy.typing as npt

from nassearch import config
from nassearch.errors import ConfigError, NassearchError, RuntimeUnavailableError
from nassearch.networks import Subnet
from nassearch.runtimes import RUNTIMES
from nassearch.setting import MIXED, Setting
from nassearch.space import SearchSpace

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

    The constructor raises RuntimeUnavailableError, naming what to install, where it cannot run on
    this machine. Whether it has the setting's precision is asked of `precisions` before
    (`make_runtime`).
    """

    title: ClassVar[str]
    """The runtime as people call it, with what it runs on."""
    precisions: ClassVar[Collection[str]]
    """The precisions it runs."""
    profiles_blocks: ClassVar[bool]
    """Whether it times blocks (`trace`), so that it can fill a latency table."""
    graph_formats: ClassVar[Mapping[str, str]]
    """Precision -> the export format whose file it runs as it is (`load_graph`)."""
    mixable: ClassVar[tuple[str, ...]]
    """Those of its precisions that blocks of one network may have side by side, the lowest first
    (then `precisions` has 'mixed' too); optional."""
    on_gpu: bool
    """Whether networks run on a GPU, which is then part of what the machine is."""
    wherever: ClassVar[bool]
    """Whether they run on a GPU where there is one, and on the CPU elsewhere; optional."""
    version: str

    def __init__(self, setting: Setting) -> None: ...

    def load(self, network: Subnet) -> Session:
        """The network, ready to be timed."""
        ...

    def trace(self, network: Subnet) -> Trace:
        """The network, ready to be timed block by block; never called unless `profiles_blocks`."""
        ...


class OfImages(Protocol):
    """What a graph is of: a network, or somebody's classifier."""

    @property
    def input_shape(self) -> tuple[int, int, int]:
        """(channels, height, width) of one image."""
        ...


class GraphRuntime(Runtime, Protocol):
    """A runtime with `graph_formats`."""

    def load_graph(self, model: bytes, network: OfImages) -> Session:
        """An exported file of `network`, ready to be timed."""
        ...


def runtime_class(name: str) -> type[Runtime]:
    """The runtime called `name`, or a user's 'package.module:Attr'; ConfigError for another."""
    kind: type[Runtime] = config.resolve(RUNTIMES, name, kind="runtime")
    missing = [fact for fact in _FACTS if not hasattr(kind, fact)]
    if missing:
        raise ConfigError(
            f"does not state its {', '.join(missing)}",
            where=f"runtime {name}",
            fix="give its class these attributes, as nassearch.runtimes.Runtime has them",
        )
    return kind


_FACTS = ("title", "precisions", "profiles_blocks", "graph_formats", "on_gpu", "load", "trace")


def check_setting(setting: Setting) -> None:
    """Check that there is a runtime of the setting's name and that it runs its precision.

    Raises:
        ConfigError: There is no runtime of this name.
        RuntimeUnavailableError: It does not run the setting's precision.
    """
    kind = runtime_class(setting.runtime)
    if setting.precision not in kind.precisions:
        raise RuntimeUnavailableError(
            f"the runtime {setting.runtime} does not run {setting.precision}",
            where=setting,
            fix=f"use --precision {' or '.join(kind.precisions)}",
        )


def deployed_space(space: SearchSpace, setting: Setting) -> SearchSpace:
    """The space as a setting deploys it: with a policy beside each architecture where it mixes."""
    return space.mixed(mixable_precisions(setting)) if setting.precision == MIXED else space.plain


def mixable_precisions(setting: Setting) -> tuple[str, ...]:
    """The precisions that blocks may have side by side in a setting's runtime, the lowest first.

    Raises:
        RuntimeUnavailableError: Its runtime mixes none.
    """
    check_setting(setting)
    mixable: tuple[str, ...] = getattr(runtime_class(setting.runtime), "mixable", ())
    if len(mixable) < 2:
        raise RuntimeUnavailableError(
            f"the runtime {setting.runtime} mixes no precisions",
            where=setting,
            fix="use --runtime onnxruntime, or one precision for all blocks",
        )
    return mixable


def make_runtime(setting: Setting) -> Runtime:
    """The runtime of a setting; raises as `check_setting`, and RuntimeUnavailableError where it is
    not on this machine.
    """
    check_setting(setting)
    return runtime_class(setting.runtime)(setting)


def load_graph(runtime: Runtime, model: bytes, network: OfImages) -> Session:
    """An exported file of `network` in a runtime that has a graph format for its precision."""
    return cast(GraphRuntime, runtime).load_graph(model, network)


def why_unavailable(setting: Setting) -> str | None:
    """Why networks cannot run in a setting on this machine, as one sentence; None where they can.

    Args:
        setting: Where and how; its device is not asked about.
    """
    try:
        # of no certain number of threads: PyTorch's would be the whole process's
        make_runtime(replace(setting, threads=None))
    except NassearchError as error:
        return f"{error.what} ({error.fix})" if error.fix else error.what
    return None


def availability(name: str) -> str:
    """Whether the runtime called `name` runs on this machine: 'yes', or why not and what to do."""
    kind = runtime_class(name)
    reason = why_unavailable(Setting("host", name, next(iter(kind.precisions))))
    return "yes" if reason is None else f"no: {reason}"
