"""Picks: the networks of a front measured where they can be, and the best one for each budget."""

import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from nassearch.budget import Budget
from nassearch.export.export_config import LatencyClaim
from nassearch.export.picks import PICKS, MeasuredRecord, PickRecord, PicksFile
from nassearch.files import write_json
from nassearch.latency.snapshot import LatencySnapshot, write_snapshots
from nassearch.latency.target import Target
from nassearch.latency.timing import interleave, reference_ms, references
from nassearch.objectives import OBJECTIVES
from nassearch.objectives.objective import Context
from nassearch.pipeline.run_directory import command_line, torch_threads
from nassearch.pipeline.trained_supernet import TrainedSupernet
from nassearch.provenance import Estimate
from nassearch.runtimes.runtime import make_runtime
from nassearch.search.candidate import Candidate
from nassearch.search.journal import latest_search
from nassearch.search.pareto import ParetoFront
from nassearch.search.problem import LATENCY
from nassearch.setting import Setting
from nassearch.space import Architecture

MEASURE_SECONDS = 6.0
MIN_MARGIN = 0.02


@dataclass(frozen=True, slots=True)
class MeasuredLatency:
    """Milliseconds of a network on its device, at the speed that so many reference networks had in
    the table. `noise_floor` is the relative error of the run that measured it.
    """

    ms: float
    reference_ms: float
    references: int
    noise_floor: float

    @property
    def claimed(self) -> dict[str, Any]:
        """What an export's claim holds of it."""
        clock = {"reference_ms": self.reference_ms, "references": self.references}
        return {"measured_ms": self.ms, **clock}

    @property
    def surely_within(self) -> float:
        """The least budget that the next measurement keeps too: twice the noise away, or 2 %."""
        return self.ms * (1 + max(2 * self.noise_floor, MIN_MARGIN))


Measured = Mapping[tuple[Setting, str], MeasuredLatency]
"""By setting and architecture id."""


@dataclass(frozen=True)
class Pick:
    """The network chosen for a set of budgets, with what is promised of its latencies."""

    budget: str
    candidate: Candidate
    latency: tuple[LatencyClaim, ...]
    supernet: TrainedSupernet
    search: Path
    """The directory whose `search/` holds the search that chose it."""

    @property
    def architecture(self) -> Architecture:
        return self.candidate.architecture

    @property
    def metric(self) -> tuple[str, Estimate] | None:
        """A user's own metric by its name; None where accuracies are measured."""
        for name, value in self.candidate.values.items():
            if value.provenance.split is not None and name not in OBJECTIVES:
                return name, value
        return None


def measure_front(
    front: ParetoFront, supernet: TrainedSupernet, targets: Sequence[Target]
) -> dict[tuple[Setting, str], MeasuredLatency]:
    """Measure every network of the front on the targets that are this machine."""
    measured = {}
    for target in targets:
        if target.reason_unmeasured is not None:
            continue
        runtime = make_runtime(target.setting)
        with torch_threads(1):
            networks = [supernet.supernet.extract(item.architecture) for item in front]
            sessions = [runtime.load(network) for network in networks]
            timing = interleave(
                [session.run_ms for session in sessions],
                references=references(supernet.space, runtime),
                seconds=MEASURE_SECONDS,
            )
        known = None if target.table is None else reference_ms(target.table, supernet.space)
        reference = known or timing.reference
        rows = timing.measurements(reference_ms=reference)
        for candidate, row in zip(front, rows, strict=True):
            key = (target.setting, candidate.architecture.id)
            measured[key] = MeasuredLatency(
                row.median_ms, reference, len(timing.references_ms), timing.noise_floor
            )
    return measured


def choose(
    budgets: Sequence[Budget], front: ParetoFront, context: Context, measured: Measured
) -> tuple[Candidate, tuple[LatencyClaim, ...]] | None:
    """The most accurate candidate that keeps the budgets, measured where it can be; else None."""
    limits = {budget.name: budget.limit for budget in budgets}
    for candidate in front.within(budgets):
        claims, kept = [], True
        for target in context.targets:
            limit = limits.get(Budget(LATENCY, 0.0, device=context.label(target)).name)
            latency = measured.get((target.setting, candidate.architecture.id))
            if latency is not None and limit is not None:
                kept &= latency.surely_within <= limit
            claims.append(latency_claim(candidate.architecture, target, limit, latency))
        if kept:
            return candidate, tuple(claims)
    return None


def latency_claim(
    architecture: Architecture,
    target: Target,
    budget_ms: float | None = None,
    measured: MeasuredLatency | None = None,
) -> LatencyClaim:
    """The promise about a network's latency on a target."""
    estimate = target.predictor.estimate(architecture)
    return LatencyClaim(
        setting=target.setting,
        source=target.predictor.source,
        machine=None if target.table is None else target.table.identity,
        version=None if target.table is None else target.table.facts.get("version"),
        predicted_ms=estimate.value,
        low_ms=estimate.low,
        high_ms=estimate.high,
        budget_ms=budget_ms,
        unmeasured=None if measured is not None else target.reason_unmeasured,
        **({} if measured is None else measured.claimed),
    )


def recalibrated(target: Target, front: ParetoFront, measured: Measured) -> Target:
    """The target with its predictor fitted also on what was just measured there."""
    pairs = [
        (target.predictor.space, candidate.architecture, latency.ms)
        for candidate in front
        if (latency := measured.get((target.setting, candidate.architecture.id))) is not None
    ]
    return replace(target, predictor=target.predictor.calibrate(pairs))


def write_picks(picks: Sequence[Pick], measured: Measured, *, remark: str | None = None) -> None:
    """Write the choices into the directory of the search that just ended, and as the latest.

    `remark` is what the front as a whole gives reason to say.
    """
    out, run = picks[0].search, picks[0].supernet.directory
    content = PicksFile(
        run=os.path.relpath(run.resolve(), out.resolve()),
        command=command_line(),
        picks=tuple(
            PickRecord(
                budget=pick.budget,
                architecture=pick.architecture.to_dict(),
                latency=pick.latency,
            )
            for pick in picks
        ),
        measured=tuple(
            MeasuredRecord(
                device=setting.device,
                id=name,
                ms=latency.ms,
                noise_floor=latency.noise_floor,
                setting=str(setting),
            )
            for (setting, name), latency in measured.items()
        ),
        remark=remark,
    )
    document = content.model_dump(mode="json", exclude_none=True)
    for directory in (latest_search(out), out / "search"):
        write_json(directory / PICKS, document)


def keep_snapshots(out: Path, targets: Sequence[Target]) -> None:
    """Keep, beside the search that just ended, what its latencies were made of."""
    snapshots = [LatencySnapshot.of(item.predictor, item.table, item.device) for item in targets]
    write_snapshots(latest_search(out), snapshots)
