"""The YAML form of a traced block's graph: operators of an allow-list over channel symbols.

A graph is data. Reading it imports nothing and runs nothing; what is not on the list is refused.
"""

import re
from collections.abc import Sequence
from typing import Annotated, Literal

from pydantic import AfterValidator, Field, model_validator

from nassearch.config import Finite, StrictModel

CONSTANT = ""
Term = tuple[str, int]  # a symbol, or CONSTANT, and how often it counts
Axis = tuple[Term, ...]
INPUT = "x"
MAX_SIZE = 1 << 20
MAX_NODES = 4000
NOTHING = "0"  # where a slice from the beginning starts
_TERM = re.compile(r"([a-z][a-z0-9_]*)(?:\*([1-9][0-9]{0,8}))?|([1-9][0-9]{0,8})")

# operator -> the keys that it needs; a value that it may have is in OPTIONAL
OPERATORS: dict[str, tuple[str, ...]] = {
    "conv": ("kernel", "stride", "padding", "dilation", "bias"),
    "conv_transpose": ("out", "kernel", "stride", "padding", "dilation", "bias"),
    "linear": ("out", "bias"),
    "batch_norm": ("eps", "momentum", "affine"),
    "layer_norm": ("eps", "affine"),
    "group_norm": ("groups", "eps", "affine"),
    "parameter": ("shape",),
    "add": (),
    "sub": (),
    "mul": (),
    "div": (),
    "max_pool": ("kernel", "stride", "padding", "dilation"),
    "avg_pool": ("kernel", "stride", "padding"),
    "adaptive_avg_pool": ("size",),
    "adaptive_max_pool": ("size",),
    "mean": ("dims",),
    "sum": ("dims",),
    "concat": ("dims",),
    "take": ("dims", "start", "length"),
    "permute": ("dims",),
    "reshape": ("axes",),
    "matmul": (),
    "softmax": ("dims",),
    "pad": ("margins",),
    "upsample": ("mode",),
    "clamp": ("low", "high"),
    "leaky_relu": ("value",),
    "elu": ("value",),
    "gelu_tanh": (),
    "dropout": (),
    "relu": (),
    "hardswish": (),
    "hardsigmoid": (),
    "sigmoid": (),
    "silu": (),
    "gelu": (),
    "mish": (),
    "tanh": (),
    "softplus": (),
}
OPTIONAL: dict[str, tuple[str, ...]] = {
    "conv": ("out", "group_in", "group_out", "groups"),
    "conv_transpose": ("output_padding",),
    "add": ("value",),
    "sub": ("value",),
    "mul": ("value",),
    "div": ("value",),
    "max_pool": ("ceil",),
    "avg_pool": ("ceil", "count_padding"),
    "upsample": ("size", "scale", "align"),
    "mean": ("keep",),
    "sum": ("keep",),
}
_BINARY = ("add", "sub", "mul", "div")
_NUM_INPUTS = {"parameter": 0, "matmul": 2}


def parse_axis(text: str) -> Axis:
    """`g0*49+g1+3` as terms; ValueError where it is none."""
    terms: list[Term] = []
    for part in text.split("+"):
        match = _TERM.fullmatch(part)
        if match is None:
            raise ValueError(f"'{text[:40]}' is no axis; write g0, g0*49 or g0+g1+3")
        symbol, count, number = match.groups()
        terms.append((CONSTANT, int(number)) if number else (symbol, int(count or 1)))
    return tuple(terms)


def format_axis(axis: Axis) -> str:
    """The text that `parse_axis` reads."""
    return "+".join(
        str(count) if symbol == CONSTANT else symbol if count == 1 else f"{symbol}*{count}"
        for symbol, count in axis
    )


def _is_start(text: str) -> str:
    return text if text == NOTHING else _is_axis(text)


def _is_axis(text: str) -> str:
    parse_axis(text)
    return text


Count = Annotated[int, Field(gt=0, le=MAX_SIZE)]
Few = Annotated[int, Field(ge=0, le=1024)]
Size = Annotated[int, Field(gt=0, le=1024)]
Pair = tuple[Size, Size]
Dims = Annotated[tuple[Annotated[int, Field(gt=0, le=8)], ...], Field(min_length=1, max_length=8)]
Channels = Annotated[str, Field(max_length=4000), AfterValidator(_is_axis)]
Start = Annotated[str, Field(max_length=4000), AfterValidator(_is_start)]
Name = Annotated[str, Field(pattern=r"^[A-Za-z_][A-Za-z0-9_]{0,99}$")]
Unfolded = Annotated[tuple[Channels, ...], Field(min_length=2, max_length=6)]
Item = Annotated[int, Field(gt=0, le=8)] | Unfolded


class NodeConfig(StrictModel):
    """One operator: what it is, what it reads, and its constants at full size."""

    id: Name
    op: str
    of: tuple[Name, ...] = ()
    out: Channels | None = None
    group_in: Count | None = None
    group_out: Count | None = None
    kernel: Pair | None = None
    stride: Pair | None = None
    padding: tuple[Few, Few] | None = None
    output_padding: tuple[Few, Few] | None = None
    dilation: Pair | None = None
    bias: bool | None = None
    affine: bool | None = None
    eps: int | Finite | None = None
    momentum: int | Finite | None = None
    groups: Count | None = None
    size: Pair | None = None
    scale: Pair | None = None
    mode: Literal["nearest", "bilinear"] | None = None
    align: bool | None = None
    dims: Dims | None = None
    keep: bool | None = None
    ceil: bool | None = None
    count_padding: bool | None = None
    shape: tuple[Channels, ...] | None = None
    start: Start | None = None
    length: Channels | None = None
    axes: tuple[Item, ...] | None = None
    margins: tuple[Few, ...] | None = None
    value: int | Finite | None = None
    low: int | Finite | None = None
    high: int | Finite | None = None

    @model_validator(mode="after")
    def _is_an_operator(self) -> "NodeConfig":
        if self.op not in OPERATORS:
            known = ", ".join(OPERATORS)
            raise ValueError(f"op '{self.op[:40]}' of {self.id} is on no list; known: {known}")
        given = self.model_fields_set - {"id", "op", "of"}
        needed = set(OPERATORS[self.op])
        takes = needed | set(OPTIONAL.get(self.op, ()))
        for key in sorted(given - takes):
            raise ValueError(f"{self.op} {self.id} takes no {key}; leave it out")
        for key in sorted(key for key in needed if getattr(self, key) is None):
            raise ValueError(f"{self.op} {self.id} needs {key}; add it")
        if self.op == "conv" and (self.out is None) == (self.group_in is None):
            raise ValueError(f"conv {self.id} needs out, or group_in and group_out; add one")
        if self.op == "conv" and self.groups is not None and self.out is None:
            raise ValueError(f"conv {self.id} of {self.groups} groups needs out, of each; add it")
        if self.op == "upsample" and (self.size is None) == (self.scale is None):
            raise ValueError(f"upsample {self.id} needs size or scale; write one of them")
        if (self.group_in is None) != (self.group_out is None):
            raise ValueError(f"conv {self.id} needs both group_in and group_out; add the other")
        if not self._inputs_fit():
            raise ValueError(
                f"{self.op} {self.id} reads {len(self.of)} values; write what it reads"
            )
        return self

    def _inputs_fit(self) -> bool:
        if self.op == "concat":
            return len(self.of) >= 1
        if self.op in _BINARY:
            return len(self.of) == (2 if self.value is None else 1)
        return len(self.of) == _NUM_INPUTS.get(self.op, 1)

    @property
    def out_axis(self) -> Axis:
        assert self.out is not None
        return parse_axis(self.out)

    @property
    def start_axis(self) -> Axis:
        assert self.start is not None
        return () if self.start == NOTHING else parse_axis(self.start)

    @property
    def length_axis(self) -> Axis:
        assert self.length is not None
        return parse_axis(self.length)


class TapConfig(StrictModel):
    """A further input of a graph: what an earlier block gives, its pixels as they were traced."""

    channels: Channels
    pixels: Size


class GraphConfig(StrictModel):
    """A block as data: its input's channels, its symbols at full size, its operators in order.

    The last operator gives the block's output, or those of `outputs` theirs. A head that reads more
    than what the last block gives has `taps`, and says the `pixels` that its input had.
    """

    input: Channels
    pixels: Size | None = None
    taps: dict[Name, TapConfig] | None = None
    outputs: Annotated[tuple[Name, ...], Field(min_length=1)] | None = None
    symbols: dict[Name, Count]
    nodes: Annotated[tuple[NodeConfig, ...], Field(min_length=1, max_length=MAX_NODES)]

    @model_validator(mode="after")
    def _taps_have_pixels(self) -> "GraphConfig":
        if self.taps is not None and (self.pixels is None or INPUT in self.taps):
            raise ValueError(f"taps need other names than {INPUT}, and pixels beside them; add it")
        return self

    @model_validator(mode="after")
    def _reads_what_is_there(self) -> "GraphConfig":
        present = {INPUT, *(self.taps or ())}
        for node in self.nodes:
            for name in node.of:
                if name not in present:
                    what = f"{node.id} reads {name}, which none before it gives"
                    raise ValueError(f"{what}; put them in order")
            if node.id in present:
                raise ValueError(f"two operators are called {node.id}; rename one")
            present.add(node.id)
        for name in self.outputs or ():
            if name not in {node.id for node in self.nodes}:
                raise ValueError(f"outputs names {name}, which no operator is; name one")
        for text in self._channel_texts():
            for symbol, _ in parse_axis(text):
                if symbol != CONSTANT and symbol not in self.symbols:
                    raise ValueError(f"{symbol} is no symbol of the graph; add it to symbols")
        return self

    def _channel_texts(self) -> Sequence[str]:
        texts = [self.input, *(tap.channels for tap in (self.taps or {}).values())]
        for node in self.nodes:
            named = (node.out, node.start, node.length, *(node.shape or ()))
            texts += [text for text in named if text is not None and text != NOTHING]
            for item in node.axes or ():
                texts += item if isinstance(item, tuple) else ()
        return texts
