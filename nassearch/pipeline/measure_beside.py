"""A network that somebody has, measured as the candidates of a run's searches were."""

from pathlib import Path

from nassearch.data.loading import AnyData
from nassearch.errors import NassearchError, RuntimeUnavailableError
from nassearch.export.onnx_classifier import OnnxClassifier, read_classifier
from nassearch.latency.device import load_device
from nassearch.latency.table import find_table
from nassearch.latency.target import target_from_table
from nassearch.latency.timing import interleave, reference_ms, references
from nassearch.pipeline.onnx_model import Said, estimated_latency, model_images, model_session
from nassearch.pipeline.profile import table_places
from nassearch.pipeline.run_directory import run_data
from nassearch.report.beside import Beside
from nassearch.report.record import RunRecord, read_run
from nassearch.runtimes.runtime import make_runtime
from nassearch.setting import Setting
from nassearch.training import checkpoint
from nassearch.training.evaluation import Accuracy, measure_accuracy


def measure_beside(
    path: Path,
    run: Path,
    *,
    data: AnyData | None = None,
    preprocessing: Said | None = None,
    seconds: float = 3.0,
) -> Beside:
    """Measure an ONNX file in the settings of a run's searches, and on its validation images.

    Where the run's latencies are measured on this machine, the file is timed beside the table's
    reference networks and at their speed; where they are estimated, it is estimated alike.

    Raises:
        CheckpointError: The file is no classifier.
        DataError: The run's images are of other classes than it tells apart.
    """
    model, record = read_classifier(path), read_run(run)
    settings = {setting: None for search in record.searches for setting in search.settings.values()}
    found: dict[Setting, float] = {}
    reasons: dict[Setting, str] = {}
    for setting in settings:
        try:
            found[setting] = latency_ms(model, record, setting, seconds=seconds)
        except NassearchError as error:  # of this setting alone; the page says so
            reasons[setting] = error.what
    accuracy = _accuracy(model, record.home, data, preprocessing)
    return Beside(path.name, found, reasons, accuracy)


def latency_ms(
    model: OnnxClassifier, record: RunRecord, setting: Setting, *, seconds: float
) -> float:
    """Milliseconds in a setting of a search, got as those of its candidates were."""
    model.setting(setting, batch=setting.batch, precision=setting.precision)
    places = table_places(record.path)
    table = find_table(setting, places)
    if table is None or record.space is None:
        return estimated_latency(model, load_device(setting.device, places), setting).value
    target = target_from_table(table, record.space)
    if target.reason_unmeasured is not None:
        raise RuntimeUnavailableError(
            target.reason_unmeasured,
            where=setting,
            fix="ask for the report on that machine, or without --beside",
        )
    timing = interleave(
        [model_session(model, setting).run_ms],
        references=references(record.space, make_runtime(setting)),
        seconds=seconds,
        max_rounds=2000,
    )
    (row,) = timing.measurements(reference_ms=reference_ms(table, record.space))
    return row.median_ms


def _accuracy(
    model: OnnxClassifier, run: Path, data: AnyData | None, preprocessing: Said | None
) -> Accuracy | None:
    """Accuracy on the run's validation images; None where it has none."""
    if data is None and not checkpoint.load(run).data:
        return None
    images = model_images(model, run_data(run, data), preprocessing)
    pixels = model.input_shape[1]
    return measure_accuracy(model.open(), images.val, images, split="val", resolution=pixels)
