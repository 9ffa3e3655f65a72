"""Borders between precisions, measured on a device in whole mixed networks."""

from collections.abc import Callable
from datetime import UTC, datetime

import numpy as np

from nassearch.latency.host_identity import host_text, this_machine
from nassearch.latency.measurement import MeasuredNetwork
from nassearch.latency.table import IDENTITY, LatencyTable
from nassearch.latency.timing import interleave, reference_ms, reference_networks
from nassearch.networks import Subnet
from nassearch.progress import Progress, silent
from nassearch.runtimes.runtime import Runtime
from nassearch.setting import Setting
from nassearch.space import Architecture, SearchSpace
from nassearch.space.search_space import Genes

NUM_NETWORKS = 64
_STAYING = (0.2, 0.5, 0.8, 0.95)
"""How likely a block has the precision of the one before it, from many borders to few."""
PROTOCOL = "whole networks of random policies, interleaved round by round, common drift divided out"


def profile_borders(
    space: SearchSpace,
    setting: Setting,
    *,
    runtime: Runtime,
    rng: np.random.Generator,
    seconds: float,
    target_error: float,
    num_networks: int = NUM_NETWORKS,
    known: LatencyTable | None = None,
    interrupted: Callable[[], bool] = lambda: False,
    progress: Progress = silent,
) -> LatencyTable:
    """A table of whole networks of a mixed space, from which a `MixedPredictor` learns borders.

    Timing goes on for `seconds`, or until the standard error of a network's median is below
    `target_error`; loading the networks comes on top. What was measured before, `known`, says at
    which speed of the machine latencies are told. An interruption while networks are loaded, or in
    the first rounds, loses all.
    """
    anchors = reference_networks(space)
    drawn = mixed_networks(space, rng, num_networks)
    others = [architecture for architecture in drawn if architecture not in anchors]
    architectures = [*anchors, *others]
    runs = []
    for number, architecture in enumerate(architectures):
        progress("loading", number / len(architectures) / 2)
        if interrupted():
            raise KeyboardInterrupt
        runs.append(runtime.load(Subnet.of(space, architecture).eval()).run_ms)
    timing = interleave(
        runs[len(anchors) :],
        references=runs[: len(anchors)],
        seconds=seconds,
        target_error=target_error,
        progress=lambda fraction: progress("timing", (1 + fraction) / 2),
        interrupted=interrupted,
    )
    before = None if known is None else reference_ms(known, space)
    measured = timing.with_references().measurements(reference_ms=before)
    networks = tuple(
        MeasuredNetwork.of(space, architecture, taken)
        for architecture, taken in zip(architectures, measured, strict=True)
    )
    facts = {
        "version": runtime.version,
        "date": datetime.now(UTC).date().isoformat(),
        "host": host_text(),
        IDENTITY: this_machine(gpu=runtime.on_gpu).to_dict(),
        "protocol": PROTOCOL,
        "rounds": timing.samples_ms.shape[1],
        "noise_floor": round(timing.noise_floor, 4),
        "standard_error": round(timing.standard_error, 4),
        "stopped": timing.stopped,
        "target_error": target_error,
    }
    return LatencyTable(setting, {}, networks, facts).profiled(space)


def mixed_networks(space: SearchSpace, rng: np.random.Generator, count: int) -> list[Architecture]:
    """Networks of random policies, from those with many borders to those with few.

    Precisions drawn one by one would change at every second block: a policy that is worth
    searching for seldom does.
    """
    genes = space.sample_genes(rng, count)
    assert space.policies is not None
    genes[:, space.policies.columns] = _chains(len(space.precisions), genes, space, rng)
    return list(dict.fromkeys(space.decode_many(space.canonical(genes))))


def _chains(kinds: int, genes: Genes, space: SearchSpace, rng: np.random.Generator) -> Genes:
    """Precisions that stay or change from place to place, (n, places)."""
    assert space.policies is not None
    num_places = space.policies.columns.stop - space.policies.columns.start
    staying = np.resize(_STAYING, len(genes))
    chosen = np.empty((len(genes), num_places), dtype=np.uint8)
    current = rng.integers(kinds, size=len(genes))
    for place in range(num_places):
        changed = rng.random(len(genes)) > staying
        shift = rng.integers(1, kinds, size=len(genes)) if kinds > 2 else 1
        current = np.where(changed, (current + shift) % kinds, current)
        chosen[:, place] = current
    return chosen
