"""Patch-based schedules: the first blocks are run tile by tile, so that less is held at once.

After Lin et al., "MCUNetV2: Memory-Efficient Patch-based Inference for Tiny Deep Learning" (NeurIPS
2021). The output of the last of these blocks is cut into grid x grid tiles; each is computed from
the tile of the image it depends on, through all the blocks, before the next is begun. Tiles overlap
by the reach of the kernels between, and what overlaps is computed more than once.

Here every tile of a block is a square of the same size that the block runs on as if it were a whole
image; the outputs that its own padding spoils are cut off. So a block on tiles is built, counted,
timed and exported like any other block. It computes the spoilt ring in vain, which an engine that
pads nowhere but at the image's edge need not.
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import lru_cache

from nassearch.space.architecture import BlockSpec


def in_patches(specs: Sequence[BlockSpec], grid: int) -> tuple[BlockSpec, ...]:
    """Blocks that follow one another, run on grid x grid tiles of the last one's output."""
    size = -(-specs[-1].out_resolution // grid)
    tiled = []
    for spec in reversed(specs):
        size = input_size(size, spec.get("kernel_size"), spec.stride, spec.resolution)
        tiled.append(replace(spec, grid=grid, tile=size))
    return tuple(reversed(tiled))


@lru_cache(maxsize=65536)
def input_size(size: int, kernel_size: int, stride: int, resolution: int) -> int:
    """Pixels a side of the input that `size` output pixels depend on, of `resolution` at most.

    It begins a whole number of strides into the image wherever the tile lies, also at the far edge.
    """
    reach = kernel_size // 2
    needed = _lead(reach, stride) + (size - 1) * stride + 1 + reach
    needed += (resolution - needed) % stride
    return min(needed, resolution)


@dataclass(frozen=True, slots=True)
class Cut:
    """Along one axis, what one tile takes: where it begins in the image, and of each block's output
    the pixels, from and up to, that go on; those of the last block are of no other tile.
    """

    first: int
    kept: tuple[tuple[int, int], ...]


def cuts(specs: Sequence[BlockSpec]) -> tuple[Cut, ...]:
    """The tiles along one axis of the blocks that `in_patches` gave, in order."""
    end = specs[-1].out_resolution
    size = -(-end // specs[-1].grid)
    found = []
    for done in range(0, end, size):
        begin = start = min(done, end - size)
        kept: list[tuple[int, int]] = []
        wanted = size
        for spec in reversed(specs):
            before = start * spec.stride - _lead(spec.get("kernel_size") // 2, spec.stride)
            before = max(0, min(before, spec.resolution - spec.tile))
            skipped = start - before // spec.stride
            kept.insert(0, (skipped, skipped + wanted))
            start, wanted = before, spec.tile
        kept[-1] = (kept[-1][0] + done - begin, kept[-1][1])
        found.append(Cut(start, tuple(kept)))
    return tuple(found)


def _lead(reach: int, stride: int) -> int:
    """The pixels before a tile, a whole number of strides."""
    return -(-reach // stride) * stride
