"""Measuring an export again: what every format gets right, takes and weighs, and the promises."""

from collections.abc import Mapping
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from time import perf_counter
from typing import Any

import torch
from torch import Tensor

from nassearch.config import resolve
from nassearch.data.dataset import Data, load_data
from nassearch.export import FORMATS
from nassearch.export.export_config import CONFIG, ExportConfig, LatencyClaim, read_export
from nassearch.export.format import Format, Progress, Run, make_format
from nassearch.export.memory import measure_peak_memory
from nassearch.export.writer import VERIFICATION
from nassearch.files import write_json
from nassearch.latency.device import list_devices, load_device
from nassearch.latency.table import Measurement
from nassearch.latency.timing import interleave, references
from nassearch.networks import Subnet
from nassearch.networks.activation_memory import peak_memory_bytes
from nassearch.networks.supernet import resize
from nassearch.runtimes import RUNTIMES
from nassearch.runtimes.onnx import OnnxRuntime
from nassearch.runtimes.runtime import Runtime, Session
from nassearch.training.evaluation import Accuracy, measure_accuracy

TOLERANCE = 1e-4
AGREEMENT_IMAGES = 64
_GRAPHS = {"fp32": "onnx", "int8": "int8"}
"""The format that holds what a runtime of ONNX graphs runs in a precision."""


@dataclass(frozen=True)
class FormatCheck:
    """What a format does here.

    `difference` is the largest between its logits and those of the first format in the table; of
    an `exact` format it must stay within TOLERANCE. `latency` is of one run on one thread of this
    machine's CPU, of as many images as the file takes (one, where that is open).
    """

    file: str
    size_bytes: int
    exact: bool
    accuracy: Accuracy
    allowed_loss: float
    difference: float
    latency: Measurement
    batch: int
    peak_memory_bytes: int | None


@dataclass(frozen=True)
class LatencyCheck:
    """A promised latency beside the one measured now; None where the device is not here."""

    promised: LatencyClaim
    measured: Measurement | None
    drift: float | None

    @property
    def kept(self) -> bool:
        """Whether the budget holds, as far as it can be told here."""
        budget = self.promised.budget_ms
        return self.measured is None or budget is None or self.measured.median_ms <= budget

    @property
    def as_predicted(self) -> bool | None:
        """Whether what was measured lies in the prediction's interval; None: nobody can tell."""
        low, high = self.promised.low_ms, self.promised.high_ms
        if self.measured is None or low is None or high is None:
            return None
        return low <= self.measured.median_ms <= high


@dataclass(frozen=True)
class Verification:
    """What `verify` found; `predicted_memory_bytes` is of weights and activations in float32."""

    export: ExportConfig
    formats: Mapping[str, FormatCheck]
    latency: tuple[LatencyCheck, ...]
    predicted_memory_bytes: int

    @property
    def accuracy(self) -> Accuracy | None:
        """Test accuracy of the network in its first format; None where it has none."""
        return next((check.accuracy for check in self.formats.values()), None)

    @property
    def largest_difference(self) -> float:
        """Between the formats that say they are exact."""
        return max((c.difference for c in self.formats.values() if c.exact), default=0.0)

    @property
    def broken(self) -> list[str]:
        """The promises that do not hold, one line each."""
        found, recorded = [], self.export.accuracy
        for name, check in self.formats.items():
            if check.exact and not check.difference <= TOLERANCE:
                found.append(f"outputs of {name} differ by {check.difference:.2g}")
            if check.accuracy.interval[1] < recorded.low - check.allowed_loss:
                found.append(
                    f"test accuracy of {name} {check.accuracy.value:.2%} lies below the recorded"
                    f" {recorded.value:.2%} and its interval"
                )
        for item in self.latency:
            if not item.kept:
                assert item.measured is not None
                found.append(
                    f"{item.measured.median_ms:.4g} ms on {item.promised.device} is over the"
                    f" budget of {item.promised.budget_ms:.4g} ms"
                )
        return found

    def to_dict(self) -> dict[str, Any]:
        return {
            "id": self.export.id,
            "test_accuracy": {
                name: _accuracy_record(check.accuracy) for name, check in self.formats.items()
            },
            "largest_difference": self.largest_difference,
            "predicted_memory_bytes": self.predicted_memory_bytes,
            "formats": {name: _format_record(check) for name, check in self.formats.items()},
            "latency": [_latency_record(check) for check in self.latency],
            "broken": self.broken,
        }


def verify(
    directory: Path,
    *,
    device: str | None = None,
    seconds: float = 3.0,
    progress: Progress = lambda stage, fraction: None,
) -> Verification:
    """Measure the export in `directory` and write `verify.json` beside it.

    Touches the test split. `device` limits the promised latencies to one device. They are measured
    where the device is this machine, at the speed the table's reference network had (`drift` says
    how much slower this machine is now).
    """
    export = read_export(directory)
    network = Subnet.from_config(directory / CONFIG).eval()
    ordered = sorted(export.formats, key=lambda name: (*FORMATS, name).index(name))
    made = {name: make_format(name) for name in ordered}
    data = load_data(export.data.spec, seed=export.data.seed)
    formats = _check_formats(
        export, directory, made, data, network, seconds=seconds / 3, progress=progress
    )
    promises = [item for item in export.latency if device in (None, item.device)]
    found = Verification(
        export,
        formats,
        tuple(_check_latency(item, export, directory, network, seconds) for item in promises),
        peak_memory_bytes(network.specs),
    )
    write_json(directory / VERIFICATION, found.to_dict())
    progress("verifying", 1.0)
    return found


def _check_formats(
    export: ExportConfig,
    directory: Path,
    made: Mapping[str, Format],
    data: Data,
    network: Subnet,
    *,
    seconds: float,
    progress: Progress,
) -> dict[str, FormatCheck]:
    if not made:
        return {}
    shape = network.input_shape
    test = data.test()
    few = test.where(torch.arange(len(test))[:AGREEMENT_IMAGES])
    probe = resize(data.normalise(few.images), shape[1])
    runs = {name: one.open(directory / one.file_name) for name, one in made.items()}
    batches = {name: _batch(export, name) for name in made}
    times = _time(runs, {name: probe[:1].expand(n, *shape) for name, n in batches.items()}, seconds)
    expected: Tensor | None = None
    checks = {}
    for number, (name, one) in enumerate(made.items()):
        progress("verifying", number / len(made))
        with torch.inference_mode():
            logits = runs[name](probe)
        expected = logits if expected is None else expected
        checks[name] = FormatCheck(
            file=one.file_name,
            size_bytes=(directory / one.file_name).stat().st_size,
            exact=one.exact,
            accuracy=measure_accuracy(runs[name], test, data, split="test", resolution=shape[1]),
            allowed_loss=float(export.formats[name].get("max_accuracy_loss", 0.0)),
            difference=float((logits - expected).abs().max()),
            latency=times[name],
            batch=batches[name],
            peak_memory_bytes=measure_peak_memory(
                directory,
                imports=one.imports,
                lines=one.snippet(),
                shape=(batches[name], *shape),
            ),
        )
    return checks


def _batch(export: ExportConfig, name: str) -> int:
    batch = export.formats[name].get("batch", 1)
    return batch if isinstance(batch, int) else 1


def _time(
    runs: Mapping[str, Run], images: Mapping[str, Tensor], seconds: float
) -> dict[str, Measurement]:
    """The formats side by side, on one thread."""

    def run_ms(name: str) -> float:
        start = perf_counter()
        runs[name](images[name])
        return (perf_counter() - start) * 1e3

    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        with torch.inference_mode():
            timing = interleave([partial(run_ms, name) for name in runs], seconds=seconds)
    finally:
        torch.set_num_threads(threads)
    return dict(zip(runs, timing.measurements(), strict=True))


def _check_latency(
    promised: LatencyClaim, export: ExportConfig, directory: Path, network: Subnet, seconds: float
) -> LatencyCheck:
    if promised.source == "estimated" or not _is_here(promised.device):
        return LatencyCheck(promised, None, None)
    kind: type[Runtime] = resolve(RUNTIMES, promised.runtime, kind="runtime")
    runtime = kind(promised.setting)
    session = _session(runtime, promised, export, directory, network)
    anchors = references(export.search_space(), runtime)
    for length in (seconds, 3 * seconds):  # a miss is measured again, longer, before it is one
        timing = interleave([session.run_ms], references=anchors, seconds=length, max_rounds=2000)
        drift = None if promised.reference_ms is None else timing.reference / promised.reference_ms
        measured = timing.measurements(reference_ms=promised.reference_ms)[0]
        check = LatencyCheck(promised, measured, drift)
        if check.kept:
            break
    return check


def _session(
    runtime: Runtime, promised: LatencyClaim, export: ExportConfig, directory: Path, network: Subnet
) -> Session:
    """The exported file itself where the runtime takes it; else the same network loaded anew."""
    facts = export.formats.get(_GRAPHS.get(promised.precision, ""), {})
    if isinstance(runtime, OnnxRuntime) and facts.get("batch") in (promised.batch, "dynamic"):
        return runtime.load_bytes((directory / facts["file"]).read_bytes(), network)
    return runtime.load(network)


def _is_here(name: str) -> bool:
    """Whether this machine is the device; a device that is not known here is not."""
    return name in list_devices() and load_device(name).present


def _accuracy_record(accuracy: Accuracy) -> dict[str, Any]:
    low, high = accuracy.interval
    images = accuracy.num_images
    return {"value": accuracy.value, "low": low, "high": high, "num_images": images}


def _format_record(check: FormatCheck) -> dict[str, Any]:
    return {
        "file": check.file,
        "size_bytes": check.size_bytes,
        "exact": check.exact,
        "largest_difference": check.difference,
        "latency_ms": check.latency.median_ms,
        "batch": check.batch,
        "peak_memory_bytes": check.peak_memory_bytes,
    }


def _latency_record(check: LatencyCheck) -> dict[str, Any]:
    promised, measured = check.promised, check.measured
    return {
        "device": promised.device,
        "setting": promised.setting.stem,
        "source": promised.source,
        "predicted_ms": promised.predicted_ms,
        "low_ms": promised.low_ms,
        "high_ms": promised.high_ms,
        "budget_ms": promised.budget_ms,
        "measured_ms": None if measured is None else measured.median_ms,
        "measured_p10_ms": None if measured is None else measured.p10_ms,
        "as_predicted": check.as_predicted,
        "drift": check.drift,
    }
