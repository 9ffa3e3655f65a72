"""Whole networks measured elsewhere: a CSV with a network a row, and columns of milliseconds.

Columns say the network in one of several forms (`network_columns`); each column of milliseconds is
of one device in one setting. HELP (Lee et al., NeurIPS 2021) publishes once-for-all's and FBNet's.
"""

import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import pandas as pd

from nassearch.errors import TableError
from nassearch.latency.importing.network_columns import LISTS, NetworkColumns, network_columns
from nassearch.latency.measurement import IMPLAUSIBLE_MS, MeasuredNetwork, Measurement
from nassearch.latency.plausibility import UNITS, check_networks
from nassearch.latency.predictor import Pair
from nassearch.latency.table import LatencyTable
from nassearch.setting import Setting
from nassearch.space import Architecture, SearchSpace, lower


def load_networks(
    path: Path,
    space: SearchSpace,
    *,
    column: str,
    architecture: str | None = None,
    setting: Setting | None = None,
    unit: str | None = None,
) -> list[Pair]:
    """The networks of a CSV with their milliseconds from `column`.

    The space returned with each is `space` with every resolution of the file, where a column of
    pixels says it.

    Args:
        path: The CSV, a network a row.
        space: Whose networks they are.
        column: Of the latencies.
        architecture: The column that says what network a row is, where others could be meant.
        setting: What they were measured in, where that is known.
        unit: Of the latencies; None takes them for milliseconds, if they can be.

    Raises:
        TableError: There is no row, or one is damaged, implausible, no network of the space, or
            stands twice; the message names it.
    """
    rows = read_rows(path, (column,) if architecture is None else (architecture, column))
    columns = find_columns(path, rows, space, architecture=architecture)
    wide = space
    if columns.resolution is not None:
        pixels = {
            whole_number(row[columns.resolution], f"{path}: {name}: {columns.resolution}")
            for name, row in rows
        }
        resolutions = sorted({*pixels, *space.resolutions})
        wide = SearchSpace.from_dict({**space.to_dict(), "resolution": resolutions})
    networks: dict[Architecture, tuple[str, float]] = {}
    for name, row in rows:
        where = f"{path}: {name}"
        milliseconds = UNITS[unit or "ms"] * number(row[column], f"{where}: {column}")
        if not 0 < milliseconds < IMPLAUSIBLE_MS:
            raise TableError(
                f"{milliseconds:g} ms is not plausible",
                where=f"{where}: {column}",
                fix="latencies are in milliseconds; name another unit with --unit us or s",
            )
        network = columns.network(row, wide, where=where)
        first, first_ms = networks.setdefault(network, (name, milliseconds))
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


def latency_columns(
    path: Path, space: SearchSpace, *, architecture: str | None = None
) -> list[str]:
    """The columns of a CSV that may hold latencies: numbers, and no part of what says a network.

    Raises:
        TableError: It is no CSV, empty, or says no networks.
    """
    rows = read_rows(path, () if architecture is None else (architecture,))
    own = find_columns(path, rows, space, architecture=architecture).names
    first = rows[0][1]
    return [name for name in map(str, first) if name not in own and _is_number(first[name])]


def find_columns(
    path: Path,
    rows: Sequence[tuple[str, Mapping[Any, Any]]],
    space: SearchSpace,
    *,
    architecture: str | None = None,
) -> NetworkColumns:
    """The columns that say what networks the rows of a CSV are; TableError where there are none."""
    first = rows[0][1]
    names = list(map(str, first))
    found = network_columns(names, first, space, column=architecture)
    if found is None:
        genes = ", ".join(gene.name for gene in space.genes[:2])
        raise TableError(
            "names no networks",
            where=path,
            fix="give the column genes, as a search's candidates.csv has it,"
            f" {', '.join(LISTS[1])}, a column for each gene of the space ({genes}, ...), one of"
            f" JSON, or numbers that the space's op_numbers explain; it has {', '.join(names)}",
        )
    return found


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


def _is_number(cell: object) -> bool:
    try:
        return math.isfinite(float(str(cell)))
    except ValueError:
        return False


def _read(path: Path) -> pd.DataFrame:
    """A CSV's cells as text; an empty one is NaN."""
    try:
        frame = pd.read_csv(path, comment="#", encoding="utf-8-sig", dtype=str)
    except (OSError, ValueError) as error:
        problem = " ".join(str(error).split())
        raise TableError(
            f"is not a CSV ({problem})",
            where=path,
            fix="save it as text with commas and a first line of column names",
        ) from error
    if not isinstance(frame.index, pd.RangeIndex):  # pandas takes the surplus in front for an index
        raise TableError(
            "its rows have more cells than it has columns",
            where=path,
            fix="write decimals with a point, and lists as 3-5-7 or in quotes",
        )
    return frame
