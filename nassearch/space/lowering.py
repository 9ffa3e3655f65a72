"""The one topology walk: the only place where stride, resolution and channels are worked out.

`lower` gives the blocks of one architecture. `slots` gives, for every place a block can stand, the
blocks that can stand there as a table over genes, so that a cost that is additive over blocks is
looked up for millions of architectures at once. Both use the same steps.
"""

import itertools
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from functools import lru_cache

from nassearch.space.architecture import (
    Architecture,
    Block,
    BlockSpec,
    Value,
    canonical_choices,
)
from nassearch.space.layout import Position
from nassearch.space.search_space import SearchSpace


@dataclass(frozen=True, slots=True)
class Slot:
    """A place for a block, and the block that stands there for each value of the genes it reads.

    `specs` is row-major over `shape`, one axis for each of `genes`; None where the stage is not
    that deep.
    """

    name: str
    genes: tuple[int, ...]
    shape: tuple[int, ...]
    specs: tuple[BlockSpec | None, ...]


@lru_cache(maxsize=65536)
def lower(space: SearchSpace, architecture: Architecture) -> tuple[BlockSpec, ...]:
    """The blocks of `architecture`, stem first, head last.

    Raises ArchitectureError where the architecture is not in the space.
    """
    space.check(architecture)
    pixels = _resolutions(space, architecture.resolution)
    channels = _stem_width(space)
    specs = _stem(space, architecture.resolution)
    for index, stage in enumerate(architecture.stages):
        for number, block in enumerate(stage.blocks):
            specs.append(_block(space, index, number, block, channels, stage.width, pixels))
            channels = stage.width
    specs.append(_head(space, channels, pixels[-1]))
    return tuple(specs)


@lru_cache(maxsize=64)
def slots(space: SearchSpace) -> tuple[Slot, ...]:
    """Every place a block can stand in the space, stem first, head last."""
    layout = space.layout
    pixels = [_resolutions(space, resolution) for resolution in space.resolutions]
    found = []
    if space.definition.stem is not None:
        stems = [_stem(space, resolution)[0] for resolution in space.resolutions]
        found.append(_slot("stem", [(layout.resolution.gene, len(stems))], stems))
    channels_in: tuple[int | None, tuple[int, ...]] = (None, (_stem_width(space),))
    for index, stage in enumerate(layout.stages):
        width = (stage.width.gene, stage.width.choices)
        for number, position in enumerate(stage.positions):
            axes = [(layout.resolution.gene, len(pixels)), (stage.width.gene, len(width[1]))]
            first = number == 0
            if first:
                axes.append((channels_in[0], len(channels_in[1])))
            axes.append((stage.depth.gene, len(stage.depth.choices)))
            axes += [(gene, len(space.genes[gene].choices)) for gene in position.genes()]
            specs: list[BlockSpec | None] = [
                _block(space, index, number, block, wide if not first else before, wide, scale)
                if number < depth
                else None
                for scale, wide, before, depth, block in itertools.product(
                    pixels,
                    width[1],
                    channels_in[1] if first else (0,),
                    stage.depth.choices,
                    _blocks_by_gene(space, position),
                )
            ]
            found.append(_slot(f"stages[{index}].blocks[{number}]", axes, specs))
        channels_in = width
    heads = [
        _head(space, channels, scale[-1])
        for scale, channels in itertools.product(pixels, channels_in[1])
    ]
    axes = [(layout.resolution.gene, len(pixels)), (channels_in[0], len(channels_in[1]))]
    found.append(_slot("head", axes, heads))
    return tuple(found)


def block_specs(space: SearchSpace) -> tuple[BlockSpec, ...]:
    """Every block that can occur in the space, each once, in the order of the walk."""
    return unique(spec for slot in slots(space) for spec in slot.specs if spec is not None)


def unique(specs: Iterable[BlockSpec]) -> tuple[BlockSpec, ...]:
    """The specs without repetitions, in order."""
    return tuple(dict.fromkeys(specs))


# -- the steps -------------------------------------------------------------------------------------


def _resolutions(space: SearchSpace, resolution: int) -> list[int]:
    """Input pixels of each stage, then of the head."""
    stem = space.definition.stem
    pixels = [-(-resolution // stem.stride) if stem is not None else resolution]
    for stage in space.definition.stages:
        pixels.append(-(-pixels[-1] // stage.stride))
    return pixels


def _stem_width(space: SearchSpace) -> int:
    stem = space.definition.stem
    return stem.width if stem is not None else space.in_channels


def _stem(space: SearchSpace, resolution: int) -> list[BlockSpec]:
    stem = space.definition.stem
    if stem is None:
        return []
    choices: dict[str, Value] = {"kernel_size": stem.kernel_size, "activation": stem.activation}
    return [
        BlockSpec(
            stem.op,
            space.in_channels,
            stem.width,
            resolution,
            stem.stride,
            canonical_choices(choices),
        )
    ]


def _block(
    space: SearchSpace,
    stage: int,
    number: int,
    block: Block,
    in_channels: int,
    width: int,
    pixels: list[int],
) -> BlockSpec:
    first = number == 0
    return BlockSpec(
        op=block.op,
        in_channels=in_channels,
        out_channels=width,
        resolution=pixels[stage] if first else pixels[stage + 1],
        stride=space.definition.stages[stage].stride if first else 1,
        choices=block.choices,
    )


def _head(space: SearchSpace, in_channels: int, resolution: int) -> BlockSpec:
    head = space.definition.head
    choices: dict[str, Value] = {}
    if head.expand_width is not None:
        choices["expand_width"] = head.expand_width
    if head.feature_width is not None:
        choices["feature_width"] = head.feature_width
        if head.feature_bias:
            choices["feature_bias"] = 1
    if choices:  # what has neither layer applies no activation
        choices["activation"] = head.activation
    if head.norm is not None:
        choices["norm"] = head.norm
    return BlockSpec(
        "head", in_channels, space.num_classes, resolution, 1, canonical_choices(choices)
    )


def _blocks_by_gene(space: SearchSpace, position: Position) -> list[Block]:
    """The block for each combination of the position's own genes, row-major."""
    genes = [0] * len(space.genes)
    owned = position.genes()
    blocks = []
    for values in itertools.product(*(range(len(space.genes[gene].choices)) for gene in owned)):
        for gene, value in zip(owned, values, strict=True):
            genes[gene] = value
        blocks.append(position.block(genes))
    return blocks


def _slot(name: str, axes: list[tuple[int | None, int]], specs: Sequence[BlockSpec | None]) -> Slot:
    elastic = [(gene, length) for gene, length in axes if gene is not None]
    return Slot(
        name,
        tuple(gene for gene, _ in elastic),
        tuple(length for _, length in elastic),
        tuple(specs),
    )
