"""Whole networks measured elsewhere: a CSV in the columns of once-for-all's community.

One network a row: `resolution`, `ks20` and `expand20` (kernel size and expand ratio of each of the
four places of every elastic stage), `depth5` (blocks of each of them), and one column of
milliseconds for each device and batch. HELP (Lee et al., NeurIPS 2021) publishes this form.
"""

import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import pandas as pd

from nassearch.errors import ConfigError, TableError
from nassearch.latency.measurement import IMPLAUSIBLE_MS, MeasuredNetwork, Measurement
from nassearch.latency.plausibility import UNITS, check_networks
from nassearch.latency.predictor import Pair
from nassearch.latency.table import LatencyTable
from nassearch.setting import Setting
from nassearch.space import Architecture, SearchSpace, lower
from nassearch.space.once_for_all import decode_lists, parse_list

COLUMNS = ("resolution", "ks20", "expand20", "depth5")


def load_networks(
    path: Path,
    space: SearchSpace,
    *,
    column: str,
    setting: Setting | None = None,
    unit: str | None = None,
) -> list[Pair]:
    """The networks of a CSV with their milliseconds from `column`.

    The space returned with each is `space` with every resolution of the file.

    Args:
        path: The CSV, a network a row.
        space: Whose networks they are.
        column: Of the latencies.
        setting: What they were measured in, where that is known.
        unit: Of the latencies; None takes them for milliseconds, if they can be.

    Raises:
        TableError: There is no row, or one is damaged, implausible, no network of the space, or
            stands twice; the message names it.
    """
    rows = read_rows(path, (*COLUMNS, column))
    for name, row in rows:
        whole_number(row["resolution"], f"{path}: {name}: resolution")
    resolutions = sorted({*(int(row["resolution"]) for _, row in rows), *space.resolutions})
    wide = SearchSpace.from_dict({**space.to_dict(), "resolution": resolutions})
    networks: dict[Architecture, tuple[str, float]] = {}
    for name, row in rows:
        where = f"{path}: {name}"
        milliseconds = UNITS[unit or "ms"] * number(row[column], f"{where}: {column}")
        if not 0 < milliseconds < IMPLAUSIBLE_MS:
            raise TableError(
                f"{milliseconds:g} ms is not plausible",
                where=where,
                fix="latencies are in milliseconds; name another unit with --unit us or s",
            )
        try:
            architecture = decode_row(row, wide)
        except (ConfigError, ValueError) as error:
            raise TableError(
                f"is not a network of {space.name} ({error})",
                where=where,
                fix="name with --space the space that the row is of, or remove the row",
            ) from error
        first, first_ms = networks.setdefault(architecture, (name, milliseconds))
        if milliseconds != first_ms:
            raise TableError(
                f"holds the same network as {first} with another latency ({first_ms:g} ms)",
                where=where,
                fix="keep one row, for instance with the median of both",
            )
    check_networks(
        [(name, lower(wide, network), ms) for network, (name, ms) in networks.items()],
        setting,
        where=path,
        unit_given=unit is not None,
    )
    return [(wide, network, milliseconds) for network, (_, milliseconds) in networks.items()]


def as_table(
    pairs: Sequence[Pair], space: SearchSpace, setting: Setting, **facts: str
) -> LatencyTable:
    """The table of a device that was measured in whole networks of `space` only.

    Nothing says how often each was run or how much the runs differed.
    """
    networks = tuple(
        MeasuredNetwork.of(space, architecture, Measurement(ms, ms, ms, 1))
        for _, architecture, ms in pairs
    )
    return LatencyTable(setting, {}, networks, {"version": "imported", **facts})


def column_names(path: Path) -> list[str]:
    """The columns of a CSV."""
    return list(map(str, _read(path).columns))


def read_rows(path: Path, columns: Sequence[str]) -> list[tuple[str, Mapping[Any, Any]]]:
    """The rows of a CSV of networks, each with what messages call it.

    Raises TableError where a column is missing, or every row.
    """
    frame = _read(path)
    for name in columns:
        if name not in frame.columns:
            raise TableError(
                f"has no column '{name}'",
                where=path,
                fix=f"it has {', '.join(map(str, frame.columns))}",
            )
    if frame.empty:
        raise TableError("holds no network, only a header", where=path, fix="add a row a network")
    records = frame.to_dict("records")
    return [(f"row {place}", row) for place, row in enumerate(records, start=1)]


def decode_row(
    row: Mapping[Any, Any], space: SearchSpace, *, columns: Sequence[str] = COLUMNS
) -> Architecture:
    """The network of a row; ConfigError or ValueError where it is none of the space.

    `columns` are those of the resolution and of the three lists, in the order of COLUMNS.
    """
    kernel_sizes, expand_ratios, depths = (parse_list(row[name]) for name in columns[1:])
    return decode_lists(
        space,
        resolution=int(row[columns[0]]),
        kernel_sizes=kernel_sizes,
        expand_ratios=expand_ratios,
        depths=depths,
    )


def number(value: object, where: str) -> float:
    """A cell as a number."""
    text = str(value).strip()
    try:
        return float(text)
    except ValueError as error:
        fix = "write decimals with a point" if "," in text else "write it as 12.5, without a unit"
        raise TableError(f"'{text}' is not a number", where=where, fix=fix) from error


def whole_number(value: object, where: str) -> int:
    """A cell as a number of pixels."""
    found = number(value, where)
    if not found.is_integer() or found < 1:
        problem = "is empty" if math.isnan(found) else f"{found:g} is not a number of pixels"
        raise TableError(problem, where=where, fix="write a whole number, 224")
    return int(found)


def _read(path: Path) -> pd.DataFrame:
    try:
        return pd.read_csv(path, comment="#", encoding="utf-8-sig")
    except (OSError, ValueError) as error:
        raise TableError(
            f"is not a CSV ({error})",
            where=path,
            fix="save it as text with commas and a first line of column names",
        ) from error
