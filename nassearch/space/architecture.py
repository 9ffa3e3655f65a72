"""The values everything else eats: Block, Stage, Architecture and BlockSpec.

All are frozen, hashable and canonical: a dimension at its neutral value ("none") is not stored, so
equal networks are equal objects.
"""

import hashlib
import json
import re
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field, replace
from functools import cached_property
from typing import Any

from nassearch.errors import ArchitectureError, TableError
from nassearch.space.block_graph import BlockGraph

# The vocabulary of block dimensions and the letter each number has in a key, in key order.
# A name (an activation, an attention) stands in the key as it is.
NUMBERS = {
    "kernel_size": "k",
    "expand_ratio": "e",
    "inner_ratio": "w",
    "group_size": "g",
    "expand_width": "x",
    "feature_width": "f",
    "feature_bias": "b",
}
NAMES = ("attention", "activation", "norm", "shortcut")
DIMENSIONS = (*NUMBERS, *NAMES)
ATTENTIONS = ("se", "se_input", "eca")
NORMS = ("layernorm",)
SHORTCUTS = ("avgpool",)
NORM_EPS = 1e-5  # of batch norm, where a space does not say another
NEUTRAL = "none"
_MAX_PART = 64  # characters of one choice in a key: a number of more digits is no count

Value = int | float | str
Choices = tuple[tuple[str, Value], ...]


def canonical_choices(choices: Mapping[str, Value]) -> Choices:
    """The choices in vocabulary order, without those at their neutral value."""
    return tuple(
        (name, _canonical_number(choices[name]))
        for name in DIMENSIONS
        if name in choices and choices[name] != NEUTRAL
    )


def _canonical_number(value: Value) -> Value:
    return int(value) if isinstance(value, float) and value.is_integer() else value


def make_divisible(value: float, divisor: int = 8) -> int:
    """`value` as a multiple of `divisor`, never over 10 % smaller (the rule of MobileNet)."""
    rounded = max(divisor, int(value + divisor / 2) // divisor * divisor)
    return rounded + divisor if rounded < 0.9 * value else rounded


def _dimension_of(word: str) -> str:
    """The dimension whose choice a word in a key is."""
    for dimension, words in (("attention", ATTENTIONS), ("norm", NORMS), ("shortcut", SHORTCUTS)):
        if word in words:
            return dimension
    return "activation"


def _not_a_key(text: str) -> TableError:
    return TableError(
        "is not the key of a block",
        where=f"'{text}'",
        fix="write it as in a table's key column, conv-i3-o16-k3-s2-relu-r32",
    )


@dataclass(frozen=True, slots=True)
class Block:
    """What one block of a network chose: its op and the value of each of the op's dimensions."""

    op: str
    choices: Choices

    def to_dict(self) -> dict[str, Value]:
        return {"op": self.op, **dict(self.choices)}


@dataclass(frozen=True, slots=True)
class Stage:
    """The width of a stage and its blocks; the depth is their number."""

    width: int
    blocks: tuple[Block, ...]


@dataclass(frozen=True, slots=True)
class PatchSchedule:
    """How the first `stages` stages are run: on grid x grid tiles, one after the other."""

    grid: int
    stages: int


@dataclass(frozen=True)
class Architecture:
    """The only configuration a subnet has: the resolution, what each stage chose, the schedule.

    `patches` says how it is run, None layer by layer; what it computes does not depend on it.
    `precisions` is its policy: the precision that each block, stem first, head last, is deployed
    in; None where a setting says one for all. Training does not know it.

    Examples:
        >>> import nassearch as ns
        >>> largest = ns.load_space("digits_tiny").largest
        >>> ns.Architecture.from_dict(largest.to_dict()) == largest
        True
    """

    resolution: int
    stages: tuple[Stage, ...]
    patches: PatchSchedule | None = None
    precisions: tuple[str, ...] | None = None

    def to_dict(self) -> dict[str, object]:
        """A form that YAML and JSON hold; `from_dict` inverts it."""
        return {
            "resolution": self.resolution,
            **({} if self.patches is None else {"patches": asdict(self.patches)}),
            **({} if self.precisions is None else {"precisions": list(self.precisions)}),
            "stages": [
                {"width": stage.width, "blocks": [block.to_dict() for block in stage.blocks]}
                for stage in self.stages
            ],
        }

    @classmethod
    def from_dict(cls, value: Any, *, where: object = "architecture") -> "Architecture":
        """The architecture that `to_dict` wrote; ArchitectureError where the form is wrong.

        Whether a space holds it is `SearchSpace.check`'s question.
        """
        try:
            stages = []
            for stage in value["stages"]:
                blocks = []
                for block in stage["blocks"]:
                    choices = {name: item for name, item in block.items() if name != "op"}
                    unknown = sorted(set(choices) - set(DIMENSIONS))
                    if unknown:
                        raise ArchitectureError(
                            f"unknown block key '{unknown[0]}'",
                            where=where,
                            fix=f"allowed: op, {', '.join(DIMENSIONS)}",
                        )
                    blocks.append(Block(str(block["op"]), canonical_choices(choices)))
                stages.append(Stage(int(stage["width"]), tuple(blocks)))
            said = value.get("patches")
            patches = (
                None if said is None else PatchSchedule(int(said["grid"]), int(said["stages"]))
            )
            if patches is not None and patches.grid == 1:
                patches = None
            named = value.get("precisions")
            precisions = None if named is None else _names(named, where=where)
            return cls(int(value["resolution"]), tuple(stages), patches, precisions)
        except (KeyError, TypeError, ValueError, AttributeError) as error:
            raise ArchitectureError(
                f"is not an architecture ({type(error).__name__}: {error})",
                where=where,
                fix="it needs 'resolution' and 'stages', each stage 'width' and 'blocks'",
            ) from error

    @property
    def plain(self) -> "Architecture":
        """The same network without a policy: what is trained."""
        return self if self.precisions is None else replace(self, precisions=None)

    @cached_property
    def id(self) -> str:
        """Eight hexadecimal digits that name this architecture in files and on screen."""
        text = json.dumps(self.to_dict(), sort_keys=True, separators=(",", ":"))
        return hashlib.sha256(text.encode()).hexdigest()[:8]


def _names(value: Any, *, where: object) -> tuple[str, ...]:
    is_list = isinstance(value, list | tuple)
    if not is_list or not all(isinstance(name, str) for name in value):
        raise ArchitectureError(
            "precisions is no list of names",
            where=where,
            fix="give one for each block, stem first, head last: [fp32, int8, int8]",
        )
    return tuple(value)


@dataclass(frozen=True, slots=True)
class Wiring:
    """How a block of a network with several outputs is joined to the rest.

    `outputs` are the names of what it gives that leaves the network, each with its place among all
    of them; `stage` is where the head finds what it gives, `reads` the stages that a head reads.
    """

    outputs: tuple[tuple[int, str], ...] = ()
    stage: int | None = None
    reads: tuple[int, ...] = ()


@dataclass(frozen=True, slots=True)
class BlockSpec:
    """One block as it is built, counted, timed and exported.

    `resolution` is that of its square input in pixels. A block that is run patch by patch runs on
    grid x grid tiles of `tile` pixels a side (`space.patching`). The key identifies it in every
    latency table and knows nothing of the space it came from. `norm_eps`, batch norm's, is built
    and exported, but folds into the convolution: blocks that differ in it alone are one in a table.
    """

    op: str
    in_channels: int
    out_channels: int
    resolution: int
    stride: int
    choices: Choices
    grid: int = 1
    tile: int = 0
    norm_eps: float = field(default=NORM_EPS, compare=False)
    graph: BlockGraph | None = field(default=None, compare=False, repr=False)
    """Of a traced block; its `op` holds the graph's hash, so equal ops have equal graphs."""
    taps: tuple[tuple[int, int], ...] = ()
    """Channels and pixels of what a head reads beside what the last block gives."""
    wiring: Wiring | None = field(default=None, compare=False, repr=False)

    @property
    def key(self) -> str:
        """For instance `mbconv-i24-o40-k5-e4-s2-se-relu-r56`."""
        values = dict(self.choices)
        parts = [self.op, f"i{self.in_channels}", f"o{self.out_channels}"]
        parts += [f"{letter}{values[name]}" for name, letter in NUMBERS.items() if name in values]
        parts.append(f"s{self.stride}")
        parts += [str(values[name]) for name in NAMES if name in values]
        parts.append(f"r{self.resolution}")
        if self.grid > 1:
            parts += [f"t{self.tile}", f"n{self.grid}"]
        parts += [f"+{channels}x{pixels}" for channels, pixels in self.taps]
        return "-".join(parts)

    @classmethod
    def from_key(cls, key: str) -> "BlockSpec":
        """The spec whose `key` this is; TableError where it is not one."""
        op, *parts = key.split("-")
        letters = {letter: name for name, letter in NUMBERS.items()}
        fields: dict[str, int] = {}
        choices: dict[str, Value] = {}
        taps: list[tuple[int, int]] = []
        for part in parts:
            tap = re.fullmatch(r"\+([0-9]{1,9})x([0-9]{1,9})", part)
            if tap is not None:
                taps.append((int(tap.group(1)), int(tap.group(2))))
                continue
            match = re.fullmatch(r"([a-z])([0-9]+(?:\.[0-9]+)?)", part)
            if len(part) > _MAX_PART:
                raise _not_a_key(f"{key[:60]}...")
            if match is None:
                choices[_dimension_of(part)] = part
            elif match.group(1) in letters:
                number = float(match.group(2))
                choices[letters[match.group(1)]] = int(number) if number.is_integer() else number
            else:
                fields[match.group(1)] = int(float(match.group(2)))
        patched = {"t", "n"} & set(fields)
        if set(fields) - patched != {"i", "o", "s", "r"} or len(patched) == 1:
            raise _not_a_key(key)
        return cls(
            op,
            fields["i"],
            fields["o"],
            fields["r"],
            fields["s"],
            canonical_choices(choices),
            grid=fields.get("n", 1),
            tile=fields.get("t", 0),
            taps=tuple(taps),
        )

    def get(self, name: str, default: Any = None) -> Any:
        """The value of a dimension, or `default` where the block does not have it."""
        for dimension, value in self.choices:
            if dimension == name:
                return value
        return default

    @property
    def mid_channels(self) -> int:
        """Channels inside the block: in_channels x expand_ratio, rounded as MobileNet does."""
        return make_divisible(round(self.in_channels * self.get("expand_ratio", 1)))

    @property
    def whole(self) -> "BlockSpec":
        """The same block run on the whole image."""
        return self if self.grid == 1 else replace(self, grid=1, tile=0)

    @property
    def run_resolution(self) -> int:
        """Pixels of what it is run on: a tile, or the whole input."""
        return self.tile or self.resolution

    @property
    def out_resolution(self) -> int:
        """Pixels of the whole output: a stride divides and rounds up, but for a traced block."""
        if self.graph is not None:
            taps = tuple(pixels for _, pixels in self.taps)
            return self.graph.out_resolution(self.resolution, taps)
        return -(-self.resolution // self.stride)
