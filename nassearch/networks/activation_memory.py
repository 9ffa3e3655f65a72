"""Peak memory: which activations a block or a network holds at once, from lifetimes in traces."""

import math
import warnings
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from torch.jit._trace import _get_trace_graph

from nassearch.networks.cost import block_cost, zero_inputs
from nassearch.ops import build_op
from nassearch.space import BlockSpec, SearchSpace, Slot, slots
from nassearch.space.additive import Floats, SlotSum
from nassearch.space.search_space import Genes

# Operators that give back the memory of their input under another shape.
_VIEWS = frozenset(
    f"aten::{name}" for name in ("flatten", "squeeze", "unsqueeze", "view", "reshape", "unflatten")
)
# Operators that an engine folds into the one before them.
_FOLDED = frozenset(("aten::batch_norm", "aten::dropout", "aten::dropout_"))
# Operators that may write where one of their inputs lies, if nobody needs that any more.
_IN_PLACE = frozenset(
    f"aten::{name}{suffix}"
    for name in (
        "add",
        "clone",
        "div",
        "gelu",
        "hardsigmoid",
        "hardswish",
        "hardtanh",
        "mul",
        "relu",
        "sigmoid",
        "silu",
        "sub",
    )
    for suffix in ("", "_")
)


@lru_cache(maxsize=65536)
def peak_elements(spec: BlockSpec) -> int:
    """The most elements of activations that one run of a block holds at once, for one image."""
    return peak(build_op(spec), *zero_inputs(spec))


def peak(module: nn.Module, *images: Tensor) -> int:
    """The most elements of activations that `module` holds at once while it runs on `images`.

    Its operators run one after the other, as traced. What one of them gives is held until the last
    that reads it has run; so is each image. A convolution that is only added to what nobody else
    needs writes there, as engines do that fuse the two. Parameters do not count.
    """
    with torch.no_grad(), warnings.catch_warnings():
        warnings.simplefilter("ignore")  # torch's own, about tracing
        # as fvcore traces what it counts: four times as fast as making a script of it
        graph, _ = _get_trace_graph(module.eval(), images)
    nodes = list(graph.nodes())
    last = _last_readers(nodes, graph.outputs())
    given = [value.debugName() for value in graph.inputs()][: len(images)]
    pieces = {
        name: _Piece(image.numel(), last.get(name, 0))
        for name, image in zip(given, images, strict=True)
    }
    peak = 0
    for number, node in enumerate(nodes):
        inputs = _tracked(node, pieces)
        for out in node.outputs():
            if not inputs or out.type().kind() != "TensorType":
                continue
            size = math.prod(out.type().sizes())
            piece = _reused(node.kind(), inputs, size, number) or _sum(out, pieces, last, size)
            piece.last = max(piece.last, last.get(out.debugName(), number))
            pieces[out.debugName()] = piece
        if inputs:
            alive = {id(piece): piece.size for piece in pieces.values() if piece.last >= number}
            peak = max(peak, sum(alive.values()))
    return peak


@dataclass
class _Piece:
    """Memory of `size` elements, held until the node of number `last` has run."""

    size: int
    last: int


def _last_readers(nodes: list[Any], outputs: Any) -> dict[str, int]:
    """Value -> number of the last node that reads it; what a list holds is read with the list."""
    last = {value.debugName(): len(nodes) for value in outputs}
    for number, node in reversed(list(enumerate(nodes))):
        lists = [v.debugName() for v in node.outputs() if v.type().kind() != "TensorType"]
        read = max([number, *(last.get(name, number) for name in lists)])
        for value in node.inputs():
            last[value.debugName()] = max(read, last.get(value.debugName(), read))
    return last


def _tracked(node: Any, pieces: dict[str, _Piece]) -> list[_Piece]:
    """Where the activations lie that a node reads, those of its lists among them."""
    found = []
    for value in node.inputs():
        if value.debugName() in pieces:
            found.append(pieces[value.debugName()])
        elif value.type().kind() == "ListType":
            found += _tracked(value.node(), pieces)
    return found


def _sum(out: Any, pieces: dict[str, _Piece], last: dict[str, int], size: int) -> _Piece:
    """Where `out` is written: new memory, or that of the tensor to which it is added."""
    while len(out.uses()) == 1 and (user := out.uses()[0].user).kind() in _FOLDED:
        out = next(user.outputs())
    if len(out.uses()) == 1 and user.kind() in ("aten::add", "aten::add_"):
        other = next(v for v in user.inputs() if v.debugName() != out.debugName())
        piece = pieces.get(other.debugName())
        if piece is not None and piece.size == size and piece.last == last[other.debugName()]:
            return piece
    return _Piece(size, 0)


def _reused(kind: str, inputs: list[_Piece], size: int, number: int) -> _Piece | None:
    """The input where a node's output may lie."""
    if kind in _VIEWS or kind in _FOLDED:
        return inputs[0]
    if kind in _IN_PLACE:
        dying = (piece for piece in inputs if piece.last <= number and piece.size == size)
        return next(dying, None)
    return None


def peak_activation_bytes(specs: Sequence[BlockSpec], *, batch: int = 1, size: int = 4) -> int:
    """The most activation bytes alive at once, `size` bytes an element; weights come on top.

    Within a block the operators run one after the other, each with what it reads, what it gives and
    what later ones still need (see `peak`). While blocks run patch by patch, the image
    and the whole output of the last of them are held as well (MCUNetV2 leaves out the image, where
    it can be decoded part by part).
    """
    patched = [spec for spec in specs if spec.grid > 1]
    held = _image(patched[0]) + _output(patched[-1]) if patched else 0
    peak = max(
        peak_elements(spec) + (held if spec.grid > 1 else 0) + waiting
        for spec, waiting in zip(specs, _waiting(specs), strict=True)
    )
    return peak * batch * size


def _waiting(specs: Sequence[BlockSpec]) -> Iterator[int]:
    """For each block the elements of earlier ones that wait to be read by a head or be given.

    A head counts what it reads itself, until it has read it.
    """
    waiting: dict[int, tuple[int | None, int]] = {}
    for number, spec in enumerate(specs):
        reads = () if spec.wiring is None else spec.wiring.reads
        yield sum(size for stage, size in waiting.values() if stage is None or stage not in reads)
        wiring, is_last = spec.wiring, number == len(specs) - 1
        if wiring is not None and not is_last and (wiring.outputs or wiring.stage is not None):
            waiting[number] = (wiring.stage, _output(spec))


class PeakActivations:
    """`peak_activation_bytes` of a space's architectures, vectorised over gene vectors."""

    def __init__(self, space: SearchSpace, *, size: int = 4) -> None:
        self._size = size
        self._layout = space.layout
        places = slots(space)
        firsts = {slot.name: slot for slot in places}
        # places, and what waits meanwhile: by stages where something does
        self._layer_by_layer = list(_with_waiting(space, places))
        self._tiles = SlotSum(places, _if_patched(peak_elements))
        self._image = SlotSum(places[:1], _if_patched(_image))
        # the number of patched stages -> what the last of them gives
        self._outputs = {
            stages: SlotSum([firsts[f"stages[{stages - 1}].blocks[0]"]], _if_patched(_output))
            for stages in self._layout.patched_stages.choices
            if stages
        }

    def of_genes(self, genes: Genes) -> Floats:
        """Bytes, (n,), of gene vectors, (n, genes)."""
        tiles = self._tiles.largest_of_genes(genes)
        tiles += self._image.of_genes(genes)
        stages = np.array(self._layout.patched_stages.values(genes))
        for number, outputs in self._outputs.items():
            tiles += np.where(stages == number, outputs.of_genes(genes), 0.0)
        for blocks, waiting in self._layer_by_layer:
            held = sum((kept.of_genes(genes) for kept in waiting), np.zeros(len(genes)))
            tiles = np.maximum(tiles, blocks.largest_of_genes(genes) + held)
        return self._size * tiles


def _with_waiting(
    space: SearchSpace, places: Sequence[Slot]
) -> Iterator[tuple[SlotSum, list[SlotSum]]]:
    """Places, and those whose output waits while they run. A stage's blocks give equal shapes."""
    count = _unless_patched(peak_elements)
    definition = space.definition
    if definition.outputs is None:
        yield SlotSum(places, count), []
        return
    reads = set((definition.head.taps or {}).values())
    outputs = set(definition.outputs.values())
    start = int(definition.stem is not None)
    yield SlotSum(places[:start], count), []
    waiting: list[tuple[int, SlotSum]] = []
    for stage, layout in enumerate(space.layout.stages):
        stop = start + len(layout.positions)
        yield SlotSum(places[start:stop], count), [kept for _, kept in waiting]
        if stage in reads | outputs:
            waiting.append((stage, SlotSum(places[start : start + 1], _output)))
        start = stop
    if definition.has_head:
        yield SlotSum(places[start:], count), [kept for at, kept in waiting if at not in reads]


def _if_patched(count: Callable[[BlockSpec], int]) -> Callable[[BlockSpec], float]:
    return lambda spec: float(count(spec)) if spec.grid > 1 else 0.0


def _unless_patched(count: Callable[[BlockSpec], int]) -> Callable[[BlockSpec], float]:
    return lambda spec: float(count(spec)) if spec.grid == 1 else 0.0


def _image(spec: BlockSpec) -> int:
    return spec.in_channels * spec.resolution**2


def _output(spec: BlockSpec) -> int:
    return spec.out_channels * spec.out_resolution**2


def peak_memory_bytes(specs: Sequence[BlockSpec], *, batch: int = 1, size: int = 4) -> int:
    """Activations alive at once and all weights, in bytes."""
    weights = sum(block_cost(spec).params for spec in specs)
    return weights * size + peak_activation_bytes(specs, batch=batch, size=size)
