"""Once-for-all's encoding of a network: lists of kernel sizes, expand ratios and depths."""

import re
from collections.abc import Sequence

from nassearch.errors import ArchitectureError
from nassearch.space.architecture import Architecture, Block, Stage, canonical_choices
from nassearch.space.layout import StageLayout
from nassearch.space.search_space import SearchSpace


def decode_lists(
    space: SearchSpace,
    *,
    resolution: int,
    kernel_sizes: Sequence[float],
    expand_ratios: Sequence[float],
    depths: Sequence[float],
) -> Architecture:
    """The network of `space` that lists of its choices name.

    Stages without choices stand in none of the lists. Of every other stage the first two have an
    entry for each place, also for those that its depth leaves out, and `depths` has one; stages of
    one depth may be left out of all three (once-for-all's own lists have ProxylessNAS's last
    block, those of others do not), and are then the space's smallest.

    Raises:
        ArchitectureError: A list has another length, or the network is none of the space.
    """
    layouts = space.layout.stages
    chosen = [n for n, stage in enumerate(layouts) if _has_choices(stage)]
    deep = [n for n in chosen if layouts[n].depth.gene is not None]
    listed = chosen if len(kernel_sizes) == _num_places(layouts, chosen) else deep
    places = _num_places(layouts, listed)
    for name, found in (("kernel sizes", kernel_sizes), ("expand ratios", expand_ratios)):
        _check_length(space, name, len(found), {places})
    _check_length(space, "depths", len(depths), {len(deep), len(listed)})
    in_depths = listed if len(depths) == len(listed) else deep
    stages = list(space.smallest.stages)
    first = 0
    for number in listed:
        layout, stage = layouts[number], stages[number]
        depth = int(layout.depth.choices[0])
        if number in in_depths:
            depth = int(depths[in_depths.index(number)])
        count = min(depth, len(layout.positions))
        blocks = [
            _block(stage.blocks[0], kernel_sizes[first + at], expand_ratios[first + at])
            for at in range(count)
        ]
        if count < depth:  # more than there are places for: said with the space's own words
            blocks += [blocks[-1]] * (depth - count)
        stages[number] = Stage(stage.width, tuple(blocks))
        first += len(layout.positions)
    return space.check(Architecture(resolution, tuple(stages)))


def parse_list(text: object) -> list[float]:
    """The numbers of '3-5-7' or '[3, 5, 7]'; ValueError where one is none."""
    parts = re.split(r"[-,;\s]+", str(text).strip().strip("[]()").strip())
    return [int(part) if part.isdecimal() else float(part) for part in parts]


def _has_choices(stage: StageLayout) -> bool:
    return stage.depth.gene is not None or any(position.genes() for position in stage.positions)


def _num_places(layouts: Sequence[StageLayout], which: Sequence[int]) -> int:
    return sum(len(layouts[number].positions) for number in which)


def _check_length(space: SearchSpace, name: str, found: int, wanted: set[int]) -> None:
    if found not in wanted:
        counts = " or ".join(map(str, sorted(wanted)))
        raise ArchitectureError(
            f"has {found} {name}, a network of {space.name} has {counts}",
            where="lists",
            fix="give one for each place of every stage that can be chosen",
        )


def _block(block: Block, kernel_size: float, expand_ratio: float) -> Block:
    choices = {**dict(block.choices), "kernel_size": kernel_size, "expand_ratio": expand_ratio}
    return Block(block.op, canonical_choices(choices))
