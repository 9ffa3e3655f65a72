"""The front of the candidates over each of their costs: what the page and an image show first."""

import json
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import plotly.graph_objects as go

from nassearch.report.figure import Cloud, front_figure
from nassearch.report.quantity import Quantity
from nassearch.report.record import SearchRecord
from nassearch.search.candidate import Axis, Candidate
from nassearch.search.pareto import non_dominated


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

    def to_dict(self) -> dict[str, Any]:
        return {
            "label": self.label,
            "series": [[one.run, one.search] for one in self.series],
            "x": [one.name for one in self.x],
            "y": [one.name for one in self.y],
            "factors": [self.x[0].scale / one.scale for one in self.x],
            "figure": figure_dict(self.figure),
        }


def views(series: Sequence[Series]) -> list[View]:
    """Each search over each of its costs, and before them two runs in what they share."""
    found = []
    firsts = [next((one for one in series if one.run == run), None) for run in (0, 1)]
    if firsts[0] is not None and firsts[1] is not None:
        found += _shared(firsts[0], firsts[1])
    for one in series:
        y = _merit(one)
        for x in _costs(one, y):
            prefix = f"{one.name}: " if len(series) > 1 else ""
            found.append(_view(f"{prefix}{x.label}", [one], [x], [y]))
    return found


def _shared(first: Series, second: Series) -> list[View]:
    """Both runs in one figure for every cost they may be compared in."""
    pair = (_merit(first), _merit(second))
    if pair[0].key != pair[1].key:
        return []
    found = []
    for x in _costs(first, pair[0]):
        other = next((one for one in second.quantities if one.key == x.key), None)
        if other is not None:
            found.append(_view(f"both: {x.label}", [first, second], [x, other], pair))
    return found


def _merit(series: Series) -> Quantity:
    """What goes up: accuracy, or else the first objective."""
    return series.quantity(
        "accuracy"
        if any(one.name == "accuracy" for one in series.quantities)
        else series.record.axes[0].name
    )


def _costs(series: Series, merit: Quantity) -> list[Quantity]:
    """What goes across: latencies first."""
    others = [one for one in series.quantities if one.name != merit.name]
    return sorted(others, key=lambda one: one.name not in series.record.latency_names)


def _view(
    label: str, series: Sequence[Series], x: Sequence[Quantity], y: Sequence[Quantity]
) -> View:
    scale, unit = x[0].scale, x[0].unit
    clouds, budgets = [], []
    for one, across, up in zip(series, x, y, strict=True):
        clouds.append(_cloud(one, across, up, scale))
        budgets += [
            (f"{text} = {limit * scale:.3g} {unit}" if text.endswith("%") else text, limit * scale)
            for text, name, limit in one.record.limits()
            if name == across.name
        ]
    figure = front_figure(
        clouds, x_title=x[0].title, y_title=y[0].title, budgets=list(dict.fromkeys(budgets))
    )
    return View(label, series, x, y, figure)


def _cloud(series: Series, x: Quantity, y: Quantity, scale: float) -> Cloud:
    record = series.record
    losses = np.column_stack(
        [Axis(one.name, one.direction, one.unit).sign * one.numbers for one in (x, y)]
    )
    finite = np.flatnonzero(np.isfinite(losses).all(axis=1))
    front = finite[non_dominated(losses[finite])]
    front = front[np.argsort(x.numbers[front], kind="stable")]
    place = places(record.candidates)
    device = record.device(x.name) if x.name in record.latency_names else ""
    return Cloud(
        series.name,
        x.numbers * scale,
        y.shown,
        [int(index) for index in front],
        list(dict.fromkeys(place[p.architecture.id] for p in record.picks)),
        {
            place[name]: ms * scale
            for (where, name), ms in record.measured.items()
            if where == device and name in place
        },
    )


def places(candidates: Sequence[Candidate]) -> dict[str, int]:
    """Where each architecture's id stands among the candidates."""
    return {candidate.architecture.id: index for index, candidate in enumerate(candidates)}


def figure_dict(figure: go.Figure) -> Any:
    """The figure as JSON values, without Plotly's template: the page has its own."""
    made = json.loads(figure.to_json())
    made["layout"].pop("template", None)
    return made
