"""Which channels of a network must be cut together: symbols, and what they were found to be.

Every convolution and linear gives channels of a new symbol. Wherever an operator needs two axes to
be equal, one symbol is made to stand for the other; where channels are grouped, concatenated or
split, a symbol stands for several, or for a multiple; where nothing of the kind is known, for its
number. What is left are the dependency groups (Fang et al., "DepGraph: Towards Any Structural
Pruning", CVPR 2023), together with how each axis is made of them.
"""

import math
from collections.abc import Sequence

from nassearch.space.graph_config import CONSTANT, Axis, Term
from nassearch.space.layout_inference import axis_size, constant


class SymbolTable:
    """The rules of inference (`layout_inference.Rules`) that make axes equal."""

    def __init__(self) -> None:
        self.full: dict[str, int] = {}
        self.mixed: set[str] = set()
        """Symbols whose channels are regrouped on the way, so that none may change place."""
        self.reasons: dict[str, str] = {}
        """Symbol -> where it was found that it cannot change."""
        self._stands: dict[str, Axis] = {}

    def new(self, size: int) -> Axis:
        """An axis of so many channels that nothing is known of."""
        symbol = f"s{len(self.full)}"
        self.full[symbol] = size
        return ((symbol, 1),)

    def resolve(self, axis: Axis) -> Axis:
        found: list[Term] = []
        for symbol, count in axis:
            if symbol in self._stands:
                inner = self.resolve(self._stands[symbol])
                found += [(name, times * count) for name, times in inner]
            else:
                found.append((symbol, count))
        return tuple(found)

    def size(self, axis: Axis) -> int:
        return axis_size(axis, self.full)

    def why(self, symbol: str) -> str:
        """Why a symbol cannot change, empty where it can."""
        if symbol in self.reasons:
            return self.reasons[symbol]
        return next(
            (why for name, _ in self._stands.get(symbol, ()) if (why := self.why(name))), ""
        )

    # -- rules -------------------------------------------------------------------------------------

    def fix(self, axis: Axis, *, at: str) -> int:
        for symbol, _ in self.resolve(axis):
            if symbol != CONSTANT:
                self.reasons[symbol] = at
                self._stands[symbol] = constant(self.full[symbol])
        return self.size(axis)

    def tie(self, first: Axis, second: Axis, *, at: str) -> Axis:
        while True:
            one, other = list(self.resolve(first)), list(self.resolve(second))
            if not self._tie_once(one, other, at):
                return self.resolve(first)

    def _tie_once(self, one: list[Term], other: list[Term], at: str) -> bool:
        """Make the first terms that differ equal; whether there were any."""
        while one and other:
            a, b = one.pop(0), other.pop(0)
            if a == b:
                continue
            size_a, size_b = self.size((a,)), self.size((b,))
            if size_a == size_b and CONSTANT in (a[0], b[0]):
                if a[0] == b[0]:
                    continue
                self.fix((a, b), at=at)
                return True
            if a[0] == b[0] == CONSTANT:
                least = min(size_a, size_b)
                one[:0] = [(CONSTANT, size_a - least)] if size_a > least else []
                other[:0] = [(CONSTANT, size_b - least)] if size_b > least else []
                continue
            if size_a == size_b and self._stand(a, b):
                return True
            larger, least = (a, size_b) if size_a > size_b else (b, size_a)
            if size_a == size_b or a[0] == b[0] or not self._part(larger, least):
                self.fix((a, b), at=at)
            return True
        return False

    def _stand(self, a: Term, b: Term) -> bool:
        """Let one symbol stand for the other of equally many channels, where that can be."""
        for (symbol, count), (other, times) in ((a, b), (b, a)):
            if times % count == 0 and symbol != other:
                self._stands[symbol] = ((other, times // count),)
                self.mixed |= {other} if symbol in self.mixed else set()
                return True
        return False

    def _part(self, term: Term, size: int) -> bool:
        """Let a symbol stand for two, the first of which has so many channels of the term."""
        symbol, count = term
        if symbol == CONSTANT:
            return True
        if size % count:
            return False
        first, second = self.new(size // count), self.new(self.full[symbol] - size // count)
        self._stands[symbol] = first + second
        return True

    def divide(self, axis: Axis, by: int, *, at: str) -> Axis:
        for symbol, count in self.resolve(axis):
            if count % by == 0:
                continue
            times = by // math.gcd(count, by)
            if symbol == CONSTANT or self.full[symbol] % times:
                self.fix(axis, at=at)
                break
            ((whole, _),) = self.new(self.full[symbol] // times)
            self._stands[symbol] = ((whole, times),)
        found = self.resolve(axis)
        if any(count % by for _, count in found):
            return constant(self.fix(axis, at=at))
        return found

    # -- what a trace gives in numbers -------------------------------------------------------------

    def cut(self, axis: Axis, start: int, *, at: str) -> tuple[Axis, Axis]:
        """The first `start` channels of an axis, and the rest."""
        while True:
            terms, before = self.resolve(axis), 0
            for number, term in enumerate(terms):
                size = self.size((term,))
                if before + size <= start:
                    before += size
                    continue
                left, right = terms[:number], terms[number:]
                inside = start - before
                if inside == 0:
                    return left, right
                symbol, count = term
                if symbol == CONSTANT:
                    rest = ((CONSTANT, size - inside), *right[1:])
                    return (*left, (CONSTANT, inside)), rest
                if inside % self.full[symbol] == 0:
                    times = inside // self.full[symbol]
                    self.mixed.add(symbol)
                    return (*left, (symbol, times)), ((symbol, count - times), *right[1:])
                if not self._part(term, inside):
                    self.fix((term,), at=at)
                break
            else:
                return terms, ()

    def unfold(self, axis: Axis, sizes: Sequence[int], *, at: str) -> tuple[Axis, ...]:
        """The axes of these sizes that the axis is when they are merged, the last the fastest."""
        axis = self.resolve(axis)
        first, rest = sizes[0], math.prod(sizes[1:])
        if len(sizes) == 1:
            return (axis,)
        if all(symbol == CONSTANT for symbol, _ in axis):
            return tuple(map(constant, sizes))
        if first == 1:
            return (constant(1), *self.unfold(axis, sizes[1:], at=at))
        if rest == 1:
            return (axis, *map(constant, sizes[1:]))
        if first in (2, 3) or len(axis) == first:
            pieces, left = [], axis
            for _ in range(first - 1):
                piece, left = self.cut(left, rest, at=at)
                pieces.append(piece)
            for piece in pieces:
                self.tie(piece, left, at=at)
            return (constant(first), *self.unfold(left, sizes[1:], at=at))
        divided = self.divide(axis, rest, at=at)
        outer = tuple((symbol, count // rest) for symbol, count in divided)
        return (outer, *map(constant, sizes[1:]))
