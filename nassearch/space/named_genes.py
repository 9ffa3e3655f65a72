"""Networks as tables name them: a cell for each gene, or one list of numbers that stand for ops."""

import re
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from nassearch.errors import ArchitectureError
from nassearch.space.architecture import NEUTRAL, Architecture
from nassearch.space.layout import Dimension, Position
from nassearch.space.search_space import SearchSpace
from nassearch.space.space_config import NumberedBlockConfig

_SHOWN = 4


def decode_cells(space: SearchSpace, cells: Mapping[str, object]) -> Architecture:
    """The network of `space` whose genes, by their names, have the choices in `cells`.

    Cells of genes that say nothing, those of blocks beyond a stage's depth and of ops that a block
    does not have, may be left out or empty.

    Raises:
        ArchitectureError: A gene that says something has no cell, or no such choice.
    """
    return _decode(space, {}, cells)


def decode_numbers(
    space: SearchSpace, numbers: Sequence[str], cells: Mapping[str, object]
) -> Architecture:
    """The network of `space` whose blocks, stem and head apart, `numbers` say in their order.

    There is a number for each place of every stage, and the space's `op_numbers` say what it stands
    for. What they leave open, a depth or a resolution that may be chosen, `cells` say by the names
    of the genes.

    Raises:
        ArchitectureError: There are too few or too many, one is not known or stands for what its
            stage does not offer, or something stays open.
    """
    known = space.definition.op_numbers or {}
    places = _places(space)
    if len(numbers) != len(places):
        raise ArchitectureError(
            f"has {len(numbers)} numbers, a network of {space.name} has {len(places)} blocks",
            where="op numbers",
            fix="give one for each block of every stage, in their order, stem and head left out",
        )
    said: dict[int, int] = {}
    for (place, position), number in zip(places, numbers, strict=True):
        if number not in known:
            raise ArchitectureError(
                f"is {number}, which stands for no op",
                where=place,
                fix=f"the space's op_numbers know {', '.join(known) or 'none'}",
            )
        said |= _numbered(place, position, number, known[number])
    return _decode(space, said, cells)


def split_numbers(text: str) -> list[str]:
    """The numbers, or words, of '7-8-1', '[7, 8, 1]' or '7 8 1'."""
    return [part for part in re.split(r"[-,;|\s]+", text.strip().strip("[]()")) if part]


def num_places(space: SearchSpace) -> int:
    """How many places for a block there are in a space, stem and head apart."""
    return len(_places(space))


def _places(space: SearchSpace) -> list[tuple[str, Position]]:
    """Every place for a block with its name, in order."""
    return [
        (f"stages[{index}].blocks[{number}]", position)
        for index, stage in enumerate(space.layout.stages)
        for number, position in enumerate(stage.positions)
    ]


def _numbered(
    place: str, position: Position, number: str, block: NumberedBlockConfig
) -> dict[int, int]:
    """Gene -> choice of one place, as a number says them."""

    def turn(dimension: Dimension, name: str, value: object) -> dict[int, int]:
        if value not in dimension.choices:
            raise ArchitectureError(
                f"{place} is {number}, whose {name} is {value}",
                where="op_numbers",
                fix=f"its stage offers {', '.join(map(str, dimension.choices))}",
            )
        return {} if dimension.gene is None else {dimension.gene: dimension.choices.index(value)}

    said = turn(position.op, "op", block.op)
    dimensions = dict(position.alternatives[position.op.choices.index(block.op)].dimensions)
    for name, value in block.choices().items():
        said |= turn(dimensions.get(name, Dimension(None, (NEUTRAL,))), name, value)
    return said


def _decode(
    space: SearchSpace, said: Mapping[int, int], cells: Mapping[str, object]
) -> Architecture:
    """The network of the genes that are `said`, the others being in `cells`."""
    genes = np.zeros(len(space.genes), dtype=np.uint8)
    unsaid = []
    for place, gene in enumerate(space.genes):
        text = _text(cells.get(gene.name))
        if place in said:
            genes[place] = said[place]
        elif text:
            genes[place] = _choice(gene.name, gene.choices, text)
        else:
            unsaid.append(place)
    others = np.tile(genes, (len(unsaid), 1))
    others[np.arange(len(unsaid)), unsaid] = 1
    matters = space.canonical(others)[np.arange(len(unsaid)), unsaid] == 1
    missing = [
        space.genes[place].name for place, is_open in zip(unsaid, matters, strict=True) if is_open
    ]
    if missing:
        more = f" and {len(missing) - _SHOWN} more" if len(missing) > _SHOWN else ""
        raise ArchitectureError(
            f"do not say {', '.join(missing[:_SHOWN])}{more}",
            where="columns",
            fix="add a column of that name, a choice in each row",
        )
    return space.decode(genes.tolist())


def _choice(name: str, choices: tuple[Any, ...], text: str) -> int:
    for index, choice in enumerate(choices):
        if text == str(choice) or (not isinstance(choice, str) and _number(text) == choice):
            return index
    raise ArchitectureError(
        f"is {text}",
        where=name,
        fix=f"allowed: {', '.join(map(str, choices))}",
    )


def _number(text: str) -> float | None:
    try:
        return float(text)
    except ValueError:
        return None


def _text(cell: object) -> str:
    """A cell's text; nothing where it is empty (which pandas says as NaN)."""
    return "" if cell is None or cell != cell else str(cell).strip()
