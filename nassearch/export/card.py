"""The model card of an export: what the network is, and three lines that load each format."""

import math
from collections.abc import Iterator
from pathlib import Path

from nassearch import __version__
from nassearch.config import format_count, format_milliseconds
from nassearch.export.export_config import ExportConfig, LatencyClaim
from nassearch.export.format import Format, make_format
from nassearch.space import SearchSpace

CARD = "README.md"


def model_card(export: ExportConfig, directory: Path, shape: tuple[int, int, int]) -> str:
    """The card of an export in `directory` for images of `shape` (channels, height, width)."""
    formats = {name: make_format(name) for name in export.formats}
    parts = [
        f"# Network {export.id}",
        _network(export, shape),
        _accuracy(export),
        _latency(export),
        _files(export, formats, directory),
        _input(export, shape),
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
    text = (
        f"An image classifier of {len(export.data.class_names)} classes from the search space"
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
        f" {claim.num_images} images of the split '{claim.split}' of {export.data.spec};"
        f" supernet: {claim.supernet}.{expected}"
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
    mean, std = ([round(value, 4) for value in row] for row in (export.data.mean, export.data.std))
    return (
        f"Input `images`: float32, (n, {', '.join(map(str, shape))}), pixels of 0..1 normalised as"
        f" (pixels - mean) / std with mean {mean} and std {std} of each channel. Output: logits,"
        f" (n, {len(export.data.class_names)}), in the order of `class_names` in `config.yaml`."
    )


def _snippets(export: ExportConfig, formats: dict[str, Format]) -> Iterator[str]:
    for name, format in formats.items():
        batch = export.formats[name].get("batch")
        takes = "" if batch in (None, "dynamic") else f" (n = {batch})"
        yield f"{format.title}{takes}:\n\n```python\n" + "\n".join(format.snippet()) + "\n```"
    if "weights" not in formats:
        yield (
            "The network without its weights:\n\n```python\nimport nassearch\n"
            'network = nassearch.Subnet.from_config("config.yaml")\n```'
        )
