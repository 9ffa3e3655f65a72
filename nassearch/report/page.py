"""One self-contained HTML page about a run."""

import html
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import plotly.graph_objects as go

from nassearch.config import format_milliseconds
from nassearch.errors import ConfigError
from nassearch.files import read_json, read_json_lines, write_text
from nassearch.search.candidate import Candidate
from nassearch.search.pareto import ParetoFront, read_candidates
from nassearch.space import Architecture, SearchSpace

_STYLE = """
body { font: 16px/1.5 system-ui, sans-serif; max-width: 62rem; margin: 2rem auto; padding: 0 1rem;
       color: #1a1a1a; background: #fff; }
table { border-collapse: collapse; width: 100%; font-size: .9rem; }
th, td { text-align: left; padding: .3rem .6rem; border-bottom: 1px solid #ddd; }
h1, h2 { line-height: 1.2; } code { font-size: .85em; }
"""


def write_report(run: Path, *, out: Path | None = None) -> Path:
    """Write the page of a run and return its path; what the run does not hold yet is named.

    Raises ConfigError where `run` is no run.
    """
    if not (run / "recipe.yaml").is_file():
        raise ConfigError("is not a run: it has no recipe.yaml", where=run)
    sections = [_facts(run), *_front(run), *_training(run)]
    title = html.escape(run.name)
    page = (
        "<!doctype html><html lang='en'><head><meta charset='utf-8'>"
        "<meta name='viewport' content='width=device-width'>"
        f"<title>{title}</title><style>{_STYLE}</style></head>"
        f"<body><h1>{title}</h1>{''.join(sections)}</body></html>"
    )
    path = out or run / "report.html"
    write_text(path, page)
    return path


def front_figure(
    front: ParetoFront, candidates: list[Candidate], budgets: list[tuple[str, float]]
) -> Any:
    """Accuracy against latency: every candidate, the front, budgets as lines."""
    latency = next(axis.name for axis in front.axes if axis.name.startswith("latency"))
    provenance = candidates[0].values[latency].provenance
    figure = go.Figure()
    for name, group, mode, color in (
        ("evaluated", candidates, "markers", "#9aa5b1"),
        ("front", front.sorted(), "lines+markers", "#0072b2"),
    ):
        figure.add_scatter(
            x=[candidate.number(latency) for candidate in group],
            y=[100 * candidate.number("accuracy") for candidate in group],
            text=[candidate.architecture.id for candidate in group],
            hovertemplate="%{text}<br>%{x:.4g} ms<br>%{y:.2f} %<extra></extra>",
            name=name,
            mode=mode,
            line={"color": color},
            marker={"color": color, "size": 7},
        )
    for text, limit in budgets:
        figure.add_vline(x=limit, line={"dash": "dot", "color": "#d55e00"}, annotation_text=text)
    figure.update_layout(
        template="plotly_white",
        xaxis_title=f"latency, ms ({provenance})",
        yaxis_title="accuracy on validation images, %",
        margin={"l": 60, "r": 20, "t": 20, "b": 60},
        height=460,
    )
    return figure


def _front(run: Path) -> list[str]:
    picks_path = run / "search" / "picks.json"
    if not picks_path.is_file():
        return ["<h2>Search</h2><p>This run holds no finished search yet.</p>"]
    from nassearch.search.journal import load_front
    from nassearch.training import checkpoint

    space: SearchSpace = checkpoint.load(run).space
    front = load_front(run, space=space)
    candidates = read_candidates(run / "search" / "candidates.csv", space=space)
    picks = read_json(picks_path)["picks"]
    names = {axis.name for axis in front.axes}
    parts = ["<h2>Front</h2>"]
    if "accuracy" in names and any(name.startswith("latency") for name in names):
        budgets = [
            (pick["budget"], item["budget_ms"])
            for pick in picks
            for item in pick["latency"]
            if "budget_ms" in item
        ]
        figure = front_figure(front, candidates, budgets)
        parts.append(figure.to_html(full_html=False, include_plotlyjs="inline"))
    parts.append("<h2>Chosen networks</h2>")
    rows = []
    for pick in picks:
        identity = Architecture.from_dict(pick["architecture"]).id
        for item in pick["latency"]:
            measured = item.get("measured_ms")
            word = "estimated" if item["source"] == "estimated" else "predicted"
            rows.append(
                (
                    pick["budget"],
                    identity,
                    f"{format_milliseconds(item['predicted_ms'])} {word}",
                    "not here" if measured is None else format_milliseconds(measured),
                )
            )
    parts.append(_table(("budget", "network", "latency", "measured"), rows))
    return parts


def _training(run: Path) -> list[str]:
    records = read_json_lines(run / "metrics.jsonl")
    if not records:
        return ["<h2>Training</h2><p>No metrics yet.</p>"]
    figure = go.Figure()
    for name in ("max", "random", "min"):
        key = f"val_accuracy_{name}"
        points = [(record["epoch"], 100 * record[key]) for record in records if key in record]
        figure.add_scatter(x=[x for x, _ in points], y=[y for _, y in points], name=name)
    figure.update_layout(
        template="plotly_white",
        xaxis_title="epoch",
        yaxis_title="accuracy on validation images, %",
        height=360,
        margin={"l": 60, "r": 20, "t": 20, "b": 60},
    )
    inline = not (run / "search" / "picks.json").is_file()
    body = figure.to_html(full_html=False, include_plotlyjs="inline" if inline else False)
    return ["<h2>Training</h2>", body]


def _facts(run: Path) -> str:
    environment = read_json(run / "environment.json")
    rows = [(name, str(value)) for name, value in environment.items() if value is not None]
    return (
        "<details><summary>Versions and hardware</summary>" + _table(("", ""), rows) + "</details>"
    )


def _table(columns: tuple[str, ...], rows: Sequence[tuple[str, ...]]) -> str:
    head = "".join(f"<th>{html.escape(column)}</th>" for column in columns)
    body = "".join(
        "<tr>" + "".join(f"<td>{html.escape(str(cell))}</td>" for cell in row) + "</tr>"
        for row in rows
    )
    return f"<table><thead><tr>{head}</tr></thead><tbody>{body}</tbody></table>"
