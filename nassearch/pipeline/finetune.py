"""Fine-tuning an export into a new one beside it."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from torch import Tensor

from nassearch import config
from nassearch.data.dataset import Data
from nassearch.data.loading import AnyData, load_data
from nassearch.errors import ConfigError, DataError, OutputError
from nassearch.export.export_config import (
    CONFIG,
    AccuracyClaim,
    DataConfig,
    ExportConfig,
    FinetuneConfig,
    LatencyClaim,
    read_export,
)
from nassearch.export.format import CONFIG_ONLY, Batch, make_formats, photo_options
from nassearch.export.int8 import calibration_images
from nassearch.export.weights import load
from nassearch.export.writer import check_place, write_export
from nassearch.files import owned
from nassearch.networks import Subnet
from nassearch.networks.supernet import resize
from nassearch.pipeline.quantized_training import (
    QuantizedTraining,
    export_precisions,
    simulated_accuracy,
)
from nassearch.progress import Progress, silent
from nassearch.setting import INT8
from nassearch.space import lower
from nassearch.training import checkpoint
from nassearch.training.evaluation import Accuracy, Evaluator, measure_accuracy
from nassearch.training.finetuning import STAGE, finetune
from nassearch.training.training_recipe import TrainingRecipe

DEFAULTS = {"lr": 0.01, "batch_size": 64}
"""Of a fine-tuning, where they differ from those of a training."""
QUANTIZED_DEFAULTS = {**DEFAULTS, "optimizer": "adamw", "lr": 0.0003}
"""Without batch norm, channels want steps in proportion to their own gradients."""


@dataclass(frozen=True)
class Finetuned:
    """A network before and after; `before` is None where it knew other classes.

    Where it was trained quantized, `quantized_before` and `quantized_after` are the accuracies of
    its simulated int8 graph.
    """

    directory: Path
    before: Accuracy | None
    after: Accuracy
    quantized_before: Accuracy | None = None
    quantized_after: Accuracy | None = None

    def to_dict(self) -> dict[str, Any]:
        facts = {
            "export": str(self.directory),
            "val_accuracy_before": None if self.before is None else self.before.value,
            "val_accuracy": self.after.value,
        }
        if self.quantized_after is not None:
            before = self.quantized_before
            facts["quantized_val_accuracy_before"] = None if before is None else before.value
            facts["quantized_val_accuracy"] = self.quantized_after.value
        return facts


def finetune_export(
    source: Path,
    *,
    epochs: int,
    data: AnyData | None = None,
    settings: Mapping[str, Any] | None = None,
    teacher: Path | None = None,
    quantized: bool = False,
    formats: Sequence[str] | None = None,
    batch: Batch | None = None,
    options: Mapping[str, Any] | None = None,
    out: Path | None = None,
    force: bool = False,
    resume: bool = False,
    progress: Progress = silent,
) -> Finetuned:
    """Train an export on, on its images or others, into a new export.

    Args:
        source: What `export` wrote.
        epochs: Times that the network sees every training image.
        data: Its images, by default those of the export; where their classes are others, the
            classifier starts anew.
        settings: Keys of TrainingRecipe: `lr`, `seed`, ...
        teacher: The run of a supernet that knows the same classes; its largest network teaches.
        quantized: Train it as its int8 graph computes, by the export's policy or else all of it.
        formats: Names of formats, by default those of the export; with `quantized` int8 as well.
        batch: Images that a graph takes at once, or 'dynamic', by default as in the export.
        options: What else is asked of the formats; each reads its own.
        out: The new export's directory, by default `source`-finetuned.
        force: Replace another export that lies there.
        resume: Go on with a fine-tuning that was interrupted.
        progress: Who watches.

    Returns:
        The new export, with its accuracy before and after.

    Raises:
        CheckpointError: The export is damaged.
        ConfigError: A setting, a format or an option is unknown, or the teacher knows other images.
        DataError: The images cannot be read, or have other channels than the network takes.
        OutputError: Another export lies at `out`; nothing was trained.
    """
    export, network = read_export(source), load(source)
    chosen = tuple(formats) if formats is not None else (CONFIG_ONLY, *export.formats)
    precisions = export_precisions(export, len(network.blocks)) if quantized else ()
    if formats is None and set(precisions) == {INT8} and INT8 not in chosen:
        chosen += (INT8,)
    in_graph = any(export.formats.get(name, {}).get("preprocess_in_graph") for name in chosen)
    asked = {"batch": batch or _batch(export), **photo_options(in_graph), **(options or {})}
    make_formats(chosen, asked)
    defaults = QUANTIZED_DEFAULTS if quantized else DEFAULTS
    keys = {**defaults, "epochs": epochs, **(settings or {})}
    recipe = config.parse(TrainingRecipe, keys, where="fine-tuning")
    said = export.data.preprocessing
    if not export.data.class_names:
        raise ConfigError(
            "tells no classes apart, and a fine-tuning knows no other loss",
            where=source,
            fix="train its supernet on, train-supernet --from RUN --loss ..., or the module that"
            " nassearch.load returns",
        )
    images = load_data(
        data or export.data.source(source),
        seed=export.data.seed,
        preprocessing=said,
        pixels=network.input_shape[1] if said.resize.is_crop else None,
    )
    new = _for_classes(network, export, images)
    directory = out if out is not None else source.parent / f"{source.resolve().name}-finetuned"
    facts = _facts(export, new, images, recipe, teacher, precisions)
    if directory.resolve() == source.resolve():
        raise OutputError("is the export itself", where=directory, fix="choose another --out")
    with owned(directory, doing="fine-tuning"):
        finished = _finished(directory, facts) if resume else None
        if finished is None:
            check_place(directory, facts, force=force)
        same = export.data.class_names == images.class_names
        before = _accuracy(network, images) if same else None
        quantized_before = (
            simulated_accuracy(network, precisions, images) if same and quantized else None
        )
        training = None
        if quantized:
            shown = calibration_images(images, new.input_shape[1])
            training = QuantizedTraining(new, precisions, shown)
        if finished is None:
            finetune(
                new if training is None else training.simulated,
                images,
                recipe=recipe,
                out=directory,
                place_of=new,
                identity=precisions,
                teacher=None if teacher is None else _teacher(teacher, images),
                resume=resume,
                progress=progress,
            )
            if training is not None:
                training.write_back()
            after = _accuracy(new, images)
            claim = AccuracyClaim.of(
                after,
                supernet=export.accuracy.supernet,
                fingerprint=export.accuracy.fingerprint,
            )
            facts = facts.model_copy(update={"accuracy": claim})
        else:
            progress(STAGE, 1.0, "it was finished already")
            new.load_state_dict(load(directory).state_dict())
            after, facts = finished.accuracy.to_accuracy(), finished
            chosen = tuple(name for name in chosen if name not in (CONFIG_ONLY, *finished.formats))
        if training is not None:
            asked["ranges"] = training.ranges()
        if chosen:
            write_export(
                *(new.eval(), directory),
                facts=facts,
                data=images,
                formats=chosen,
                options=asked,
                force=force and finished is None,
                progress=progress,
            )
        quantized_after = None if training is None else training.accuracy(images)
    return Finetuned(directory, before, after, quantized_before, quantized_after)


def _finished(directory: Path, facts: ExportConfig) -> ExportConfig | None:
    """The export that such a fine-tuning ended with; None where `directory` holds none."""
    if not (directory / CONFIG).is_file():
        return None
    present = read_export(directory)
    names = ("id", "fingerprint", "data", "finetuned")
    return present if all(getattr(present, n) == getattr(facts, n) for n in names) else None


def _batch(export: ExportConfig) -> Batch:
    """The images that the export's graphs take at once."""
    batches: list[Batch] = [facts["batch"] for facts in export.formats.values() if "batch" in facts]
    return batches[0] if batches else 1


def _for_classes(network: Subnet, export: ExportConfig, data: Data) -> Subnet:
    """`network` itself, or with a new classifier where the classes are others."""
    if data.in_channels != network.input_shape[0]:
        raise DataError(
            f"has images of {data.in_channels} channels, the network takes"
            f" {network.input_shape[0]}",
            where=data.name,
            fix="convert the images, or export a network that was trained on such images",
        )
    if data.class_names == export.data.class_names:
        return network
    *body, head = network.specs
    specs = [*body, replace(head, out_channels=data.num_classes)]
    new = Subnet(specs, precisions=network.precisions)
    fresh = new.state_dict()
    kept = {
        name: tensor
        for name, tensor in network.state_dict().items()
        if ".classifier." not in name and tensor.shape == fresh[name].shape
    }
    new.load_state_dict({**fresh, **kept})
    return new


def _facts(
    export: ExportConfig,
    network: Subnet,
    data: Data,
    recipe: TrainingRecipe,
    teacher: Path | None,
    precisions: Sequence[str],
) -> ExportConfig:
    """The new export's config, with the accuracy of the old."""
    space = export.search_space().for_data(
        in_channels=data.in_channels, num_classes=data.num_classes
    )
    architecture = export.to_architecture()
    assert lower(space, architecture) == network.specs
    facts = ExportConfig.of(
        space,
        architecture,
        data=DataConfig.of(data, seed=export.data.seed),
        accuracy=export.accuracy,
    )
    tuned = FinetuneConfig(
        parent=export.id,
        parent_data=export.data.spec,
        epochs=recipe.epochs,
        lr=recipe.lr,
        seed=recipe.seed,
        teacher=None if teacher is None else f"largest network of {teacher.resolve().name}",
        precisions=tuple(precisions) or None,
    )
    same = space.num_classes == len(export.data.class_names)
    latency = tuple(item if same else _of_another_head(item) for item in export.latency)
    return facts.model_copy(update={"finetuned": tuned, "latency": latency})


def _of_another_head(item: LatencyClaim) -> LatencyClaim:
    """The promise for a network that differs in its classifier: neither measured nor bounded."""
    source = "estimated" if item.source == "estimated" else "interpolated"
    nothing = dict.fromkeys(("low_ms", "high_ms", "measured_ms"))
    return item.model_copy(update={"source": source, **nothing})


def _teacher(run: Path, data: Data) -> Callable[[Tensor], Tensor]:
    """The largest network of a run's supernet, its norms recalibrated on `data`."""
    supernet = checkpoint.load_supernet(run)
    known = tuple(checkpoint.load(run).data.get("class_names", ()))
    if not known and supernet.space.num_classes == data.num_classes:
        known = data.class_names  # imported without images: as many classes, in their order
    if known != data.class_names or supernet.space.in_channels != data.in_channels:
        raise ConfigError(
            f"its supernet knows other images than {data.name} (its classes:"
            f" {', '.join(known[:3])}, ...)",
            where=run,
            fix="leave --teacher out, or name a run on the same classes",
        )
    largest = supernet.space.largest
    network = Evaluator(supernet, data).subnet(largest)
    return lambda images: network.to(images.device)(resize(images, largest.resolution))


def _accuracy(network: Subnet, data: Data) -> Accuracy:
    pixels = network.input_shape[1]
    return measure_accuracy(network.eval(), data.val, data, split="val", resolution=pixels)
