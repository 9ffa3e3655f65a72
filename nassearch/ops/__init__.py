"""Operators: one file each. A file holds the static form; the elastic form is derived from it."""

from collections.abc import Iterable, Mapping
from typing import Any

from nassearch.config import resolve
from nassearch.errors import ConfigError, SpaceError
from nassearch.ops.elastic import Elastic as Elastic
from nassearch.ops.layer import ACTIVATIONS, with_norm_eps
from nassearch.ops.layer import StaticOp as StaticOp
from nassearch.space import BlockSpec, SearchSpace, slots
from nassearch.space.architecture import ATTENTIONS, NEUTRAL
from nassearch.space.block_graph import SEPARATOR
from nassearch.space.lowering import unique

OPS = {
    "conv": "nassearch.ops.conv:Conv",
    "residual_conv": "nassearch.ops.residual_conv:ResidualConv",
    "mbconv": "nassearch.ops.mbconv:MBConv",
    "fused_mbconv": "nassearch.ops.fused_mbconv:FusedMBConv",
    "separable": "nassearch.ops.separable:Separable",
    "grouped_conv": "nassearch.ops.grouped_conv:GroupedConv",
    "basic": "nassearch.ops.basic:BasicBlock",
    "pooled_basic": "nassearch.ops.pooled_basic:PooledBasic",
    "bottleneck": "nassearch.ops.bottleneck:Bottleneck",
    "convnext": "nassearch.ops.convnext:ConvNeXt",
    "large_kernel": "nassearch.ops.large_kernel:LargeKernel",
    "inception_mixer": "nassearch.ops.inception_mixer:InceptionMixer",
    "lka": "nassearch.ops.lka:LKA",
    "ls_conv": "nassearch.ops.ls_conv:LSBlock",
    "skip": "nassearch.ops.skip:Skip",
    "pooled_conv": "nassearch.ops.pooled_conv:PooledConv",
    "patches": "nassearch.ops.patches:PatchStem",
    "traced": "nassearch.ops.traced:Traced",
    "head": "nassearch.ops.head:Head",
}


def static_op(name: str) -> type[StaticOp]:
    """The static class of the op called `name`, or 'package.module:Attr' of the user's own."""
    # a traced block's op says which graph: 'traced@bottleneck.0123456789'
    found: type[StaticOp] = resolve(OPS, name.partition(SEPARATOR)[0], kind="op")
    if not (isinstance(found, type) and issubclass(found, StaticOp)):
        raise ConfigError(
            f"'{name}' is no op",
            where="op",
            fix="name a subclass of nassearch.ops.StaticOp, or one of 'nassearch list ops'",
        )
    return found


def build_op(spec: BlockSpec) -> StaticOp:
    """The plain module of one block."""
    return with_norm_eps(static_op(spec.op)(spec), spec)


def check_space(space: SearchSpace) -> SearchSpace:
    """`space` itself; SpaceError with the key path where an op cannot take what it is given."""
    stem, head = space.definition.stem, space.definition.head
    if stem is not None:
        given = {"kernel_size": (stem.kernel_size,), "activation": (stem.activation,)}
        _check_op(f"{space.source}: stem", stem.op, given)
    for index, stage in enumerate(space.definition.stages):
        for op, dimensions in stage.alternatives():
            if op == "head":
                mixers = ", ".join(name for name in OPS if name != "head")
                where = f"{space.source}: stages[{index}].op"
                raise SpaceError(
                    "op 'head' ends every network", where=where, fix=f"known: {mixers}"
                )
            given = dict(dimensions)
            if stage.shortcut is not None:
                given["shortcut"] = (stage.shortcut,)
            _check_op(f"{space.source}: stages[{index}]", op, given)
    _check_patches(space)
    _check_names(f"{space.source}: head", "activation", (head.activation,), tuple(ACTIVATIONS))
    for slot in slots(space):
        for spec in unique(spec for spec in slot.specs if spec is not None):
            try:
                static_op(spec.op).check(spec)
            except SpaceError as error:
                where = f"{space.source}: {slot.name}.{error.where}".rstrip(".")
                raise SpaceError(error.what, where=where, fix=error.fix) from error
    return space


def _check_op(where: str, op: str, dimensions: Mapping[str, tuple[Any, ...]]) -> None:
    """The op exists and takes these dimensions, and each name among their choices exists."""
    try:
        takes = static_op(op).dimensions
    except ConfigError as error:
        raise SpaceError(error.what, where=f"{where}.op", fix=error.fix) from error
    for name, required in takes.items():
        if required and name not in dimensions:
            raise SpaceError(
                f"op '{op}' needs {name}", where=f"{where}.{name}", fix=f"add {name}: VALUE"
            )
    for name in dimensions:
        if name not in takes:
            fix = f"it takes {', '.join(takes) or 'no dimension'}"
            raise SpaceError(f"op '{op}' takes no {name}", where=f"{where}.{name}", fix=fix)
    _check_names(where, "activation", dimensions.get("activation", ()), tuple(ACTIVATIONS))
    _check_names(where, "attention", dimensions.get("attention", ()), ATTENTIONS)


def _check_patches(space: SearchSpace) -> None:
    """What may run patch by patch is local."""
    definition, patches = space.definition, space.definition.patches
    if patches is None:
        return
    most = patches.stages[-1]
    blocks: list[tuple[str, str, Iterable[str]]] = []
    if definition.stem is not None:
        blocks.append(("stem", definition.stem.op, ()))
    for index, stage in enumerate(definition.stages[:most]):
        blocks += [(f"stages[{index}]", op, given) for op, given in stage.alternatives()]
    for place, op, dimensions in blocks:
        is_local = static_op(op).is_local
        if not is_local or "attention" in dimensions:
            what = f"attention of '{op}'" if is_local else f"op '{op}'"
            local = ", ".join(name for name in OPS if static_op(name).is_local)
            raise SpaceError(
                f"patches.stages {most} holds {place}, whose {what} needs the whole image",
                where=space.source,
                fix=f"fewer stages, or one of {local} without attention",
            )


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
