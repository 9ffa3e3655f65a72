"""A space drawn stage by stage, and what else `nassearch describe` shows."""

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from rich.console import Group, RenderableType

from nassearch.cli.terminal import fact_table, table
from nassearch.config import format_count, format_milliseconds
from nassearch.export.card import latency_text
from nassearch.export.export_config import LatencyClaim


def overview(facts: Mapping[str, Any]) -> RenderableType:
    """The facts that `describe` gives about a space, a network, a device or an export."""
    if "stages" in facts:
        return _space(facts)
    if "network" in facts:
        return _network(facts)
    return _export(facts) if "accuracy" in facts else fact_table(dict(_flat(facts)))


def adopted_overview(facts: Mapping[str, Any]) -> RenderableType:
    """What became of a network that was adopted, layer by layer."""
    shown = {
        "space": f"{facts['space']}, in {facts['directory']}",
        "networks": f"{facts['networks']} ({facts['networks']:.3g})",
        "MACs": f"{format_count(facts['smallest_macs'])} to {format_count(facts['largest_macs'])}",
        "largest network": f"outputs as the module's, within {facts['change']:.1g} of the largest",
    }
    if facts["outputs"] is not None:
        shown["outputs"] = ", ".join(facts["outputs"])
    next_step = f"next: nassearch search --supernet {facts['directory']} --device host --budget 50%"
    return _apart([fact_table(shown), _layers(facts["layers"]), next_step])


def _layers(rows: Sequence[Mapping[str, Any]]) -> RenderableType:
    """One line for each layer: its channels and kernels, or why they stay."""
    shown = [
        (
            row["path"],
            row["layer"],
            str(row["stage"]),
            _values(row["channels"]),
            _values(row["kernels"]),
            "may be left out" if row["may_be_left_out"] else "",
            row["fixed_because"],
        )
        for row in rows
    ]
    return table(
        ("module", "layer", "stage", "channels", "kernels", "depth", "fixed because"), shown
    )


def _export(facts: Mapping[str, Any]) -> RenderableType:
    architecture, accuracy, data = facts["architecture"], facts["accuracy"], facts["data"]
    shown: dict[str, object] = {
        "network": facts["id"],
        "space": facts["space"],
        "parameters": format_count(facts["params"]),
        "MACs": format_count(facts["macs"]),
        "resolution": architecture["resolution"],
    }
    for number, stage in enumerate(architecture["stages"]):
        blocks = (" ".join(map(str, block.values())) for block in stage["blocks"])
        shown[f"stage {number}"] = f"width {stage['width']}: {', '.join(blocks)}"
    claim, outputs = facts.get("metric"), facts.get("outputs")
    if claim is not None:
        shown[claim["name"]] = (
            f"{claim['value']:.4g} on {claim['num_images']} images of the split '{claim['split']}'"
        )
    elif data["class_names"]:
        shown["accuracy"] = (
            f"{accuracy['value']:.2%} ({accuracy['low']:.2%} to {accuracy['high']:.2%}) on"
            f" {accuracy['num_images']} images of the split '{accuracy['split']}' of {data['spec']}"
        )
    shown["supernet"] = accuracy["supernet"]
    if data["class_names"]:
        shown["classes"] = ", ".join(data["class_names"])
    if outputs is not None:
        shown["outputs"] = ", ".join(
            f"{name} {'x'.join(map(str, shape))}" for name, shape in outputs.items()
        )
    for promised in map(LatencyClaim.model_validate, facts["latency"]):
        shown[f"latency, {promised.setting}"] = latency_text(promised)
    for name, written in facts["formats"].items():
        shown[f"format {name}"] = ", ".join(f"{key} {text}" for key, text in _flat(written))
    if facts["finetuned"] is not None:
        shown["fine-tuned"] = ", ".join(f"{key} {text}" for key, text in _flat(facts["finetuned"]))
    return fact_table(shown)


def _flat(facts: Mapping[str, Any], prefix: str = "") -> Iterator[tuple[str, object]]:
    """Names and values, what lies deeper under names with a point; without what is not known."""
    for name, value in facts.items():
        if isinstance(value, Mapping):
            yield from _flat(value, f"{prefix}{name}.")
        elif isinstance(value, list | tuple):
            rows = (
                dict(_flat(item)).values() if isinstance(item, Mapping) else (item,)
                for item in value
            )
            yield f"{prefix}{name}", ", ".join(" ".join(map(str, row)) for row in rows)
        elif value is not None:
            yield f"{prefix}{name}", value


def _space(facts: Mapping[str, Any]) -> Group:
    counted = {
        "space": facts["space"],
        "description": facts["description"],
        "origin": facts["origin"],
        "networks": f"{facts['networks']} ({facts['networks']:.3g})",
        "genes": facts["genes"],
        "latency keys": facts["latency_keys"],
        "patches": _patches(facts["patches"]),
        "holds": ", ".join(facts["references"]),
    }
    shown = {name: value for name, value in counted.items() if value != ""}
    parts: list[RenderableType] = [
        fact_table(shown),
        _stages(facts["stages"]),
        _costs(facts["costs"]),
    ]
    if "layers" in facts:
        parts.append(_layers(facts["layers"]))
    if facts["latency"]:
        parts.append(_latency(facts["latency"], tuple(facts["costs"])))
    return _apart(parts)


def _patches(patches: Mapping[str, Sequence[int]] | None) -> str:
    if patches is None:
        return ""
    grids = "/".join(f"{grid}x{grid}" for grid in patches["grid"])
    return f"{grids} over the first {_values(patches['stages'])} stages"


def _network(facts: Mapping[str, Any]) -> Group:
    named = {name: facts[name] for name in ("network", "origin", "space", "id")}
    parts: list[RenderableType] = [fact_table(named), _costs({facts["network"]: facts})]
    if facts["latency"]:
        parts.append(_latency(facts["latency"], ("latency",)))
    return _apart(parts)


def _apart(parts: Sequence[RenderableType]) -> Group:
    """One below the other with a line between."""
    spaced = [item for part in parts for item in ("", part)]
    return Group(*spaced[1:])


def _stages(rows: Sequence[Mapping[str, Any]]) -> RenderableType:
    names = ("stage", "op", "width", "depth", "stride", "choices", "resolution in")
    shown, before = [], ""
    for row in rows:
        again = row["stage"] == before
        before = row["stage"]
        choices = (f"{name} {_values(values)}" for name, values in row["dimensions"].items())
        shown.append(
            (
                "" if again else row["stage"],
                row["op"],
                "" if again else _values(row["width"]),
                "" if again else _values(row["depth"]),
                "" if again else str(row["stride"]),
                ", ".join(choices),
                "" if again else _values(row["resolution_in"]),
            )
        )
    return table(names, shown)


def _costs(costs: Mapping[str, Mapping[str, Any]]) -> RenderableType:
    rows = [
        (
            label,
            f"{cost['macs']} ({format_count(cost['macs'])})",
            f"{cost['params']} ({format_count(cost['params'])})",
            f"{format_count(cost['peak_activation_bytes'])}B",
        )
        for label, cost in costs.items()
    ]
    return table(("network", "MACs", "parameters", "peak activations (fp32)"), rows)


def _latency(rows: Sequence[Mapping[str, Any]], labels: Sequence[str]) -> RenderableType:
    shown = [
        (
            row["setting"],
            *(format_milliseconds(row[f"{label}_ms"]) for label in labels),
            row["provenance"],
        )
        for row in rows
    ]
    return table(("setting", *labels, "provenance"), shown)


def _values(values: Sequence[Any]) -> str:
    return "/".join(map(str, values))
