"""What people see in the terminal: bars on stderr, tables on stdout."""

import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING, Any, Self

from rich.console import Console, Group
from rich.progress import BarColumn, Progress, TaskID, TextColumn, TimeRemainingColumn
from rich.table import Table

from nassearch.config import format_count, format_milliseconds

if TYPE_CHECKING:
    from nassearch.export.export_config import LatencyClaim
    from nassearch.export.verify import LatencyCheck, Verification
    from nassearch.latency.table import LatencyTable
    from nassearch.search.candidate import Candidate


NOISY = 0.02  # a noise floor over which a table says so


class Bars:
    """Progress bars with time left, on stderr and only where that is a terminal."""

    def __init__(self) -> None:
        console = Console(stderr=True)
        self._progress = Progress(
            TextColumn("{task.description:<16}"),
            BarColumn(),
            TextColumn("{task.percentage:>3.0f} %"),
            TimeRemainingColumn(),
            TextColumn("{task.fields[note]}"),
            console=console,
            disable=not sys.stderr.isatty(),
        )
        self._stages: dict[str, TaskID] = {}

    def __enter__(self) -> Self:
        self._progress.start()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self._progress.stop()

    def stage(self, name: str, fraction: float, note: str = "") -> None:
        """`name` is done to `fraction`."""
        if name not in self._stages:
            self._stages[name] = self._progress.add_task(name, total=1.0, note="")
        self._progress.update(self._stages[name], completed=fraction, note=note)

    def training(self) -> "TrainingBar":
        return TrainingBar(self)

    def search(self) -> "SearchBar":
        return SearchBar(self)


class TrainingBar:
    """A watcher of a training (`training.progress.Progress`)."""

    def __init__(self, bars: Bars) -> None:
        self._bars = bars
        self._total, self._done, self._accuracy = 1, 0, ""

    def start(self, total: int, *, done: int) -> None:
        self._total, self._done = max(1, total), done

    def advance(self, *, loss: float) -> None:
        self._done += 1
        note = f"loss {loss:.3f}{self._accuracy}"
        self._bars.stage("training", self._done / self._total, note)

    def report(self, record: Mapping[str, object]) -> None:
        names = ("max", "random", "min")
        found = [(name, record.get(f"val_accuracy_{name}")) for name in names]
        if all(isinstance(value, float) for _, value in found):
            self._accuracy = "".join(f"  {name} {value:.1%}" for name, value in found)


class SearchBar:
    """A watcher of a search (`search.runner.Progress`)."""

    def __init__(self, bars: Bars) -> None:
        self._bars = bars

    def __call__(
        self,
        *,
        done: int,
        total: int,
        front_size: int,
        hypervolume: float,
        best: "Candidate | None",
    ) -> None:
        note = f"{done}/{total}  front {front_size}  hypervolume {hypervolume:.3g}"
        if best is not None and "accuracy" in best.values:
            note += f"  best {best.number('accuracy'):.1%}"
        self._bars.stage("searching", done / total, note)


def table(columns: Sequence[str], rows: Sequence[Sequence[str]]) -> Table:
    """A plain table."""
    made = Table(box=None, pad_edge=False, header_style="bold")
    for column in columns:
        made.add_column(column, overflow="fold")
    for row in rows:
        made.add_row(*row)
    return made


def fact_table(facts: Mapping[str, Any]) -> Table:
    """Names and values, one pair a line."""
    made = Table(box=None, pad_edge=False, show_header=False)
    made.add_column(style="bold")
    made.add_column(overflow="fold")
    for name, value in facts.items():
        made.add_row(name, str(value))
    return made


def prediction_text(item: "LatencyClaim") -> str:
    """'1.20 ms (1.10 to 1.31)', and the word 'estimated' where it is one."""
    text = format_milliseconds(item.predicted_ms)
    if item.low_ms is not None and item.high_ms is not None:
        low, high = format_milliseconds(item.low_ms), format_milliseconds(item.high_ms)
        text += f" ({low} to {high})"
    if item.source != "estimated":
        return text
    if item.high_ms is None:
        return f"{text} estimated"
    return f"{text} estimated ± {item.high_ms / item.predicted_ms - 1:.0%}"


def measurement_text(check: "LatencyCheck") -> str:
    if check.measured is None:
        return "not here"
    return format_milliseconds(check.measured.median_ms)


def budget_text(item: "LatencyClaim", budget: str) -> str:
    """The budget as given, and in milliseconds where it was a share."""
    if item.budget_ms is None or not budget.endswith("%"):
        return budget
    return f"{format_milliseconds(item.budget_ms)} ({budget})"


def delivered_table(delivered: Sequence[Any]) -> Table:
    """The quickstart's last word: one line for each budget."""
    rows = []
    for one in delivered:
        found: Verification = one.verification
        accuracy = "not exported" if found.accuracy is None else f"{found.accuracy.value:.2%}"
        for item, check in zip(one.pick.latency, found.latency, strict=True):
            rows.append(
                (
                    budget_text(item, one.pick.budget),
                    prediction_text(item),
                    measurement_text(check),
                    accuracy,
                    format_count(found.export.params),
                    str(one.directory),
                )
            )
    names = ("budget", "predicted (90 %)", "measured", "test accuracy", "parameters", "files")
    return table(names, rows)


def outcome_table(outcome: Any) -> Table:
    """The choice for each set of budgets."""
    rows = []
    for pick in outcome.picks:
        accuracy = pick.candidate.values.get("accuracy")
        for item in pick.latency:
            measured = (
                "not here" if item.measured_ms is None else format_milliseconds(item.measured_ms)
            )
            rows.append(
                (
                    pick.candidate.architecture.id,
                    str(item.setting),
                    budget_text(item, pick.budget),
                    prediction_text(item),
                    measured,
                    "" if accuracy is None else f"{accuracy.number:.2%} ({accuracy.provenance})",
                )
            )
    names = ("id", "setting", "budget", "predicted (90 %)", "measured", "accuracy")
    return table(names, rows)


def finetuned_table(found: Any) -> Table:
    """Validation accuracy before and after, and where the new export lies."""
    facts = {
        "export": found.directory,
        "accuracy before": "other classes" if found.before is None else f"{found.before.value:.2%}",
        "accuracy": f"{found.after.value:.2%} (val, {found.after.num_images} images)",
    }
    return fact_table(facts)


def verification_table(found: "Verification") -> Group:
    """What each format does here, then what was promised beside what was measured."""
    recorded = found.export.accuracy
    tables = [_formats_table(found)] if found.formats else []
    rows = [
        (
            "accuracy",
            f"{recorded.value:.2%} ({recorded.split}, {recorded.low:.2%} to {recorded.high:.2%})",
            "not exported" if found.accuracy is None else f"{found.accuracy.value:.2%} (test)",
        ),
        ("largest difference", "1e-04", f"{found.largest_difference:.1e}"),
    ]
    for check in found.latency:
        promised = prediction_text(check.promised)
        if check.promised.budget_ms is not None:
            promised += f", budget {format_milliseconds(check.promised.budget_ms)}"
        measured = measurement_text(check)
        if check.drift is not None:
            measured += f" (drift {check.drift:.2f} divided out)"
        if check.as_predicted is not None:
            measured += ", as predicted" if check.as_predicted else ", outside the interval"
        rows.append((f"latency, {check.promised.setting}", promised, measured))
    tables.append(table(("", "promised", "measured"), rows))
    return Group(*(part for one in tables for part in (one, "")))


def _formats_table(found: "Verification") -> Table:
    rows = []
    for name, check in found.formats.items():
        memory = check.peak_memory_bytes
        rows.append(
            (
                name,
                f"{format_count(check.size_bytes)}B",
                f"{check.accuracy.value:.2%} ({check.accuracy.num_images} images)",
                f"{check.difference:.1e}",
                f"{format_milliseconds(check.latency.median_ms)} (batch {check.batch})",
                "unknown" if memory is None else f"{format_count(memory)}B",
            )
        )
    predicted = f"{format_count(found.predicted_memory_bytes)}B"
    names = ("format", "size", "test accuracy", "largest difference", "one CPU thread")
    return table((*names, f"peak memory ({predicted} predicted)"), rows)


def profile_summary(path: Path, found: "LatencyTable") -> Table:
    """What a profile reached."""
    facts = {
        "table": path,
        "setting": found.setting,
        "blocks": len(found.blocks),
        "whole networks": len(found.networks),
        "noise floor": f"{float(found.facts.get('noise_floor', 0)):.1%}",
        "rounds": found.facts.get("rounds", ""),
        **profile_notes(found),
    }
    return fact_table(facts)


def profile_notes(found: "LatencyTable") -> dict[str, str]:
    """Why timing stopped, how sure the table is, what is not measured, and whether to worry."""
    facts, notes = found.facts, {}
    if "stopped" in facts and "target_error" in facts:
        reached, target = float(facts["standard_error"]), float(facts["target_error"])
        reasons = {
            "target": f"standard error {reached:.2%}, below the target of {target:.2%}",
            "time": f"time was up at a standard error of {reached:.2%} (target {target:.2%})",
            "rounds": f"200 rounds, standard error {reached:.2%} (target {target:.2%})",
        }
        notes["stopped"] = reasons[facts["stopped"]]
    if facts.get("interpolated"):
        notes["interpolated"] = (
            f"{facts['interpolated']} blocks, cross-validated error"
            f" {float(facts['interpolation_error']):.1%}"
        )
    if float(facts.get("noise_floor", 0)) > NOISY:
        notes["note"] = "something else ran on this machine: intervals are as wide as its noise"
    return notes


def listing_table(rows: Sequence[Mapping[str, str]]) -> Table:
    return table(list(rows[0]), [list(row.values()) for row in rows])
