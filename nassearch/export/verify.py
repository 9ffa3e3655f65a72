"""Measuring an export again: what every format gets right, takes and weighs, and the promises."""

import warnings
from collections.abc import Iterable, Mapping
from dataclasses import replace
from functools import partial
from pathlib import Path
from time import perf_counter

import torch
from torch import Tensor

from nassearch.data.dataset import Data
from nassearch.data.identity import check_num_classes
from nassearch.data.image_set import in_memory
from nassearch.data.loading import AnyData, load_data
from nassearch.data.target_set import TargetSet
from nassearch.errors import ConfigError, DataError, OutputError
from nassearch.export import FORMATS
from nassearch.export.export_config import ExportConfig, read_export
from nassearch.export.format import Format, Run, format_of, snippet, takes_photos
from nassearch.export.latency_check import check_latency, select_claims
from nassearch.export.memory import measure_peak_memory
from nassearch.export.onnx_file import open_parts, read_graph
from nassearch.export.verification import FormatCheck, Verification
from nassearch.export.weights import build
from nassearch.export.writer import VERIFICATION
from nassearch.files import make_directory, write_json
from nassearch.latency.measurement import Measurement
from nassearch.latency.timing import interleave
from nassearch.networks import Subnet
from nassearch.networks.activation_memory import peak_memory_bytes
from nassearch.networks.wiring import Outputs, named, scaled_difference
from nassearch.progress import Progress, silent
from nassearch.training.evaluation import (
    measure_accuracy,
    measure_photo_accuracy,
    target_batches,
)
from nassearch.training.task import Metric

AGREEMENT_IMAGES = 64


def verify(
    directory: Path,
    *,
    device: str | None = None,
    data: AnyData | None = None,
    metric: Metric | None = None,
    seconds: float = 3.0,
    out: Path | None = None,
    progress: Progress = silent,
) -> Verification:
    """Measure an export again, and write what was found as `verify.json`.

    Touches the test split. Promised latencies are measured where the device is this machine, at the
    speed the table's reference network had.

    Args:
        directory: What `export` wrote.
        device: The one device whose promises are measured; that nothing can be measured on it here
            counts as a promise that does not hold.
        data: The images, or where they lie, if not where the export says.
        metric: Of a network for targets of the user's own; without it, or without images, its
            outputs and latencies alone are compared.
        seconds: How long each latency is timed.
        out: The directory of `verify.json`, by default the export's. Where that cannot be written
            to, a warning says so.
        progress: Who watches.

    Returns:
        What was found; `broken` holds the promises that do not hold.

    Raises:
        CheckpointError: The export is damaged.
        ConfigError: It promises nothing on `device`.
        DataError: Its images are not there, or their classes are others.
        OutputError: `out` cannot be written to; nothing was measured.
    """
    export = read_export(directory)
    claims = select_claims(export, device)
    if out is not None:
        make_directory(out)
    network = build(directory)
    ordered = sorted(export.formats, key=lambda name: (*FORMATS, name).index(name))
    formats = {name: format_of(export, name, directory) for name in ordered}
    unmeasured = None
    if export.data.class_names:
        images = _images(export, data, pixels=network.input_shape[1])
        checks = _check_formats(export, directory, formats, images, network, seconds / 3, progress)
    else:
        targets = _target_images(data, network)
        unmeasured = _why_unmeasured(export, targets, metric)
        checks = _check_outputs(
            export, directory, formats, targets, network, metric, seconds / 3, progress
        )
    verification = Verification(
        export,
        checks,
        tuple(
            check_latency(
                claim, export, directory, network, seconds=seconds, must_measure=device is not None
            )
            for claim in claims
        ),
        peak_memory_bytes(network.specs),
        unmeasured,
    )
    try:
        write_json((out or directory) / VERIFICATION, verification.to_dict())
    except OutputError as error:
        warnings.warn(f"{error} ({VERIFICATION} is not kept)", stacklevel=2)
    progress("verifying", 1.0)
    return verification


def _images(export: ExportConfig, data: AnyData | None, *, pixels: int) -> Data:
    """The images as the network learned them; DataError for those of other classes."""
    said, known = export.data.learned, export.data.class_names
    if not isinstance(data, Data):
        data = load_data(
            data or export.data.source(export.id),
            seed=export.data.seed,
            preprocessing=said,
            pixels=pixels if said.resize.is_crop else None,
        )
    if data.class_names != known:
        missing = ", ".join(sorted({*known} ^ {*data.class_names})[:3])
        check_num_classes(data.num_classes, len(known), missing, where=data.name)
        raise DataError(
            "its classes are not those that the network was trained on"
            f" ({missing or 'they come in another order'})",
            where=data.name,
            fix="name the images with --data, or give the class folders their names back",
        )
    data.warn_of_other_test_images(export.test_fingerprint, since="when the network was exported")
    return replace(data, preprocessing=said)


def _check_formats(
    export: ExportConfig,
    directory: Path,
    formats: Mapping[str, Format],
    data: Data,
    network: Subnet,
    seconds: float,
    progress: Progress,
) -> dict[str, FormatCheck]:
    if not formats:
        return {}
    shape = network.input_shape
    test = data.test()
    count = min(AGREEMENT_IMAGES, len(test))  # of all classes, by which a folder is sorted
    few = test.where(torch.linspace(0, len(test) - 1, count).long())
    probe = data.inputs(in_memory(data.fitted(few, shape[1])).images, shape[1])
    photos = [photo.unsqueeze(0) for photo, _ in few.photos()]
    runs = {name: item.open(directory / item.file_name) for name, item in formats.items()}
    batches = {name: _batch(export, name) for name in formats}
    taken = {
        name: (photos[0] if takes_photos(item) else probe[:1]).expand(batches[name], -1, -1, -1)
        for name, item in formats.items()
    }
    times = _time(runs, taken, seconds)
    expected: Tensor | None = None
    checks = {}
    for number, (name, item) in enumerate(formats.items()):
        progress("verifying", number / len(formats))
        run, grey_levels = runs[name], None
        if takes_photos(item):
            run, prepare = open_parts(read_graph(directory / item.file_name))
            grey_levels = _grey_levels(map(prepare, photos), probe, data)
        with torch.inference_mode():
            logits = run(probe)
        expected = logits if expected is None else expected
        checks[name] = FormatCheck(
            file=item.file_name,
            size_bytes=(directory / item.file_name).stat().st_size,
            exact=item.exact,
            accuracy=measure_photo_accuracy(runs[name], test, split="test")
            if takes_photos(item)
            else measure_accuracy(runs[name], test, data, split="test", resolution=shape[1]),
            allowed_loss=float(export.formats[name].get("max_accuracy_loss", 0.0)),
            difference=float((logits - expected).abs().max()),
            latency=times[name],
            batch=batches[name],
            peak_memory_bytes=measure_peak_memory(
                directory,
                imports=item.imports,
                lines=item.snippet(),
                shape=tuple(taken[name].shape),
                dtype=str(taken[name].dtype).removeprefix("torch."),
            ),
            grey_levels=grey_levels,
        )
    return checks


def _target_images(data: AnyData | None, network: Subnet) -> Data | None:
    """Images with targets of the user's own, where they are given; an export's text runs no code.

    DataError for images of another form, or with classes.
    """
    if data is None:
        return None
    images = load_data(data)
    if not images.has_targets or images.train.shape != network.input_shape:
        raise DataError(
            f"gives {'targets' if images.has_targets else 'classes'} of images"
            f" {images.train.shape}, the network was trained on targets of images"
            f" {network.input_shape}",
            where=images.name,
            fix="give the data that it was trained on, load_data(..., collate=...)",
        )
    return images


def _why_unmeasured(export: ExportConfig, images: Data | None, metric: Metric | None) -> str | None:
    if images is not None and metric is not None:
        claim = export.metric
        if claim is not None and (claim.name, claim.direction) != (metric.name, metric.direction):
            raise ConfigError(
                f"is {metric.name} ({metric.direction}), {claim.name} ({claim.direction}) was"
                " recorded",
                where="evaluate",
                fix="give the metric of its search",
            )
        return None
    missing = [name for name, given in (("images", images), ("metric", metric)) if given is None]
    return (
        f"{' and '.join(missing)} not given: outputs of the formats and latencies alone were"
        " compared; give them with --data and --evaluate"
    )


def _check_outputs(
    export: ExportConfig,
    directory: Path,
    formats: Mapping[str, Format],
    data: Data | None,
    network: Subnet,
    metric: Metric | None,
    seconds: float,
    progress: Progress,
) -> dict[str, FormatCheck]:
    """What `_check_formats` does, of a network that tells no classes apart: every output."""
    shape = network.input_shape
    test = None if data is None else data.test()
    probe = torch.randn(4, *shape, generator=torch.Generator().manual_seed(0))
    if isinstance(test, TargetSet):
        probe = test.batch(torch.arange(min(4, len(test))), seed=0)[0]
    runs = {
        name: _named_run(item.open(directory / item.file_name), export)
        for name, item in formats.items()
    }
    batches = {name: _batch(export, name) for name in formats}
    taken = {name: probe[:1].expand(batches[name], -1, -1, -1) for name in formats}
    times = _time(runs, taken, seconds)
    expected: Outputs | None = None
    checks = {}
    for number, (name, item) in enumerate(formats.items()):
        progress("verifying", number / len(formats))
        with torch.inference_mode():
            outputs = runs[name](probe)
        expected = outputs if expected is None else expected
        found = None
        if isinstance(test, TargetSet) and metric is not None:
            pictures = list(target_batches(test, shape[1]))
            found = metric(runs[name], pictures, split="test", num_images=len(test))
        checks[name] = FormatCheck(
            file=item.file_name,
            size_bytes=(directory / item.file_name).stat().st_size,
            exact=item.exact,
            accuracy=None,
            allowed_loss=0.0,
            difference=scaled_difference(outputs, expected),
            latency=times[name],
            batch=batches[name],
            peak_memory_bytes=measure_peak_memory(
                directory,
                imports=item.imports,
                lines=snippet(item, export.outputs),
                shape=tuple(taken[name].shape),
                dtype="float32",
            ),
            metric=found,
        )
    return checks


def _named_run(run: Run, export: ExportConfig) -> Run:
    """A run that gives a tensor by the name of each output, where the network has named ones."""
    if export.outputs is None:
        return run
    names = list(export.outputs)

    def run_named(images: Tensor) -> dict[str, Tensor]:
        return dict(zip(names, named(run(images)).values(), strict=True))

    return run_named


def _grey_levels(found: Iterable[Tensor], expected: Tensor, data: Data) -> float:
    """The largest difference of images, as networks take them, in steps of 1/255."""
    step = 1 / (255 * torch.tensor(data.std).view(1, -1, 1, 1))
    return float(((torch.cat(list(found)) - expected).abs() / step).max())


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
