"""A trace's operators in a row, cut where one square image alone passes."""

from collections.abc import Iterator, Sequence

from nassearch.adoption.exported_program import Operator
from nassearch.space.graph_config import INPUT


def segments(operators: Sequence[Operator]) -> Iterator[list[Operator]]:
    """The operators between places where one square image alone passes."""
    ordered = list(parameters_late(operators))
    last = {read: number for number, operator in enumerate(ordered) for read in operator.of}
    segment: list[Operator] = []
    alive: set[str] = set()
    for number, operator in enumerate(ordered):
        segment.append(operator)
        alive.add(operator.id)
        alive = {value for value in alive if last.get(value, -1) > number}
        reaches_input = last.get(INPUT, -1) > number
        sizes = operator.sizes
        is_image = len(sizes) == 3 and sizes[1] == sizes[2] and operator.batched
        if alive == {operator.id} and is_image and not reaches_input:
            yield segment
            segment = []
    if segment:
        yield segment


def parameters_late(operators: Sequence[Operator]) -> Iterator[Operator]:
    """The operators with each parameter right before what reads it."""
    waiting = {operator.id: operator for operator in operators if operator.op == "parameter"}
    for operator in operators:
        if operator.op == "parameter":
            continue
        for read in operator.of:
            if read in waiting:
                yield waiting.pop(read)
        yield operator
