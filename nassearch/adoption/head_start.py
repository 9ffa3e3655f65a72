"""Where the head of a network with named outputs begins: after it, the body is parts in a row."""

from collections.abc import Collection, Sequence

from nassearch.adoption.dependency import LAYERS
from nassearch.adoption.exported_program import Operator
from nassearch.adoption.segments import segments
from nassearch.space.graph_config import INPUT

_ENLARGES = ("upsample", "conv_transpose")


def head_start(ordered: Sequence[Operator], outputs: Sequence[str]) -> int | None:
    """Where the head begins: so that it reads the most places of a body with the most of them.

    A head has a layer before each of its outputs. Where there is one, it gives all that nothing
    reads: those are no feature maps, whose channels may be cut, but what the network is for.
    """
    ends = set(outputs).difference(read for operator in ordered for read in operator.of)
    best: tuple[int, int, int] | None = None
    last_start = len(ordered) - (len(outputs) == 1)
    layers = _layers_before(ordered)
    for start in range(1, last_start + 1):
        body, rest = ordered[:start], ordered[start:]
        made = {operator.id for operator in body}
        kept = {read for one in rest for read in one.of if read in made or read == INPUT}
        kept |= made.intersection(outputs)
        if rest and ends & made:
            continue
        if any(
            layers[value].isdisjoint(one.id for one in rest)
            for value in outputs
            if value not in made
        ):
            continue
        if not _ends_cut(body) or _joins_within_a_block(body[-1].id, rest, kept):
            continue
        cuts = {segment[-1].id for segment in segments(body)}
        if kept <= cuts and (best is None or (len(kept), len(cuts)) > best[:2]):
            best = (len(kept), len(cuts), start)
    return None if best is None else best[2]


def _joins_within_a_block(end: str, rest: Sequence[Operator], kept: Collection[str]) -> bool:
    """Whether what the body's `end` gives meets an earlier value unless it was enlarged before.

    So it does within a residual block, or in a gate; a decoder enlarges what it joins.
    """
    from_end, from_taps = {end}, set(kept) - {end}
    for operator in rest:
        is_small = any(read in from_end for read in operator.of) and operator.op not in _ENLARGES
        is_tapped = any(read in from_taps for read in operator.of)
        if is_small and is_tapped:
            return True
        if is_small:
            from_end.add(operator.id)
        if is_tapped:
            from_taps.add(operator.id)
    return False


def _ends_cut(body: Sequence[Operator]) -> bool:
    """Whether the last operator gives a square image."""
    sizes = body[-1].sizes
    return body[-1].op != "parameter" and len(sizes) == 3 and sizes[1] == sizes[2]


def _layers_before(ordered: Sequence[Operator]) -> dict[str, frozenset[str]]:
    """For each operator the last layers that it depends on."""
    found: dict[str, frozenset[str]] = {INPUT: frozenset()}
    for operator in ordered:
        before = frozenset().union(*(found[read] for read in operator.of))
        found[operator.id] = frozenset((operator.id,)) if operator.op in LAYERS else before
    return found
