"""Importing a published network that was specialised already: an export that `verify` measures."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from nassearch.data.dataset import Data
from nassearch.data.loading import AnyData
from nassearch.data.preprocessing import IMAGENET
from nassearch.errors import ConfigError
from nassearch.export.export_config import AccuracyClaim, DataConfig, ExportConfig
from nassearch.export.format import DEFAULT, make_formats
from nassearch.export.writer import check_place, write_export
from nassearch.files import owned, read_json
from nassearch.networks.published.ofa_subnets import load_specialised, read_net_config
from nassearch.networks.published.tensor_file import read_tensors
from nassearch.pipeline.run_directory import check_images, load_images
from nassearch.progress import Progress, silent
from nassearch.training.evaluation import measure_accuracy

SPACE = "ofa_specialised"
RUN_CONFIG = "run.config"
"""What once-for-all writes beside a net.config: it says the pixels of the images."""


def import_subnet(
    weights: Path,
    net_config: Path,
    *,
    data: AnyData,
    resolution: int | None = None,
    formats: Sequence[str] | None = None,
    options: Mapping[str, Any] | None = None,
    out: Path | None = None,
    force: bool = False,
    progress: Progress = silent,
) -> tuple[Path, ExportConfig]:
    """Write the export of a network that once-for-all specialised; its directory and config.

    Its norms keep the statistics of the file, and images that `data` names are prepared as its
    authors did. Its accuracy is measured on the validation images.
    """
    pixels = resolution if resolution is not None else _image_size(net_config)
    space = read_net_config(read_json(net_config), resolution=pixels, name=SPACE, where=net_config)
    file = read_tensors(weights)
    subnet = load_specialised(space, file.tensors, where=weights)
    said = data.preprocessing if isinstance(data, Data) else IMAGENET
    images = load_images(data, space, preprocessing=said, seed=0)
    check_images(
        images, space, fix="name images of its classes; the export of those finetunes on others"
    )
    chosen = tuple(formats) if formats is not None else DEFAULT
    make_formats(chosen, options)
    accuracy = measure_accuracy(subnet, images.val, images, split="val", resolution=pixels)
    facts = ExportConfig.of(
        space,
        space.largest,
        data=DataConfig.of(images, seed=0),
        accuracy=AccuracyClaim.of(accuracy, supernet=f"none: {weights.name}, specialised"),
    )
    directory = out if out is not None else Path("exports") / facts.id
    check_place(directory, facts, force=force)
    with owned(directory, doing="import"):
        config = write_export(
            subnet,
            directory,
            facts=facts,
            data=images,
            formats=chosen,
            options=options,
            force=force,
            progress=progress,
        )
    return directory, config


def _image_size(net_config: Path) -> int:
    """The pixels that the run.config beside a net.config says."""
    beside = net_config.with_name(RUN_CONFIG)
    content = read_json(beside) if beside.is_file() else None
    size = content.get("image_size") if isinstance(content, Mapping) else None
    if not isinstance(size, int) or size < 1:
        raise ConfigError(
            f"there is no {RUN_CONFIG} beside it that says image_size",
            where=net_config,
            fix="give the pixels of its images with --resolution",
        )
    return size
