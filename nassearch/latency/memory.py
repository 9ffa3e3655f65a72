"""Peak memory: which activations a network holds at once, from its blocks."""

from collections.abc import Sequence

from nassearch.networks import cost
from nassearch.space import BlockSpec


def peak_activation_bytes(specs: Sequence[BlockSpec], *, batch: int = 1, size: int = 4) -> int:
    """The most activation bytes alive at once, `size` bytes an element; weights come on top.

    Within a block its layers run one after the other: a layer needs its input and its output, and
    a block that adds its input at the end holds that input all the while. Layers of a block are
    known by size, not by order, so the largest pair is an upper bound of the block's own peak.
    """
    peak = 0
    for spec in specs:
        kept = 0
        if spec.stride == 1 and spec.in_channels == spec.out_channels:
            kept = spec.in_channels * spec.resolution**2
        for layer, _ in cost(spec).layers:
            held = 0 if layer.inputs == kept else kept
            peak = max(peak, held + layer.inputs + layer.outputs)
    return peak * batch * size


def peak_memory_bytes(specs: Sequence[BlockSpec], *, batch: int = 1, size: int = 4) -> int:
    """Activations alive at once and all weights, in bytes."""
    weights = sum(cost(spec).params for spec in specs)
    return weights * size + peak_activation_bytes(specs, batch=batch, size=size)
