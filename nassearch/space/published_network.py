"""Published networks as named architectures: `resnet50:50` is a line of data, not code.

They lie in `search_spaces/references/<family>.yaml`, apart from the spaces, whose fingerprints know
nothing of them.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any

from pydantic import BeforeValidator, Field

from nassearch import config
from nassearch.config import StrictModel
from nassearch.errors import ArchitectureError, ConfigError
from nassearch.space.architecture import (
    NEUTRAL,
    Architecture,
    Block,
    Stage,
    canonical_choices,
)
from nassearch.space.layout import Dimension, StageLayout
from nassearch.space.search_space import SearchSpace

FOLDER = "search_spaces/references"


def _as_tuple(value: object) -> Any:
    return value if isinstance(value, tuple) else (value,)


EachBlock = Annotated[tuple[int | float | str, ...], BeforeValidator(_as_tuple)]


class PublishedStageConfig(StrictModel):
    """A stage: one value is every block's, a list has one for each block.

    What the space fixes need not be said.
    """

    width: int | None = None
    depth: int | None = None
    op: EachBlock | None = None
    kernel_size: EachBlock | None = None
    expand_ratio: EachBlock | None = None
    group_size: EachBlock | None = None
    activation: EachBlock | None = None
    attention: EachBlock | None = None

    def choice(self, name: str, number: int, dimension: Dimension, where: str) -> Any:
        """What block `number` chose in a dimension."""
        values = getattr(self, name)
        if values is None:
            return _only(dimension, f"{where}.{name}")
        if len(values) > 1 and number >= len(values):
            raise ArchitectureError(
                f"has {len(values)} values",
                where=f"{where}.{name}",
                fix="give one for all blocks, or one for each",
            )
        return values[0] if len(values) == 1 else values[number]


class PublishedNetworkConfig(StrictModel):
    """A published network: who published it, the space that holds it, and what it chose there."""

    origin: str
    space: str
    resolution: int
    stages: Annotated[tuple[PublishedStageConfig, ...], Field(min_length=1)]


@dataclass(frozen=True, slots=True)
class PublishedNetwork:
    """A published network inside a space."""

    name: str
    origin: str
    space: SearchSpace
    architecture: Architecture


def is_published_network(name: str) -> bool:
    """Whether `name` reads 'family:network' and the family is known."""
    family, colon, _ = name.partition(":")
    return bool(colon) and family in config.list_files(FOLDER)


def list_published_networks() -> list[str]:
    """Every 'family:network'."""
    return [
        f"{family}:{network}"
        for family in config.list_files(FOLDER)
        for network in _family(family)[1]
    ]


def load_published_network(name: str) -> PublishedNetwork:
    """The published network 'family:network'; ConfigError where there is none."""
    family, _, network = name.partition(":")
    path, networks = _family(family)
    if network not in networks:
        known = [f"{family}:{other}" for other in networks]
        raise ConfigError(
            f"unknown network '{name}'{config.nearest(name, known)}",
            where=path,
            fix=f"known: {', '.join(known)}",
        )
    where = f"{path}: {network}"
    content = config.parse(PublishedNetworkConfig, networks[network], where=where)
    space = SearchSpace.load(content.space)
    return PublishedNetwork(name, content.origin, space, _architecture(space, content, where))


def _family(family: str) -> tuple[Path, Mapping[str, object]]:
    path = config.find_file(FOLDER, family, kind="family of networks")
    content = config.read_yaml(path)
    if not isinstance(content, Mapping):
        raise ConfigError(
            "must be a mapping of names to networks",
            where=path,
            fix="begin it with the name of a network and a colon",
        )
    return path, content


def _architecture(space: SearchSpace, content: PublishedNetworkConfig, where: str) -> Architecture:
    layouts = space.layout.stages
    if len(content.stages) != len(layouts):
        raise ArchitectureError(
            f"{len(content.stages)} stages where the space {space.name} has {len(layouts)}",
            where=where,
            fix=f"list one entry under stages for each stage of {space.name}",
        )
    stages = tuple(
        _stage(layout, stage, f"{where}.stages[{index}]")
        for index, (layout, stage) in enumerate(zip(layouts, content.stages, strict=True))
    )
    return space.check(Architecture(content.resolution, stages))


def _stage(layout: StageLayout, stage: PublishedStageConfig, where: str) -> Stage:
    width = _only(layout.width, f"{where}.width") if stage.width is None else stage.width
    depth = _only(layout.depth, f"{where}.depth") if stage.depth is None else stage.depth
    blocks = []
    for number, position in enumerate(layout.positions[:depth]):
        op = stage.choice("op", number, position.op, where)
        if op not in position.op.choices:
            raise ArchitectureError(
                f"the space has no op '{op}' here",
                where=f"{where}.op",
                fix=f"allowed: {', '.join(map(str, position.op.choices))}",
            )
        dials = position.alternatives[position.op.choices.index(op)].dimensions
        chosen = {name: stage.choice(name, number, dimension, where) for name, dimension in dials}
        blocks.append(Block(op, canonical_choices(chosen)))
    return Stage(width, tuple(blocks))


def _only(dimension: Dimension, where: str) -> Any:
    """The one choice of a dimension that the space fixes."""
    if len(dimension.choices) != 1:
        allowed = ", ".join(str(choice) for choice in dimension.choices if choice != NEUTRAL)
        raise ArchitectureError("the space does not fix it", where=where, fix=f"one of {allowed}")
    return dimension.choices[0]
