"""One self-contained HTML page about a run, or about two side by side.

Everything a run says (names, paths, budgets) is somebody's input: the template escapes it, the
document's JSON cannot end its script element, and the page's policy lets it load nothing.
"""

import json
from collections.abc import Callable, Mapping, Sequence
from datetime import datetime
from importlib.metadata import version
from pathlib import Path
from typing import Any

import jinja2
import plotly.graph_objects as go
import plotly.offline

from nassearch.config import format_count
from nassearch.errors import ConfigError, RuntimeUnavailableError
from nassearch.files import atomic_write, write_text
from nassearch.report import document, latency_chart
from nassearch.report.beside import Beside
from nassearch.report.figure import for_paper, sensitivity_figure, training_figure
from nassearch.report.latency_chart import Chart
from nassearch.report.quantity import quantities
from nassearch.report.record import RunRecord, read_run
from nassearch.report.view import Series, View, figure_dict, views
from nassearch.search.algorithm import algorithm_name

ASSETS = Path(__file__).parent / "assets"
SCRIPTS = ("look.js", "network.js", "candidates.js", "page.js")
IMAGES = (".png", ".svg", ".pdf")


def write_report(*runs: Path, out: Path | None = None, beside: Beside | None = None) -> Path:
    """Write the page of one or two runs and return its path; what a run lacks is named on it.

    `beside` is somebody's network, drawn beside the front of the first run.

    Raises ConfigError where one of `runs` is no run.
    """
    records = [read_run(run) for run in runs]
    path = out or runs[0] / "report.html"
    write_text(path, render(records, beside))
    return path


def write_front(*runs: Path, out: Path) -> Path:
    """Write the front of one or two runs as an image for a paper: .png, .svg or .pdf.

    Raises ConfigError where there is no front, RuntimeUnavailableError where nothing draws images.
    """
    if out.suffix.lower() not in IMAGES:
        raise ConfigError("is no image", where=out, fix=f"name it {', '.join(IMAGES)}")
    figure = front_figure(*runs)
    with atomic_write(out) as temporary:
        try:
            image = for_paper(figure).to_image(out.suffix[1:].lower(), scale=3)
        except (ImportError, ValueError, RuntimeError, OSError) as error:
            line = str(error).strip().partition("\n")[0]
            raise RuntimeUnavailableError(
                f"cannot draw images ({line})",
                where=out,
                fix="pip install 'nassearch[images]' and install Chromium or Chrome",
            ) from error
        temporary.write_bytes(image)
    return out


def front_figure(*runs: Path) -> go.Figure:
    """The first figure of a report: the candidates of one or two runs, and their fronts.

    Raises ConfigError where there is no search.
    """
    shown = views(_series([read_run(run) for run in runs]))
    if not shown:
        raise ConfigError(
            "holds no search, so there is no front to draw",
            where=runs[0],
            fix=f"run nassearch search --supernet {runs[0]}",
        )
    return shown[0].figure


def render(records: Sequence[RunRecord], beside: Beside | None = None) -> str:
    """The page as text."""
    series = _series(records)
    shown = views(series, beside)
    title = " and ".join(record.name for record in records)
    sections = {
        "prediction": _charts(records, latency_chart.prediction_charts),
        "training": _charts(records, _training),
        "blocks": _charts(records, latency_chart.heat_charts),
        "sensitivity": _charts(records, _sensitivity),
    }
    content = {
        "runs": [
            document.run_dict(record, [item for item in series if item.run == number])
            for number, record in enumerate(records)
        ],
        "views": [view.to_dict() for view in shown],
        "charts": {
            name: [
                {"label": chart.label, "note": chart.note} | {"figure": figure_dict(chart.figure)}
                for chart in charts
            ]
            for name, charts in sections.items()
        },
    }
    environment = jinja2.Environment(
        loader=jinja2.FileSystemLoader(ASSETS),
        autoescape=True,
        undefined=jinja2.StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    return environment.get_template("page.html").render(
        title=title,
        runs=[{"number": number, **_run_text(record)} for number, record in enumerate(records)],
        sections=sections,
        beside=[] if beside is None else beside.lines(records[0]),
        has_candidates=bool(series),
        not_compared=len(records) == 2 and _not_compared(series, shown),
        made=f"nassearch {version('nassearch')}, {datetime.now():%Y-%m-%d %H:%M}",
        style=_asset("page.css"),
        scripts="\n".join(_asset(name) for name in SCRIPTS),
        plotly=plotly.offline.get_plotlyjs().replace("</script", "<\\/script"),
        document=_json(content),
    )


def _series(records: Sequence[RunRecord]) -> list[Series]:
    return [
        Series(
            number,
            index,
            _series_name(records, number, index),
            search,
            quantities(record, search),
        )
        for number, record in enumerate(records)
        for index, search in enumerate(record.searches)
    ]


def _series_name(records: Sequence[RunRecord], number: int, index: int) -> str:
    record = records[number]
    words = [record.name] if len(records) > 1 else []
    if len(record.searches) > 1:
        search = record.searches[index]
        devices = ", ".join(map(search.target, search.settings))
        words.append(f"search {search.past.directory.name}" + (f" ({devices})" if devices else ""))
    return " ".join(words) or record.name


def _charts(records: Sequence[RunRecord], make: Callable[[RunRecord], list[Chart]]) -> list[Chart]:
    """The charts of every run, with the run's name before the label where there are two."""
    return [
        Chart(f"{record.name}: {chart.label}", chart.note, chart.figure)
        if len(records) > 1
        else chart
        for record in records
        for chart in make(record)
    ]


def _training(record: RunRecord) -> list[Chart]:
    if not record.metrics:
        return []
    seconds = float(record.metrics[-1].get("seconds", 0.0))
    epochs = record.metrics[-1]["epoch"]
    note = f"{epochs} epochs in {seconds:.0f} s; accuracies with recalibrated batch norm."
    return [Chart("training", note, training_figure(record.metrics))]


def _sensitivity(record: RunRecord) -> list[Chart]:
    """How much the largest network minds int8, where a search of policies asked."""
    known = record.sensitivity
    if known is None:
        return []
    least_first = sorted(known.blocks, key=lambda block: block.loss_increase)
    most = ", ".join(f"{item.key} ({item.loss_increase:.2g})" for item in least_first[:-6:-1])
    every = sum(block.loss_increase for block in known.blocks)
    note = (
        f"What int8 in each block of the largest network is expected to add to its loss of"
        f" {known.loss:.3g} nats, from the loss's curvature (HAWQ); {every:.2g} in all."
        f" Most of all: {most}. Blocks go to int8 from the least on."
    )
    return [Chart("sensitivity to int8", note, sensitivity_figure(known.blocks))]


def _not_compared(series: Sequence[Series], shown: Sequence[View]) -> bool:
    """Whether both runs have candidates and yet nothing that may stand in one figure."""
    both = {item.run for item in series} == {0, 1}
    return both and all(len(view.series) == 1 for view in shown)


def _run_text(record: RunRecord) -> dict[str, Any]:
    """A run in the words and rows that the template shows."""
    training = record.recipe.get("training") or {}
    rows = document.chosen_rows(record)
    for row in rows:
        row["params"] = format_count(row["params"])
    return {
        "name": record.name,
        "summary": _summary(record),
        "missing": record.missing,
        "chosen": rows,
        "exports": document.export_rows(record),
        "facts": {
            "Run": {
                "directory": record.path,
                "space": record.recipe.get("space"),
                "data": record.recipe.get("data"),
                "device": record.recipe.get("device"),
                "seed": record.recipe.get("seed", 0),
                "threads of PyTorch": record.recipe.get("threads") or "as many as it likes",
            },
            "Training": training,
            "Searches": {
                search.past.directory.name: _search_text(search.past.settings)
                for search in record.searches
            },
            "Versions and hardware": {
                name: value
                for name, value in record.environment.items()
                if value is not None and name != "command"
            },
        },
        "commands": [
            command
            for command in dict.fromkeys(
                [str(record.environment.get("command", "")), *(s.command for s in record.searches)]
            )
            if command
        ],
        "provenance": _provenance(record),
    }


def _summary(record: RunRecord) -> str:
    words = [f"{record.recipe.get('space')} on {record.recipe.get('data')}"]
    if record.searches:
        search = record.searches[0]
        words.append(f"{len(search.candidates)} networks evaluated")
        words += [f"latency on {search.target(name)}" for name in search.settings]
    return ", ".join(words)


def _search_text(settings: Mapping[str, Any]) -> str:
    goals = ", ".join(f"{item['direction']} {item['name']}" for item in settings["objectives"])
    limits = ", ".join(f"{name} ≤ {value:.4g}" for name, value in settings["budgets"].items())
    algorithm = algorithm_name(str(settings["algorithm"]))
    within = f", within {limits}" if limits else ""
    return f"{algorithm}, seed {settings['seed']}: {goals}{within}"


def _provenance(record: RunRecord) -> list[tuple[str, str, bool]]:
    """(quantity, where its numbers come from, whether that is an estimate), each once."""
    rows = [
        (
            name.replace("_", " "),
            str(value.provenance),
            value.provenance.source == "estimated",
        )
        for search in record.searches
        for name, value in search.candidates[0].values.items()
    ]
    return list(dict.fromkeys(rows))


def _asset(name: str) -> str:
    return (ASSETS / name).read_text(encoding="utf-8")


def _json(content: Any) -> str:
    """JSON that no HTML parser sees a tag in."""
    text = json.dumps(content, separators=(",", ":"), allow_nan=False)
    return text.replace("<", "\\u003c").replace(">", "\\u003e").replace("&", "\\u0026")
