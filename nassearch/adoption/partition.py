"""A trace cut into parts, one tensor alone passing from each to the next, and parts into stages.

A module whose operators add or concatenate what they were given is a block, and with it every
module of its class. What lies outside blocks is cut before each convolution. A part must be able to
have other channels out than in, or else give its input's: two that cannot are one.

A stage begins with a part whose shape is another than its input's; those after it give the shape
they are given and can be left out: they add their input, or repeat what the part before them does.
"""

from collections import Counter
from collections.abc import Collection, Iterable, Sequence
from dataclasses import dataclass
from itertools import pairwise

from torch import nn

from nassearch.adoption.dependency import LAYERS, Dependencies
from nassearch.adoption.exported_program import Operator
from nassearch.adoption.head_start import head_start
from nassearch.adoption.segments import parameters_late, segments
from nassearch.adoption.trace import Trace
from nassearch.errors import AdoptionError
from nassearch.space.graph_config import CONSTANT, INPUT, Axis

_JOINS = ("add", "concat", "sub")
_GLOBAL_POOLS = ("adaptive_avg_pool", "adaptive_max_pool", "mean")
_POOLS = ("max_pool", "avg_pool", *_GLOBAL_POOLS)
_MOST_MERGED = 4
_CONTAINERS = (nn.Sequential, nn.ModuleList, nn.ModuleDict)


@dataclass
class Part:
    """Operators in a row that read one value, and the module that they are of."""

    operators: list[Operator]
    reads: str
    path: str
    is_block: bool
    num_merged: int = 1
    """Parts that it was before those that cannot have channels of their own were joined."""
    repeats: bool = False
    """Whether it does what the part before it does, to as many channels and pixels."""

    @property
    def gives(self) -> str:
        return self.operators[-1].id


@dataclass
class Parts:
    """The stages of a network, each of parts in a row, and its head, which may read several.

    `taps` are the values that a head reads beside what the last part gives; a network that gives
    but what its stages give has no head.
    """

    stages: list[list[Part]]
    head: Part | None
    taps: tuple[str, ...] = ()

    def stage(self, value: str) -> int:
        """The number of the stage that gives a value."""
        return next(n for n, stage in enumerate(self.stages) if stage[-1].gives == value)


def partition(trace: Trace, found: Dependencies, *, name: str, keep_outputs: bool = False) -> Parts:
    """The network's parts. Raises AdoptionError where it cannot be cut."""
    if trace.outputs is not None:
        return _partition_branching(trace, found, name=name, keep_outputs=keep_outputs)
    parts = _parts(list(segments(trace.operators)), trace.module)
    merged = _merged(parts, found)
    while (long := _too_long(merged, parts)) is not None:
        found.table.fix(
            _channels(long.gives, found), at=f"the same channels in and after {long.path}"
        )
        merged = _merged(parts, found)
    if len(merged) < 2:
        raise _uncut(name)
    *body, head = merged
    _tie_repeats(body, found)
    return Parts(_stages(body, found), head)


def _uncut(name: str) -> AdoptionError:
    return AdoptionError(
        "has no place where one image alone passes from part to part",
        where=name,
        fix="name a network of blocks in a row; what branches must join again",
    )


def _stages(
    body: Sequence[Part], found: Dependencies, kept: Collection[str] = ()
) -> list[list[Part]]:
    """The parts in stages of one width; what is `kept` ends its stage."""
    stages: list[list[Part]] = []
    for part in body:
        if not stages or not (part.repeats or _is_tied(part, found)):
            stages.append([part])
        elif part.reads in kept:  # both stages have its channels, and neither others
            found.table.fix(_channels(part.reads, found), at="what is taken between its blocks")
            stages.append([part])
        else:
            stages[-1].append(part)
    return stages


# -- several outputs -------------------------------------------------------------------------------


def _partition_branching(
    trace: Trace, found: Dependencies, *, name: str, keep_outputs: bool
) -> Parts:
    """The parts of a network with named outputs: a body in a row, and a head that reads of it.

    What the head reads, or the network gives, of the body is what a stage gives. Where every output
    is, there is no head: the outputs are feature maps, whose channels may be cut.
    """
    assert trace.outputs is not None
    outputs = list(trace.outputs.values())
    ordered = list(parameters_late(trace.operators))
    start = head_start(ordered, outputs)
    if start is None:
        raise _uncut(name)
    body, rest = ordered[:start], ordered[start:]
    of_body = {operator.id for operator in body}
    kept = {read for one in rest for read in one.of if read in of_body}
    kept |= of_body.intersection(outputs)
    for value in outputs:
        if value not in of_body or keep_outputs:
            for axis in found.axes(value):
                found.table.fix(axis, at=OUTPUT)
    parts = _parts(list(segments(body)), trace.module, kept=kept, has_head=False)
    merged = _merged_between(parts, found, kept, name=name)
    taps = tuple(
        part.gives
        for part in merged[:-1]
        if part.gives in kept and any(part.gives in one.of for one in rest)
    )
    _untie([*taps, merged[-1].gives] if rest else [], found)
    stages = _stages(merged, found, kept)
    head = Part(rest, merged[-1].gives, _common_path(rest), False) if rest else None
    return Parts(stages, head, taps)


OUTPUT = "an output"


def _merged_between(
    parts: Sequence[Part], found: Dependencies, kept: Collection[str], *, name: str
) -> list[Part]:
    """The parts of a body, joined where they must be, but not over what is kept."""
    fixed: set[str] = set()
    while True:
        merged = _merged(parts, found, kept=kept, has_head=False)
        ends = {part.gives for part in merged}
        hidden = [part.gives for part in parts if part.gives in kept and part.gives not in ends]
        long = _too_long(merged, parts)
        if not hidden and long is None and merged[-1].gives == parts[-1].gives:
            break
        value = hidden[0] if hidden else long.gives if long is not None else parts[-1].gives
        if value in fixed:
            raise _uncut(name)
        fixed.add(value)
        found.table.fix(_channels(value, found), at="what is taken there")
    for value in kept:
        if value not in ends:
            raise AdoptionError(
                "an output, or what its head reads, is taken where no block ends",
                where=f"{name}, {value}",
                fix="take it after a block, before anything else reads it",
            )
    return merged


def _untie(values: Sequence[str], found: Dependencies) -> None:
    """Fix channels that two of what a head reads share: each stage has a width of its own."""
    for number, value in enumerate(values):
        for other in values[:number]:
            shared = _symbols(_channels(value, found)) & _symbols(_channels(other, found))
            if shared:
                found.table.fix(_channels(value, found), at="a head that adds it to another stage")
                found.table.fix(_channels(other, found), at="a head that adds it to another stage")


# -- cutting ---------------------------------------------------------------------------------------


def _parts(
    segments: Sequence[list[Operator]],
    module: nn.Module,
    *,
    kept: Collection[str] = (),
    has_head: bool = True,
) -> list[Part]:
    """Segments joined to parts, never over what is `kept`; the last is the head where there is."""
    blocks = _block_paths(segments, module)
    parts: list[Part] = []
    pending: list[Operator] = []  # pooling that belongs to what follows
    reads = INPUT
    for number, segment in enumerate(segments):
        is_last = has_head and number == len(segments) - 1
        block = _block_of(segment, blocks)
        has_layer = any(operator.op in LAYERS for operator in segment)
        before = parts[-1] if parts and parts[-1].gives not in kept else None
        joins_block = (
            block is not None and before is not None and before.path == block and not pending
        )
        pools = any(operator.op in _POOLS for operator in segment)
        if joins_block:
            assert before is not None
            before.operators += segment
        elif block is None and not has_layer and not is_last:
            if before is None or pending or (pools and (before.is_block or _is_global(segment))):
                pending += segment
            else:
                before.operators += segment
        else:
            operators, pending = pending + segment, []
            path = block if block is not None else _common_path(segment)
            parts.append(Part(operators, reads, path, block is not None))
        reads = segment[-1].id if not pending else reads
    if pending:
        parts[-1].operators += pending
    _connect(parts)
    return parts


def _is_global(segment: Sequence[Operator]) -> bool:
    """Whether it pools to a size that no resolution changes, as before a classifier."""
    return any(
        operator.op in ("adaptive_avg_pool", "adaptive_max_pool", "mean") for operator in segment
    )


def _connect(parts: Sequence[Part]) -> None:
    """Let each part read what the one before gives."""
    reads = INPUT
    for part in parts:
        part.reads = reads
        reads = part.gives


def _block_paths(segments: Sequence[list[Operator]], module: nn.Module) -> set[str]:
    """The modules that are blocks: those that join, and all of their classes."""
    kinds: set[type[nn.Module]] = set()
    for segment in segments:
        if any(operator.op in _JOINS and len(operator.of) > 1 for operator in segment):
            path = _common_path(segment)
            while path and isinstance(module.get_submodule(path), _CONTAINERS):
                path = path.rpartition(".")[0]
            if path:
                kinds.add(type(module.get_submodule(path)))
    if not kinds:
        kinds = _repeated_kinds(module)
    return {path for path, one in module.named_modules() if path and type(one) in kinds}


def _repeated_kinds(module: nn.Module) -> set[type[nn.Module]]:
    """Where nothing joins: the class with several convolutions that occurs most, if any does."""
    counts: Counter[type[nn.Module]] = Counter()
    for path, one in module.named_modules():
        layers = sum(isinstance(child, nn.Conv2d) for child in one.modules())
        gates = any(isinstance(child, nn.AdaptiveAvgPool2d) for child in one.children())
        is_own = not type(one).__module__.startswith("torch.nn")
        if path and is_own and 2 <= layers <= 6 and not gates:
            counts[type(one)] += 1
    return {kind for kind, count in counts.items() if count > 1}


def _block_of(segment: Sequence[Operator], blocks: set[str]) -> str | None:
    """The outermost block that holds the whole segment."""
    path = _common_path(segment)
    names = path.split(".") if path else []
    for length in range(1, len(names) + 1):
        if ".".join(names[:length]) in blocks:
            return ".".join(names[:length])
    return None


def _common_path(operators: Iterable[Operator]) -> str:
    """The lowest module in which all of the operators were called."""
    paths = [operator.path.split(".") for operator in operators if operator.op != "parameter"]
    common = []
    for names in zip(*paths, strict=False):
        if len(set(names)) > 1:
            break
        common.append(names[0])
    return ".".join(common)


# -- merging ---------------------------------------------------------------------------------------


def _merged(
    parts: Sequence[Part],
    found: Dependencies,
    *,
    kept: Collection[str] = (),
    has_head: bool = True,
) -> list[Part]:
    """The parts, each joined with the next until it may have channels of its own."""
    merged: list[Part] = []
    held: Part | None = None
    logits = _symbols(_channels(parts[-1].gives, found)) if has_head else set()
    for number, part in enumerate(parts):
        if held is not None:
            operators = held.operators + part.operators
            number_merged = held.num_merged + 1
            part = Part(operators, held.reads, _common_path(operators), False, number_merged)
            held = None
        gives_logits = bool(_symbols(_channels(part.gives, found)) & logits)
        is_head = has_head and number == len(parts) - 1
        if is_head or (not gives_logits and _stands_alone(part, found)):
            merged.append(part)
        elif (
            merged
            and merged[-1].gives not in kept
            and number < len(parts) - 1
            and not gives_logits
            and _belongs_before(part, merged[-1], parts[number + 1], found)
        ):
            before = merged[-1]
            operators = before.operators + part.operators
            path = _common_path(operators)
            merged[-1] = Part(operators, before.reads, path, False, before.num_merged + 1)
        else:
            held = part
    return merged


def _belongs_before(part: Part, before: Part, after: Part, found: Dependencies) -> bool:
    """Whether a part that keeps its input's channels does better with the part before it.

    As a strided depthwise convolution does between a stem and blocks that add their input.
    """
    with_next = Part(part.operators + after.operators, part.reads, "", False)
    with_last = Part(before.operators + part.operators, before.reads, "", False)
    if _stands_alone(with_next, found) or _is_tied(before, found):
        return False
    return _stands_alone(with_last, found)


def _too_long(merged: Sequence[Part], parts: Sequence[Part]) -> Part | None:
    """The first part of many that run into one another without channels of their own.

    With its channels fixed they can be cut there, and what lies within each may be elastic.
    """
    for one in merged:
        if one.num_merged > _MOST_MERGED:
            return next(part for part in parts if part.gives in {op.id for op in one.operators})
    return None


def _stands_alone(part: Part, found: Dependencies) -> bool:
    """Whether a part has a layer, and its output channels are its own or all its input's."""
    if not any(operator.op in LAYERS for operator in part.operators):
        return False
    given, made = _channels(part.reads, found), _channels(part.gives, found)
    if not (_symbols(given) & _symbols(made)):
        return bool(_symbols(made)) or not _is_tied(part, found) or _can_be_left_out(part, found)
    return given == made and _can_be_left_out(part, found)


def _can_be_left_out(part: Part, found: Dependencies) -> bool:
    """Whether its output has its input's shape, and its input reaches more than one operator."""
    if _sizes(part.reads, found) != _sizes(part.gives, found):
        return False
    return sum(operator.of.count(part.reads) for operator in part.operators) > 1


def _is_tied(part: Part, found: Dependencies) -> bool:
    """Whether a part gives as many channels as it is given, at any width, and the same pixels."""
    same = _channels(part.reads, found) == _channels(part.gives, found)
    return same and _can_be_left_out(part, found)


def _tie_repeats(body: Sequence[Part], found: Dependencies) -> None:
    """Let parts that repeat the one before them give the channels that they are given.

    Without a residual nothing else makes these equal; with it what follows a part fits what went
    before it, so that the part can be left out.
    """
    for before, part in pairwise(body):
        if _repeats(part, before, found):
            given, made = _channels(part.reads, found), _channels(part.gives, found)
            found.table.tie(given, made, at=f"the same channels in and after {part.path}")
            part.repeats = True


def _repeats(part: Part, before: Part, found: Dependencies) -> bool:
    """Whether a part gives the shape it is given, by the operators of the part before it."""
    if _sizes(part.reads, found) != _sizes(part.gives, found) or _kinds(part) != _kinds(before):
        return False
    given, made = _channels(part.reads, found), _channels(part.gives, found)
    if len(given) != len(made) or _symbols(given) & _symbols(made):
        return False
    return all(
        CONSTANT not in (one[0], other[0])
        and one[1] == other[1]
        and found.table.size((one,)) == found.table.size((other,))
        for one, other in zip(given, made, strict=True)
    )


def _kinds(part: Part) -> list[str]:
    """What a part does, in order; it may pool besides."""
    return [operator.op for operator in part.operators if operator.op not in _POOLS]


def _channels(value: str, found: Dependencies) -> Axis:
    return found.axes(value)[0]


def _sizes(value: str, found: Dependencies) -> list[int]:
    return [found.table.size(axis) for axis in found.axes(value)]


def _symbols(axis: Axis) -> set[str]:
    return {symbol for symbol, _ in axis if symbol != CONSTANT}
