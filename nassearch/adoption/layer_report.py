"""What of each layer became elastic, by how much, and why the rest did not."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from types import MappingProxyType

from nassearch.adoption.dependency import FIXED, LAYERS, Dependencies
from nassearch.adoption.elastic_space import Cell, ElasticSpace
from nassearch.adoption.exported_program import Operator
from nassearch.space.block_graph import scaled
from nassearch.space.graph_config import CONSTANT, Axis


@dataclass(frozen=True)
class LayerReport:
    """A convolution or a linear of the user's network.

    `channels` are those it may give and `kernels` those it may have, one where it is fixed; then
    `reason` says why. `stage` is None in the head. `may_be_left_out` with the blocks of its stage.
    """

    path: str
    layer: str
    stage: int | None
    channels: tuple[int, ...]
    kernels: tuple[int, ...]
    may_be_left_out: bool
    reason: str

    @property
    def is_elastic(self) -> bool:
        return len(self.channels) > 1 or len(self.kernels) > 1 or self.may_be_left_out


def layer_reports(adopted: ElasticSpace, found: Dependencies) -> Iterator[LayerReport]:
    """A report for each layer, in the order in which they run."""
    space = adopted.space
    widths: list[Sequence[int]] = [stage.width for stage in space.definition.stages]
    before: Sequence[int] = (space.in_channels,)
    for index, cells in enumerate(adopted.stages):
        least = min(space.definition.stages[index].depth)
        for number, cell in enumerate(cells):
            given = before if number == 0 else widths[index]
            yield from _reports(
                adopted, found, cell, index, given, widths[index], left_out=number >= least
            )
        before = widths[index]
    if adopted.head is None:
        return
    stages = (space.definition.head.taps or {}).values()
    read = {
        symbol: widths[stage]
        for tap, stage in zip(adopted.taps, stages, strict=True)
        for symbol, _ in found.axes(tap)[0]
    }
    made = (adopted.head.graph.full_width,)
    yield from _reports(adopted, found, adopted.head, None, before, made, left_out=False, taps=read)


def _reports(
    adopted: ElasticSpace,
    found: Dependencies,
    cell: Cell,
    stage: int | None,
    given: Sequence[int],
    made: Sequence[int],
    *,
    left_out: bool,
    taps: Mapping[str, Sequence[int]] = MappingProxyType({}),
) -> Iterator[LayerReport]:
    ends = (*found.axes(cell.part.reads)[:1], *found.axes(cell.part.gives)[:1])
    outer = {symbol for axis in ends for symbol, _ in axis}
    definition = None if stage is None else adopted.space.definition.stages[stage]
    shares = [1.0] if definition is None else list(definition.inner_ratio or (1.0,))
    if stage is None:  # what lies in the head follows its input
        shares = [width / max(given) for width in given]
    for operator in cell.part.operators:
        if operator.op not in LAYERS:
            continue
        axis = found.axes(operator.id)[-1 if operator.op == "linear" else 0]
        named = {symbol for symbol, _ in axis if symbol != CONSTANT}
        channels = {_channels(axis, found, share) for share in shares}
        reason = ""
        tap = next((taps[symbol] for symbol in named if symbol in taps), None)
        is_logits = stage is None and adopted.space.definition.outputs is None
        if is_logits and operator.id == _last_layer(cell):
            channels, reason = {found.table.size(axis)}, "it tells the classes apart"
        elif not named:
            channels = {found.table.size(axis)}
            reason = _why(operator, found)
        elif tap is not None:  # as another stage, to which it is added
            channels = {_channels(axis, found, width / max(tap)) for width in tap}
        elif named & outer:
            shares_out = [width / max(made) for width in made]
            in_shares = [width / max(given) for width in given]
            is_made = bool(named & {symbol for symbol, _ in ends[-1]})
            channels = {
                _channels(axis, found, share) for share in (shares_out if is_made else in_shares)
            }
        elif len(channels) == 1:
            reason = "the stage's inner_ratio is fixed"
        yield LayerReport(
            operator.path,
            _described(operator),
            stage,
            tuple(sorted(channels)),
            _kernels(operator, cell, definition.kernel_size if definition else None),
            left_out,
            reason if len(channels) == 1 else "",
        )


def _why(operator: Operator, found: Dependencies) -> str:
    """Why a layer's channels are a plain number."""
    why = found.reason(operator) if operator.id in found.made else ""
    if why == FIXED:
        return f"fixed by {FIXED}"
    return f"fixed at {why}" if why else "its input's channels are fixed"


def _last_layer(cell: Cell) -> str:
    return [one.id for one in cell.part.operators if one.op in LAYERS][-1]


def _channels(axis: Axis, found: Dependencies, share: float) -> int:
    full = found.table.full
    return sum(
        count * (1 if symbol == CONSTANT else scaled(full[symbol], share)) for symbol, count in axis
    )


def _kernels(operator: Operator, cell: Cell, choices: Sequence[int] | None) -> tuple[int, ...]:
    kernel = operator.attributes.get("kernel")
    if kernel is None:
        return ()
    if choices is None:
        return (max(kernel),)
    node = next(
        node for node in cell.graph.nodes if cell.tensors.get(f"{node.id}.weight") ==
        operator.tensors["weight"]
    )  # fmt: skip
    return tuple(sorted({cell.graph.kernel(node, choice)[0] for choice in choices}))


def _described(operator: Operator) -> str:
    """`conv 3x3/2 dw` or `linear`."""
    if operator.op == "linear":
        return "linear"
    attributes = operator.attributes
    kernel, stride = attributes["kernel"], attributes["stride"]
    name = "transposed conv" if operator.op == "conv_transpose" else "conv"
    text = f"{name} {kernel[0]}x{kernel[1]}" + (f"/{stride[0]}" if stride[0] > 1 else "")
    grouped = attributes.get("group_in")
    if grouped is None:
        groups = attributes.get("groups", 1)
        return f"{text} in {groups} groups" if groups > 1 else text
    return f"{text} depthwise" if grouped == 1 else f"{text} groups of {grouped}"
