"""The one topology walk: the only place where stride, resolution and channels are worked out.

`lower` gives the blocks of one architecture. `slots` gives, for every place a block can stand, the
blocks that can stand there as a table over genes, so that a cost that is additive over blocks is
looked up for millions of architectures at once. Both use the same steps.
"""

import itertools
import math
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from functools import lru_cache

from nassearch.space.architecture import (
    Architecture,
    Block,
    BlockSpec,
    Choices,
    Value,
    Wiring,
    canonical_choices,
)
from nassearch.space.block_graph import BlockGraph
from nassearch.space.layout import Position, stage_graph
from nassearch.space.layout_inference import axis_size
from nassearch.space.patching import in_patches
from nassearch.space.search_space import SearchSpace


@dataclass(frozen=True, slots=True)
class Slot:
    """A place for a block, and the block that stands there for each value of the genes it reads.

    `specs` is row-major over `shape`, one axis for each of `genes`; None where the stage is not
    that deep. Genes from `num_own` on are read only because the block may be run patch by patch:
    the schedule's, and those of later blocks, whose kernels say how large its tiles are.
    """

    name: str
    genes: tuple[int, ...]
    shape: tuple[int, ...]
    specs: tuple[BlockSpec | None, ...]
    num_own: int


@lru_cache(maxsize=65536)
def lower(
    space: SearchSpace, architecture: Architecture, *, resolution: int | None = None
) -> tuple[BlockSpec, ...]:
    """The blocks of `architecture`, stem first, head last.

    On images of `resolution` pixels where given, which the space need not offer (a training may
    begin on small ones). Raises ArchitectureError where the architecture is not in the space.
    """
    space.check(architecture)
    resolution = resolution if resolution is not None else architecture.resolution
    pixels = _resolutions(space, resolution)
    channels = _stem_width(space)
    specs = _stem(space, resolution)
    patches = architecture.patches
    for index, stage in enumerate(architecture.stages):
        for number, block in enumerate(stage.blocks):
            specs.append(_block(space, index, number, block, channels, stage.width, pixels))
            channels = stage.width
        if patches is not None and patches.stages == index + 1:
            specs = list(in_patches(specs, patches.grid))
        specs[-1] = _wired(space, specs[-1], index)
    if space.definition.has_head:
        widths = [stage.width for stage in architecture.stages]
        specs.append(_head(space, channels, pixels, widths))
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
    if space.definition.patches is not None:
        found = list(_scheduled(space, found))
    if space.definition.has_head:
        found.append(_head_slot(space, pixels))
    return tuple(found)


def head_stages(space: SearchSpace) -> tuple[int, ...]:
    """The stages whose widths the head depends on, the last stage's last."""
    last = len(space.definition.stages) - 1
    return (*sorted({*(space.definition.head.taps or {}).values()} - {last}), last)


def _head_slot(space: SearchSpace, pixels: Sequence[list[int]]) -> Slot:
    stages = head_stages(space)
    widths = [space.layout.stages[index].width for index in stages]
    every: list[int] = [0] * len(space.definition.stages)
    heads = []
    for scale, *chosen in itertools.product(pixels, *(width.choices for width in widths)):
        for index, width in zip(stages, chosen, strict=True):
            every[index] = width
        heads.append(_head(space, every[-1], scale, every))
    axes = [(space.layout.resolution.gene, len(pixels))]
    return _slot("head", axes + [(width.gene, len(width.choices)) for width in widths], heads)


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
        if stage.graph is not None:
            graph = space.graphs[stage_graph(stage, 0)]
            pixels.append(graph.out_resolution(pixels[-1]))
        else:
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
            norm_eps=space.norm_eps,
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
    first, own = number == 0, space.definition.stages[stage]
    stride, choices = own.stride if first else 1, block.choices
    if own.shortcut is not None and stride > 1:  # elsewhere it averages over single pixels
        choices = canonical_choices({**dict(choices), "shortcut": own.shortcut})
    graph = None if own.graph is None else space.graphs[stage_graph(own, number)]
    return BlockSpec(
        op=block.op if graph is None else graph.label,
        in_channels=in_channels,
        out_channels=width,
        resolution=pixels[stage] if first else pixels[stage + 1],
        stride=stride,
        choices=choices,
        norm_eps=space.norm_eps,
        graph=graph,
    )


def _wired(space: SearchSpace, spec: BlockSpec, stage: int) -> BlockSpec:
    """The last block of a stage, with what is taken from there."""
    outputs = space.definition.outputs
    if outputs is None:
        return spec
    taken = tuple(
        (number, name) for number, (name, place) in enumerate(outputs.items()) if place == stage
    )
    is_read = stage in (space.definition.head.taps or {}).values()
    return replace(spec, wiring=Wiring(taken, stage if is_read else None))


def _head(
    space: SearchSpace, in_channels: int, pixels: Sequence[int], widths: Sequence[int]
) -> BlockSpec:
    head, resolution = space.definition.head, pixels[-1]
    if head.graph is not None:
        spec = _traced_head(space, space.graphs[head.graph], in_channels, resolution)
        outputs = space.definition.outputs
        if outputs is None:
            return spec
        graph, reads = space.graphs[head.graph], tuple((head.taps or {}).values())
        places = {place: (number, name) for number, (name, place) in enumerate(outputs.items())}
        given = tuple(places[node] for node in graph.definition.outputs or ())
        return replace(
            spec,
            out_channels=graph.full_width,
            taps=tuple((widths[stage], pixels[stage + 1]) for stage in reads),
            wiring=Wiring(given, None, reads),
        )
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
        "head",
        in_channels,
        space.num_classes,
        resolution,
        1,
        canonical_choices(choices),
        norm_eps=space.norm_eps,
    )


def _traced_head(
    space: SearchSpace, graph: BlockGraph, in_channels: int, resolution: int
) -> BlockSpec:
    """A head that was traced has no genes: what lies within follows the channels it is given."""
    full = axis_size(graph.input_axis, graph.definition.symbols)
    ratio = round(min(1.0, in_channels / full), 4) if graph.inner_symbols else 1.0
    choices: dict[str, Value] = {"inner_ratio": ratio} if ratio < 1 else {}
    return BlockSpec(
        graph.label,
        in_channels,
        space.num_classes,
        resolution,
        1,
        canonical_choices(choices),
        graph=graph,
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
        len(elastic),
    )


# -- patch by patch --------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class LoweredPosition:
    """Where a block can stand: the stage, -1 for the stem, and the block's number in it."""

    stage: int
    number: int


def _scheduled(space: SearchSpace, plain: Sequence[Slot]) -> Iterator[Slot]:
    """The slots, those of the stages that may be run patch by patch read also over schedules."""
    layout = space.layout
    places = [LoweredPosition(-1, 0)] if space.definition.stem is not None else []
    for index, stage in enumerate(layout.stages):
        places += [LoweredPosition(index, number) for number in range(len(stage.positions))]
    last = layout.patched_stages.choices[-1]
    patched = [place for place in places if place.stage < last]
    for number, slot in enumerate(plain):
        if number < len(patched):
            yield _over_schedules(space, slot, patched[number].stage, patched[number + 1 :])
        else:
            yield slot


def _over_schedules(
    space: SearchSpace, slot: Slot, stage: int, later: Sequence[LoweredPosition]
) -> Slot:
    """`slot` read also over the schedule and over what says which kernels `later` blocks have."""
    layout = space.layout
    reads = [layout.grid.gene, layout.patched_stages.gene]
    for place in later:
        reads.append(layout.stages[place.stage].depth.gene)
        reads += layout.stages[place.stage].positions[place.number].kernel_genes()
    more = [gene for gene in dict.fromkeys(reads) if gene is not None and gene not in slot.genes]
    genes = (*slot.genes, *more)
    shape = (*slot.shape, *(len(space.genes[gene].choices) for gene in more))
    repeats = math.prod(shape[len(slot.shape) :])
    specs = []
    values = [0] * len(space.genes)
    for index, choice in enumerate(itertools.product(*map(range, shape))):
        spec = slot.specs[index // repeats]
        for gene, value in zip(genes, choice, strict=True):
            values[gene] = value
        patches = layout.patches(layout.grid.value(values), layout.patched_stages.value(values))
        if spec is not None and patches is not None and stage < patches.stages:
            chain = [spec]
            for place in later:
                own = layout.stages[place.stage]
                if place.stage < patches.stages and place.number < own.depth.value(values):
                    block = own.positions[place.number].block(values)
                    chain.append(_after(space, chain[-1], place, block))
            first = _first_in_patches(tuple(chain), patches.grid)
            spec = replace(first, norm_eps=spec.norm_eps)  # specs are equal whatever their epsilon
        specs.append(spec)
    return Slot(slot.name, genes, shape, tuple(specs), slot.num_own)


def _after(
    space: SearchSpace, before: BlockSpec, place: LoweredPosition, block: Block
) -> BlockSpec:
    """A block that follows another, as far as the size of tiles depends on it."""
    stride = space.definition.stages[place.stage].stride if place.number == 0 else 1
    kernel: Choices = (("kernel_size", dict(block.choices)["kernel_size"]),)
    return BlockSpec(block.op, 0, 0, before.out_resolution, stride, kernel)


@lru_cache(maxsize=65536)
def _first_in_patches(chain: tuple[BlockSpec, ...], grid: int) -> BlockSpec:
    return in_patches(chain, grid)[0]
