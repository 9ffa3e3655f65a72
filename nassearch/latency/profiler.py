"""The profiler: every block of a space, timed where it lives, inside whole networks."""

import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import replace
from datetime import UTC, datetime

import numpy as np
import numpy.typing as npt

from nassearch.latency.calibration import fit
from nassearch.latency.coverage import MAX_NETWORKS, telling
from nassearch.latency.host_identity import host_text, this_machine
from nassearch.latency.measurement import MeasuredNetwork, Measurement
from nassearch.latency.table import IDENTITY, LatencyTable
from nassearch.latency.timing import (
    BURST,
    Timing,
    interleave,
    load_slope,
    measurement,
    reference_ms,
    reference_networks,
)
from nassearch.networks import Subnet
from nassearch.progress import Progress, silent
from nassearch.runtimes.runtime import BlockTimes, Floats, Runtime
from nassearch.setting import Setting
from nassearch.space import Architecture, BlockSpec, SearchSpace, block_specs, lower

GROUP = 32  # networks measured together at most, round by round
TARGET_ERROR = 0.003  # relative standard error at which timing stops
STOPS = ("interrupted", "time", "rounds", "target")  # why timing stopped, the least good first
MIN_MS = 1e-6  # of a block that a runtime optimises away
MIN_SHARE = 0.1  # of a block's traced time that is its own, at the least
PROTOCOL = (
    "each block inside whole networks, per-node times of the runtime's own profiler;"
    " networks interleaved with and without it, round by round, common drift divided out"
)


def profile(
    space: SearchSpace,
    setting: Setting,
    *,
    runtime: Runtime,
    rng: np.random.Generator,
    seconds: float,
    target_error: float = TARGET_ERROR,
    time_budget: float | None = None,
    max_networks: int = MAX_NETWORKS,
    known: LatencyTable | None = None,
    keep: Callable[[LatencyTable], object] = lambda table: None,
    interrupted: Callable[[], bool] = lambda: False,
    progress: Progress = silent,
) -> LatencyTable:
    """Measure the blocks of `space` in `setting`, and the whole networks they were measured in.

    Timing goes on for `seconds`, or until the standard error of a network's median is below
    `target_error`; the header says which (`stopped`) and what was reached. Loading the networks
    comes on top; `time_budget` bounds both: networks are measured group by group, none is begun
    after that many seconds. At most `max_networks` are measured, chosen to hold as many blocks as
    they can; blocks that no measured network holds are interpolated.
    `keep(table)` is called with what is measured after each group, and where `interrupted()` after
    the round of timing under way, before KeyboardInterrupt is raised: an interruption loses a
    round, or a group whose networks were still being loaded. A table kept before is given back as
    `known`, and what it measured is not measured again.
    """
    start = time.monotonic()
    measured = {key for key, m in known.blocks.items() if m.source == "measured"} if known else ()
    architectures = telling(space, rng, known=measured, limit=max_networks)
    count = -(-len(architectures) // GROUP)
    groups = [architectures[number::count] for number in range(count)]
    identity = this_machine(gpu=runtime.on_gpu)
    host = {"host": host_text(), IDENTITY: identity.to_dict()}
    session = ProfileSession(space, setting, runtime.version, host=host)
    if known is not None:
        session.reference_ms = reference_ms(known, space)
    table: LatencyTable | None = None
    for number, group in enumerate(groups):
        left = None if time_budget is None else time_budget - (time.monotonic() - start)
        if table is not None and left is not None and left <= 0:
            break

        def part(stage: str, fraction: float, note: str = "", *, number: int = number) -> None:
            progress(stage, (number + fraction) / len(groups), note)

        share = seconds * len(group) / len(architectures)
        session.measure(
            group,
            runtime,
            seconds=share,
            limit=left,
            target_error=target_error,
            interrupted=interrupted,
            progress=part,
        )
        table = session.table({"target_error": target_error})
        if known is not None:
            table = known.merged(table)
        keep(table)
        if interrupted():
            raise KeyboardInterrupt
    assert table is not None, "there is always the smallest architecture"
    return interpolate_missing(table, block_specs(space)).profiled(space)


def interpolate_missing(table: LatencyTable, specs: Iterable[BlockSpec]) -> LatencyTable:
    """`table` with every block of `specs` that it lacks interpolated from those it has.

    The regression is that of `calibration.fit` with each measured block as a network of its own;
    its leave-one-out error goes into the header.
    """
    lacking = [spec for spec in specs if spec.key not in table.blocks]
    if not lacking:
        return table
    rows = {key: m for key, m in table.blocks.items() if m.source != "interpolated"}
    known = [BlockSpec.from_key(key) for key in rows]
    times = np.array([m.median_ms for m in rows.values()])
    blank = dict.fromkeys([*known, *lacking], 0.0)
    fitted = fit([[spec] for spec in known], times, blank)
    assert fitted.error is not None
    blocks = dict(table.blocks)
    for spec in lacking:
        median = max(fitted.constant + fitted.block_ms(spec, 0.0), float(times.min()))
        low, high = median / (1 + fitted.error), median * (1 + fitted.error)
        blocks[spec.key] = Measurement(median, low, high, 0, "interpolated")
    facts = {
        **table.facts,
        "interpolated": len(lacking),
        "interpolation_error": round(fitted.error, 4),
    }
    return replace(table, blocks=blocks, facts=facts)


class ProfileSession:
    """What the groups of a profile measured, on one clock: `reference_ms` is the time of the
    reference networks, the first group's where none is given.
    """

    def __init__(
        self,
        space: SearchSpace,
        setting: Setting,
        version: str,
        *,
        host: Mapping[str, object] | None = None,
    ) -> None:
        self.space, self.setting, self.version = space, setting, version
        self.host = host or {}
        self.samples: dict[str, list[tuple[Architecture, Floats]]] = {}
        self.whole_samples: dict[Architecture, list[Floats]] = {}
        self.reference_ms: float | None = None
        self.whole: list[Timing] = []

    def measure(
        self,
        architectures: Sequence[Architecture],
        runtime: Runtime,
        *,
        seconds: float,
        target_error: float,
        limit: float | None,
        interrupted: Callable[[], bool],
        progress: Progress,
    ) -> None:
        """Time a group of networks and their blocks; `limit` in seconds bounds loading as well."""
        start = time.monotonic()
        anchors = reference_networks(self.space)
        traced = [
            *anchors,
            *(architecture for architecture in architectures if architecture not in anchors),
        ]
        networks = [Subnet.of(self.space, architecture).eval() for architecture in traced]
        sessions, traces = {}, {}
        order = np.random.default_rng(0).permutation(len(networks))
        for position, index in enumerate(order):
            progress("loading", position / len(networks) / 2)
            if interrupted():
                raise KeyboardInterrupt
            sessions[index] = runtime.load(networks[index]).run_ms
            traces[index] = runtime.trace(networks[index])
        every = range(len(networks))
        if limit is not None:
            seconds = min(seconds, max(0.0, limit - (time.monotonic() - start)))
        timing = interleave(
            [
                *(sessions[index] for index in every[len(anchors) :]),
                *(traces[index].run_ms for index in every),
            ],
            references=[sessions[index] for index in every[: len(anchors)]],
            seconds=seconds,
            target_error=target_error,
            progress=lambda fraction: progress("timing", (1 + fraction) / 2),
            interrupted=interrupted,
        )
        timing = timing.with_references()
        self.add(
            traced,
            [network.specs for network in networks],
            whole=timing.part(slice(len(sessions))),
            inside=timing.part(slice(len(sessions), None)),
            times=[traces[index].finish() for index in every],
            positions=np.argsort(order),
        )

    def add(
        self,
        architectures: Sequence[Architecture],
        specs: Sequence[Sequence[BlockSpec]],
        *,
        whole: Timing,
        inside: Timing,
        times: Sequence[BlockTimes],
        positions: npt.NDArray[np.int64],
    ) -> None:
        """Take in a group that was timed as whole networks and, `inside`, block by block.

        The first of `architectures` are the reference networks. `positions` is the order in which
        they were loaded, of which the times show a trend that is taken off.
        """
        blocks = _block_samples(times, inside, whole)
        medians = _medians(specs, blocks)
        sums = np.array([sum(medians[spec.key] for spec in network) for network in specs])
        slope = load_slope(whole.medians_ms / sums, positions)
        steady = np.exp(-slope * (positions - np.mean(positions)))
        anchors = (steady * whole.medians_ms)[: len(whole.references_ms)]
        reference = float(np.exp(np.mean(np.log(anchors))))
        self.reference_ms = self.reference_ms or reference
        factors = steady * self.reference_ms / reference
        for row, architecture in enumerate(architectures):
            taken = whole.samples_ms[row] * factors[row]
            self.whole_samples.setdefault(architecture, []).append(taken)
            for index, spec in enumerate(specs[row]):
                block = blocks[row][:, :, index].ravel() * factors[row]
                self.samples.setdefault(spec.key, []).append((architecture, block))
        self.whole.append(whole)

    def table(self, more: Mapping[str, object] | None = None) -> LatencyTable:
        """The table so far, with `more` in its header."""
        common = self._common()
        blocks = {
            key: measurement(np.maximum(common * self._block(key), MIN_MS)) for key in self.samples
        }
        stops = {timing.stopped for timing in self.whole}
        whole = self.whole
        facts = {
            "version": self.version,
            "date": datetime.now(UTC).date().isoformat(),
            **self.host,
            "protocol": PROTOCOL,
            "rounds": min(timing.samples_ms.shape[1] for timing in self.whole),
            "noise_floor": round(float(np.mean([timing.noise_floor for timing in whole])), 4),
            "standard_error": round(float(np.mean([timing.standard_error for timing in whole])), 4),
            "stopped": next(reason for reason in STOPS if reason in stops),
            **(more or {}),
        }
        networks = tuple(
            MeasuredNetwork.of(
                self.space,
                architecture,
                measurement(np.concatenate(taken)),
                leave_one_out_ms=common * self.leave_one_out_ms(architecture),
            )
            for architecture, taken in self.whole_samples.items()
        )
        return LatencyTable(self.setting, blocks, networks, facts).profiled(self.space)

    def _common(self) -> float:
        """What brings sums of blocks' medians to the whole networks' medians.

        The two differ: a disturbance that comes and goes misses most runs of a block, but hits
        every network somewhere.
        """
        medians = {key: float(np.median(self._block(key))) for key in self.samples}
        ratios = []
        for architecture, taken in self.whole_samples.items():
            total = sum(medians[spec.key] for spec in lower(self.space, architecture))
            ratios.append(float(np.median(np.concatenate(taken))) / total)
        return float(np.median(ratios))

    def _block(self, key: str) -> Floats:
        """Every sample of a block."""
        return np.concatenate([taken for _, taken in self.samples[key]])

    def leave_one_out_ms(self, architecture: Architecture) -> float:
        """A network's blocks, summed as they took in the other networks; a block that no other
        network holds is taken from this one.
        """
        total = 0.0
        for spec in lower(self.space, architecture):
            every = self.samples[spec.key]
            others = [taken for owner, taken in every if owner != architecture]
            total += float(np.median(np.concatenate(others or [taken for _, taken in every])))
        return total


def _block_samples(traced: Sequence[BlockTimes], inside: Timing, whole: Timing) -> list[Floats]:
    """For each network drift-free milliseconds, (rounds, burst, blocks), without cold runs.

    Timing a block slows it down. What one interruption costs is the slope of (traced - untraced)
    milliseconds of the networks over their number of events, and is taken off every block. What is
    left between the sums and the whole networks (calls into the runtime, another session's clock)
    is divided out in common.
    """
    rounds = inside.samples_ms.shape[1]
    link = whole.reference / inside.reference
    times = []
    for trace in traced:
        runs = trace.block_ms[-rounds * (BURST + 1) :].reshape(rounds, BURST + 1, -1)[:, 1:]
        times.append(runs * link / inside.drift[:, None, None])
    slowed = np.array([np.median(runs.sum(axis=2)) for runs in times])
    untraced = whole.medians_ms
    totals = np.array([trace.num_events.sum() for trace in traced], dtype=np.float64)
    squares = float(totals @ totals)
    event_ms = max(0.0, float(totals @ (slowed - untraced)) / squares) if squares else 0.0
    corrected = [
        np.maximum(runs - event_ms * trace.num_events, MIN_SHARE * runs)
        for runs, trace in zip(times, traced, strict=True)
    ]
    sums = np.array([np.median(runs.sum(axis=2)) for runs in corrected])
    common = float(np.median(untraced / sums))
    return [common * runs for runs in corrected]


def _medians(networks: Sequence[Sequence[BlockSpec]], blocks: Sequence[Floats]) -> dict[str, float]:
    """Key -> median milliseconds over everywhere the block occurred."""
    samples: dict[str, list[Floats]] = {}
    for specs, runs in zip(networks, blocks, strict=True):
        for index, spec in enumerate(specs):
            samples.setdefault(spec.key, []).append(runs[:, :, index].ravel())
    return {key: float(np.median(np.concatenate(runs))) for key, runs in samples.items()}
