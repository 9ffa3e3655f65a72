"""Networks with several outputs: what is given on the way, kept for the head or for the caller."""

from collections.abc import Callable, Iterator, Mapping, Sequence

from torch import Tensor, nn

from nassearch.ops import StaticOp
from nassearch.space import BlockSpec

Outputs = Tensor | dict[str, Tensor]
"""What a network gives: logits, or a tensor by the name of each output."""
LOGITS = "logits"


class Wires:
    """What the blocks of one pass gave that a head reads or that is an output."""

    def __init__(self) -> None:
        self._kept: dict[int, Tensor] = {}
        self._found: dict[tuple[int, str], Tensor] = {}

    def read(self, spec: BlockSpec) -> tuple[Tensor, ...]:
        """What the block reads beside what the one before it gave."""
        return () if spec.wiring is None else tuple(self._kept[at] for at in spec.wiring.reads)

    def keep(self, spec: BlockSpec, given: Tensor | tuple[Tensor, ...]) -> None:
        """Take in what a block gave."""
        if spec.wiring is None:
            return
        several = given if isinstance(given, tuple) else (given,) * len(spec.wiring.outputs)
        self._found |= dict(zip(spec.wiring.outputs, several, strict=True))
        if spec.wiring.stage is not None:
            assert isinstance(given, Tensor)
            self._kept[spec.wiring.stage] = given

    def outputs(self) -> dict[str, Tensor]:
        """The outputs by name, in the order of the network that was adopted."""
        return {name: tensor for (_, name), tensor in sorted(self._found.items(), key=_place)}


def _place(item: tuple[tuple[int, str], Tensor]) -> int:
    return item[0][0]


def is_wired(specs: Sequence[BlockSpec]) -> bool:
    """Whether the blocks make a network with named outputs."""
    return any(spec.wiring is not None for spec in specs)


class Wired(nn.Sequential):
    """Blocks one after the other, and the outputs on their way."""

    def __init__(self, specs: Sequence[BlockSpec], blocks: Sequence[StaticOp]) -> None:
        super().__init__(*blocks)
        self._specs = tuple(specs)

    def forward(self, images: Tensor) -> dict[str, Tensor]:
        wires = Wires()
        for _ in self._steps(images, wires):
            pass
        return wires.outputs()

    def steps(self, images: Tensor) -> Iterator[tuple[int, Tensor]]:
        """(number of a block, what it gave) for each block, in order."""
        return self._steps(images, Wires())

    def _steps(self, images: Tensor, wires: Wires) -> Iterator[tuple[int, Tensor]]:
        for number, (spec, block) in enumerate(zip(self._specs, self, strict=True)):
            images = block(images, *wires.read(spec))
            wires.keep(spec, images)
            yield number, images


def named(outputs: Outputs) -> Mapping[str, Tensor]:
    """The outputs by name; logits by theirs."""
    return outputs if isinstance(outputs, Mapping) else {LOGITS: outputs}


def mapped(function: Callable[[Tensor], Tensor], outputs: Outputs) -> Outputs:
    """What a function makes of each output."""
    if isinstance(outputs, Tensor):
        return function(outputs)
    return {name: function(tensor) for name, tensor in outputs.items()}


def scaled_difference(found: Outputs, expected: Outputs) -> float:
    """The largest difference of an output, over the largest of its values where that is above 1.

    Feature maps are as large as they are; rounding grows with them.
    """
    pairs = zip(named(found).values(), named(expected).values(), strict=True)
    return max(
        float((one - other).abs().max() / other.abs().max().clamp(min=1.0)) for one, other in pairs
    )


def relative_difference(found: Outputs, expected: Outputs) -> float:
    """The largest difference of an output, over the largest of its values."""
    pairs = zip(named(found).values(), named(expected).values(), strict=True)
    return max(
        float((one - other).abs().max() / other.abs().max().clamp(min=1e-12))
        for one, other in pairs
    )
