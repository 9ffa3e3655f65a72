"""DeepMAD: how expressive and how trainable an architecture is, from its structure alone.

Shen et al., "DeepMAD: Mathematical Architecture Design for Deep Convolutional Neural Networks",
CVPR 2023, section 3, checked against the authors' code (alibaba/lightweight-neural-architecture-
search, `compute_deepmad.py` and `CnnNet.get_efficient_score`). A convolution from c channels with
kernel k in g groups has the width w = c k^2 / g. A feature map of c channels and r pixels a side
after L convolutions has the entropy log(r^2 c) sum log w over those L, and the effectiveness
L / exp(mean log w): a large one is too deep for its width to be trained. A network's entropy is the
weighted sum over its scales, the last eight times the others; its effectiveness is the largest of
its scales'. The search maximises the entropy with the effectiveness bounded. The code takes the
square root of each width, which halves every entropy here; the order stays the same.
"""

import math
from collections.abc import Callable, Sequence
from functools import lru_cache

import numpy as np
import torch
from torch import nn

from nassearch.ops import build_op
from nassearch.ops.layer import EfficientChannelAttention, Shortcut, SqueezeExcite
from nassearch.space import Architecture, BlockSpec, SearchSpace, slots
from nassearch.space.additive import Floats, SlotSum
from nassearch.space.search_space import Genes

LAST_SCALE = 8.0
# As in the paper, what stands beside the chain of convolutions does not count.
_ASIDE = (SqueezeExcite, EfficientChannelAttention, Shortcut)


@lru_cache(maxsize=65536)
def widths(spec: BlockSpec) -> tuple[int, ...]:
    """The width c k^2 / g of every convolution of a block, in order.

    Parallel branches count as if they followed one another.
    """
    with torch.device("meta"):
        return tuple(_widths(build_op(spec)))


class StructuralScore:
    """Entropy and effectiveness of a space's architectures, vectorised over gene vectors.

    The last scale ends with the head's 1x1 convolution, where there is one; its linear layers say
    nothing about features.
    """

    def __init__(self, space: SearchSpace) -> None:
        self.space = space
        places = slots(space)
        # for each scale: layers and log w of the places that lead to it, and its own log(r^2 c)
        self._scales: list[tuple[SlotSum, SlotSum, SlotSum]] = []
        start = 0
        for last, stop in _scales(space):
            layers = SlotSum(places[start:stop], _num_layers)
            through = SlotSum(places[start:stop], _log_width)
            volume = SlotSum(places[last : last + 1], _log_volume)
            self._scales.append((layers, through, volume))
            start = stop

    def entropy(self, genes: Genes) -> Floats:
        """Entropies, (n,), of gene vectors, (n, genes)."""
        through, total = np.zeros(len(genes)), np.zeros(len(genes))
        for number, (_, added, volume) in enumerate(self._scales, start=1):
            through += added.of_genes(genes)
            weight = LAST_SCALE if number == len(self._scales) else 1.0
            total += weight * volume.of_genes(genes) * through
        return total

    def effectiveness(self, genes: Genes) -> Floats:
        """The largest L / exp(mean log w) of a scale, (n,); 0 without a convolution."""
        depth, through, worst = np.zeros(len(genes)), np.zeros(len(genes)), np.zeros(len(genes))
        for layers, added, _ in self._scales:
            depth += layers.of_genes(genes)
            through += added.of_genes(genes)
            worst = np.maximum(worst, depth / np.exp(through / np.maximum(depth, 1.0)))
        return worst

    def of(self, architecture: Architecture, score: Callable[[Genes], Floats]) -> float:
        """One architecture's `entropy` or `effectiveness`."""
        return float(score(np.array([self.space.encode(architecture)], dtype=np.uint8))[0])


def _scales(space: SearchSpace) -> Sequence[tuple[int, int]]:
    """For each scale, the place whose output ends it and where the next scale's places start.

    A stage with a stride starts a scale. Every block of a stage gives the same shape, so the
    stage's first, which always exists, stands for its last. The head's 1x1 convolution belongs to
    the last scale.
    """
    place = int(space.definition.stem is not None)
    found = [(0, place)] if place else []
    for index, stage in enumerate(space.definition.stages):
        if stage.stride == 1 and found:
            found.pop()
        found.append((place, place + len(space.layout.stages[index].positions)))
        place = found[-1][1]
    if space.definition.head.expand_width is not None:
        found[-1] = (place, place + 1)
    return found


def _widths(module: nn.Module) -> list[int]:
    if isinstance(module, _ASIDE):
        return []
    if isinstance(module, nn.Conv2d):
        return [math.prod(module.weight.shape[1:])]
    return [width for child in module.children() for width in _widths(child)]


def _num_layers(spec: BlockSpec) -> float:
    return float(len(widths(spec)))


def _log_width(spec: BlockSpec) -> float:
    return sum(math.log(width) for width in widths(spec))


def _log_volume(spec: BlockSpec) -> float:
    channels = spec.get("expand_width") if spec.op == "head" else spec.out_channels
    return math.log(spec.out_resolution**2 * channels)
