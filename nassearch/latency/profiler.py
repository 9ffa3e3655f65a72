"""The profiler: every block of a space, timed where it lives, inside whole networks."""

import platform
import time
from collections import Counter
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from dataclasses import replace
from datetime import UTC, datetime
from typing import Any

import numpy as np

from nassearch.latency.calibration import fit
from nassearch.latency.device import host_cpu_name
from nassearch.latency.setting import BlockTimes, Floats, Runtime, Setting, Trace
from nassearch.latency.table import LatencyTable, MeasuredNetwork, Measurement
from nassearch.latency.timing import BURST, Timing, interleave, measurement
from nassearch.networks import Subnet
from nassearch.space import (
    Architecture,
    BlockSpec,
    SearchSpace,
    Slot,
    block_specs,
    lower,
    slots,
)

COVERAGE = 3
GROUP = 24  # networks measured together at most, round by round
MIN_MS = 1e-6  # of a block that a runtime optimises away
MAX_MISSES = 50  # architectures drawn in a row that were there already: the space has no more
MIN_SHARE = 0.1  # of a block's traced time that is its own, at the least
PROTOCOL = (
    "each block inside whole networks, per-node times of the runtime's own profiler;"
    " rounds interleaved with a reference network whose drift is divided out"
)


def covering(
    space: SearchSpace,
    rng: np.random.Generator,
    *,
    repeats: int = COVERAGE,
    known: Collection[str] = (),
) -> list[Architecture]:
    """Random architectures that together hold every block of the space at least `repeats` times,
    or as often as a space of few architectures allows; blocks whose keys are `known` may lack.

    The smallest and the largest are among them; depths vary, so that they also calibrate sums.
    """
    counts: Counter[BlockSpec] = Counter()
    places = slots(space)
    specs = {spec for slot in places for spec in slot.specs if spec is not None}
    wanted = {spec for spec in specs if spec.key not in known}
    counts.update(dict.fromkeys(specs - wanted, repeats))
    chosen: dict[Architecture, None] = {}

    def take(architecture: Architecture) -> bool:
        if architecture in chosen:
            return False
        chosen[architecture] = None
        counts.update(lower(space, architecture))
        return True

    take(space.smallest)
    take(space.largest)
    misses = 0
    while misses < MAX_MISSES and any(counts[spec] < repeats for spec in wanted):
        misses = 0 if take(_least_covered(space, places, counts, rng)) else misses + 1
    return list(chosen)


def profile(
    space: SearchSpace,
    setting: Setting,
    *,
    runtime: Runtime,
    rng: np.random.Generator,
    seconds: float,
    time_budget: float | None = None,
    known: LatencyTable | None = None,
    keep: Callable[[LatencyTable], object] = lambda table: None,
    progress: Callable[[str, float], None] = lambda stage, fraction: None,
) -> LatencyTable:
    """Measure the blocks of `space` in `setting`, and the whole networks they were measured in.

    `seconds` bounds the timing; loading the networks comes on top. `time_budget` bounds both:
    networks are measured group by group, none is begun after that many seconds, and the blocks not
    reached are interpolated from those measured. `keep(table)` is called with what is measured
    after each group, so that an interruption loses one group at most; a table kept before is given
    back as `known`, and what it measured is not measured again. `progress(stage, fraction)`.
    """
    start = time.monotonic()
    measured = {key for key, m in known.blocks.items() if m.source == "measured"} if known else ()
    architectures = covering(space, rng, known=measured)
    count = -(-len(architectures) // GROUP)
    groups = [architectures[number::count] for number in range(count)]
    collected = Collected(space, setting, runtime.version)
    if known is not None:
        collected.reference_ms = known.facts.get("reference_ms")
    table: LatencyTable | None = None
    for number, group in enumerate(groups):
        if table is not None and time_budget and time.monotonic() - start > time_budget:
            break

        def part(stage: str, fraction: float, *, number: int = number) -> None:
            progress(stage, (number + fraction) / len(groups))

        collected.measure(
            group, runtime, seconds=seconds * len(group) / len(architectures), progress=part
        )
        table = collected.table()
        if known is not None:
            table = known.merged(table)
        keep(table)
    assert table is not None, "there is always the smallest architecture"
    return filled(table, block_specs(space))


def filled(table: LatencyTable, specs: Iterable[BlockSpec]) -> LatencyTable:
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
        found = max(fitted.constant + fitted.block_ms(spec, 0.0), float(times.min()))
        low, high = found / (1 + fitted.error), found * (1 + fitted.error)
        blocks[spec.key] = Measurement(found, low, high, 0, "interpolated")
    facts = {
        **table.facts,
        "interpolated": len(lacking),
        "interpolation_error": round(fitted.error, 4),
    }
    return replace(table, blocks=blocks, facts=facts)


class Collected:
    """What the groups of a profile measured, on one clock: `reference_ms` is the time of the
    reference network, the first group's where none is given.
    """

    def __init__(self, space: SearchSpace, setting: Setting, version: str) -> None:
        self.space, self.setting, self.version = space, setting, version
        self.samples: dict[str, list[Floats]] = {}
        self.networks: list[MeasuredNetwork] = []
        self.reference_ms: float | None = None
        self.floors: list[float] = []
        self.rounds: list[int] = []

    def measure(
        self,
        architectures: Sequence[Architecture],
        runtime: Runtime,
        *,
        seconds: float,
        progress: Callable[[str, float], None],
    ) -> None:
        """Time a group of networks, then their blocks."""
        subnets, sessions = [], []
        for index, architecture in enumerate(architectures):
            progress("loading", index / len(architectures) / 3)
            subnets.append(Subnet(lower(self.space, architecture)).eval())
            sessions.append(runtime.load(subnets[-1]))
        whole = interleave(
            [session.run_ms for session in sessions],
            runtime,
            seconds=seconds / 2,
            progress=lambda fraction: progress("timing networks", (1 + fraction) / 3),
        )
        traces = [runtime.trace(subnet) for subnet in subnets]
        inside = interleave(
            [_timeless(trace) for trace in traces],
            runtime,
            seconds=seconds / 2,
            progress=lambda fraction: progress("timing blocks", (2 + fraction) / 3),
        )
        specs = [subnet.specs for subnet in subnets]
        times = [trace.finish() for trace in traces]
        self.add(architectures, specs, whole=whole, inside=inside, times=times)

    def add(
        self,
        architectures: Sequence[Architecture],
        specs: Sequence[Sequence[BlockSpec]],
        *,
        whole: Timing,
        inside: Timing,
        times: Sequence[BlockTimes],
    ) -> None:
        """Take in a group that was timed as whole networks and, `inside`, block by block."""
        self.reference_ms = self.reference_ms or whole.reference
        for key, samples in _block_samples(specs, times, inside, whole).items():
            scaled = [each * self.reference_ms / inside.reference for each in samples]
            self.samples.setdefault(key, []).extend(scaled)
        measured = whole.measurements(reference_ms=self.reference_ms)
        self.networks += [
            MeasuredNetwork.of(self.space, architecture, network)
            for architecture, network in zip(architectures, measured, strict=True)
        ]
        self.floors.append(whole.noise_floor)
        self.rounds.append(inside.samples_ms.shape[1])

    def table(self, more: Mapping[str, Any] | None = None) -> LatencyTable:
        """The table so far, with `more` in its header."""
        blocks = {
            key: measurement(np.maximum(np.concatenate(samples), MIN_MS))
            for key, samples in self.samples.items()
        }
        facts = {
            "version": self.version,
            "date": datetime.now(UTC).date().isoformat(),
            "host": f"{host_cpu_name()}, {platform.system()} {platform.machine()}",
            "protocol": PROTOCOL,
            "rounds": min(self.rounds),
            "reference_ms": round(self.reference_ms or 0.0, 6),
            "noise_floor": round(float(np.mean(self.floors)), 4),
            **(more or {}),
        }
        return LatencyTable(self.setting, blocks, tuple(self.networks), facts)


def _least_covered(
    space: SearchSpace, places: Sequence[Slot], counts: Counter[BlockSpec], rng: np.random.Generator
) -> Architecture:
    """An architecture that holds the block seen least often, and elsewhere blocks seen seldom."""
    order = sorted(
        places,
        key=lambda slot: (min(counts[s] for s in slot.specs if s is not None), rng.random()),
    )
    fixed: dict[int, int] = {}
    for number, slot in enumerate(order):
        if number == 1:
            for stage in space.layout.stages:
                if stage.depth.gene is not None and rng.random() < 0.5:
                    fixed.setdefault(stage.depth.gene, int(rng.integers(len(stage.depth.choices))))
        options = []
        for index, spec in enumerate(slot.specs):
            if spec is None:
                continue
            values = map(int, np.unravel_index(index, slot.shape)) if slot.genes else ()
            genes = dict(zip(slot.genes, values, strict=True))
            if all(fixed.get(gene, value) == value for gene, value in genes.items()):
                options.append((counts[spec], rng.random(), genes))
        if options:
            fixed.update(min(options, key=lambda option: option[:2])[2])
    return space.decode([fixed.get(gene, 0) for gene in range(len(space.genes))])


def _timeless(trace: Trace) -> Callable[[], float]:
    """A traced run as a subject of `interleave`; its times come from the trace at the end."""

    def run() -> float:
        trace.run()
        return 1.0

    return run


def _block_samples(
    networks: Sequence[Sequence[BlockSpec]],
    traced: Sequence[BlockTimes],
    timing: Timing,
    whole: Timing,
) -> dict[str, list[Floats]]:
    """Key -> drift-free samples from everywhere the block occurred, without cold runs.

    Timing a block slows it down. What one interruption costs is the slope of (traced - untraced)
    milliseconds of the networks over their number of events, and is taken off every block.
    """
    rounds = timing.samples_ms.shape[1]
    times, events = [], []
    for found in traced:
        runs = found.block_ms[-rounds * (BURST + 1) :].reshape(rounds, BURST + 1, -1)[:, 1:]
        times.append(runs / timing.drift[:, None, None])
        events.append(found.num_events)
    slowed = np.array([np.median(runs.sum(axis=2)) for runs in times])
    untraced = np.median(whole.samples_ms, axis=(1, 2)) * timing.reference / whole.reference
    totals = np.array([counts.sum() for counts in events], dtype=np.float64)
    squares = float(totals @ totals)
    event_ms = max(0.0, float(totals @ (slowed - untraced)) / squares) if squares else 0.0
    samples: dict[str, list[Floats]] = {}
    for specs, runs, counts in zip(networks, times, events, strict=True):
        for index, spec in enumerate(specs):
            block = runs[:, :, index].ravel()
            corrected = np.maximum(block - event_ms * counts[index], MIN_SHARE * block)
            samples.setdefault(spec.key, []).append(corrected)
    return samples
