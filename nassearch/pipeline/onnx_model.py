"""The network somebody has, an ONNX file: its latency, its accuracy, and what it costs."""

import html
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np

from nassearch.data.dataset import Data
from nassearch.data.identity import check_num_classes
from nassearch.data.loading import AnyData, load_data, parse_preprocessing
from nassearch.data.preprocessing import DEFAULT, Preprocessing
from nassearch.errors import DataError, RuntimeUnavailableError, SpaceError, TableError
from nassearch.export.onnx_classifier import OnnxClassifier, read_classifier
from nassearch.latency.device import Device, RatesFile
from nassearch.latency.measurement import Measurement
from nassearch.latency.own_rates import own_rates, probes
from nassearch.latency.roofline import RELATIVE_ERROR, checked_rates, layers_ms, relative_error
from nassearch.latency.target import why_not_here
from nassearch.latency.timing import interleave
from nassearch.provenance import Estimate, Provenance
from nassearch.runtimes.runtime import Session, load_graph, make_runtime
from nassearch.setting import Setting
from nassearch.training.evaluation import Accuracy, measure_accuracy

SUFFIX = ".onnx"
Said = Preprocessing | Mapping[str, Any] | str


def is_onnx_file(path: object) -> bool:
    """Whether a path is meant as an ONNX file."""
    return isinstance(path, Path | str) and Path(path).suffix.lower() == SUFFIX


@dataclass(frozen=True)
class ModelLatency:
    """What a classifier takes on a device, beside what its operators say it would.

    `measured` is None where the device is not this machine; `estimate` where its operators cannot
    be counted, and `not_estimated` says why.
    """

    setting: Setting
    measured: Measurement | None
    estimate: Estimate | None
    not_estimated: str | None = None

    def to_dict(self) -> dict[str, Any]:
        """The facts as `nassearch predict` shows them: `latency_ms` is the best that is known."""
        facts: dict[str, Any] = {"setting": str(self.setting)}
        if self.measured is not None:
            facts |= {"latency_ms": self.measured.median_ms, "provenance": "measured"}
            facts |= {"low_ms": self.measured.p10_ms, "high_ms": self.measured.p90_ms}
        elif self.estimate is not None:
            facts |= {"latency_ms": self.estimate.value, "provenance": "estimated"}
            facts |= {"low_ms": self.estimate.low, "high_ms": self.estimate.high}
        if self.measured is not None and self.estimate is not None:
            facts |= {"estimated_ms": self.estimate.value}
            facts |= {"estimated_low_ms": self.estimate.low}
            facts |= {"estimated_high_ms": self.estimate.high}
        if self.not_estimated is not None:
            facts["not_estimated"] = self.not_estimated
        return facts


def model_latency(
    model: OnnxClassifier,
    device: Device,
    asked: Setting,
    *,
    batch: int | None = None,
    precision: str | None = None,
    seconds: float = 3.0,
) -> ModelLatency:
    """Measure a classifier where `device` is this machine, and estimate it from its operators.

    Where the device has a datasheet's rates they are taken, else those that three convolutions
    show here in the same interleaved run.

    Raises:
        ConfigError: The file has another batch or precision than was asked for.
        RuntimeUnavailableError: The device is another machine without rates, or the runtime takes
            no such file.
        SpaceError: The device is another machine, and an operator cannot be counted.
    """
    setting = model.setting(asked, batch=batch, precision=precision)
    reason = why_not_here(device, setting)
    if reason is not None:
        if device.rates is None:
            raise RuntimeUnavailableError(
                f"{model.path.name} can neither be measured nor estimated there: {reason}, and its"
                " device.yaml has no rates",
                where=setting,
                fix="name a device with rates, or measure the file on the device itself",
            )
        return ModelLatency(setting, None, estimated_latency(model, device, setting))
    networks = probes() if device.rates is None else []
    runtime = make_runtime(setting)
    runs = [model_session(model, setting).run_ms]
    runs += [runtime.load(network).run_ms for network in networks]
    timing = interleave(runs, seconds=seconds, max_rounds=2000)
    measured, *_ = timing.measurements()
    try:
        if device.rates is not None:
            return ModelLatency(setting, measured, estimated_latency(model, device, setting))
        rates = own_rates(timing.medians_ms[1:].tolist(), networks, setting)
        return ModelLatency(setting, measured, _estimate(model, setting, rates, RELATIVE_ERROR))
    except (SpaceError, TableError) as error:
        return ModelLatency(setting, measured, None, error.what)


def model_session(model: OnnxClassifier, setting: Setting) -> Session:
    """The classifier in a setting's runtime, ready to be timed."""
    runtime = make_runtime(setting)
    if setting.precision not in runtime.graph_formats:
        raise RuntimeUnavailableError(
            f"the runtime {setting.runtime} takes no ONNX file in {setting.precision}",
            where=setting,
            fix="use --runtime onnxruntime",
        )
    session = load_graph(runtime, model.of_batch(setting.batch), model)
    model.guarded(session.run_ms)
    return session


def estimated_latency(model: OnnxClassifier, device: Device, setting: Setting) -> Estimate:
    """The estimate that a device's datasheet gives; TableError where it says nothing of it."""
    rates = checked_rates(device, setting)
    return _estimate(model, setting, rates, relative_error(device, setting))


def _estimate(model: OnnxClassifier, setting: Setting, rates: RatesFile, error: float) -> Estimate:
    layers = [layer for layer, _ in model.cost.layers]
    times = np.array([number for _, number in model.cost.layers])
    ms = float(times @ layers_ms(layers, rates, setting)) if layers else 0.0
    return Estimate(ms, Provenance("estimated", setting), ms / (1 + error), ms * (1 + error))


def model_facts(model: OnnxClassifier, latency: ModelLatency) -> dict[str, Any]:
    """What `nassearch predict` says of an ONNX file."""
    channels, height, width = model.input_shape
    facts: dict[str, Any] = {"network": model.path.name, **latency.to_dict()}
    facts |= {"input": f"{channels}x{height}x{width}", "classes": model.num_classes}
    try:
        facts |= {"macs": model.cost.macs, "params": model.cost.params}
    except SpaceError as error:
        facts["not_counted"] = error.what
    return facts | {"file_bytes": model.path.stat().st_size}


# -- accuracy --------------------------------------------------------------------------------------


@dataclass(frozen=True)
class ModelCheck:
    """What an ONNX file was found to do here: it makes no promises, so none are broken."""

    model: OnnxClassifier
    accuracy: Accuracy
    latency: ModelLatency
    broken: Sequence[str] = ()
    unmeasured: str | None = None
    """Always None: what cannot be measured of a file is refused."""

    @property
    def name(self) -> str:
        """What the file is called in a line."""
        return self.model.path.name

    def to_dict(self) -> dict[str, Any]:
        """A form that JSON holds."""
        low, high = self.accuracy.interval
        accuracy = {"value": self.accuracy.value, "low": low, "high": high}
        accuracy |= {"num_images": self.accuracy.num_images}
        accuracy |= {} if self.accuracy.top5 is None else {"top5": self.accuracy.top5}
        return {**model_facts(self.model, self.latency), "test_accuracy": accuracy}

    def to_row(self) -> dict[str, object]:
        """A row of a table: test accuracy and latency."""
        measured = self.latency.measured
        return {
            "id": self.model.path.name,
            "test accuracy": self.accuracy.value,
            f"{self.latency.setting} ms": None if measured is None else measured.median_ms,
            "broken": "",
        }

    def _repr_html_(self) -> str:
        rows = "".join(
            f"<tr><th>{html.escape(name)}</th><td>{html.escape(str(value))}</td></tr>"
            for name, value in self.to_dict().items()
        )
        return f"<table>{rows}</table>"


def verify_model(
    path: Path,
    *,
    data: AnyData | None,
    preprocessing: Said | None,
    device: Device,
    seconds: float,
) -> ModelCheck:
    """Measure an ONNX file: its accuracy on test images and its latency on this machine.

    Raises:
        DataError: There are no images, or they are of other classes or another shape.
    """
    model = read_classifier(path)
    if data is None:
        raise DataError(
            "says nothing of the images it knows", where=path, fix="name them with --data"
        )
    images = model_images(model, data, preprocessing)
    pixels = model.input_shape[1]
    accuracy = measure_accuracy(
        model.open(), images.test(), images, split="test", resolution=pixels
    )
    latency = model_latency(model, device, device.setting(), seconds=seconds)
    return ModelCheck(model, accuracy, latency)


def model_images(model: OnnxClassifier, data: AnyData, preprocessing: Said | None) -> Data:
    """The images as the user says that the network takes them; DataError where it cannot."""
    channels, height, width = model.input_shape
    if height != width:
        raise DataError(
            f"takes images of {height} x {width} pixels",
            where=model.path,
            fix="ours are square: measure its latency alone, with 'nassearch predict'",
        )
    said = parse_preprocessing(preprocessing or DEFAULT)
    if isinstance(data, Data):
        images = data if preprocessing is None else replace(data, preprocessing=said)
    else:
        images = load_data(data, preprocessing=said, pixels=height if said.resize.is_crop else None)
    if images.in_channels != channels:
        raise DataError(
            f"has images of {images.in_channels} channels, the network takes {channels}",
            where=images.name,
            fix="give images of as many channels",
        )
    check_num_classes(
        images.num_classes, model.num_classes, f"{model.path.name}", where=images.name
    )
    return images
