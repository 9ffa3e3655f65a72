"""Measuring an export again: test accuracy, latency on the device, agreement of the formats."""

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from nassearch.config import resolve
from nassearch.export.export import ONNX, load
from nassearch.export.export_file import ExportFile, LatencyFile, read_export
from nassearch.files import write_json
from nassearch.latency import RUNTIMES
from nassearch.latency.device import list_devices, load_device
from nassearch.latency.onnx_runtime import OnnxRuntime
from nassearch.latency.setting import Runtime, Setting
from nassearch.latency.table import Measurement
from nassearch.latency.timing import interleave
from nassearch.networks.supernet import resize
from nassearch.training.data import Data, load_data
from nassearch.training.evaluation import Accuracy, measure_accuracy

TOLERANCE = 1e-4
AGREEMENT_IMAGES = 64


@dataclass(frozen=True)
class LatencyCheck:
    """A promised latency beside the one measured now; None where the device is not here."""

    promised: LatencyFile
    measured: Measurement | None
    drift: float | None

    @property
    def kept(self) -> bool:
        """Whether the budget holds, as far as it can be told here."""
        budget = self.promised.budget_ms
        return self.measured is None or budget is None or self.measured.median_ms <= budget


@dataclass(frozen=True)
class Verification:
    """What `verify` found. `largest_difference` is between PyTorch's logits and ONNX Runtime's."""

    export: ExportFile
    accuracy: dict[str, Accuracy]
    largest_difference: float | None
    latency: tuple[LatencyCheck, ...]

    @property
    def broken(self) -> list[str]:
        """The promises that do not hold, one line each."""
        found = []
        if self.largest_difference is not None and self.largest_difference > TOLERANCE:
            found.append(f"PyTorch and ONNX differ by {self.largest_difference:.2g}")
        for name, accuracy in self.accuracy.items():
            if accuracy.interval[1] < self.export.accuracy.low:
                found.append(
                    f"test accuracy of {name} {accuracy.value:.2%} lies below the recorded"
                    f" {self.export.accuracy.value:.2%} and its interval"
                )
        for check in self.latency:
            if not check.kept:
                assert check.measured is not None
                found.append(
                    f"{check.measured.median_ms:.4g} ms on {check.promised.device} is over the"
                    f" budget of {check.promised.budget_ms:.4g} ms"
                )
        return found

    def to_dict(self) -> dict[str, Any]:
        return {
            "id": self.export.id,
            "test_accuracy": {
                name: {
                    "value": accuracy.value,
                    "low": accuracy.interval[0],
                    "high": accuracy.interval[1],
                    "num_images": accuracy.num_images,
                }
                for name, accuracy in self.accuracy.items()
            },
            "largest_difference": self.largest_difference,
            "latency": [
                {
                    "device": check.promised.device,
                    "setting": check.promised.setting.stem,
                    "source": check.promised.source,
                    "predicted_ms": check.promised.predicted_ms,
                    "low_ms": check.promised.low_ms,
                    "high_ms": check.promised.high_ms,
                    "budget_ms": check.promised.budget_ms,
                    "measured_ms": None if check.measured is None else check.measured.median_ms,
                    "measured_p10_ms": None if check.measured is None else check.measured.p10_ms,
                    "drift": check.drift,
                }
                for check in self.latency
            ],
            "broken": self.broken,
        }


def verify(directory: Path, *, device: str | None = None, seconds: float = 3.0) -> Verification:
    """Measure the export in `directory` and write `verify.json` beside it.

    Touches the test split. `device` limits the latencies to one device. Latencies are measured
    where the device is this machine, at the speed the table's reference network had (`drift` says
    how much slower this machine is now).
    """
    export = read_export(directory)
    network = load(directory)
    data = load_data(export.data.spec, seed=export.data.seed)
    images = data.test()
    pixels = network.specs[0].resolution
    accuracy = {"pytorch": measure_accuracy(network, images, data, split="test", resolution=pixels)}
    difference = None
    model = directory / ONNX
    if model.is_file():
        session = OnnxRuntime(Setting("host", "onnxruntime")).load_bytes(
            model.read_bytes(), network
        )

        def through_onnx(batch: Tensor) -> Tensor:
            return torch.cat([torch.from_numpy(session.run(image)) for image in _single(batch)])

        accuracy["onnx"] = measure_accuracy(
            through_onnx, images, data, split="test", resolution=pixels
        )
        probe = _probe(
            data, images.where(torch.arange(len(images))[:AGREEMENT_IMAGES]).images, pixels
        )
        with torch.inference_mode():
            difference = float((through_onnx(probe) - network(probe)).abs().max())
    promises = [item for item in export.latency if device in (None, item.device)]
    checks = tuple(_check(item, directory, seconds=seconds) for item in promises)
    found = Verification(export, accuracy, difference, checks)
    write_json(directory / "verify.json", found.to_dict())
    return found


def _check(promised: LatencyFile, directory: Path, *, seconds: float) -> LatencyCheck:
    if promised.source == "estimated" or not _is_here(promised.device):
        return LatencyCheck(promised, None, None)
    kind: type[Runtime] = resolve(RUNTIMES, promised.runtime, kind="runtime")
    runtime = kind(promised.setting)
    session = runtime.load(load(directory))
    for length in (seconds, 3 * seconds):  # a miss is measured again, longer, before it is one
        timing = interleave([session.run_ms], runtime, seconds=length, max_rounds=2000)
        drift = None if promised.reference_ms is None else timing.reference / promised.reference_ms
        measured = timing.measurements(reference_ms=promised.reference_ms)[0]
        check = LatencyCheck(promised, measured, drift)
        if check.kept:
            break
    return check


def _is_here(name: str) -> bool:
    """Whether this machine is the device; a device that is not known here is not."""
    return name in list_devices() and load_device(name).present


def _probe(data: Data, images: Tensor, pixels: int) -> Tensor:
    return resize(data.normalise(images), pixels)


def _single(batch: Tensor) -> list[np.ndarray]:
    """The images of a batch one by one, as the exported graph takes them."""
    return [image.numpy()[None] for image in batch.contiguous()]
