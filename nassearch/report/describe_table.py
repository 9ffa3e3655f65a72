"""A space drawn stage by stage, and what else `nassearch describe` shows."""

from collections.abc import Mapping, Sequence
from typing import Any

from rich.console import Group, RenderableType

from nassearch.config import format_count, format_milliseconds
from nassearch.report.terminal import fact_table, table


def overview(facts: Mapping[str, Any]) -> RenderableType:
    """The facts of `pipeline.inventory.description`: those of a space and a network as tables."""
    if "stages" in facts:
        return _space(facts)
    return _network(facts) if "network" in facts else fact_table(facts)


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
    if facts["latency"]:
        parts.append(_latency(facts["latency"], tuple(facts["costs"])))
    return _apart(parts)


def _patches(said: Mapping[str, Sequence[int]] | None) -> str:
    if said is None:
        return ""
    grids = "/".join(f"{grid}x{grid}" for grid in said["grid"])
    return f"{grids} over the first {_values(said['stages'])} stages"


def _network(facts: Mapping[str, Any]) -> Group:
    told = {name: facts[name] for name in ("network", "origin", "space", "id")}
    parts: list[RenderableType] = [fact_table(told), _costs({facts["network"]: facts})]
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
