"""DeepMAD: how expressive and how trainable an architecture is, from its structure alone.

Shen et al., "DeepMAD: Mathematical Architecture Design for Deep Convolutional Neural Networks",
CVPR 2023, section 3. A convolution from c channels with kernel k in g groups has the width
w = c k^2 / g. A feature map of c channels and r pixels a side after L convolutions has the entropy
log(r^2 c) sum log w over those L; a network's is the weighted sum over its scales, the last eight
times the others. Its effectiveness is L / exp(mean log w): a large one is too deep for its width to
be trained. The paper maximises the entropy with the effectiveness bounded.
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

    The head is left out: its resolution and channels say nothing about features.
    """

    def __init__(self, space: SearchSpace) -> None:
        self.space = space
        features = slots(space)[:-1]
        self._num_layers = SlotSum(features, _num_layers)
        self._log_width = SlotSum(features, _log_width)
        # for each scale: log w summed over the places that lead to it, and its own log(r^2 c)
        self._scales: list[tuple[SlotSum, SlotSum]] = []
        start = 0
        for last, stop in _scales(space):
            through = SlotSum(features[start:stop], _log_width)
            volume = SlotSum(features[last : last + 1], _log_volume)
            self._scales.append((through, volume))
            start = stop

    def entropy(self, genes: Genes) -> Floats:
        """Entropies, (n,), of gene vectors, (n, genes)."""
        through, total = np.zeros(len(genes)), np.zeros(len(genes))
        for number, (added, volume) in enumerate(self._scales, start=1):
            through += added.of_genes(genes)
            weight = LAST_SCALE if number == len(self._scales) else 1.0
            total += weight * volume.of_genes(genes) * through
        return total

    def effectiveness(self, genes: Genes) -> Floats:
        """L / exp(mean log w), (n,), of gene vectors, (n, genes); 0 without a convolution."""
        depth = self._num_layers.of_genes(genes)
        return depth / np.exp(self._log_width.of_genes(genes) / np.maximum(depth, 1.0))

    def of(self, architecture: Architecture, score: Callable[[Genes], Floats]) -> float:
        """One architecture's `entropy` or `effectiveness`."""
        return float(score(np.array([self.space.encode(architecture)], dtype=np.uint8))[0])


def _scales(space: SearchSpace) -> Sequence[tuple[int, int]]:
    """For each scale, the place whose output ends it and where the next scale's places start.

    A stage with a stride starts a scale. Every block of a stage gives the same shape, so the
    stage's first, which always exists, stands for its last.
    """
    place = int(space.definition.stem is not None)
    found = [(0, place)] if place else []
    for index, stage in enumerate(space.definition.stages):
        if stage.stride == 1 and found:
            found.pop()
        found.append((place, place + len(space.layout.stages[index].positions)))
        place = found[-1][1]
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
    return math.log(spec.out_resolution**2 * spec.out_channels)
