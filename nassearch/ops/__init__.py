"""Operators: one file each. A file holds the static form; the elastic form is derived from it."""

from collections.abc import Iterable

from nassearch.config import resolve
from nassearch.errors import ConfigError, SpaceError
from nassearch.ops.elastic import Elastic as Elastic
from nassearch.ops.layer import ACTIVATIONS
from nassearch.ops.layer import StaticOp as StaticOp
from nassearch.space import BlockSpec, SearchSpace, block_specs
from nassearch.space.architecture import ATTENTIONS, NEUTRAL

OPS = {
    "conv": "nassearch.ops.conv:Conv",
    "mbconv": "nassearch.ops.mbconv:MBConv",
    "head": "nassearch.ops.head:Head",
}


def static_op(name: str) -> type[StaticOp]:
    """The static class of the op called `name`, or 'package.module:Attr' of the user's own."""
    found: type[StaticOp] = resolve(OPS, name, kind="op")
    return found


def build_op(spec: BlockSpec) -> StaticOp:
    """The plain module of one block."""
    return static_op(spec.op)(spec)


def check_space(space: SearchSpace) -> SearchSpace:
    """`space` itself; SpaceError with the key path where an op cannot take what it is given."""
    for index, stage in enumerate(space.definition.stages):
        for op, dimensions in stage.alternatives():
            where = f"{space.source}: stages[{index}]"
            try:
                takes = static_op(op).dimensions
            except ConfigError as error:
                raise SpaceError(error.what, where=f"{where}.op", fix=error.fix) from error
            missing = [name for name, required in takes.items() if required]
            for name in missing:
                if name not in dimensions:
                    raise SpaceError(f"op '{op}' needs {name}", where=where)
            for name in dimensions:
                if name not in takes:
                    raise SpaceError(
                        f"op '{op}' takes no {name}",
                        where=where,
                        fix=f"it takes {', '.join(takes)}",
                    )
            _check_names(where, "activation", dimensions.get("activation", ()), tuple(ACTIVATIONS))
            _check_names(where, "attention", dimensions.get("attention", ()), ATTENTIONS)
    activations = [("head", space.definition.head.activation)]
    if space.definition.stem is not None:
        activations.append(("stem", space.definition.stem.activation))
    for place, activation in activations:
        _check_names(f"{space.source}: {place}", "activation", (activation,), tuple(ACTIVATIONS))
    for spec in block_specs(space):
        static_op(spec.op).check(spec)
    return space


def _check_names(
    where: str, dimension: str, names: Iterable[str], allowed: tuple[str, ...]
) -> None:
    for name in names:
        if name not in allowed and name != NEUTRAL:
            raise SpaceError(
                f"unknown {dimension} '{name}'",
                where=f"{where}.{dimension}",
                fix=f"allowed: {', '.join((NEUTRAL, *allowed))}",
            )
