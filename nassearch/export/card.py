"""The model card of an export: what the network is, and three lines that load each format."""

import math
from collections.abc import Iterator, Sequence
from pathlib import Path

from nassearch import __version__
from nassearch.config import format_count, format_milliseconds
from nassearch.data.preprocessing import Recalibration
from nassearch.export.export_config import ExportConfig, LatencyClaim, MetricClaim
from nassearch.export.format import Format, recorded_format, snippet, takes_photos
from nassearch.space import SearchSpace

CARD = "README.md"


def model_card(export: ExportConfig, directory: Path, shape: tuple[int, int, int]) -> str:
    """The card of an export in `directory` for images of `shape` (channels, height, width)."""
    formats = {name: recorded_format(export, name) for name in export.formats}
    parts = [
        f"# Network {export.id}",
        _network(export, shape),
        _accuracy(export),
        _latency(export),
        _files(export, formats, directory),
        _input(export, shape),
        *_photos(export, shape, formats),
        *_snippets(export, formats),
        "`nassearch verify` measures all of this again.",
    ]
    return "\n\n".join(part for part in parts if part) + "\n"


def latency_text(item: LatencyClaim) -> str:
    """One promise on one line, with where each figure comes from."""
    setting = item.setting
    threads = "" if setting.threads is None else f", {setting.threads} thread(s)"
    kind = f"{setting.runtime} {setting.precision}"
    text = f"{setting.device}, {kind}, batch {setting.batch}{threads}: "
    if item.measured_ms is not None:
        text += f"{format_milliseconds(item.measured_ms)} measured, "
    text += format_milliseconds(item.predicted_ms)
    text += " estimated" if item.source == "estimated" else " predicted"
    if item.low_ms is not None and item.high_ms is not None:
        text += f" ({format_milliseconds(item.low_ms)} to {format_milliseconds(item.high_ms)})"
    return text + (
        f", budget {format_milliseconds(item.budget_ms)}" if item.budget_ms is not None else ""
    )


def _network(export: ExportConfig, shape: tuple[int, int, int]) -> str:
    space: SearchSpace = export.search_space()
    kind = f"An image classifier of {len(export.data.class_names)} classes"
    if not export.data.class_names:
        kind = "A network for targets of its user's own"
    text = (
        f"{kind} from the search space"
        f" `{space.name}`: {format_count(export.params)} parameters,"
        f" {format_count(export.macs)} multiply-accumulates for an image of {shape[1]} pixels."
    )
    if export.finetuned is not None:
        tuned = export.finetuned
        text += (
            f" Fine-tuned for {tuned.epochs} epochs on {export.data.spec} from the network"
            f" {tuned.parent}, which was trained on {tuned.parent_data}"
            + (f"; teacher: {tuned.teacher}." if tuned.teacher is not None else ".")
        )
    return text + f" Written by nassearch {__version__}."


def _accuracy(export: ExportConfig) -> str:
    claim = export.accuracy
    if export.metric is not None:
        return _metric(export.metric, supernet=claim.supernet)
    if not math.isfinite(claim.value):
        return f"Its accuracy was not measured; supernet: {claim.supernet}."
    expected = ""
    if claim.expected is not None:
        promise = claim.expected
        expected = (
            f" From all networks that its search evaluated {promise.value:.2%} is expected"
            f" ({promise.low:.2%} to {promise.high:.2%})."
        )
    return (
        f"Accuracy {claim.value:.2%} ({claim.low:.2%} to {claim.high:.2%}, 95 %) on"
        f" {claim.num_images} images of the split '{claim.split}' of {export.data.spec}"
        + ("" if claim.top5 is None else f", top-5 {claim.top5:.2%}")
        + ";"
        f" supernet: {claim.supernet}.{expected}"
    )


def _metric(claim: MetricClaim, *, supernet: str) -> str:
    unit = f" {claim.unit}" if claim.unit else ""
    interval = "its error is not known"
    if claim.low is not None and claim.high is not None:
        interval = f"{claim.low:.4g} to {claim.high:.4g}, 95 %"
    better = "more" if claim.direction == "max" else "less"
    return (
        f"{claim.name} {claim.value:.4g}{unit} ({interval}; {better} is better) on"
        f" {claim.num_images} images of the split '{claim.split}'; supernet: {supernet}."
    )


def _latency(export: ExportConfig) -> str:
    return "\n".join(f"- {latency_text(item)}" for item in export.latency)


def _files(export: ExportConfig, formats: dict[str, Format], directory: Path) -> str:
    lines = ["| format | file | size | |", "|---|---|---|---|"]
    remarks = []
    for name, format in formats.items():
        facts = {key: value for key, value in export.formats[name].items() if key != "file"}
        if "remark" in facts:
            remarks += ["", f"`{format.file_name}` is {facts.pop('remark')}."]
        text = ", ".join(f"{key} {_plain(value)}" for key, value in facts.items())
        size = format_count((directory / format.file_name).stat().st_size)
        lines.append(f"| {name} | `{format.file_name}` | {size}B | {text} |")
    return "\n".join(lines + remarks) if formats else ""


def _plain(value: object) -> str:
    if isinstance(value, dict):
        return " ".join(f"{key} {item}" for key, item in value.items())
    if isinstance(value, list | tuple):
        return str(len(value))
    return f"{value:.4g}" if isinstance(value, float) else str(value)


def _input(export: ExportConfig, shape: tuple[int, int, int]) -> str:
    mean, std = _statistics(export)
    said = export.data.preprocessing
    if not export.data.class_names:
        return _own_input(export, shape)
    return (
        f"Input `images`: float32, (n, {', '.join(map(str, shape))}): {said.resize}, r ="
        f" {shape[1]}, bilinear with antialiasing; pixels of 0..1 normalised as"
        f" (pixels - mean) / std with mean {mean} and std {std} of each channel. Output: logits,"
        f" (n, {len(export.data.class_names)}), in the order of `class_names` in `config.yaml`."
        f" The statistics of its batch norm are those of {_recalibration(said.recalibration)}."
    )


def _own_input(export: ExportConfig, shape: tuple[int, int, int]) -> str:
    """Of images that come as the network takes them."""
    named = ", ".join(
        f"`{name}` (n, {', '.join(map(str, sizes))})"
        for name, sizes in (export.outputs or {}).items()
    )
    return (
        f"Input `images`: float32, (n, {', '.join(map(str, shape))}), as the data set of its"
        f" training gives them. Output: {named or 'as the network of its training gives it'}. The"
        f" statistics of its batch norm are those of"
        f" {_recalibration(export.data.preprocessing.recalibration)} at most."
    )


def _statistics(export: ExportConfig) -> tuple[list[float], list[float]]:
    """Mean and deviation, as people read them."""
    mean, std = ([round(value, 4) for value in row] for row in (export.data.mean, export.data.std))
    return mean, std


def _recalibration(said: Recalibration) -> str:
    text = f"{said.images} training images"
    if said.random_resized_crop is not None:
        text += f", a random part of at least {said.random_resized_crop:.0%} of each"
    return text + (", half of them mirrored" if said.flip else "")


def _photos(
    export: ExportConfig, shape: tuple[int, int, int], formats: dict[str, Format]
) -> Iterator[str]:
    """Python that makes a photo what the files take, as `verify` does."""
    if not export.data.class_names:
        return
    if not all(map(takes_photos, formats.values())):
        yield _block(
            "A photo as the network takes it, an array (PyTorch takes"
            " `torch.from_numpy(images)`; repeat it where a file takes several at once)",
            _prepared_photo(export, shape),
        )
    if any(map(takes_photos, formats.values())):
        files = [f"`{item.file_name}`" for item in formats.values() if takes_photos(item)]
        pixels = "numpy.asarray(photo)[None]" + "[..., None]" * (shape[0] == 1)
        lines = [*_decoded_photo(shape[0]), f"images = {pixels}"]
        yield _block(f"A photo, of any size, for {' and '.join(files)}", lines)


def _block(title: str, lines: Sequence[str]) -> str:
    return f"{title}:\n\n```python\n" + "\n".join(lines) + "\n```"


def _prepared_photo(export: ExportConfig, shape: tuple[int, int, int]) -> list[str]:
    """Lines of Python that make `images`, an array, of the file photo.jpg."""
    channels, r, _ = shape
    resize = export.data.preprocessing.resize
    mean, std = ([round(value, 7) for value in row] for row in (export.data.mean, export.data.std))
    lines = _decoded_photo(channels)
    if resize.is_crop:
        short = resize.short_side(r)
        lines += [
            f"long = int({short} * max(photo.size) / min(photo.size))",
            f"size = ({short}, long) if photo.width <= photo.height else (long, {short})",
            "photo = photo.resize(size, Image.Resampling.BILINEAR)",
            f"left, top = round((photo.width - {r}) / 2), round((photo.height - {r}) / 2)",
            f"photo = photo.crop((left, top, left + {r}, top + {r}))",
        ]
    else:
        lines.append(f"photo = photo.resize(({r}, {r}), Image.Resampling.BILINEAR)")
    return [
        *lines,
        f'pixels = numpy.asarray(photo, "float32").reshape({r}, {r}, {channels}) / 255',
        f"images = (pixels - numpy.float32({mean})) / numpy.float32({std})",
        "images = images.transpose(2, 0, 1)[None]",
    ]


def _decoded_photo(channels: int) -> list[str]:
    return [
        "import numpy",
        "from PIL import Image, ImageOps",
        f'photo = ImageOps.exif_transpose(Image.open("photo.jpg")).convert('
        f'"{"L" if channels == 1 else "RGB"}")',
    ]


def _snippets(export: ExportConfig, formats: dict[str, Format]) -> Iterator[str]:
    for name, format in formats.items():
        batch = export.formats[name].get("batch")
        takes = "" if batch in (None, "dynamic") else f" (n = {batch})"
        yield _block(f"{format.title}{takes}", snippet(format, export.outputs))
    if "weights" not in formats:
        lines = ["import nassearch", 'network = nassearch.Subnet.from_config("config.yaml")']
        yield _block("The network without its weights", lines)
