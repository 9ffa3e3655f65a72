"""Peak memory: which activations a network holds at once, from its blocks."""

from collections.abc import Callable, Sequence

import numpy as np

from nassearch.networks import cost
from nassearch.networks.lifetime import peak_elements
from nassearch.space import BlockSpec, SearchSpace, slots
from nassearch.space.additive import Floats, SlotSum
from nassearch.space.search_space import Genes


def peak_activation_bytes(specs: Sequence[BlockSpec], *, batch: int = 1, size: int = 4) -> int:
    """The most activation bytes alive at once, `size` bytes an element; weights come on top.

    Within a block the operators run one after the other, each with what it reads, what it gives and
    what later ones still need (see `networks.lifetime`). While blocks run patch by patch, the image
    and the whole output of the last of them are held as well (MCUNetV2 leaves out the image, where
    it can be decoded part by part).
    """
    patched = [spec for spec in specs if spec.grid > 1]
    held = _image(patched[0]) + _output(patched[-1]) if patched else 0
    peak = max(peak_elements(spec) + (held if spec.grid > 1 else 0) for spec in specs)
    return peak * batch * size


class PeakActivations:
    """`peak_activation_bytes` of a space's architectures, vectorised over gene vectors."""

    def __init__(self, space: SearchSpace, *, size: int = 4) -> None:
        self._size = size
        self._layout = space.layout
        places = slots(space)
        firsts = {slot.name: slot for slot in places}
        self._layer_by_layer = SlotSum(places, _unless_patched(peak_elements))
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
        return self._size * np.maximum(tiles, self._layer_by_layer.largest_of_genes(genes))


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
    weights = sum(cost(spec).params for spec in specs)
    return weights * size + peak_activation_bytes(specs, batch=batch, size=size)
