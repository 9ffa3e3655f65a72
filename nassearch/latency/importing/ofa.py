"""Lookup tables in the form of once-for-all and ProxylessNAS, read into ours.

One YAML for each input resolution; a key is an operator with its shapes, its value a mapping with
`mean` (ms), `std` or `var`, and perhaps `count`. What our spaces call the head is two to four
entries there. Operators are called as in TensorFlow's MobileNets or as once-for-all's own modules
are (`_NAMES`). Of MobileNetV3's tables, which say `se` and `hs`, `expand` is the middle width; of
ProxylessNAS's it is the ratio (https://github.com/mit-han-lab/proxylessnas,
search/utils/latency_estimator.py).
"""

import math
import re
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path

from nassearch import config
from nassearch.errors import ConfigError, TableError
from nassearch.latency.measurement import Measurement
from nassearch.latency.plausibility import UNITS, check_blocks
from nassearch.latency.table import UNIT, LatencyTable
from nassearch.setting import Setting
from nassearch.space import BlockSpec
from nassearch.space.architecture import Value, canonical_choices

_SHAPE = re.compile(r"(?:(\d+)x(\d+)x)?(\d+)")
_Z90 = 1.2816  # the 90th percentile of a normal distribution, in standard deviations
_HEAD = ("Conv_1", "AvgPool2D", "Conv_2", "Logits")
_NAMES = {
    "first_conv": "Conv",
    "MBConv": "expanded_conv",
    "final_expand_layer": "Conv_1",
    "feature_mix_layer": "Conv_2",  # Conv_1 where there is no final_expand_layer: ProxylessNAS's
    "classifier": "Logits",
}
"""Once-for-all's names of its modules, and what TensorFlow's MobileNets, of which its first tables
were, call them."""
MAX_BYTES = 64 * 2**20  # of a table; the largest published ones are under one megabyte

Entry = tuple[dict[str, str], Measurement]
"""What an operator's key says of it, and what it took."""


def import_ofa_tables(
    paths: Iterable[Path], setting: Setting, *, source: str = "", unit: str | None = None
) -> LatencyTable:
    """The blocks of YAML tables of one setting.

    The mean is taken for the median, and percentiles from the standard deviation. Sums over blocks
    are those of the table of a resolution; where the tables of two resolutions hold the same block
    (11 pixels at stride 16 of 168 and of 176), their means are pooled by count.

    Args:
        paths: Files, one for each resolution.
        setting: What they were measured in.
        source: Where they come from, for the header.
        unit: Of their latencies; None takes them for milliseconds, if they can be.

    Raises:
        TableError: An entry is not understood or its figures cannot be; the message names it.
    """
    blocks: dict[str, Measurement] = {}
    names = []
    for path in paths:
        for spec, measured in _read_table(path, scale=UNITS[unit or "ms"]):
            blocks[spec.key] = _pooled(blocks.get(spec.key), measured)
        names.append(path.name)
    if not blocks:
        raise TableError(
            "there is no lookup table to import",
            where=source,
            fix="name a .yaml or a folder of them",
        )
    medians = {key: measured.median_ms for key, measured in blocks.items()}
    check_blocks(medians, setting, where=source or names[0], unit_given=unit is not None)
    facts = {"version": "imported", "files": ", ".join(names), "origin": source, UNIT: unit}
    return LatencyTable(setting, blocks, (), {k: v for k, v in facts.items() if v})


def _read_table(path: Path, *, scale: float) -> list[tuple[BlockSpec, Measurement]]:
    """The blocks of one file, their latencies times `scale`."""
    if path.is_file() and path.stat().st_size > MAX_BYTES:
        raise TableError(
            f"is larger than {MAX_BYTES >> 20} MB, too large for a table",
            where=path,
            fix="name the table itself, a few MB of YAML",
        )
    try:
        entries = config.read_yaml(path)
    except ConfigError as error:
        raise TableError(error.what, where=error.where, fix=error.fix) from error
    if not isinstance(entries, dict) or not entries:
        raise TableError(
            "is not a lookup table: a mapping of operators",
            where=path,
            fix="name a latency_lookup YAML of once-for-all or ProxylessNAS",
        )
    gated = any("-se:" in str(key) for key in entries)
    blocks: list[tuple[BlockSpec, Measurement]] = []
    head: dict[str, list[Entry]] = {}
    names = _names_in(entries)
    for key, value in entries.items():
        where = f"{path}: {key}"
        name, fields = _fields(str(key), where)
        name = names.get(name, name)
        measured = _measurement(value, where, scale=scale)
        if name in _HEAD:
            head.setdefault(name, []).append((fields, measured))
        else:
            blocks.append((_block(name, fields, gated, where), measured))
    return [*blocks, *_heads(head, gated, path)] if head else blocks


def _names_in(entries: Mapping[object, object]) -> dict[str, str]:
    """What the operators of a table, as it calls them, are called in the others."""
    expands = any(str(key).startswith("final_expand_layer-") for key in entries)
    return _NAMES if expands else {**_NAMES, "feature_mix_layer": "Conv_1"}


def _fields(key: str, where: str) -> tuple[str, dict[str, str]]:
    name, *parts = key.split("-")
    fields = dict(part.split(":", 1) for part in parts if ":" in part)
    if "input" not in fields or "output" not in fields:
        raise TableError(
            "is not an operator with its input and output",
            where=where,
            fix="write it as NAME-input:HxWxC-output:HxWxC-...",
        )
    return name, fields


def _measurement(value: object, where: str, *, scale: float) -> Measurement:
    entry = value if isinstance(value, Mapping) else {}
    mean = scale * _figure(entry, "mean", None, where)
    spread = scale * (
        _figure(entry, "std", None, where)
        if "std" in entry
        else math.sqrt(_figure(entry, "var", 0.0, where))
    )
    count = _figure(entry, "count", 1.0, where)
    if not count.is_integer() or count < 1:
        raise TableError(f"count: {count:g} is no number of runs", where=where, fix="from 1 on")
    low, high = max(0.0, mean - _Z90 * spread), mean + _Z90 * spread
    measured = Measurement(mean, low, high, int(count))
    if measured.problem is not None:
        raise TableError(measured.problem, where=where, fix="name their unit with --unit us or s")
    return measured


def _figure(entry: Mapping[object, object], name: str, default: float | None, where: str) -> float:
    """A number of an entry, not negative; without a `default` it has to be there."""
    value = entry.get(name, default)
    if isinstance(value, bool) or not isinstance(value, int | float):
        shown = "is missing" if value is None else f"'{value}' is not a number"
        raise TableError(f"{name}: {shown}", where=where, fix=f"write it as {name}: 1.25")
    if not 0 <= value < math.inf:
        raise TableError(
            f"{name}: {value:g} is not plausible",
            where=where,
            fix="write the time that was measured, or remove the entry",
        )
    return float(value)


def _pooled(known: Measurement | None, measured: Measurement) -> Measurement:
    if known is None:
        return measured
    runs = known.runs + measured.runs

    def mean(first: float, second: float) -> float:
        return (first * known.runs + second * measured.runs) / runs

    return Measurement(
        mean(known.median_ms, measured.median_ms),
        mean(known.p10_ms, measured.p10_ms),
        mean(known.p90_ms, measured.p90_ms),
        runs,
    )


def _shape(text: str, where: str) -> tuple[int, int]:
    """(pixels, channels) of 'HxWxC', or of 'C' alone."""
    match = _SHAPE.fullmatch(text)
    if match is None or match[1] != match[2] or 0 in (int(match[1] or 1), int(match[3])):
        raise TableError(
            f"'{text}' is not the shape of a square image",
            where=where,
            fix="write it as 112x112x24 (height, width, channels)",
        )
    return int(match[1] or 1), int(match[3])


def _whole(fields: Mapping[str, str], name: str, where: str, *, default: str = "") -> int:
    """A whole number of a key, from 1 on."""
    text = fields.get(name, default)
    if not text.isdecimal() or int(text) == 0:
        problem = f"{name}: '{text}' is no whole number" if text else f"says no {name}"
        raise TableError(problem, where=where, fix=f"write it as {name}:3")
    return int(text)


def _block(name: str, fields: dict[str, str], gated: bool, where: str) -> BlockSpec:
    pixels, channels = _shape(fields["input"], where)
    out_pixels, out_channels = _shape(fields["output"], where)
    if name == "Conv":
        op = "conv"
        choices: dict[str, Value] = {
            "kernel_size": _whole(fields, "kernel", where, default="3"),
            "activation": "hswish" if gated else "relu6",
        }
    elif name == "expanded_conv":
        op = "mbconv"
        expand = _whole(fields, "expand", where)
        choices = {
            "kernel_size": _whole(fields, "kernel", where),
            # no block is narrower within than at its input: a smaller number is the ratio
            "expand_ratio": expand / channels if _is_v3(fields) and expand >= channels else expand,
            "attention": "se" if fields.get("se") == "1" else "none",
            "activation": _activation(fields),
        }
    else:
        raise TableError(
            f"the operator '{name}' is not known",
            where=where,
            fix=f"known: {', '.join(('Conv', 'expanded_conv', *_HEAD, *_NAMES))}",
        )
    stride = _whole(fields, "stride", where, default=str(max(1, round(pixels / out_pixels))))
    return BlockSpec(op, channels, out_channels, pixels, stride, canonical_choices(choices))


def _is_v3(fields: Mapping[str, str]) -> bool:
    """Whether an entry is of MobileNetV3's tables, where `expand` is a width."""
    return "se" in fields or "hs" in fields


def _activation(fields: dict[str, str]) -> str:
    if "hs" not in fields:
        return "relu6"
    return "hswish" if fields["hs"] == "1" else "relu"


def _heads(
    entries: Mapping[str, Sequence[Entry]], gated: bool, path: Path
) -> list[tuple[BlockSpec, Measurement]]:
    """The heads: expansion, pooling, features and classifier as one block each.

    A table of several resolutions has an expansion for each; what comes after it is the layer that
    takes what it gives, which several heads may share.
    """
    missing = [name for name in ("Conv_1", "Logits") if name not in entries]
    if missing:
        raise TableError(
            f"has no {missing[0]}",
            where=path,
            fix="give all layers of the head (Conv_1, Logits) or none of them",
        )
    return [_head(first, entries, gated, path) for first in entries["Conv_1"]]


def _head(
    first: Entry, entries: Mapping[str, Sequence[Entry]], gated: bool, path: Path
) -> tuple[BlockSpec, Measurement]:
    """The head that begins with the expansion `first`."""
    pixels, channels = _shape(first[0]["input"], f"{path}: Conv_1")
    given = _shape(first[0]["output"], f"{path}: Conv_1")
    choices: dict[str, Value] = {
        "expand_width": given[1],
        "activation": "hswish" if gated else "relu6",
    }
    parts, classes = [first], 0
    for name in _HEAD[1:]:
        shared = len(entries["Conv_1"]) > 1
        found = _taking(entries.get(name, ()), given, f"{path}: {name}", shared=shared)
        if found is None:
            continue
        parts.append(found)
        given = _shape(found[0]["output"], f"{path}: {name}")
        if name == "Conv_2":
            choices["feature_width"] = given[1]
        if name == "Logits":
            classes = given[1]
    if not classes:
        raise TableError(
            f"has no Logits that take the {given[1]} channels before them",
            where=path,
            fix="give every head's layers",
        )
    spec = BlockSpec("head", channels, classes, pixels, 1, canonical_choices(choices))
    total = Measurement(
        sum(part.median_ms for _, part in parts),
        sum(part.p10_ms for _, part in parts),
        sum(part.p90_ms for _, part in parts),
        min(part.runs for _, part in parts),
    )
    return spec, total


def _taking(
    entries: Sequence[Entry], given: tuple[int, int], where: str, *, shared: bool
) -> Entry | None:
    """The layer that takes what is `given`, (pixels, channels), of a table of several heads.

    Of one head's it is the only one. A pooled input has one pixel whatever was given, where no
    entry says the pooling.
    """
    if len(entries) == 1 and not shared:
        return entries[0]
    shapes = [_shape(fields["input"], where) for fields, _ in entries]
    for wanted in (given, (1, given[1])):
        if wanted in shapes:
            return entries[shapes.index(wanted)]
    return None
