"""Whole networks measured elsewhere: a CSV in the columns of once-for-all's community.

One network a row: `resolution`, `ks20` and `expand20` (kernel size and expand ratio of each of the
four places of every elastic stage), `depth5` (blocks of each of them), and one column of
milliseconds for each device and batch. HELP (Lee et al., NeurIPS 2021) publishes this form.
"""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import pandas as pd

from nassearch.errors import ConfigError, TableError
from nassearch.latency.plausibility import check_networks
from nassearch.latency.predictor import Pair
from nassearch.latency.table import IMPLAUSIBLE_MS, LatencyTable, MeasuredNetwork, Measurement
from nassearch.setting import Setting
from nassearch.space import Architecture, SearchSpace
from nassearch.space.architecture import Block, Stage, canonical_choices

COLUMNS = ("resolution", "ks20", "expand20", "depth5")


def load_networks(path: Path, space: SearchSpace, *, column: str) -> list[Pair]:
    """The networks of a CSV with their milliseconds from `column`.

    The space returned with each is `space` with every resolution of the file. TableError names the
    row that is damaged, implausible or no architecture of the space.
    """
    frame = _read(path)
    for name in (*COLUMNS, column):
        if name not in frame.columns:
            raise TableError(
                f"has no column '{name}'", where=path, fix=f"it has {', '.join(frame.columns)}"
            )
    resolutions = sorted({*map(int, frame["resolution"]), *space.resolutions})
    wide = SearchSpace.from_dict({**space.to_dict(), "resolution": resolutions})
    pairs = []
    for number, row in enumerate(frame.to_dict("records"), start=1):
        where = f"{path}: row {number}"
        milliseconds = float(row[column])
        if not 0 < milliseconds < IMPLAUSIBLE_MS:
            raise TableError(
                f"{milliseconds:g} ms is not plausible",
                where=where,
                fix="latencies are in milliseconds",
            )
        try:
            pairs.append((wide, wide.check(_architecture(row, wide)), milliseconds))
        except (ConfigError, ValueError, IndexError) as error:
            raise TableError(f"is not a network of {space.name} ({error})", where=where) from error
    rows = [
        (f"row {number}", sum(len(stage.blocks) for stage in architecture.stages), milliseconds)
        for number, (_, architecture, milliseconds) in enumerate(pairs, start=1)
    ]
    check_networks(rows, where=path)
    return pairs


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


def _read(path: Path) -> pd.DataFrame:
    try:
        return pd.read_csv(path, comment="#")
    except (OSError, ValueError) as error:
        raise TableError(f"is not a CSV ({error})", where=path) from error


def _architecture(row: Mapping[Any, Any], space: SearchSpace) -> Architecture:
    kernels, ratios, depths = (_numbers(row[name]) for name in COLUMNS[1:])
    stages: list[Stage] = []
    elastic = 0
    for stage in space.smallest.stages:
        if elastic_stage := _is_elastic(space, len(stages)):
            places = range(4 * elastic, 4 * elastic + depths[elastic])
            blocks = [
                _block(stage.blocks[0], kernel_size=kernels[at], expand_ratio=ratios[at])
                for at in places
            ]
            stages.append(Stage(stage.width, tuple(blocks)))
        else:
            stages.append(stage)
        elastic += elastic_stage
    return Architecture(int(row["resolution"]), tuple(stages))


def _is_elastic(space: SearchSpace, stage: int) -> bool:
    return space.layout.stages[stage].depth.gene is not None


def _block(block: Block, *, kernel_size: int, expand_ratio: int) -> Block:
    choices = {**dict(block.choices), "kernel_size": kernel_size, "expand_ratio": expand_ratio}
    return Block(block.op, canonical_choices(choices))


def _numbers(text: object) -> Sequence[int]:
    return [int(part) for part in str(text).split("-")]
