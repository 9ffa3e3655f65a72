"""Bars on stderr and tables on stdout, as people see them in a terminal."""

import sys
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from types import TracebackType
from typing import Any, Self

from rich.console import Console, Group
from rich.progress import BarColumn, Progress, TaskID, TextColumn, TimeRemainingColumn
from rich.table import Table

from nassearch.config import format_count, format_milliseconds
from nassearch.export.export_config import LatencyClaim
from nassearch.export.latency_check import LatencyCheck
from nassearch.export.verification import FormatCheck, Verification
from nassearch.latency.table import LatencyTable
from nassearch.latency.timing import drift_problem
from nassearch.pipeline.finetune import Finetuned
from nassearch.pipeline.onnx_model import ModelCheck
from nassearch.pipeline.recipe_run import VerifiedPick
from nassearch.pipeline.search_result import SearchResult
from nassearch.provenance import Estimate
from nassearch.training.evaluation import Accuracy

_EVERY_S = 30.0  # seconds between lines where there are no bars
NOISY = 0.02  # a noise floor over which a table says so


class Bars:
    """Progress bars with time left on stderr; where that is no terminal, a line now and then.

    A stage that is done when it is first told of has its line at once.

    `clock` gives seconds.
    """

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock, self._told_at = clock, clock()
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

    def stage(self, stage: str, fraction: float, note: str = "") -> None:
        """Show that `stage` is done to `fraction`, 0..1, and what is worth saying about it."""
        is_said_once = stage not in self._stages and fraction == 1.0 and note
        if stage not in self._stages:
            self._stages[stage] = self._progress.add_task(stage, total=1.0, note="")
        self._progress.update(self._stages[stage], completed=fraction, note=note)
        if not self._progress.disable:
            return
        if is_said_once or self._clock() - self._told_at >= _EVERY_S:
            self._told_at = self._clock()
            done = stage if is_said_once else f"{stage} {fraction:.0%}"
            sys.stderr.write(f"{done}  {note}".rstrip() + "\n")


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


def prediction_text(item: LatencyClaim) -> str:
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


def measurement_text(check: LatencyCheck) -> str:
    if check.measured is None:
        return f"not measured: {check.unmeasured}"
    return format_milliseconds(check.measured.median_ms)


def budget_text(item: LatencyClaim, budget: str) -> str:
    """The budget as given, and in milliseconds where it was a share."""
    if item.budget_ms is None or not budget.endswith("%"):
        return budget
    return f"{format_milliseconds(item.budget_ms)} ({budget})"


def verified_table(verified: Sequence[VerifiedPick]) -> Table:
    """The quickstart's last word: one line for each budget."""
    rows = []
    for item in verified:
        verification = item.verification
        accuracy, metric = verification.accuracy, verification.metric
        tested = "not exported" if accuracy is None else f"{accuracy.value:.2%}"
        tested = tested if metric is None else f"{metric.value:.4g}"
        for claim, check in zip(item.pick.latency, verification.latency, strict=True):
            rows.append(
                (
                    budget_text(claim, item.pick.budget),
                    prediction_text(claim),
                    measurement_text(check),
                    tested,
                    format_count(verification.export.params),
                    str(item.exported.directory),
                )
            )
    owns = any(item.verification.metric is not None for item in verified)
    quality = "test metric" if owns else "test accuracy"
    names = ("budget", "predicted (90 %)", "measured", quality, "parameters", "files")
    return table(names, rows)


def _accuracy_text(accuracy: Estimate) -> str:
    loss = "" if accuracy.loss is None else f", loss {accuracy.loss:.3f}"
    top5 = "" if accuracy.top5 is None else f", top-5 {accuracy.top5:.2%}"
    observed = f"{accuracy.value:.2%}{top5}{loss} ({accuracy.provenance})"
    belief = accuracy.belief
    if belief is None:
        return observed
    return f"{belief.mean:.2%} ({belief.low:.2%} to {belief.high:.2%}) expected; {observed}"


def search_table(result: SearchResult) -> Table:
    """The choice for each set of budgets."""
    rows = []
    for pick in result.picks:
        accuracy = pick.candidate.values.get("accuracy")
        shown = "" if accuracy is None else _accuracy_text(accuracy)
        if pick.metric is not None:
            name, value = pick.metric
            shown = f"{name} {value.value:.4g}"
        for claim in pick.latency:
            measured = f"not measured: {claim.unmeasured}"
            if claim.measured_ms is not None:
                measured = format_milliseconds(claim.measured_ms)
            rows.append(
                (
                    pick.architecture.id,
                    str(claim.setting),
                    budget_text(claim, pick.budget),
                    prediction_text(claim),
                    measured,
                    shown,
                )
            )
    owns = any(pick.metric is not None for pick in result.picks)
    quality = "metric" if owns else "accuracy"
    names = ("id", "setting", "budget", "predicted (90 %)", "measured", quality)
    return table(names, rows)


def finetuned_table(finetuned: Finetuned) -> Table:
    """Validation accuracy before and after, and where the new export lies."""
    before, after = finetuned.before, finetuned.after
    facts = {
        "export": finetuned.directory,
        "accuracy before": "other classes" if before is None else f"{before.value:.2%}",
        "accuracy": f"{after.value:.2%} (val, {after.num_images} images)",
    }
    if finetuned.quantized_after is not None:
        known = finetuned.quantized_before
        facts["quantized before"] = "other classes" if known is None else f"{known.value:.2%}"
        facts["quantized"] = f"{finetuned.quantized_after.value:.2%} (simulated)"
    return fact_table(facts)


def checked_table(check: Verification | ModelCheck) -> Group | Table:
    """What was found of an export, or of an ONNX file."""
    if isinstance(check, Verification):
        return verification_table(check)
    return fact_table(check.to_dict() | {"test_accuracy": _measured_accuracy_text(check.accuracy)})


def verification_table(verification: Verification) -> Group:
    """The formats as they run here, then the promises beside what was measured."""
    tables = [_formats_table(verification)] if verification.formats else []
    rows = [
        _measured_row(verification),
        ("largest difference", "1e-04", f"{verification.largest_difference:.1e}"),
    ]
    for check in verification.latency:
        promised = prediction_text(check.promised)
        if check.promised.budget_ms is not None:
            promised += f", budget {format_milliseconds(check.promised.budget_ms)}"
        measured = measurement_text(check)
        if check.drift is not None:
            is_out = drift_problem(check.drift) is None
            measured += f" (drift {check.drift:.2f}{' divided out' if is_out else ''})"
        measured += "".join(f" ({note})" for note in check.notes)
        if check.as_predicted is not None:
            measured += ", as predicted" if check.as_predicted else ", outside the interval"
        rows.append((f"latency, {check.promised.setting}", promised, measured))
    tables.append(table(("", "promised", "measured"), rows))
    return Group(*(part for shown in tables for part in (shown, "")))


def _measured_row(verification: Verification) -> tuple[str, str, str]:
    """The accuracy, or the user's own metric, as promised and as measured."""
    claim, recorded = verification.export.metric, verification.export.accuracy
    accuracy, metric = verification.accuracy, verification.metric
    if claim is not None:
        interval = "" if claim.low is None else f", {claim.low:.4g} to {claim.high:.4g}"
        measured = "not measured" if metric is None else f"{metric.value:.4g} (test)"
        return claim.name, f"{claim.value:.4g} ({claim.split}{interval})", measured
    if verification.unmeasured is not None or metric is not None:
        measured = "not measured" if metric is None else f"{metric.value:.4g} (test)"
        return "metric", "nothing", measured
    return (
        "accuracy",
        f"{recorded.value:.2%} ({recorded.split}, {recorded.low:.2%} to {recorded.high:.2%})",
        "not exported" if accuracy is None else f"{accuracy.value:.2%} (test)",
    )


def _test_text(check: FormatCheck) -> str:
    """The accuracy of a format, or the user's metric."""
    if check.metric is not None:
        return f"{check.metric.value:.4g}"
    return _measured_accuracy_text(check.accuracy)


def _measured_accuracy_text(accuracy: Accuracy | None) -> str:
    if accuracy is None:
        return "not measured"
    top5 = "" if accuracy.top5 is None else f"top-5 {accuracy.top5:.2%}, "
    return f"{accuracy.value:.2%} ({top5}{accuracy.num_images} images)"


def _formats_table(verification: Verification) -> Table:
    rows = []
    for name, check in verification.formats.items():
        memory = check.peak_memory_bytes
        rows.append(
            (
                name,
                f"{format_count(check.size_bytes)}B",
                _test_text(check),
                f"{check.difference:.1e}"
                + ("" if check.grey_levels is None else f", {check.grey_levels:.1f} grey levels"),
                f"{format_milliseconds(check.latency.median_ms)} (batch {check.batch})",
                "unknown" if memory is None else f"{format_count(memory)}B",
            )
        )
    predicted = f"{format_count(verification.predicted_memory_bytes)}B"
    claim = verification.export.metric
    measured = "test accuracy" if claim is None else f"test {claim.name}"
    names = ("format", "size", measured, "largest difference", "one CPU thread")
    return table((*names, f"peak memory ({predicted} predicted)"), rows)


def profile_summary(path: Path, profiled: LatencyTable) -> Table:
    """The table that a profile wrote, its size and its noise."""
    facts = profiled.facts
    shown = {
        "table": path,
        "setting": profiled.setting,
        "blocks": len(profiled.blocks),
        "whole networks": len(profiled.networks),
        "noise floor": f"{facts['noise_floor']:.1%}" if "noise_floor" in facts else "unknown",
        "rounds": facts.get("rounds", ""),
        **profile_notes(profiled),
    }
    return fact_table(shown)


def profile_notes(profiled: LatencyTable) -> dict[str, str]:
    """The reason timing stopped, the error reached, the share interpolated, and a warning."""
    facts, notes = profiled.facts, {}
    if "stopped" in facts and "target_error" in facts:
        reached, target = float(facts["standard_error"]), float(facts["target_error"])
        reasons = {
            "target": f"standard error {reached:.2%}, below the target of {target:.2%}",
            "time": f"time was up at a standard error of {reached:.2%} (target {target:.2%})",
            "interrupted": f"interrupted at a standard error of {reached:.2%}",
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
