"""Which network a row of a CSV is: the forms in which its columns may say so.

- `genes`, a space's gene vector, `0-2-1`, as a search's candidates.csv has it.
- Once-for-all's lists: resolution, kernel sizes, expand ratios and depths (`LISTS`).
- A column for each gene, by its name in the space: `stages[0].blocks[1].kernel_size`.
- JSON: an architecture as an export holds it, or the cells of one of the other forms by name.
- Numbers or words for the op of each block, `7-8-1`, which the space's `op_numbers` explain.
"""

import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from nassearch.errors import ArchitectureError, ConfigError, TableError
from nassearch.space import Architecture, SearchSpace
from nassearch.space.named_genes import decode_cells, decode_numbers, num_places, split_numbers
from nassearch.space.once_for_all import decode_lists, parse_list

Row = Mapping[Any, Any]
GENES, RESOLUTION = "genes", "resolution"
LISTS = (
    (RESOLUTION, "ks20", "expand20", "depth5"),
    (RESOLUTION, "ks", "e", "d"),
    ("r", "ks", "e", "d"),
)
"""The columns of once-for-all's lists, as its community and as its code call them."""


@dataclass(frozen=True)
class NetworkColumns:
    """The columns that say what network a row is, and how they are read.

    `column` is the one that says it where one does; `resolution` one that holds pixels, offered by
    a space or not.
    """

    names: tuple[str, ...]
    read: Callable[[Row, SearchSpace], Architecture]
    column: str = ""
    resolution: str | None = None

    def network(self, row: Row, space: SearchSpace, *, where: str) -> Architecture:
        """The network of a row; TableError, naming `where`, where it is none of the space."""
        try:
            return self.read(row, space)
        except (ConfigError, ValueError, RecursionError) as error:
            problem = "nested too deeply" if isinstance(error, RecursionError) else error
            is_named = not self.column or str(problem).startswith(f"{self.column}: ")
            column = "" if is_named else f"{self.column}: "
            raise TableError(
                f"is not a network of {space.name} ({column}{problem})",
                where=where,
                fix="name the space that the row is of, or remove the row",
            ) from error


def network_columns(
    names: Sequence[str], first: Row, space: SearchSpace, *, column: str | None = None
) -> NetworkColumns | None:
    """How columns called `names` say a network of `space`; None where they do not.

    Args:
        names: All columns of the file.
        first: The first row, whose cells tell JSON from numbers.
        space: Whose networks they are.
        column: The one that says it, where the user named it.
    """
    if column is not None:
        return _column(column, names, first, space)
    if GENES in names:
        return NetworkColumns((GENES,), _of_genes(GENES), GENES)
    for lists in LISTS:
        if {*lists} <= {*names}:
            return NetworkColumns(lists, _of_lists(lists), resolution=lists[0])
    single = [name for name in names if _is_json(first.get(name)) or _fits(first.get(name), space)]
    if single:
        return _column(single[0], names, first, space)
    genes = tuple(gene.name for gene in space.genes if gene.name in names)
    if any(name != RESOLUTION for name in genes):
        return NetworkColumns(genes, lambda row, owner: decode_cells(owner, row))
    return None


def _column(name: str, names: Sequence[str], first: Row, space: SearchSpace) -> NetworkColumns:
    """How the column called `name` says a network."""
    if _is_json(first.get(name)):
        return NetworkColumns((name,), _of_json(name), name)
    if name == GENES or space.definition.op_numbers is None:
        return NetworkColumns((name,), _of_genes(name), name)
    beside = tuple(gene.name for gene in space.genes if gene.name in names)
    resolution = RESOLUTION if RESOLUTION in names else None
    own = (name, *(item for item in dict.fromkeys((*beside, resolution)) if item is not None))

    def read(row: Row, owner: SearchSpace) -> Architecture:
        return decode_numbers(owner, split_numbers(str(row[name])), row)

    return NetworkColumns(own, read, name, resolution)


def _is_json(cell: object) -> bool:
    return str(cell).lstrip()[:1] == "{"


def _fits(cell: object, space: SearchSpace) -> bool:
    """Whether a cell has a number that the space's `op_numbers` know for each block."""
    known = space.definition.op_numbers
    if known is None:
        return False
    numbers = split_numbers(str(cell))
    return len(numbers) == num_places(space) and {*numbers} <= {*known}


def _of_genes(name: str) -> Callable[[Row, SearchSpace], Architecture]:
    def read(row: Row, space: SearchSpace) -> Architecture:
        numbers = split_numbers(str(row[name]))
        if not all(number.isdecimal() for number in numbers):
            raise ArchitectureError(
                f"'{row[name]}' is no list of numbers",
                where=name,
                fix="write a space's genes as 0-2-1",
            )
        return space.decode(list(map(int, numbers)))

    return read


def _of_lists(names: Sequence[str]) -> Callable[[Row, SearchSpace], Architecture]:
    def numbers(row: Row, name: str) -> list[float]:
        try:
            return parse_list(row[name])
        except ValueError as error:
            raise ArchitectureError(
                f"'{row[name]}' is no list of numbers", where=name, fix="write it as 3-5-7"
            ) from error

    def read(row: Row, space: SearchSpace) -> Architecture:
        return decode_lists(
            space,
            resolution=int(numbers(row, names[0])[0]),
            kernel_sizes=numbers(row, names[1]),
            expand_ratios=numbers(row, names[2]),
            depths=numbers(row, names[3]),
        )

    return read


def _of_json(name: str) -> Callable[[Row, SearchSpace], Architecture]:
    def read(row: Row, space: SearchSpace) -> Architecture:
        try:
            value = json.loads(str(row[name]))
        except ValueError as error:
            raise ArchitectureError(
                f"is no JSON ({error})",
                where=name,
                fix='write it as {"resolution": 224, "stages": [...]}',
            ) from error
        if not isinstance(value, dict) or "stages" in value:
            return space.check(Architecture.from_dict(value, where=name))
        inside = network_columns(list(map(str, value)), value, space)
        if inside is None:
            raise ArchitectureError(
                f"has the keys {', '.join(value)}",
                where=name,
                fix="it needs resolution and stages, r, ks, e and d, or the names of genes",
            )
        return inside.read(value, space)

    return read
