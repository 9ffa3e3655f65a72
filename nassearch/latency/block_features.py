"""What is known of a block before it is timed: physical quantities, and how alike blocks are."""

from collections import Counter
from collections.abc import Sequence
from functools import lru_cache

import numpy as np
import numpy.typing as npt

from nassearch.networks import block_cost
from nassearch.runtimes.runtime import Floats
from nassearch.space import BlockSpec
from nassearch.space.architecture import NAMES, NUMBERS

Indices = npt.NDArray[np.int64]
LENGTH_SCALE = 3.0
_KINDS = ("dense", "pointwise", "depthwise", "grouped", "linear")


@lru_cache(maxsize=65536)
def features(spec: BlockSpec) -> tuple[float, ...]:
    """The physical quantities of one block that add up over a network.

    A block (an overhead each), multiply-accumulates by kind, elements written, by depthwise
    convolutions, under an attention and under an activation that costs more than a comparison,
    launches by kind of operator, attentions, and weight bytes.
    """
    counted = block_cost(spec)
    macs = counted.macs_by_kind
    written = float(counted.activations)
    launches: Counter[str] = Counter()
    swept = 0
    for layer, times in counted.layers:
        launches[layer.kind] += times
        if layer.kind in ("depthwise", "grouped"):
            swept += times * layer.outputs
    attention = spec.get("attention") is not None
    return (
        1.0,
        *(float(macs.get(kind, 0)) for kind in _KINDS),
        written,
        float(swept),
        written if attention else 0.0,
        written if spec.get("activation") not in (None, "relu", "relu6") else 0.0,
        *(float(launches[kind]) for kind in _KINDS),
        float(attention),
        float(counted.weight_bytes),
    )


def squared_distances(blocks: Sequence[BlockSpec], some: Indices) -> Floats:
    """How unlike blocks are to some of them, (blocks, some): logarithms of their numbers in units
    of their spread, and names.
    """
    numbers = np.array(
        [
            [
                np.log(spec.in_channels),
                np.log(spec.out_channels),
                np.log(spec.run_resolution),
                np.log(spec.grid),
                np.log(spec.stride),
                *(np.log(spec.get(name, 1)) for name in NUMBERS),
            ]
            for spec in blocks
        ]
    )
    spread = numbers.std(axis=0)
    numbers = numbers[:, spread > 0] / (LENGTH_SCALE * spread[spread > 0])
    squares = np.sum(numbers**2, axis=1)
    distances = squares[:, None] + squares[some] - 2 * numbers @ numbers[some].T
    distances = np.maximum(distances, 0.0)
    for names in (
        [spec.op for spec in blocks],
        *([str(spec.get(name)) for spec in blocks] for name in NAMES),
    ):
        codes = np.unique(names, return_inverse=True)[1]
        distances += (codes[:, None] != codes[some]) / LENGTH_SCALE
    return distances


def counts(networks: Sequence[Sequence[BlockSpec]], blocks: Sequence[BlockSpec]) -> Floats:
    """How often each network holds each block, (networks, blocks)."""
    place = {spec: index for index, spec in enumerate(blocks)}
    found = np.zeros((len(networks), len(blocks)))
    for row, specs in enumerate(networks):
        for spec in specs:
            found[row, place[spec]] += 1
    return found
