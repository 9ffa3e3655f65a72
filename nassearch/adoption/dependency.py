"""The channels of every tensor of a trace, in symbols: what is cut together is one symbol."""

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

from nassearch.adoption.exported_program import Operator
from nassearch.adoption.symbol_table import SymbolTable
from nassearch.adoption.trace import Trace
from nassearch.config import parse
from nassearch.errors import AdoptionError, SpaceError
from nassearch.space.graph_config import INPUT, Axis, NodeConfig, format_axis
from nassearch.space.layout_inference import Layout, constant, group_axis, infer_node

FIXED = "--fixed"  # the reason of what the user fixed
LAYERS = ("conv", "conv_transpose", "linear")
"""Operators that give channels of their own."""
_FEW_GROUPS = 4


@dataclass
class Dependencies:
    """Operators with the layout of what they give, in the symbols of one table."""

    operators: Sequence[Operator]
    table: SymbolTable
    layouts: dict[str, Layout]
    made: dict[str, Axis]
    """Operator -> the axis of its output channels, of a convolution or a linear."""
    said: dict[str, dict[str, Any]]
    """Operator -> its attributes that are axes."""
    outputs: Sequence[str] = ()
    """The operators that give what the network gives."""

    def axes(self, name: str) -> tuple[Axis, ...]:
        """The axes of a value as far as they are known now, without the batch."""
        return tuple(self.table.resolve(axis) for axis in self.layouts[name].axes)

    def attributes(self, operator: Operator) -> dict[str, Any]:
        """The attributes of an operator's node, axes in symbols."""
        found = dict(operator.attributes)
        for key, value in self.said[operator.id].items():
            found[key] = _resolved(value, self.table)
        return found

    def tensor_axes(self, operator: Operator, leaf: str = "weight") -> tuple[Axis, ...]:
        """The axes of a tensor of an operator, those of its kernel left out."""
        out = self.axes(operator.id)
        if operator.op == "conv_transpose":
            return (out[0],) if leaf == "bias" else (self.axes(operator.of[0])[0], out[0])
        if operator.op == "parameter":
            return out
        given = self.axes(operator.of[0])
        if operator.op == "linear":
            return out[-1], given[-1]
        if operator.op == "conv":
            grouped = operator.attributes.get("group_in")
            if grouped is not None:
                return out[0], constant(grouped)
            groups = operator.attributes.get("groups", 1)
            return out[0], group_axis(given[0], groups, self.table, operator.path)
        return (given[-1] if operator.op == "layer_norm" else given[0],)

    def reason(self, operator: Operator) -> str:
        """Why the channels that a layer gives cannot change; empty where they can."""
        return next(
            (why for symbol, _ in self.made[operator.id] if (why := self.table.why(symbol))), ""
        )


def find_dependencies(trace: Trace, *, fixed: Sequence[str] = ()) -> Dependencies:
    """The symbols of every axis. What lies below the module paths `fixed` keeps its channels."""
    table = SymbolTable()
    channels, rows, columns = trace.input_sizes
    image = Layout((table.new(channels), constant(rows), constant(columns)))
    last = {"logits": trace.operators[-1].id}
    outputs = tuple((trace.outputs or last).values())
    found = Dependencies(trace.operators, table, {INPUT: image}, {}, {}, outputs)
    for _ in range(2):  # what is found late may say more of what was read early
        for operator in trace.operators:
            _infer(operator, found)
        for operator in trace.operators:
            if operator.id in found.made and any(_below(operator.path, path) for path in fixed):
                table.fix(found.made[operator.id], at=FIXED)
    return found


def _below(path: str, prefix: str) -> bool:
    return path == prefix or path.startswith(f"{prefix}.")


def _infer(operator: Operator, found: Dependencies) -> None:
    table = found.table
    said = found.said.setdefault(operator.id, {})
    given = [found.axes(name) for name in operator.of]
    at = f"{operator.path}.{operator.op}".strip(".")
    if operator.op == "conv":
        _group(operator, given[0][0], table, at)
    if operator.op in LAYERS and operator.attributes.get("group_in") is None:
        if operator.id not in found.made:
            found.made[operator.id] = table.new(operator.wants)
        said["out"] = found.made[operator.id]
    elif operator.op == "take":
        axis = given[0][operator.attributes["dims"][0] - 1]
        start, length = operator.wants
        left, rest = table.cut(axis, start, at=at)
        taken, _ = table.cut(rest, length, at=at)
        said["start"], said["length"] = left, taken
    elif operator.op == "reshape" and operator.wants is not None:
        said["axes"] = [
            1 if item == 1 else table.unfold(given[0][number], item, at=at)
            for number, item in enumerate(operator.wants)
        ]
    elif operator.op == "parameter":
        axes = found.layouts.get(operator.id)
        shape = axes.axes if axes is not None else tuple(_free(table, operator.sizes))
        said["shape"] = list(shape)
        found.layouts[operator.id] = Layout(shape, batched=False)
        return
    node = node_config(operator, found.attributes(operator), name=operator.id, reads=operator.of)
    layouts = [found.layouts[name] for name in operator.of]
    try:
        found.layouts[operator.id] = infer_node(node, layouts, table, at=at)
    except SpaceError as error:
        raise AdoptionError(error.what, where=at, fix="write it with other operators") from error
    sizes = tuple(table.size(axis) for axis in found.axes(operator.id))
    if sizes != operator.sizes:
        raise AdoptionError(
            f"gives {operator.sizes} where a graph of it would give {sizes}",
            where=at,
            fix="write it with other operators, or report it as a fault of nassearch",
        )


def _group(operator: Operator, channels: Axis, table: SymbolTable, at: str) -> None:
    """Few large groups keep their number: each has channels of its own, as many as the others."""
    attributes = operator.attributes
    size = attributes.get("group_in", 1)
    groups = attributes.get("groups") or table.size(channels) // size
    if size > 1 and groups <= _FEW_GROUPS:
        del attributes["group_in"]
        attributes["groups"], operator.wants = groups, attributes.pop("group_out")
    if "groups" in attributes:
        each, left = [], channels
        for _ in range(groups - 1):
            part, left = table.cut(left, table.size(channels) // groups, at=at)
            each.append(part)
        for part in each:
            table.tie(part, left, at=at)


def _free(table: SymbolTable, sizes: Sequence[int]) -> Iterator[Axis]:
    for size in sizes:
        yield constant(1) if size == 1 else table.new(size)


def _resolved(value: Any, table: SymbolTable) -> Any:
    """Axes, and lists of them, as the text of a node."""
    if isinstance(value, list):
        return tuple(item if isinstance(item, int) else _resolved(item, table) for item in value)
    if value and isinstance(value[0][0], tuple):
        return tuple(format_axis(table.resolve(axis)) for axis in value)
    return format_axis(table.resolve(value)) if value else "0"


def node_config(
    operator: Operator, attributes: dict[str, Any], *, name: str, reads: Iterable[str]
) -> NodeConfig:
    """An operator as a node of a graph."""
    content = {"id": _identifier(name), "op": operator.op, "of": tuple(map(_identifier, reads))}
    return parse(NodeConfig, {**content, **attributes}, where=operator.path or operator.op)


def _identifier(name: str) -> str:
    """A dotted path as the name of a node."""
    text = "".join(letter if letter.isalnum() else "_" for letter in name)
    return text if not text[:1].isdigit() else f"_{text}"
