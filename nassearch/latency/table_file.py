"""The files of a latency table: a CSV that pandas reads with `comment="#"`, its header in YAML.

Blocks stand in `<setting>.csv`, whole networks beside it in `<setting>-networks.csv`.
"""

import io
import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import pandas as pd

from nassearch.config import dump_yaml, parse_yaml
from nassearch.errors import ConfigError, TableError
from nassearch.files import write_text
from nassearch.latency.measurement import MeasuredNetwork, Measurement
from nassearch.setting import SETTING_FIELDS, Setting
from nassearch.space import BlockSpec

SCHEMA = 1
BLOCK_COLUMNS = ("key", "median_ms", "p10_ms", "p90_ms", "runs", "source")
NETWORK_COLUMNS = ("space", "genes", "resolution", "median_ms", "p10_ms", "runs")
ENERGY = "energy_mj"  # a column of either file, where somebody measured it
LEAVE_ONE_OUT = "elsewhere_ms"  # a column of the networks, where their blocks were timed as well
BLOCK_OPTIONS, NETWORK_OPTIONS = (ENERGY,), (ENERGY, LEAVE_ONE_OUT)


def networks_path(path: Path) -> Path:
    """The file of whole networks beside a table."""
    return path.with_name(f"{path.stem}-networks.csv")


def blocks_frame(blocks: Mapping[str, Measurement]) -> pd.DataFrame:
    """Blocks as a frame, a row each, sorted by key."""
    rows = [
        (key, m.median_ms, m.p10_ms, m.p90_ms, m.runs, m.source, m.energy_mj)
        for key, m in sorted(blocks.items())
    ]
    return _frame(rows, BLOCK_COLUMNS, BLOCK_OPTIONS)


def networks_frame(networks: Sequence[MeasuredNetwork]) -> pd.DataFrame:
    """Whole networks as a frame, a row each; genes joined by '-'."""
    rows = [
        (
            network.space,
            "-".join(map(str, network.genes)),
            network.resolution,
            network.measurement.median_ms,
            network.measurement.p10_ms,
            network.measurement.runs,
            network.measurement.energy_mj,
            network.leave_one_out_ms,
        )
        for network in networks
    ]
    return _frame(rows, NETWORK_COLUMNS, NETWORK_OPTIONS)


def write_file(path: Path, setting: Setting, facts: Mapping[str, Any], frame: pd.DataFrame) -> None:
    """Write a frame under the header that says its setting and `facts`."""
    header = dump_yaml({"schema": SCHEMA, **setting.to_dict(), **facts}, width=90)
    comment = "".join(f"# {line}\n" for line in header.splitlines())
    text = frame.to_csv(index=False, float_format="%.6g", lineterminator="\n")
    write_text(path, comment + text)


def read_blocks(path: Path) -> tuple[Setting, dict[str, Any], dict[str, Measurement]]:
    """The setting, the other facts and the blocks of a table's file.

    Raises TableError, naming the file and the row, where it is damaged.
    """
    setting, facts, frame = _read(path, BLOCK_COLUMNS, BLOCK_OPTIONS)
    blocks: dict[str, Measurement] = {}
    for row in frame.itertuples():
        where = f"{path}: {row.key}"
        if row.key in blocks:
            raise TableError("the key stands twice", where=where, fix="keep one of the rows")
        try:
            BlockSpec.from_key(str(row.key))
        except ConfigError as error:
            raise TableError(error.what, where=where, fix=error.fix) from error
        blocks[str(row.key)] = _measurement(row, where, source=str(row.source))
    return setting, facts, blocks


def read_networks(path: Path) -> tuple[Setting, tuple[MeasuredNetwork, ...]]:
    """The setting and the whole networks of their file; TableError where it is damaged."""
    setting, _, frame = _read(path, NETWORK_COLUMNS, NETWORK_OPTIONS)
    return setting, tuple(_network(row, path) for row in frame.itertuples())


def _frame(
    rows: Sequence[tuple[Any, ...]], columns: tuple[str, ...], options: tuple[str, ...]
) -> pd.DataFrame:
    """A frame of `columns` and of those `options` that a row has."""
    frame = pd.DataFrame(rows, columns=[*columns, *options])
    return frame.drop(columns=[name for name in options if frame[name].isna().all()])


def _read(
    path: Path, columns: tuple[str, ...], options: tuple[str, ...]
) -> tuple[Setting, dict[str, Any], pd.DataFrame]:
    try:
        text = path.read_text(encoding="utf-8-sig")
        frame = pd.read_csv(io.StringIO(text), comment="#")
    except (OSError, ValueError) as error:
        problem = " ".join(str(error).split())
        raise TableError(
            f"is not a latency table ({problem})", where=path, fix="profile the device again"
        ) from error
    setting, facts = _header(path, text)
    if tuple(frame.columns) != (*columns, *(name for name in options if name in frame.columns)):
        raise TableError(
            f"has the columns {', '.join(map(str, frame.columns))}",
            where=path,
            fix=f"it must have {', '.join(columns)}",
        )
    if not isinstance(frame.index, pd.RangeIndex):  # pandas takes the surplus in front for an index
        raise TableError(
            "its rows have more cells than it has columns",
            where=path,
            fix="write decimals with a point",
        )
    empty = frame[frame[list(columns)].isna().any(axis=1)]
    if len(empty):
        raise TableError(
            f"row {int(empty.index[0]) + 1} lacks a value",
            where=path,
            fix="fill it in, or remove the row and profile again",
        )
    return setting, facts, frame


def _header(path: Path, text: str) -> tuple[Setting, dict[str, Any]]:
    """The setting that a file's header says, and what else it says."""
    lines = [line[1:].removeprefix(" ") for line in text.splitlines() if line.startswith("#")]
    try:
        header = parse_yaml("\n".join(lines), where=path)
    except ConfigError as error:
        raise TableError(f"its header {error.what}", where=error.where, fix=error.fix) from error
    if not isinstance(header, dict) or "schema" not in header:
        raise TableError(
            "has no header that says its setting",
            where=path,
            fix="begin it with '# schema: 1', '# device: ...', '# runtime: ...'",
        )
    if header["schema"] != SCHEMA:
        raise TableError(
            f"has schema {header['schema']}, this version reads {SCHEMA}",
            where=path,
            fix="profile the device again",
        )
    try:
        setting = Setting.from_dict({k: header[k] for k in SETTING_FIELDS if k in header})
    except ConfigError as error:
        raise TableError(
            error.what, where=f"{path}: its header: {error.where}", fix=error.fix
        ) from error
    known = ("schema", *SETTING_FIELDS)
    facts = {str(name): value for name, value in header.items() if name not in known}
    profiles = facts.get("profiles", {})
    if not isinstance(profiles, dict) or not all(isinstance(p, dict) for p in profiles.values()):
        raise TableError(
            "its header: profiles is no mapping of spaces to figures",
            where=path,
            fix="write it as '# profiles: {SPACE: {noise_floor: 0.01}}', or leave it out",
        )
    for figures in (facts, *profiles.values()):
        floor = figures.get("noise_floor", 0.0)
        if isinstance(floor, bool) or not isinstance(floor, int | float) or not 0 <= floor < 10:
            raise TableError(
                f"its header: noise_floor {floor!r} is no share",
                where=path,
                fix="write it as 0.01 for 1 %",
            )
    return setting, facts


def _number(row: Any, name: str, where: str) -> float:
    value = getattr(row, name)
    try:
        return float(value)
    except (TypeError, ValueError) as error:
        comma = "," in str(value)
        raise TableError(
            f"{name}: '{value}' is not a number",
            where=where,
            fix="write decimals with a point" if comma else "write it as 12.5, without a unit",
        ) from error


def _whole(row: Any, name: str, where: str) -> int:
    number = _number(row, name, where)
    if not number.is_integer():
        raise TableError(
            f"{name}: {number:g} is not a whole number", where=where, fix="write it as 50"
        )
    return int(number)


def _optional(row: Any, name: str, where: str) -> float | None:
    number = _number(row, name, where) if hasattr(row, name) else math.nan
    return None if math.isnan(number) else number


def _measurement(row: Any, where: str, *, source: str) -> Measurement:
    median = _number(row, "median_ms", where)
    measured = Measurement(
        median,
        _number(row, "p10_ms", where),
        _number(row, "p90_ms", where) if hasattr(row, "p90_ms") else median,
        _whole(row, "runs", where),
        source,
        _optional(row, ENERGY, where),
    )
    if measured.problem is not None:
        raise TableError(measured.problem, where=where, fix="latencies are in milliseconds")
    return measured


def _network(row: Any, path: Path) -> MeasuredNetwork:
    where = f"{path}: {row.genes}"
    try:
        genes = tuple(int(gene) for gene in str(row.genes).split("-"))
    except ValueError as error:
        raise TableError(
            "genes are numbers joined by '-'", where=where, fix="write them as 0-2-1"
        ) from error
    network = MeasuredNetwork(
        str(row.space),
        genes,
        _whole(row, "resolution", where),
        _measurement(row, where, source="measured"),
        _optional(row, LEAVE_ONE_OUT, where),
    )
    if network.problem is not None:
        raise TableError(network.problem, where=where, fix="mend the row, or remove it")
    return network
