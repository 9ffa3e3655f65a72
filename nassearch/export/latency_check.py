"""Promised latencies measured again, or why they cannot be."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from nassearch import config
from nassearch.errors import ConfigError
from nassearch.export.export_config import ExportConfig, LatencyClaim
from nassearch.export.format import make_format
from nassearch.export.onnx_file import read_graph
from nassearch.export.photo_graph import network_part
from nassearch.latency.device import Device, list_devices, load_device
from nassearch.latency.measurement import Measurement
from nassearch.latency.target import differences, why_not_here
from nassearch.latency.timing import drift_problem, interleave, references
from nassearch.networks import Subnet
from nassearch.runtimes.runtime import (
    Runtime,
    Session,
    deployed_space,
    load_graph,
    make_runtime,
    runtime_class,
)


@dataclass(frozen=True)
class LatencyCheck:
    """A promised latency beside the one measured now.

    `drift` says how much slower this machine is now than when the promise was made; within bounds
    it is divided out of `measured`. Where nothing could be measured, `unmeasured` says why;
    `finding` says why the promise does not hold, or cannot be checked where it ought to be. `notes`
    are worth knowing.
    """

    promised: LatencyClaim
    measured: Measurement | None = None
    drift: float | None = None
    unmeasured: str | None = None
    finding: str | None = None
    notes: tuple[str, ...] = ()

    @property
    def kept(self) -> bool:
        """Whether the promise holds, as far as it can be told here."""
        return self.finding is None

    @property
    def as_predicted(self) -> bool | None:
        """Whether what was measured lies in the prediction's interval; None: nobody can tell."""
        low, high = self.promised.low_ms, self.promised.high_ms
        if self.measured is None or low is None or high is None or drift_problem(self.drift):
            return None
        return low <= self.measured.median_ms <= high

    def to_dict(self) -> dict[str, object]:
        """A form that JSON holds."""
        promised, measured = self.promised, self.measured
        return {
            "device": promised.setting.device,
            "setting": promised.setting.stem,
            "source": promised.source,
            "predicted_ms": promised.predicted_ms,
            "low_ms": promised.low_ms,
            "high_ms": promised.high_ms,
            "budget_ms": promised.budget_ms,
            "measured_ms": None if measured is None else measured.median_ms,
            "measured_p10_ms": None if measured is None else measured.p10_ms,
            "as_predicted": self.as_predicted,
            "drift": self.drift,
            "unmeasured": self.unmeasured,
            "finding": self.finding,
            "notes": list(self.notes),
        }


def select_claims(export: ExportConfig, device: str | None) -> tuple[LatencyClaim, ...]:
    """The promises of an export, on all devices or on one; ConfigError where it has none on it."""
    if device is None:
        return export.latency
    known = list(dict.fromkeys(claim.setting.device for claim in export.latency))
    if device not in known:
        raise ConfigError(
            f"promises nothing on '{device}'{config.nearest(device, known)}",
            where=f"network {export.id}",
            fix=f"it does on {', '.join(known)}"
            if known
            else "search with --device and export again for a promise",
        )
    return tuple(claim for claim in export.latency if claim.setting.device == device)


def check_latency(
    claim: LatencyClaim,
    export: ExportConfig,
    directory: Path,
    network: Subnet,
    *,
    seconds: float,
    must_measure: bool = False,
) -> LatencyCheck:
    """Measure what is promised, where this machine is the one it is promised on.

    Args:
        claim: The promise.
        export: The export that makes it.
        directory: Where the export lies.
        network: The network, for runtimes that take no file of the export.
        seconds: How long to time; three times as long before a promise counts as broken.
        must_measure: Whether it is a finding, too, that nothing can be measured here.
    """
    missing = _missing_file(claim, export)
    reason = missing or _why_not_here(claim)
    if reason is not None:
        unchecked = f"{claim.setting} cannot be checked: {reason}"
        is_finding = missing is not None or must_measure
        return LatencyCheck(claim, unmeasured=reason, finding=unchecked if is_finding else None)
    runtime = make_runtime(claim.setting)
    session, notes = _load(runtime, claim, export, directory, network)
    space = deployed_space(export.search_space(), claim.setting)
    anchors = references(space, runtime)[: claim.references]
    for length in (seconds, 3 * seconds):  # a miss is measured again, longer, before it is one
        timing = interleave([session.run_ms], references=anchors, seconds=length, max_rounds=2000)
        drift = None if claim.reference_ms is None else timing.reference / claim.reference_ms
        reference = None if drift_problem(drift) else claim.reference_ms
        measured = timing.measurements(reference_ms=reference)[0]
        finding = _finding(claim, measured, drift)
        if finding is None:
            break
    return LatencyCheck(claim, measured, drift, finding=finding, notes=tuple(notes))


def _finding(claim: LatencyClaim, measured: Measurement, drift: float | None) -> str | None:
    """Why a promise does not hold after it was measured; None where it does."""
    if (problem := drift_problem(drift)) is not None:
        return f"{claim.setting} cannot be checked: {problem}"
    budget = claim.budget_ms
    if budget is not None and measured.median_ms > budget:
        return (
            f"{measured.median_ms:.4g} ms on {claim.setting.device} is over the budget of"
            f" {budget:.4g} ms"
        )
    return None


def _why_not_here(claim: LatencyClaim) -> str | None:
    """Why this machine cannot measure what is promised; None where it can."""
    if claim.source == "estimated":
        return "it was estimated from a datasheet"
    device = _device(claim)
    if device is None:
        return (
            f"'{claim.setting.device}' is not known here (it is where its"
            f" latency_tables/{claim.setting.device} lies)"
        )
    return why_not_here(device, claim.setting, claim.machine)


def _device(claim: LatencyClaim) -> Device | None:
    """The device by the machine it was when the promise was made, else by its name."""
    name, machine = claim.setting.device, claim.machine
    if name in list_devices():
        device = load_device(name)
        return device if machine is None or device.cpu is not None else device.of_machine(machine)
    return None if machine is None else Device(name=name, default=claim.setting).of_machine(machine)


def _missing_file(claim: LatencyClaim, export: ExportConfig) -> str | None:
    """Why the file that a latency is promised of is none of the export's; None where it is.

    A file that holds the network itself need not be there: what the runtime makes of the network
    is the same graph.
    """
    if claim.source == "estimated":
        return None
    graph_formats: Mapping[str, str] = runtime_class(claim.setting.runtime).graph_formats
    name, batch = graph_formats.get(claim.setting.precision), claim.setting.batch
    if name is None:
        return None
    file = make_format(name)
    if name not in export.formats:
        if file.exact:
            return None
        return f"it holds for {file.file_name}, which is not here; export with --format {name}"
    given = export.formats[name].get("batch")
    if given in (batch, "dynamic"):
        return None
    return (
        f"it holds for a batch of {batch}, {file.file_name} takes {given}; export with --batch"
        f" {batch}"
    )


def _load(
    runtime: Runtime, claim: LatencyClaim, export: ExportConfig, directory: Path, network: Subnet
) -> tuple[Session, Sequence[str]]:
    """The exported file itself where the runtime takes it, and notes about it and the machine."""
    notes = differences(claim.setting, claim.machine, claim.version)
    name = runtime.graph_formats.get(claim.setting.precision)
    if name is None or name not in export.formats:
        return runtime.load(network), notes
    path = directory / make_format(name).file_name
    return load_graph(runtime, network_part(read_graph(path)), network), notes
