"""The YAML form of a search space: one value fixes a dimension, a list makes it elastic."""

import itertools
import math
from typing import Annotated, Any, Literal

from pydantic import AfterValidator, BeforeValidator, Field, model_validator

from nassearch.config import StrictModel
from nassearch.space.architecture import DIMENSIONS, NEUTRAL, NORM_EPS
from nassearch.space.block_graph import TRACED
from nassearch.space.graph_config import GraphConfig

MAX_CHOICES = 256  # a gene is a byte
MAX_DEPTH = 1000
MAX_SIZE = 10**9  # channels, pixels of a kernel, a stride
MAX_RATIO = 1000
MAX_HEADS = 10_000


def _as_tuple(value: Any) -> Any:
    return value if isinstance(value, tuple) else (value,)


def _choices(values: tuple[Any, ...]) -> tuple[Any, ...]:
    if not values:
        raise ValueError("needs at least one choice; write a value, or several as [3, 5]")
    if len(values) > MAX_CHOICES:
        raise ValueError(
            f"holds {len(values)} choices, a dimension may have {MAX_CHOICES}; leave some out"
        )
    if len(set(values)) != len(values):
        raise ValueError("holds a choice twice; leave one out")
    if all(isinstance(value, int | float) for value in values):
        return tuple(sorted(values))
    return values


def _odd(values: tuple[int, ...]) -> tuple[int, ...]:
    even = [value for value in values if value % 2 == 0]
    if even:
        raise ValueError(
            f"kernel sizes are odd, {even[0]} is not; write {even[0] - 1} or {even[0] + 1}"
        )
    return values


def _bounded(values: tuple[int, ...]) -> tuple[int, ...]:
    if max(values) > MAX_DEPTH:
        raise ValueError(
            f"{max(values)} blocks in one stage are more than {MAX_DEPTH}; split it into two stages"
        )
    return values


def _no_blow_up(values: tuple[float, ...]) -> tuple[float, ...]:
    if max(values) > MAX_RATIO:
        raise ValueError(f"{max(values):g} is more than {MAX_RATIO}; write a smaller ratio")
    return values


def _at_most_whole(values: tuple[float, ...]) -> tuple[float, ...]:
    if max(values) > 1:
        raise ValueError(f"is a share of the traced network's channels, {max(values)} is not")
    return values


Positive = Annotated[int, Field(gt=0, le=MAX_SIZE)]
Ratio = Annotated[int | float, Field(gt=0, allow_inf_nan=False)]
Integers = Annotated[tuple[Positive, ...], BeforeValidator(_as_tuple), AfterValidator(_choices)]
Kernels = Annotated[Integers, AfterValidator(_odd)]
Depths = Annotated[Integers, AfterValidator(_bounded)]
Ratios = Annotated[
    tuple[Ratio, ...],
    BeforeValidator(_as_tuple),
    AfterValidator(_choices),
    AfterValidator(_no_blow_up),
]
Shares = Annotated[Ratios, AfterValidator(_at_most_whole)]
Words = Annotated[tuple[str, ...], BeforeValidator(_as_tuple), AfterValidator(_choices)]


GraphNames = Annotated[tuple[str, ...], BeforeValidator(_as_tuple)]


class DimensionsConfig(StrictModel):
    """The dimensions a block may have; which of them an op takes, the op says."""

    kernel_size: Kernels | None = None
    expand_ratio: Ratios | None = None
    inner_ratio: Shares | None = None
    group_size: Integers | None = None
    activation: Words | None = None
    attention: Words | None = None

    def dimensions(self) -> dict[str, tuple[Any, ...]]:
        """Dimension -> choices, in vocabulary order."""
        own = [name for name in DIMENSIONS if name in DimensionsConfig.model_fields]
        choices = {name: getattr(self, name) for name in own}
        return {name: values for name, values in choices.items() if values is not None}


class AlternativeConfig(DimensionsConfig):
    """One of several ops a block may choose among."""

    op: str


def _alternatives(value: Any) -> Any:
    """One op name, several, or several with dimensions of their own, as a tuple of mappings."""
    items = _as_tuple(value)
    named = tuple({"op": item} if isinstance(item, str) else item for item in items)
    names = [item.get("op") for item in named if isinstance(item, dict)]
    if not named or len(set(names)) != len(named):
        raise ValueError("needs at least one op, each once; write op: mbconv, or a list of ops")
    if len(named) > MAX_CHOICES:
        raise ValueError(
            f"holds {len(named)} ops, a dimension may have {MAX_CHOICES}; leave some out"
        )
    return named


class StageConfig(DimensionsConfig):
    """A stage: `depth` blocks of one width, the first with the stride.

    `shortcut: avgpool` averages over the stride before the shortcut's 1x1 convolution, which is
    strided itself without it (ResNet-D).
    """

    op: Annotated[tuple[AlternativeConfig, ...], BeforeValidator(_alternatives)]
    width: Integers
    depth: Depths = (1,)
    stride: Positive = 1
    shortcut: Literal["avgpool"] | None = None
    graph: GraphNames | None = None

    def alternatives(self) -> list[tuple[str, dict[str, tuple[Any, ...]]]]:
        """(op, dimensions) for each op a block may choose; what it does not say, the stage says.

        What is fixed at 'none' is no dimension.
        """
        alternatives = []
        for item in self.op:
            choices = {**self.dimensions(), **item.dimensions()}
            ordered = {
                name: choices[name]
                for name in DIMENSIONS
                if choices.get(name, (NEUTRAL,)) != (NEUTRAL,)
            }
            alternatives.append((item.op, ordered))
        return alternatives


class StemConfig(StrictModel):
    """The fixed first block; an elastic one is written as the first stage."""

    op: str = "conv"
    width: Positive
    stride: Positive = 1
    kernel_size: Positive = 3
    activation: str = "relu"


class HeadConfig(StrictModel):
    """1x1 convolution to `expand_width`, pooling, `norm`, `feature_width` features, classes."""

    expand_width: Positive | None = None
    feature_width: Positive | None = None
    feature_bias: Literal[True] | None = None
    norm: str | None = None
    activation: str = "relu"
    graph: str | None = None
    taps: dict[str, Annotated[int, Field(ge=0)]] | None = None
    """Of a traced head: its further inputs, and the stage that gives each."""


class NumberedBlockConfig(StrictModel):
    """What a number in others' lists of a network's blocks stands for: an op and its choices."""

    op: str
    kernel_size: Positive | None = None
    expand_ratio: Ratio | None = None
    inner_ratio: Ratio | None = None
    group_size: Positive | None = None
    activation: str | None = None
    attention: str | None = None

    def choices(self) -> dict[str, Any]:
        """Dimension -> choice, of the dimensions that it says."""
        own = {name: getattr(self, name) for name in DIMENSIONS if name in type(self).model_fields}
        return {name: value for name, value in own.items() if value is not None}


def _by_text(value: Any) -> Any:
    """The keys of a mapping as text: YAML reads 7 as a number, a CSV says '7'."""
    return {str(key): item for key, item in value.items()} if isinstance(value, dict) else value


OpNumbers = Annotated[dict[str, NumberedBlockConfig], BeforeValidator(_by_text)]


class PatchScheduleConfig(StrictModel):
    """The first `stages` stages may be run on grid x grid tiles; a grid of 1 is layer by layer."""

    grid: Integers
    stages: Integers


def _not_the_usual(eps: float | None) -> float | None:
    return None if eps == NORM_EPS else eps


NormEps = Annotated[Annotated[float, Field(gt=0, lt=1)] | None, AfterValidator(_not_the_usual)]


RESERVED = "images"  # what graphs call their input


def _free_name(name: str) -> str:
    if name == RESERVED:
        raise ValueError(f"an output is called {RESERVED}, as the input is; choose another name")
    return name


OutputName = Annotated[
    str, Field(pattern=r"^[A-Za-z_][A-Za-z0-9_]{0,99}$"), AfterValidator(_free_name)
]
OutputPlace = Annotated[int, Field(ge=0)] | Annotated[str, Field(max_length=100)]


class SpaceConfig(StrictModel):
    """A whole search space as its file holds it; `norm_eps` is batch norm's, by default 1e-5."""

    name: Annotated[str, Field(pattern=r"^[a-z0-9_]+$")]
    description: str = ""
    origin: str = ""
    resolution: Integers
    patches: PatchScheduleConfig | None = None
    in_channels: Positive = 3
    num_classes: Annotated[int, Field(gt=1)] = 1000
    norm_eps: NormEps = None
    stem: StemConfig | None = None
    stages: Annotated[tuple[StageConfig, ...], Field(min_length=1)]
    head: HeadConfig = HeadConfig()
    op_numbers: OpNumbers | None = None
    """What the numbers, or words, stand for that others write networks of this space with."""
    graphs: dict[str, GraphConfig] | None = None
    """Of traced blocks, by the names under which stages and the head ask for them."""
    outputs: dict[OutputName, OutputPlace] | None = None
    """Name -> where an output is taken: a stage's number, or a value of the head's graph. A network
    that takes none from its head has no head, and ends with its last stage."""

    @property
    def num_heads(self) -> int:
        """How many heads there are that read other channels."""
        read = {len(self.stages) - 1, *(self.head.taps or {}).values()}
        return math.prod(len(self.stages[number].width) for number in read)

    @property
    def has_head(self) -> bool:
        places = (self.outputs or {}).values()
        return self.outputs is None or any(isinstance(place, str) for place in places)

    @model_validator(mode="after")
    def _outputs_are_there(self) -> "SpaceConfig":
        if self.outputs is None:
            if self.head.taps is not None:
                raise ValueError("head.taps needs outputs; name what the network gives")
            return self
        if self.patches is not None:
            raise ValueError("patches: networks with outputs run layer by layer; leave it out")
        graph = (self.graphs or {}).get(self.head.graph or "")
        if self.has_head and graph is None:
            raise ValueError("outputs: only a traced head has outputs; write stages' numbers")
        if self.has_head != (self.head.graph is not None):
            raise ValueError("outputs takes none from the head; leave head.graph out")
        known = () if graph is None else graph.outputs or ()
        taken = [place for place in self.outputs.values() if isinstance(place, str)]
        if sorted(taken) != sorted(known):
            text = ", ".join(known) or "none"
            raise ValueError(f"outputs takes {taken} of the head, which gives {text}; take these")
        if list(self.head.taps or ()) != list((graph.taps if graph is not None else None) or ()):
            raise ValueError("head.taps: other inputs than the head's graph has; name these")
        stages = [place for place in self.outputs.values() if isinstance(place, int)]
        for number in (*stages, *(self.head.taps or {}).values()):
            if number >= len(self.stages):
                raise ValueError(
                    f"outputs: there is no stage {number}; name 0 to {len(self.stages) - 1}"
                )
        if self.num_heads > MAX_HEADS:
            raise ValueError(
                f"head.taps: {self.num_heads} combinations of widths are more than {MAX_HEADS};"
                " give the stages that the head reads fewer widths"
            )
        return self

    @model_validator(mode="after")
    def _numbered_ops_are_there(self) -> "SpaceConfig":
        offered = {item.op for stage in self.stages for item in stage.op}
        for number, block in (self.op_numbers or {}).items():
            if block.op not in offered:
                raise ValueError(
                    f"op_numbers: {number} stands for '{block.op}', which no stage offers;"
                    f" name one of {', '.join(sorted(offered))}"
                )
        return self

    @model_validator(mode="after")
    def _graphs_are_there(self) -> "SpaceConfig":
        known = self.graphs or {}
        named = [("head", self.head.graph)] if self.head.graph is not None else []
        for index, stage in enumerate(self.stages):
            place = f"stages[{index}]"
            is_traced = any(item.op == TRACED for item in stage.op)
            if is_traced != (stage.graph is not None) or (is_traced and len(stage.op) > 1):
                raise ValueError(f"{place}: op traced stands alone and has a graph; write graph:")
            if stage.graph is None:
                continue
            if len(stage.graph) not in (1, max(stage.depth)):
                raise ValueError(
                    f"{place}.graph names {len(stage.graph)} graphs for {max(stage.depth)} blocks;"
                    " name one for each block"
                )
            named += [(f"{place}.graph", name) for name in stage.graph]
        for place, name in named:
            if name not in known:
                raise ValueError(f"{place}: there is no graph '{name}'; add it under graphs")
        return self

    @model_validator(mode="after")
    def _image_survives(self) -> "SpaceConfig":
        pixels = self.resolution[0]
        strides = [("stem", self.stem.stride)] if self.stem is not None else []
        strides += [(f"stages[{index}]", stage.stride) for index, stage in enumerate(self.stages)]
        for place, stride in strides:
            if stride > pixels:
                raise ValueError(
                    f"{place}.stride {stride} shrinks an image of {pixels} pixels below one"
                    f" (smallest resolution {self.resolution[0]}); use fewer strides or more pixels"
                )
            pixels = -(-pixels // stride)
        return self

    @model_validator(mode="after")
    def _patches_fit(self) -> "SpaceConfig":
        if self.patches is None:
            return self
        most = self.patches.stages[-1]
        if most > len(self.stages):
            raise ValueError(
                f"patches.stages {most} is more than the {len(self.stages)} stages; write fewer"
            )
        for resolution, stages, grid in itertools.product(
            self.resolution, self.patches.stages, self.patches.grid
        ):
            pixels = self._pixels_after(stages, resolution)
            tiles = -(-pixels // -(-pixels // grid))
            if tiles != grid:
                raise ValueError(
                    f"patches.grid {grid}: the {pixels} pixels after {stages} stages (resolution"
                    f" {resolution}) are cut into {tiles} tiles; a smaller grid or fewer stages"
                )
        return self

    def _pixels_after(self, stages: int, resolution: int) -> int:
        strides = [] if self.stem is None else [self.stem.stride]
        for stride in strides + [stage.stride for stage in self.stages[:stages]]:
            resolution = -(-resolution // stride)
        return resolution
