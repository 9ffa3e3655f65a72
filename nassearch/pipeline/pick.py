"""Measuring the networks of a front and choosing the best one for each budget."""

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

from nassearch.export.export_config import LatencyClaim
from nassearch.files import write_json
from nassearch.latency.device import Device
from nassearch.latency.predictor import LatencyPredictor
from nassearch.latency.snapshot import LatencySnapshot, write_snapshots
from nassearch.latency.table import LatencyTable
from nassearch.latency.timing import interleave, reference_ms, references
from nassearch.networks import Supernet
from nassearch.pipeline.profile import make_runtime
from nassearch.pipeline.run_directory import command_line, torch_threads
from nassearch.runtimes import RUNTIMES
from nassearch.search.candidate import Budget, Candidate
from nassearch.search.journal import latest_search
from nassearch.search.pareto import ParetoFront
from nassearch.setting import Setting

MEASURE_SECONDS = 6.0
MIN_MARGIN = 0.02
PICKS = "picks.json"

Measured = dict[tuple[str, str], tuple[float, float, float]]
"""(device, architecture id) -> (measured ms, reference ms of the table, noise floor)."""


@dataclass(frozen=True)
class Pick:
    """The network chosen for a budget; `measured_ms` where the device is this machine."""

    budget: str
    candidate: Candidate
    latency: tuple[LatencyClaim, ...]


def measure_front(
    front: ParetoFront,
    supernet: Supernet,
    found: Sequence[tuple[LatencyPredictor, LatencyTable | None]],
    settings: Sequence[tuple[Device, Setting]],
) -> Measured:
    """Measure every network of the front on the devices that are this machine."""
    measured: Measured = {}
    for (_, table), (device, setting) in zip(found, settings, strict=True):
        if table is None or not device.present or setting.runtime not in RUNTIMES:
            continue
        runtime = make_runtime(setting)
        with torch_threads(1):
            sessions = [
                runtime.load(supernet.extract(candidate.architecture)) for candidate in front
            ]
            timing = interleave(
                [session.run_ms for session in sessions],
                references=references(supernet.space, runtime),
                seconds=MEASURE_SECONDS,
            )
        reference = reference_ms(table, supernet.space) or timing.reference
        rows = timing.measurements(reference_ms=reference)
        for candidate, row in zip(front, rows, strict=True):
            key = (device.name, candidate.architecture.id)
            measured[key] = (row.median_ms, reference, timing.noise_floor)
    return measured


def choose(
    text: str,
    budgets: Sequence[Budget],
    front: ParetoFront,
    found: Sequence[tuple[LatencyPredictor, LatencyTable | None]],
    measured: Measured,
) -> Pick | None:
    """The most accurate candidate that keeps the budgets, measured where it can be; else None.

    A measurement must stay within the budget by twice the noise floor it was made with, and by two
    per cent at least, so that the next measurement keeps it too.
    """
    limits = {budget.objective: budget.limit for budget in budgets}
    single = len(found) == 1
    for candidate in front.within(budgets):
        files, kept = [], True
        for one, _ in found:
            device = one.setting.device
            name = "latency" if single else f"latency:{device}"
            key = (device, candidate.architecture.id)
            limit = limits.get(name)
            if key in measured and limit is not None:
                median, _, noise = measured[key]
                kept &= median * (1 + max(2 * noise, MIN_MARGIN)) <= limit
            files.append(_latency_file(candidate, one, limit, measured.get(key)))
        if kept:
            return Pick(text, candidate, tuple(files))
    return None


def _latency_file(
    candidate: Candidate,
    one: LatencyPredictor,
    limit: float | None,
    measured: tuple[float, float, float] | None,
) -> LatencyClaim:
    predicted = float(one.predict([candidate.architecture])[0])
    low = high = None
    if one.calibration.ratio is not None:
        lows, highs = one.interval([candidate.architecture])
        low, high = float(lows[0]), float(highs[0])
    return LatencyClaim(
        **asdict(one.setting),
        source=one.source,
        predicted_ms=predicted,
        low_ms=low,
        high_ms=high,
        measured_ms=None if measured is None else measured[0],
        reference_ms=None if measured is None else measured[1],
        budget_ms=limit,
    )


def recalibrated(one: LatencyPredictor, front: ParetoFront, measured: Measured) -> LatencyPredictor:
    """The predictor, fitted also on what was just measured on its device."""
    pairs = [
        (one.space, candidate.architecture, measured[key][0])
        for candidate in front
        for key in [(one.setting.device, candidate.architecture.id)]
        if key in measured
    ]
    return one.calibrate(pairs)


def write_picks(out: Path, run: Path, picks: Sequence[Pick], measured: Measured) -> None:
    """Write the choices into the directory of the search that just ended, and as the latest."""
    content = {
        "run": str(run.resolve()),
        "command": command_line(),
        "picks": [
            {
                "budget": pick.budget,
                "architecture": pick.candidate.architecture.to_dict(),
                "latency": [item.model_dump(exclude_none=True) for item in pick.latency],
            }
            for pick in picks
        ],
        "measured": [
            {"device": device, "id": name, "ms": row[0], "noise_floor": row[2]}
            for (device, name), row in measured.items()
        ],
    }
    for directory in (latest_search(out), out / "search"):
        write_json(directory / PICKS, content)


def keep_bases(
    out: Path,
    found: Sequence[tuple[LatencyPredictor, LatencyTable | None]],
    settings: Sequence[tuple[Device, Setting]],
) -> None:
    """Keep, beside the search that just ended, what its latencies were made of."""
    snapshots = [
        LatencySnapshot.of(one, table, device)
        for (one, table), (device, _) in zip(found, settings, strict=True)
    ]
    write_snapshots(latest_search(out), snapshots)
