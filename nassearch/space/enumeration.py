"""Every architecture of a space, counted and listed."""

import itertools
import math
from collections.abc import Iterator, Sequence

from nassearch.space.architecture import Architecture, Block, Stage
from nassearch.space.layout import Layout, Position, StageLayout, interned_block


def num_architectures(layout: Layout, precisions: Sequence[str], *, num_ends: int) -> int:
    """How many different architectures there are, exactly.

    With `precisions` each block has one of them, and so has each of the `num_ends` blocks that
    stand in no stage.
    """
    each = max(1, len(precisions))
    total = len(layout.resolution.choices) * len(layout.schedules) * each**num_ends
    for stage in layout.stages:
        blocks = [
            each
            * sum(
                math.prod(len(dimension.choices) for _, dimension in alternative.dimensions)
                for alternative in position.alternatives
            )
            for position in stage.positions
        ]
        depths = sum(math.prod(blocks[:depth]) for depth in stage.depth.choices)
        total *= len(stage.width.choices) * depths
    return total


def architectures(
    layout: Layout, precisions: Sequence[str], *, num_ends: int
) -> Iterator[Architecture]:
    """Every architecture once, in the order of the genes."""
    per_stage = [_stage_choices(stage) for stage in layout.stages]
    for resolution, patches in itertools.product(layout.resolution.choices, layout.schedules):
        for stages in itertools.product(*per_stage):
            num_blocks = num_ends + sum(len(stage.blocks) for stage in stages)
            policies: Iterator[tuple[str, ...] | None] = (
                itertools.product(precisions, repeat=num_blocks) if precisions else iter((None,))
            )
            for policy in policies:
                yield Architecture(resolution, stages, patches, policy)


def _stage_choices(stage: StageLayout) -> list[Stage]:
    choices = []
    for width in stage.width.choices:
        for depth in stage.depth.choices:
            blocks = [_block_choices(position) for position in stage.positions[:depth]]
            choices += [Stage(width, combination) for combination in itertools.product(*blocks)]
    return choices


def _block_choices(position: Position) -> list[Block]:
    blocks = []
    for alternative in position.alternatives:
        names = [name for name, _ in alternative.dimensions]
        for values in itertools.product(
            *(dimension.choices for _, dimension in alternative.dimensions)
        ):
            named = tuple(zip(names, values, strict=True))
            blocks.append(interned_block(alternative.op, named))
    return blocks
