"""The profiler: every block of a space, timed where it lives, inside whole networks."""

import platform
from collections import Counter
from collections.abc import Callable, Sequence
from datetime import UTC, datetime

import numpy as np

from nassearch.latency.device import host_cpu_name
from nassearch.latency.setting import Floats, Runtime, Setting, Trace
from nassearch.latency.table import LatencyTable, MeasuredNetwork
from nassearch.latency.timing import BURST, Timing, interleave, measurement
from nassearch.networks import Subnet
from nassearch.space import Architecture, BlockSpec, SearchSpace, Slot, lower, slots

COVERAGE = 3
MAX_MISSES = 50  # architectures drawn in a row that were there already: the space has no more
MIN_SHARE = 0.1  # of a block's traced time that is its own, at the least
PROTOCOL = (
    "each block inside whole networks, per-node times of the runtime's own profiler;"
    " rounds interleaved with a reference network whose drift is divided out"
)


def covering(
    space: SearchSpace, rng: np.random.Generator, *, repeats: int = COVERAGE
) -> list[Architecture]:
    """Random architectures that together hold every block of the space at least `repeats` times,
    or as often as a space of few architectures allows.

    The smallest and the largest are among them; depths vary, so that they also calibrate sums.
    """
    counts: Counter[BlockSpec] = Counter()
    places = slots(space)
    wanted = {spec for slot in places for spec in slot.specs if spec is not None}
    chosen: list[Architecture] = []

    def take(architecture: Architecture) -> bool:
        if architecture in chosen:
            return False
        chosen.append(architecture)
        counts.update(lower(space, architecture))
        return True

    take(space.smallest)
    take(space.largest)
    misses = 0
    while misses < MAX_MISSES and any(counts[spec] < repeats for spec in wanted):
        misses = 0 if take(_least_covered(space, places, counts, rng)) else misses + 1
    return chosen


def profile(
    space: SearchSpace,
    setting: Setting,
    *,
    runtime: Runtime,
    rng: np.random.Generator,
    seconds: float,
    progress: Callable[[str, float], None] = lambda stage, fraction: None,
) -> LatencyTable:
    """Measure every block of `space` in `setting`, and the whole networks it was measured in.

    `seconds` bounds the timing; loading the networks comes on top. `progress(stage, fraction)`.
    """
    architectures = covering(space, rng)
    subnets = []
    for index, architecture in enumerate(architectures):
        progress("loading", index / len(architectures))
        subnets.append(Subnet(lower(space, architecture)).eval())
    sessions = [runtime.load(subnet) for subnet in subnets]
    whole = interleave(
        [session.run_ms for session in sessions],
        runtime,
        seconds=seconds / 2,
        progress=lambda fraction: progress("timing networks", fraction),
    )
    traces = [runtime.trace(subnet) for subnet in subnets]
    inside = interleave(
        [_timeless(trace) for trace in traces],
        runtime,
        seconds=seconds / 2,
        progress=lambda fraction: progress("timing blocks", fraction),
    )
    blocks = {
        key: measurement(np.concatenate(samples))
        for key, samples in _block_samples(subnets, traces, inside, whole).items()
    }
    networks = tuple(
        MeasuredNetwork.of(space, architecture, whole_network)
        for architecture, whole_network in zip(architectures, whole.measurements(), strict=True)
    )
    facts = {
        "version": runtime.version,
        "date": datetime.now(UTC).date().isoformat(),
        "host": f"{host_cpu_name()}, {platform.system()} {platform.machine()}",
        "protocol": PROTOCOL,
        "rounds": int(inside.samples_ms.shape[1]),
        "reference_ms": round(whole.reference, 6),
        "noise_floor": round(whole.noise_floor, 4),
    }
    return LatencyTable(setting, blocks, networks, facts)


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
    subnets: Sequence[Subnet], traces: Sequence[Trace], timing: Timing, whole: Timing
) -> dict[str, list[Floats]]:
    """Key -> drift-free samples from everywhere the block occurred, without cold runs.

    Timing a block slows it down. What one interruption costs is the slope of (traced - untraced)
    milliseconds of the networks over their number of events, and is taken off every block.
    """
    rounds = timing.samples_ms.shape[1]
    times, events = [], []
    for trace in traces:
        found = trace.finish()
        runs = found.block_ms[-rounds * (BURST + 1) :].reshape(rounds, BURST + 1, -1)[:, 1:]
        times.append(runs / timing.drift[:, None, None])
        events.append(found.num_events)
    traced = np.array([np.median(runs.sum(axis=2)) for runs in times])
    untraced = np.median(whole.samples_ms, axis=(1, 2)) * timing.reference / whole.reference
    totals = np.array([counts.sum() for counts in events], dtype=np.float64)
    squares = float(totals @ totals)
    event_ms = max(0.0, float(totals @ (traced - untraced)) / squares) if squares else 0.0
    samples: dict[str, list[Floats]] = {}
    for subnet, runs, counts in zip(subnets, times, events, strict=True):
        for index, spec in enumerate(subnet.specs):
            block = runs[:, :, index].ravel()
            corrected = np.maximum(block - event_ms * counts[index], MIN_SHARE * block)
            samples.setdefault(spec.key, []).append(corrected)
    return samples
