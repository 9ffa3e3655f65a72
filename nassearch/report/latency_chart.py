"""Charts of where latencies come from: predictions against measurements, and block times."""

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import plotly.graph_objects as go

from nassearch.config import format_milliseconds
from nassearch.latency.measurement import space_identity
from nassearch.latency.snapshot import LatencySnapshot
from nassearch.report.figure import Compared, heat_figure, prediction_figure
from nassearch.report.record import RunRecord, SearchRecord
from nassearch.space import BlockSpec, SearchSpace, slots
from nassearch.space.architecture import NAMES, NUMBERS


@dataclass(frozen=True)
class Chart:
    """A figure with the words it is chosen by and the words below it."""

    label: str
    note: str
    figure: go.Figure


@dataclass(frozen=True)
class _Pair:
    """One network: milliseconds measured, predicted, and the interval of the prediction."""

    text: str
    measured: float
    predicted: float
    low: float
    high: float

    @property
    def error(self) -> float:
        return abs(self.predicted / self.measured - 1)

    @property
    def inside(self) -> bool:
        return self.low <= self.measured <= self.high


def prediction_charts(run: RunRecord) -> list[Chart]:
    """A chart of predicted and measured whole networks for each setting that has any."""
    charts: dict[str, Chart] = {}
    for search in run.searches:
        for name in search.settings:
            groups = {
                "calibration, each predicted without itself": _calibration(search, name),
                "front, measured afterwards": _front(search, name),
                "exports, verified": _verified(search, name),
            }
            setting = str(search.settings[name])
            if any(groups.values()) and setting not in charts:
                charts[setting] = _prediction_chart(setting, groups)
    return list(charts.values())


def _calibration(search: SearchRecord, name: str) -> list[_Pair]:
    snapshot = search.snapshot(name)
    if snapshot is None:
        return []
    ratio = snapshot.ratio or 0.0
    return [
        _Pair(
            f"genes {'-'.join(map(str, network.genes))}",
            network.measured_ms,
            network.predicted_ms,
            network.predicted_ms / (1 + ratio),
            network.predicted_ms * (1 + ratio),
        )
        for network in snapshot.networks
    ]


def _front(search: SearchRecord, name: str) -> list[_Pair]:
    """Networks of the front that the predictor has not learnt from."""
    snapshot = search.snapshot(name)
    space = search.past.space
    networks = () if snapshot is None else snapshot.networks
    learnt = {(network.space, network.genes) for network in networks}
    owner = space_identity(space)
    milliseconds = search.measured_ms(name)
    pairs = []
    for candidate in search.candidates:
        architecture = candidate.architecture
        measured = milliseconds.get(architecture.id)
        if measured is None or (owner, space.encode(architecture)) in learnt:
            continue
        value = candidate.values[name]
        low = value.value if value.low is None else value.low
        high = value.value if value.high is None else value.high
        pairs.append(_Pair(architecture.id, measured, value.value, low, high))
    return pairs


def _verified(search: SearchRecord, name: str) -> list[_Pair]:
    setting = search.settings[name]
    pairs: dict[str, _Pair] = {}
    for pick in search.picks:
        for item in (pick.verified or {}).get("latency", ()):
            is_same = (item["device"], item["setting"]) == (setting.device, setting.stem)
            if is_same and item.get("measured_ms") is not None:
                predicted = item["predicted_ms"]
                low = item.get("low_ms") or predicted
                high = item.get("high_ms") or predicted
                identity = pick.architecture.id
                pairs[identity] = _Pair(identity, item["measured_ms"], predicted, low, high)
    return list(pairs.values())


def _prediction_chart(setting: str, groups: dict[str, list[_Pair]]) -> Chart:
    pairs = [pair for group in groups.values() for pair in group]
    unit, scale = _unit([pair.measured for pair in pairs])
    compared, remarks = [], []
    for name, group in groups.items():
        columns = np.array([(p.measured, p.predicted, p.low, p.high) for p in group])
        columns = columns.reshape(-1, 4) * scale
        measured, predicted, low, high = columns.T
        text = [pair.text for pair in group]
        compared.append(Compared(name, measured, predicted, low, high, text))
        if group:
            error = float(np.mean([pair.error for pair in group]))
            inside = sum(pair.inside for pair in group)
            remarks.append(
                f"{name}: {len(group)} networks, mean error {error:.1%},"
                f" {inside} of {len(group)} within the interval"
            )
    return Chart(setting, "; ".join(remarks) + ".", prediction_figure(compared, unit=unit))


# -- block times -----------------------------------------------------------------------------------


def heat_charts(run: RunRecord) -> list[Chart]:
    """A chart of block times, choice by place, for each setting and image resolution."""
    if run.space is None:
        return []
    snapshots = {
        str(snapshot.setting): snapshot
        for search in reversed(run.searches)
        for snapshot in search.snapshots
    }
    charts = []
    for setting, snapshot in snapshots.items():
        for pixels in run.space.resolutions:
            figure = block_figure(run.space, snapshot, pixels)
            if figure is None:
                continue
            at = f", images of {pixels} pixels" if len(run.space.resolutions) > 1 else ""
            charts.append(Chart(f"{setting}{at}", _heat_note(snapshot), figure))
    return charts


def _heat_note(snapshot: LatencySnapshot) -> str:
    if snapshot.source == "estimated":
        return "Estimated from the device's datasheet: nobody measured these blocks."
    return (
        f"Block times {snapshot.source} on the device, corrected by whole networks measured there."
    )


def block_figure(space: SearchSpace, snapshot: LatencySnapshot, pixels: int) -> go.Figure | None:
    """The blocks of the stages for images of `pixels`; None where the snapshot has none of them."""
    specs = [spec for spec in stage_specs(space, pixels) if spec.key in snapshot.blocks]
    if not specs:
        return None
    columns = list(dict.fromkeys(_place(spec) for spec in specs))
    label = _labels(specs)
    rows = sorted({label[spec] for spec in specs})
    unit, scale = _unit([snapshot.blocks[spec.key].ms for spec in specs])
    values = np.full((len(rows), len(columns)), math.nan)
    text = [["" for _ in columns] for _ in rows]
    for spec in specs:
        at = rows.index(label[spec]), columns.index(_place(spec))
        time = snapshot.blocks[spec.key]
        values[at] = time.ms * scale
        text[at[0]][at[1]] = f"{spec.key}<br>{format_milliseconds(time.ms)}, {time.source}"
    names = [_row_name(row) for row in rows]
    return heat_figure(columns, names, values, text, unit=unit)


def stage_specs(space: SearchSpace, pixels: int) -> list[BlockSpec]:
    """Every block that can stand in a stage when images have `pixels`, in the order of the walk."""
    gene = space.layout.resolution.gene
    level = space.resolutions.index(pixels)
    standing: dict[BlockSpec, None] = {}
    for slot in slots(space):
        if not slot.name.startswith("stages"):
            continue
        specs: Sequence[BlockSpec | None] = slot.specs
        if slot.genes and slot.genes[0] == gene:
            step = len(specs) // slot.shape[0]
            specs = specs[level * step : (level + 1) * step]
        standing |= dict.fromkeys(spec for spec in specs if spec is not None)
    return list(standing)


def _place(spec: BlockSpec) -> str:
    halved = f" ÷ {spec.stride}" if spec.stride > 1 else ""
    return f"{spec.in_channels} → {spec.out_channels} @ {spec.resolution}{halved}"


_Row = tuple[tuple[str, float | str], ...]


def _labels(specs: Sequence[BlockSpec]) -> dict[BlockSpec, _Row]:
    """Labels of the blocks of one place: op, numbers and names, as far as these vary."""
    by_place: dict[str, list[BlockSpec]] = {}
    for spec in specs:
        by_place.setdefault(_place(spec), []).append(spec)
    varying = {
        name
        for name in ("op", *NUMBERS, *NAMES)
        if any(len({_choice(spec, name) for spec in group}) > 1 for group in by_place.values())
    }
    shown = [name for name in ("op", *NUMBERS, *NAMES) if name in varying] or ["op"]
    return {spec: tuple((name, _choice(spec, name)) for name in shown) for spec in specs}


def _choice(spec: BlockSpec, name: str) -> float | str:
    if name == "op":
        return spec.op
    value = spec.get(name)
    if name in NUMBERS:
        return 0.0 if value is None else float(value)
    return "none" if value is None else str(value)


def _row_name(row: _Row) -> str:
    words = {"kernel_size": "kernel", "expand_ratio": "expand", "group_size": "group"}
    return ", ".join(
        value if isinstance(value, str) else f"{words.get(name, name)} {value:g}"
        for name, value in row
        if value != 0.0
    )


def _unit(milliseconds: Sequence[float]) -> tuple[str, float]:
    return ("µs", 1e3) if float(np.median(milliseconds)) < 1.0 else ("ms", 1.0)
