"""From an architecture to its genes, the indices of its choices."""

from nassearch.errors import ArchitectureError
from nassearch.space.architecture import NEUTRAL, Architecture
from nassearch.space.layout import Dimension, Layout


def encode(
    layout: Layout, architecture: Architecture, *, name: str, where: object
) -> tuple[int, ...]:
    """The genes of everything but the policy, of an architecture of the space `name`.

    Raises ArchitectureError, naming `where` and the place in it, where it is not in the space.
    """
    genes = [0] * len(layout.genes)

    def turn(dimension: Dimension, value: object, place: str) -> None:
        if value not in dimension.choices:
            raise ArchitectureError(
                f"{place} is {value}, outside the space {name}",
                where=where,
                fix=f"allowed: {', '.join(map(str, dimension.choices))}",
            )
        if dimension.gene is not None:
            genes[dimension.gene] = dimension.choices.index(value)

    turn(layout.resolution, architecture.resolution, "resolution")
    if architecture.patches is None:
        turn(layout.grid, 1, "patches.grid")
    else:
        turn(layout.grid, architecture.patches.grid, "patches.grid")
        turn(layout.patched_stages, architecture.patches.stages, "patches.stages")
    if len(architecture.stages) != len(layout.stages):
        raise ArchitectureError(
            f"{len(architecture.stages)} stages where the space {name} has {len(layout.stages)}",
            where=where,
            fix="list one stage for each of the space's, or name the space it is of",
        )
    for index, (stage, within) in enumerate(zip(architecture.stages, layout.stages, strict=True)):
        turn(within.width, stage.width, f"stages[{index}].width")
        turn(within.depth, len(stage.blocks), f"the depth of stages[{index}]")
        for number, (block, position) in enumerate(
            zip(stage.blocks, within.positions, strict=False)
        ):
            place = f"stages[{index}].blocks[{number}]"
            turn(position.op, block.op, f"{place}.op")
            alternative = position.alternatives[position.op.choices.index(block.op)]
            values = dict(block.choices)
            for key, dimension in alternative.dimensions:
                turn(dimension, values.pop(key, NEUTRAL), f"{place}.{key}")
            if values:
                raise ArchitectureError(
                    f"{place}.{next(iter(values))} is not a dimension of the space {name}",
                    where=where,
                    fix=f"allowed: {', '.join(key for key, _ in alternative.dimensions)}",
                )
    return tuple(genes)
