"""Exports: chosen subnets are written, opened, verified, trained on; published ones imported."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from nassearch import config
from nassearch.data.loading import AnyData
from nassearch.data.preprocessing import Preprocessing
from nassearch.errors import ConfigError
from nassearch.export.export_config import read_export
from nassearch.export.format import Batch, photo_options
from nassearch.export.verification import Verification
from nassearch.export.verify import verify
from nassearch.export.writer import VERIFICATION
from nassearch.files import write_json
from nassearch.latency.device import HOST
from nassearch.pipeline import export as exporting
from nassearch.pipeline import finetune as finetuning
from nassearch.pipeline import import_subnet as subnet_import
from nassearch.pipeline.export import ExportedNetwork
from nassearch.pipeline.front_door import Directory, path_or_none
from nassearch.pipeline.front_door.latencies import device_setting
from nassearch.pipeline.front_door.searches import load_search
from nassearch.pipeline.onnx_model import ModelCheck, is_onnx_file, verify_model
from nassearch.pipeline.pick import Pick
from nassearch.pipeline.result_list import ResultList
from nassearch.pipeline.search import Evaluate
from nassearch.pipeline.search_result import SearchResult
from nassearch.pipeline.trained_supernet import TrainedSupernet
from nassearch.progress import Progress, silent
from nassearch.training.task import as_metric


def export_subnets(
    picks: SearchResult | Sequence[Pick] | Directory | None = None,
    *,
    pick: str = "best",
    formats: Sequence[str] | None = None,
    batch: Batch | None = None,
    max_accuracy_loss: float = 0.01,
    preprocess_in_graph: bool = False,
    data: AnyData | None = None,
    out: Directory | None = None,
    force: bool = False,
    progress: Progress = silent,
) -> ResultList[ExportedNetwork]:
    """Write chosen subnets in formats that run anywhere.

    Args:
        picks: The picks of a search, or a search, or the directory that holds one; by default the
            latest run.
        pick: Of a whole search: 'best' (the choice for each budget), 'knee', 'all' (the front) or
            a network's id.
        formats: Names of `list_plugins("formats")`; config and weights are always written beside.
            By default weights, ONNX, and the file that each promised latency was measured with.
        batch: Images that a graph takes at once, or 'dynamic'; by default as many as was promised.
        max_accuracy_loss: What int8 may cost on validation images; 0.01 is one point.
        preprocess_in_graph: Let the graphs of onnx and int8 take photos, uint8 (n, height, width,
            channels), and resize and normalise them themselves.
        data: The images, where they are not where the run's recipe says.
        out: The directory of the exports; by default `exports/` of the search.
        force: Replace other exports that lie there.
        progress: Told the stage, the fraction that is done, 0..1, and a note.

    Returns:
        One export for each pick, in their order.

    Raises:
        OutputError: A directory holds another export; nothing was written.
        ExportError: A format cannot hold a network.

    Examples:
        >>> import nassearch as ns
        >>> result = ns.load_search("runs/latest")
        >>> exports = ns.export_subnets(result.picks, formats=["weights", "onnx"], out="exports")
        >>> [export.directory.name == export.pick.architecture.id for export in exports]
        [True, True]
    """
    if picks is None or isinstance(picks, SearchResult | Path | str):
        picks = exporting.pick_networks(load_search(picks, data=data), pick)
    return ResultList(
        exporting.export_picks(
            picks,
            formats=formats,
            batch=batch,
            max_accuracy_loss=max_accuracy_loss,
            options=photo_options(preprocess_in_graph),
            out=path_or_none(out),
            force=force,
            progress=progress,
        )
    )


def load_export(export: Directory) -> ExportedNetwork:
    """Open an export: what its config says, and its network.

    Args:
        export: The directory of one network, as `export_subnets` wrote it.

    Returns:
        The export; its `load()` is the plain module.

    Raises:
        CheckpointError: The directory is no export, or one of its files was changed.

    Examples:
        >>> import nassearch as ns
        >>> [written, *_] = ns.export_subnets("runs/latest", out="exports")
        >>> ns.load_export(written.directory).config.id == written.pick.architecture.id
        True
    """
    return ExportedNetwork(Path(export), read_export(Path(export)))


def verify_exports(
    exports: ExportedNetwork | Directory | Sequence[ExportedNetwork | Directory],
    data: AnyData | None = None,
    *,
    preprocessing: Preprocessing | Mapping[str, Any] | str | None = None,
    evaluate: Evaluate | None = None,
    device: str | None = None,
    seconds: float = 3.0,
    out: Directory | None = None,
    progress: Progress = silent,
) -> ResultList[Verification | ModelCheck]:
    """Measure exports again: accuracy, speed, memory, agreement of formats, promised latencies.

    An ONNX file of somebody's, which promises nothing, is measured: its accuracy and its latency.

    Args:
        exports: What `export_subnets` wrote, directories of exports, or any classifier as an ONNX
            file, 'model.onnx'.
        data: The images, where they are not where the export says. The test split is used.
        preprocessing: How an ONNX file takes its images, as of `load_data`; exports say it
            themselves.
        evaluate: Of networks for targets of your own: the metric, or its name. Without it, or
            without images, outputs and latencies are compared, and it is said that no more is.
        device: Check only the latencies promised on this device; of an ONNX file by default 'host'.
        seconds: Of timing, for each export.
        out: A directory for each export's `verify.json`; by default the export itself.
        progress: Told the stage, the fraction that is done, 0..1, and a note.

    Returns:
        What was found; `broken` of each names the promises that do not hold.

    Raises:
        CheckpointError: An export is damaged.
        ConfigError: No latency is promised on `device`.

    Examples:
        >>> import nassearch as ns
        >>> exports = ns.export_subnets("runs/latest", formats=["weights"], out="exports")
        >>> [check.broken for check in ns.verify_exports(exports[:1], seconds=0.5)]
        [[]]
    """
    if isinstance(exports, ExportedNetwork | Path | str):
        exports = [exports]
    metric = config.resolve({}, evaluate, kind="metric") if isinstance(evaluate, str) else evaluate
    found: list[Verification | ModelCheck] = []
    for number, item in enumerate(exports):
        directory = item.directory if isinstance(item, ExportedNetwork) else Path(item)
        images = data
        if data is None and isinstance(item, ExportedNetwork) and item.pick is not None:
            images = item.pick.supernet.images

        def part(stage: str, fraction: float, note: str = "", *, number: int = number) -> None:
            progress(stage, (number + fraction) / len(exports), note)

        if is_onnx_file(directory):
            known, setting = device_setting(device or HOST, None, None, None, None)
            check = verify_model(
                directory,
                data=images,
                preprocessing=preprocessing,
                device=known.with_default(setting),
                seconds=seconds,
            )
            if out is not None:
                write_json(Path(out) / directory.stem / VERIFICATION, check.to_dict())
            found.append(check)
            continue
        if preprocessing is not None:
            raise ConfigError(
                "says itself how it takes its images",
                where=directory,
                fix="leave the preprocessing out",
            )
        found.append(
            verify(
                directory,
                device=device,
                data=images,
                metric=None if metric is None else as_metric(metric),
                seconds=seconds,
                out=None if out is None else Path(out) / directory.resolve().name,
                progress=part,
            )
        )
    return ResultList(found)


def finetune_export(
    export: ExportedNetwork | Directory,
    *,
    epochs: int,
    data: AnyData | None = None,
    options: Mapping[str, Any] | None = None,
    teacher: TrainedSupernet | Directory | None = None,
    quantized: bool = False,
    formats: Sequence[str] | None = None,
    batch: Batch | None = None,
    max_accuracy_loss: float = 0.01,
    out: Directory | None = None,
    force: bool = False,
    resume: bool = False,
    progress: Progress = silent,
) -> finetuning.Finetuned:
    """Train an exported network on, on its images or others, into a new export beside it.

    Args:
        export: The export, which stays as it is.
        epochs: Passes over the training images.
        data: The images, by default the export's; with other classes the classifier starts anew.
        options: Keys of a recipe's `training` section, for instance {"lr": 0.001}.
        teacher: A supernet, or its run, whose largest network teaches.
        quantized: Train it as its int8 graph computes, so that int8 costs less accuracy.
        formats: By default those of the export; with `quantized` int8 as well.
        batch: Images that a graph takes at once, or 'dynamic'.
        max_accuracy_loss: What int8 may cost on validation images; 0.01 is one point.
        out: By default the export's name with '-finetuned'.
        force: Replace another export that lies there.
        resume: Go on with the training that `out` holds.
        progress: Told the stage, the fraction that is done, 0..1, and a note.

    Returns:
        Accuracies before and after, and where the new export lies.

    Raises:
        CheckpointError: The export is damaged or holds no weights.
        OutputError: `out` holds something else.

    Examples:
        >>> import nassearch as ns
        >>> [export, *_] = ns.export_subnets("runs/latest", out="exports")
        >>> tuned = ns.finetune_export(export, epochs=1, options={"lr": 0.001}, out="tuned")
        >>> tuned.after.split
        'val'
    """
    directory = export.directory if isinstance(export, ExportedNetwork) else Path(export)
    if isinstance(teacher, TrainedSupernet):
        teacher = teacher.directory
    return finetuning.finetune_export(
        directory,
        epochs=epochs,
        data=data,
        settings=options,
        teacher=path_or_none(teacher),
        quantized=quantized,
        formats=formats,
        batch=batch,
        options={"max_accuracy_loss": max_accuracy_loss},
        out=path_or_none(out),
        force=force,
        resume=resume,
        progress=progress,
    )


def import_subnet(
    weights: Directory,
    net_config: Directory,
    *,
    data: AnyData,
    resolution: int | None = None,
    formats: Sequence[str] | None = None,
    out: Directory | None = None,
    force: bool = False,
    progress: Progress = silent,
) -> ExportedNetwork:
    """Make an export of a network that once-for-all specialised and published.

    Args:
        weights: Its state dict (`init`), or .safetensors.
        net_config: The JSON file beside it, which says its blocks.
        data: Images of its classes, in their order.
        resolution: Pixels of its images; by default those of the `run.config` beside it.
        formats: Names of `list_plugins("formats")`; by default weights and ONNX.
        out: The export's directory; by default its id below `exports/`.
        force: Replace another export that lies there.
        progress: Told the stage, the fraction that is done, 0..1, and a note.

    Returns:
        The export, which `verify_exports` measures and `finetune_export` trains on.

    Raises:
        CheckpointError: A file is damaged, or the two do not belong together.
        ConfigError: Nobody says how many pixels its images have.
        DataError: The images have other classes.
        OutputError: The directory holds another export; nothing was written.

    Examples:
        With once-for-all's two files in a directory; here it has none:

        >>> import nassearch as ns
        >>> ns.import_subnet("net/init", "net/net.config", data="digits", resolution=224)
        Traceback (most recent call last):
        nassearch.errors.ConfigError: net/net.config: cannot read (No such file or directory); ...
    """
    directory, written = subnet_import.import_subnet(
        Path(weights),
        Path(net_config),
        data=data,
        resolution=resolution,
        formats=formats,
        out=path_or_none(out),
        force=force,
        progress=progress,
    )
    return ExportedNetwork(directory, written)
