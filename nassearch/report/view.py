"""The front of the candidates over each of their costs: what the page and an image show first."""

import json
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import plotly.graph_objects as go

from nassearch.report.beside import Beside
from nassearch.report.figure import Cloud, add_beside, front_figure
from nassearch.report.quantity import Quantity
from nassearch.report.record import SearchRecord
from nassearch.search.candidate import Candidate
from nassearch.search.pareto import non_dominated
from nassearch.search.problem import Axis


@dataclass(frozen=True)
class Series:
    """A search of a run with its quantities; `run` and `search` are its place in the document."""

    run: int
    search: int
    name: str
    record: SearchRecord
    quantities: Sequence[Quantity]

    def quantity(self, name: str) -> Quantity:
        return next(quantity for quantity in self.quantities if quantity.name == name)


@dataclass(frozen=True)
class View:
    """One way to look at candidates: a figure and whose points it shows."""

    label: str
    series: Sequence[Series]
    x: Sequence[Quantity]
    y: Sequence[Quantity]
    figure: go.Figure

    def to_dict(self) -> dict[str, object]:
        return {
            "label": self.label,
            "series": [[item.run, item.search] for item in self.series],
            "x": [quantity.name for quantity in self.x],
            "y": [quantity.name for quantity in self.y],
            "factors": [self.x[0].scale / quantity.scale for quantity in self.x],
            "figure": figure_dict(self.figure),
        }


def views(series: Sequence[Series], beside: Beside | None = None) -> list[View]:
    """Each search over each of its costs, and before them two runs in what they share.

    `beside` is drawn where a search of the first run has its latency and its accuracy.
    """
    shown = []
    firsts = [next((item for item in series if item.run == run), None) for run in (0, 1)]
    if firsts[0] is not None and firsts[1] is not None:
        shown += _shared(firsts[0], firsts[1])
    for item in series:
        y = _merit(item)
        for x in _costs(item, y):
            prefix = f"{item.name}: " if len(series) > 1 else ""
            shown.append(_view(f"{prefix}{x.label}", [item], [x], [y], beside))
    return shown


def _shared(first: Series, second: Series) -> list[View]:
    """Both runs in one figure for every cost they may be compared in."""
    pair = (_merit(first), _merit(second))
    if pair[0].key != pair[1].key:
        return []
    shown = []
    for x in _costs(first, pair[0]):
        other = next((quantity for quantity in second.quantities if quantity.key == x.key), None)
        if other is not None:
            shown.append(_view(f"both: {x.label}", [first, second], [x, other], pair))
    return shown


def _merit(series: Series) -> Quantity:
    """The quantity that goes up: accuracy, or else the first objective."""
    return series.quantity(
        "accuracy"
        if any(quantity.name == "accuracy" for quantity in series.quantities)
        else series.record.axes[0].name
    )


def _costs(series: Series, merit: Quantity) -> list[Quantity]:
    """The quantities that go across: latencies first."""
    others = [quantity for quantity in series.quantities if quantity.name != merit.name]
    return sorted(others, key=lambda quantity: quantity.name not in series.record.settings)


def _view(
    label: str,
    series: Sequence[Series],
    x: Sequence[Quantity],
    y: Sequence[Quantity],
    beside: Beside | None = None,
) -> View:
    scale, unit = x[0].scale, x[0].unit
    clouds, budgets = [], []
    for item, across, up in zip(series, x, y, strict=True):
        clouds.append(_cloud(item, across, up, scale))
        budgets += [
            (f"{text} = {limit * scale:.3g} {unit}" if text.endswith("%") else text, limit * scale)
            for text, name, limit in item.record.limits()
            if name == across.name
        ]
    figure = front_figure(
        clouds, x_title=x[0].title, y_title=y[0].title, budgets=list(dict.fromkeys(budgets))
    )
    place = None if beside is None else _place(beside, series[0], x[0], y[0])
    if beside is not None and place is not None:
        add_beside(figure, beside.name, *place)
    return View(label, series, x, y, figure)


def _place(beside: Beside, series: Series, x: Quantity, y: Quantity) -> tuple[float, float] | None:
    """Where somebody's network stands in a view of the first run; None where it does not."""
    setting = series.record.settings.get(x.name)
    if series.run or setting is None or y.name != "accuracy" or beside.accuracy is None:
        return None
    ms = beside.latency_ms.get(setting)
    return None if ms is None else (ms * x.scale, beside.accuracy.value * y.scale)


def _cloud(series: Series, x: Quantity, y: Quantity, scale: float) -> Cloud:
    record = series.record
    losses = np.column_stack(
        [Axis(axis.name, axis.direction, axis.unit).sign * axis.numbers for axis in (x, y)]
    )
    finite = np.flatnonzero(np.isfinite(losses).all(axis=1))
    front = finite[non_dominated(losses[finite])]
    front = front[np.argsort(x.numbers[front], kind="stable")]
    place = places(record.candidates)
    chosen = [pick.architecture.id for pick in record.picks]
    measured = record.measured_ms(x.name) if x.name in record.settings else {}
    return Cloud(
        series.name,
        x.numbers * scale,
        y.shown,
        [int(index) for index in front],
        list(dict.fromkeys(place[id] for id in chosen if id in place)),  # its line may be damaged
        {place[name]: ms * scale for name, ms in measured.items() if name in place},
    )


def places(candidates: Sequence[Candidate]) -> dict[str, int]:
    """Where each architecture's id stands among the candidates."""
    return {candidate.architecture.id: index for index, candidate in enumerate(candidates)}


def figure_dict(figure: go.Figure) -> dict[str, Any]:
    """The figure as JSON values, without Plotly's template: the page has its own."""
    made: dict[str, Any] = json.loads(figure.to_json())
    made["layout"].pop("template", None)
    return made
