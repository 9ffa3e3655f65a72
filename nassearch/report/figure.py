"""The figures of a report that do not depend on what is clicked, made with Plotly.

Colours are Okabe and Ito's, which stay apart for every kind of colour vision and stand out on white
and on near-black alike, so a figure is drawn once for both; the page paints what lies around them.
Text of the user's is escaped, because Plotly reads tags in it.
"""

import html
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
import plotly.graph_objects as go

from nassearch.training.sensitivity_record import BlockRecord

Floats = npt.NDArray[np.float64]

GREY, ORANGE, GREEN, BLUE, VERMILLION = "#8a929c", "#e69f00", "#009e73", "#0072b2", "#d55e00"
SERIES = (BLUE, VERMILLION)
SYMBOLS = ("circle", "diamond")


@dataclass(frozen=True)
class Cloud:
    """The candidates of one search in two quantities, in the units of the axes.

    `front` and `chosen` are indices, the front from left to right; `measured` maps an index to
    where a measurement put it on the x axis.
    """

    name: str
    x: Floats
    y: Floats
    front: Sequence[int]
    chosen: Sequence[int]
    measured: Mapping[int, float]


def front_figure(
    clouds: Sequence[Cloud],
    *,
    x_title: str,
    y_title: str,
    budgets: Sequence[tuple[str, float]] = (),
) -> go.Figure:
    """Every candidate, the front, what was measured, and budgets as lines.

    Points carry their index as customdata; the trace's meta says whose they are.
    """
    figure = go.Figure()
    for number, cloud in enumerate(clouds):
        _add_cloud(figure, cloud, number, alone=len(clouds) == 1)
    for text, limit in budgets:
        figure.add_vline(
            x=limit,
            line={"dash": "dot", "width": 1.5, "color": GREY},
            annotation={
                "text": html.escape(text),
                "textangle": -90,
                "font": {"size": 11},
                "yanchor": "bottom",
                "y": 0.01,
                "xanchor": "right",
            },
        )
    figure.update_layout(
        xaxis={"title": html.escape(x_title)},
        yaxis={"title": html.escape(y_title)},
        legend=_LEGEND,
        hovermode="closest",
    )
    return figure


def _add_cloud(figure: go.Figure, cloud: Cloud, number: int, *, alone: bool) -> None:
    color, symbol = SERIES[number % 2], SYMBOLS[number % 2]
    prefix = "" if alone else f"{html.escape(cloud.name)}: "

    def add(kind: str, name: str, indices: Sequence[int], **style: Any) -> None:
        at = list(indices)
        figure.add_scatter(
            **{"x": cloud.x[at], "y": cloud.y[at], "mode": "markers", **style},
            name=prefix + name,
            customdata=at,
            meta={"kind": kind, "cloud": number},
            hovertemplate="%{text}<extra></extra>",
        )

    marker = {"color": GREY if alone else color, "size": 6, "opacity": 0.45, "symbol": symbol}
    add("candidates", "evaluated", range(len(cloud.x)), marker=marker)
    add(
        "front",
        "front",
        cloud.front,
        mode="lines+markers",
        line={"color": color, "width": 2, "shape": "hv"},
        marker={"color": color, "size": 8, "symbol": symbol},
    )
    if cloud.measured:
        at = list(cloud.measured)
        marker = {"color": GREEN, "size": 9, "symbol": "x-thin", "line": _line(GREEN, 2)}
        add(
            "measured",
            "measured afterwards",
            at,
            x=[cloud.measured[index] for index in at],
            marker=marker,
        )
    if cloud.chosen:
        marker = {"color": ORANGE, "size": 16, "symbol": f"{symbol}-open", "line": _line(ORANGE, 3)}
        add("chosen", "chosen for a budget", cloud.chosen, marker=marker)


def add_beside(figure: go.Figure, name: str, x: float, y: float) -> None:
    """Somebody's network as a star; it is no candidate, so it has no number and no meta."""
    figure.add_scatter(
        x=[x],
        y=[y],
        mode="markers",
        name=html.escape(name),
        marker={"color": VERMILLION, "size": 15, "symbol": "star", "line": _line(ORANGE, 1)},
        hovertemplate="<b>" + html.escape(name) + "</b><br>%{x:.4g}, %{y:.4g}<extra></extra>",
    )


@dataclass(frozen=True)
class Compared:
    """Networks predicted and measured, in the unit of the axes; `low` and `high` are intervals."""

    name: str
    measured: Floats
    predicted: Floats
    low: Floats
    high: Floats
    text: Sequence[str]


def prediction_figure(groups: Sequence[Compared], *, unit: str) -> go.Figure:
    """Predicted against measured: on the line a prediction is right, the band is 10 % off it.

    An empty group keeps its colour for when it is not.
    """
    figure = go.Figure()
    measured = np.concatenate([group.measured for group in groups])
    ends = np.array([0.92 * measured.min(), 1.08 * measured.max()])
    figure.add_scatter(
        x=[*ends, *ends[::-1]],
        y=[*(ends * 1.1), *(ends[::-1] * 0.9)],
        fill="toself",
        fillcolor="rgba(138,146,156,0.16)",
        line={"width": 0},
        name="within 10 %",
        hoverinfo="skip",
        mode="lines",
    )
    figure.add_scatter(
        x=ends, y=ends, mode="lines", line=_line(GREY, 1), showlegend=False, hoverinfo="skip"
    )
    for group, color, symbol in zip(
        groups, (GREY, BLUE, VERMILLION), ("circle-open", "circle", "diamond"), strict=False
    ):
        if not len(group.measured):
            continue
        figure.add_scatter(
            x=group.measured,
            y=group.predicted,
            error_y={
                "type": "data",
                "symmetric": False,
                "array": group.high - group.predicted,
                "arrayminus": group.predicted - group.low,
                "color": color,
                "thickness": 1,
                "width": 0,
            },
            mode="markers",
            name=group.name,
            marker={"color": color, "size": 7, "symbol": symbol},
            text=[html.escape(text) for text in group.text],
            hovertemplate="%{text}<br>measured %{x:.4g} " + unit + "<br>predicted %{y:.4g} " + unit
            + "<extra></extra>",
        )  # fmt: skip
    figure.update_layout(
        xaxis={"title": f"measured, {unit}"},
        yaxis={"title": f"predicted with its 90 % interval, {unit}"},
        legend=_LEGEND,
        hovermode="closest",
    )
    return figure


def training_figure(metrics: Sequence[Mapping[str, Any]]) -> go.Figure:
    """By epoch: validation accuracy of the largest, a random and the smallest subnet; loss.

    Of networks that tell no classes apart the validation loss instead of the accuracy.
    """
    figure = go.Figure()
    is_loss = any(key.startswith("val_loss_") for record in metrics for key in record)
    prefix, scale, unit = ("val_loss", 1, "") if is_loss else ("val_accuracy", 100, " %")
    title = "loss on validation images" if is_loss else "accuracy on validation images, %"
    styles = (
        ("max", "largest subnet", BLUE, "solid", "circle"),
        ("random", "one random subnet", GREEN, "dash", "square"),
        ("min", "smallest subnet", VERMILLION, "dot", "diamond"),
    )
    for key, name, color, dash, symbol in styles:
        points = [
            (record["epoch"], scale * record[f"{prefix}_{key}"])
            for record in metrics
            if record.get(f"{prefix}_{key}") is not None
        ]
        figure.add_scatter(
            x=[x for x, _ in points],
            y=[y for _, y in points],
            name=name,
            mode="lines+markers",
            line={"color": color, "dash": dash, "width": 2},
            marker={"size": 6, "symbol": symbol},
            hovertemplate="epoch %{x}<br>%{y:.2f}" + unit + "<extra>" + name + "</extra>",
        )
    figure.add_scatter(
        x=[record["epoch"] for record in metrics],
        y=[record.get("loss") for record in metrics],
        name="training loss (right)",
        mode="lines",
        yaxis="y2",
        line={"color": GREY, "width": 1.5},
        hovertemplate="epoch %{x}<br>loss %{y:.3f}<extra></extra>",
    )
    figure.update_layout(
        xaxis={"title": "epoch"},
        yaxis={"title": title},
        yaxis2={
            "title": "training loss",
            "overlaying": "y",
            "side": "right",
            "showgrid": False,
            "rangemode": "tozero",
            "tickmode": "auto",
            "nticks": 5,
        },
        legend=_LEGEND,
    )
    return figure


def sensitivity_figure(blocks: Sequence[BlockRecord]) -> go.Figure:
    """What int8 adds to the loss, block by block: by weights, by activations within, by outputs."""
    figure = go.Figure()
    at = list(range(len(blocks)))
    for name, color in (("weights", BLUE), ("inner", ORANGE), ("output", VERMILLION)):
        figure.add_bar(
            x=at,
            y=[getattr(block, name) for block in blocks],
            name=name,
            marker={"color": color},
            customdata=[block.key for block in blocks],
            hovertemplate="%{customdata}<br>%{y:.3g} nats<extra>" + name + "</extra>",
        )
    labels = [block.key.partition("-")[0] for block in blocks]
    figure.update_layout(
        barmode="stack",
        xaxis={"tickvals": at, "ticktext": labels, "tickangle": -90},
        yaxis={"title": "added loss, nats"},
        legend=_LEGEND,
    )
    return figure


def heat_figure(
    columns: Sequence[str],
    rows: Sequence[str],
    values: Floats,
    text: Sequence[Sequence[str]],
    *,
    unit: str,
) -> go.Figure:
    """Block latencies, (rows, columns) with NaN where no block is, by choices and by place."""
    few = values.size <= 150
    figure = go.Figure(
        go.Heatmap(
            x=[html.escape(column) for column in columns],
            y=[html.escape(row) for row in rows],
            z=values,
            customdata=text,
            hovertemplate="%{customdata}<extra></extra>",
            texttemplate="%{z:.3g}" if few else None,
            colorscale="Cividis",
            xgap=2,
            ygap=2,
            hoverongaps=False,
            colorbar={"title": {"text": unit, "side": "right"}, "thickness": 12, "outlinewidth": 0},
        )
    )
    figure.update_layout(
        xaxis={
            "title": "place: channels in → out @ input pixels ÷ stride",
            "showgrid": False,
            "tickangle": -45,
        },
        yaxis={"autorange": "reversed", "showgrid": False, "title": "choices of the block"},
        height=170 + 30 * len(rows),
    )  # fmt: skip
    return figure


def for_paper(figure: go.Figure) -> go.Figure:
    """The figure on white, at the size of a text column, with a serif font."""
    made = go.Figure(figure)
    made.update_layout(
        template="simple_white",
        width=560,
        height=380,
        margin={"l": 60, "r": 16, "t": 40, "b": 56},
        font={"family": "Times New Roman, Liberation Serif, serif", "size": 14},
    )
    made.update_traces(hovertemplate=None, selector={"type": "scatter"})
    return made


_LEGEND = {"orientation": "h", "x": 0, "y": 1.02, "xanchor": "left", "yanchor": "bottom"}


def _line(color: str, width: float) -> dict[str, object]:
    return {"color": color, "width": width}
