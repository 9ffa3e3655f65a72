"""Lookup tables in the form of once-for-all and ProxylessNAS, read into ours.

One YAML for each input resolution; a key is an operator with its shapes, its value a mapping with
`mean` (ms), `std` and `count`. What our spaces call the head is four entries there.
"""

import re
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from nassearch import config
from nassearch.errors import TableError
from nassearch.latency.plausibility import check_blocks
from nassearch.latency.table import IMPLAUSIBLE_MS, LatencyTable, Measurement
from nassearch.setting import Setting
from nassearch.space import BlockSpec
from nassearch.space.architecture import Value, canonical_choices

_SHAPE = re.compile(r"(?:(\d+)x(\d+)x)?(\d+)")
_Z90 = 1.2816  # the 90th percentile of a normal distribution, in standard deviations
_HEAD = ("Conv_1", "AvgPool2D", "Conv_2", "Logits")


def import_ofa_tables(paths: Iterable[Path], setting: Setting, *, source: str = "") -> LatencyTable:
    """The blocks of YAML tables of one setting; TableError names the entry that is not understood.

    The mean is taken for the median, and percentiles from the standard deviation. Sums over blocks
    are those of the table of a resolution; where the tables of two resolutions hold the same block
    (11 pixels at stride 16 of 168 and of 176), their means are pooled by count.
    """
    blocks: dict[str, Measurement] = {}
    read = []
    for path in paths:
        entries = config.read_yaml(path)
        if not isinstance(entries, dict) or not entries:
            raise TableError("is not a lookup table: a mapping of operators", where=path)
        gated = any("-se:" in key for key in entries)
        head: dict[str, tuple[dict[str, str], Measurement]] = {}
        for key, value in entries.items():
            where = f"{path}: {key}"
            name, fields = _fields(str(key), where)
            measured = _measurement(value, where)
            if name in _HEAD:
                head[name] = (fields, measured)
                continue
            spec = _block(name, fields, gated, where)
            blocks[spec.key] = _pooled(blocks.get(spec.key), measured)
        if head:
            spec, measured = _head(head, gated, path)
            blocks[spec.key] = _pooled(blocks.get(spec.key), measured)
        read.append(path.name)
    if not blocks:
        raise TableError("there is no lookup table to import", where=setting)
    medians = {key: measured.median_ms for key, measured in blocks.items()}
    check_blocks(medians, setting, where=path)
    facts = {"version": "imported", "files": ", ".join(read), "origin": source}
    return LatencyTable(setting, blocks, (), {k: v for k, v in facts.items() if v})


def _fields(key: str, where: str) -> tuple[str, dict[str, str]]:
    name, *parts = key.split("-")
    fields = dict(part.split(":", 1) for part in parts if ":" in part)
    if "input" not in fields or "output" not in fields:
        raise TableError("is not an operator with its input and output", where=where)
    return name, fields


def _measurement(value: Any, where: str) -> Measurement:
    try:
        mean, spread = float(value["mean"]), float(value.get("std", 0.0))
        count = int(value.get("count", 1))
    except (KeyError, TypeError, ValueError, AttributeError) as error:
        raise TableError("has no mean in milliseconds", where=where) from error
    if not 0 < mean < IMPLAUSIBLE_MS:
        raise TableError(
            f"{mean:g} ms is not plausible", where=where, fix="latencies are in milliseconds"
        )
    low = max(0.0, mean - _Z90 * spread)
    return Measurement(mean, low, mean + _Z90 * spread, count)


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
    if match is None or match[1] != match[2]:
        raise TableError(f"'{text}' is not the shape of a square image", where=where)
    return int(match[1] or 1), int(match[3])


def _block(name: str, fields: dict[str, str], gated: bool, where: str) -> BlockSpec:
    pixels, channels = _shape(fields["input"], where)
    out_pixels, out_channels = _shape(fields["output"], where)
    if name == "Conv":
        choices: dict[str, Value] = {
            "kernel_size": int(fields.get("kernel", 3)),
            "activation": "hswish" if gated else "relu6",
        }
        op = "conv"
    elif name == "expanded_conv":
        op = "mbconv"
        choices = {
            "kernel_size": int(fields["kernel"]),
            "expand_ratio": int(fields["expand"]) / channels,
            "attention": "se" if fields.get("se") == "1" else "none",
            "activation": _activation(fields),
        }
    else:
        raise TableError(f"the operator '{name}' is not known", where=where)
    stride = int(fields.get("stride", round(pixels / out_pixels)))
    return BlockSpec(op, channels, out_channels, pixels, stride, canonical_choices(choices))


def _activation(fields: dict[str, str]) -> str:
    if "hs" not in fields:
        return "relu6"
    return "hswish" if fields["hs"] == "1" else "relu"


def _head(
    entries: dict[str, tuple[dict[str, str], Measurement]], gated: bool, path: Path
) -> tuple[BlockSpec, Measurement]:
    """The head: expansion, pooling, features and classifier as one block."""
    missing = [name for name in ("Conv_1", "Logits") if name not in entries]
    if missing:
        raise TableError(f"has no {missing[0]}", where=path)
    pixels, channels = _shape(entries["Conv_1"][0]["input"], f"{path}: Conv_1")
    choices: dict[str, Value] = {
        "expand_width": _shape(entries["Conv_1"][0]["output"], f"{path}: Conv_1")[1],
        "activation": "hswish" if gated else "relu6",
    }
    if "Conv_2" in entries:
        choices["feature_width"] = _shape(entries["Conv_2"][0]["output"], f"{path}: Conv_2")[1]
    classes = _shape(entries["Logits"][0]["output"], f"{path}: Logits")[1]
    spec = BlockSpec("head", channels, classes, pixels, 1, canonical_choices(choices))
    parts = [measured for _, measured in entries.values()]
    total = Measurement(
        sum(part.median_ms for part in parts),
        sum(part.p10_ms for part in parts),
        sum(part.p90_ms for part in parts),
        min(part.runs for part in parts),
    )
    return spec, total
