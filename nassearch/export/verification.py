"""What verifying an export found: of every format and promise, and which promises do not hold."""

import html
from collections.abc import Mapping
from dataclasses import dataclass

import pandas as pd

from nassearch.export.export_config import ExportConfig
from nassearch.export.latency_check import LatencyCheck
from nassearch.latency.measurement import Measurement
from nassearch.provenance import Estimate
from nassearch.training.evaluation import Accuracy

TOLERANCE = 1e-4
GREY_LEVELS = 1.01
"""One, and the rounding of floats."""


@dataclass(frozen=True)
class FormatCheck:
    """What a format does here.

    `difference` is the largest between its logits and those of the first format in the table; of
    an `exact` format it must stay within TOLERANCE. Of a file that takes photos it is that of the
    network in it, and `grey_levels` the largest between what it makes of photos and what Python
    does. `latency` is of one run on one thread of this
    machine's CPU, of as many images as the file takes (one, where that is open).
    """

    file: str
    size_bytes: int
    exact: bool
    accuracy: Accuracy | None
    allowed_loss: float
    difference: float
    latency: Measurement
    batch: int
    peak_memory_bytes: int | None
    grey_levels: float | None = None
    metric: Estimate | None = None


@dataclass(frozen=True)
class Verification:
    """What `verify` found; `predicted_memory_bytes` is of weights and activations in float32."""

    export: ExportConfig
    formats: Mapping[str, FormatCheck]
    latency: tuple[LatencyCheck, ...]
    predicted_memory_bytes: int
    unmeasured: str | None = None
    """Why a network for targets of the user's own was not measured on images."""

    @property
    def name(self) -> str:
        """What the export is called in a line."""
        return self.export.id

    @property
    def metric(self) -> Estimate | None:
        """The user's metric of the network in its first format; None where it was not measured."""
        return next((check.metric for check in self.formats.values()), None)

    @property
    def accuracy(self) -> Accuracy | None:
        """Test accuracy of the network in its first format; None where it has none."""
        return next((check.accuracy for check in self.formats.values()), None)

    @property
    def largest_difference(self) -> float:
        """Between the formats that say they are exact."""
        return max((c.difference for c in self.formats.values() if c.exact), default=0.0)

    @property
    def broken(self) -> list[str]:
        """The promises that do not hold, one line each."""
        found, recorded = [], self.export.accuracy
        for name, check in self.formats.items():
            if check.exact and not check.difference <= TOLERANCE:
                found.append(f"outputs of {name} differ by {check.difference:.2g}")
            if check.grey_levels is not None and not check.grey_levels <= GREY_LEVELS:
                found.append(
                    f"the preprocessing in {name} differs by {check.grey_levels:.2g} grey levels"
                )
            claim = self.export.metric
            if claim is not None and check.metric is not None and claim.is_missed_by(check.metric):
                found.append(
                    f"test {claim.name} of {name} {check.metric.value:.4g} is worse than the"
                    f" recorded {claim.value:.4g} and its interval"
                )
            if check.accuracy is None:
                continue
            # a recorded accuracy that is no number is below none
            if not check.accuracy.interval[1] >= recorded.low - check.allowed_loss:
                found.append(
                    f"test accuracy of {name} {check.accuracy.value:.2%} lies below the recorded"
                    f" {recorded.value:.2%} and its interval"
                )
        found += [check.finding for check in self.latency if check.finding is not None]
        return found

    def to_row(self) -> dict[str, object]:
        """A row of a table: test accuracy, latencies measured, promises broken."""
        measured = {
            f"{check.promised.setting} ms": check.measured.median_ms
            for check in self.latency
            if check.measured is not None
        }
        accuracy = None if self.accuracy is None else self.accuracy.value
        broken = "; ".join(self.broken)
        beside = {} if self.metric is None else {self._metric_name: self.metric.value}
        row = {"id": self.export.id, "test accuracy": accuracy, **beside, **measured}
        return {**row, "broken": broken}

    @property
    def _metric_name(self) -> str:
        claim = self.export.metric
        return "test metric" if claim is None else f"test {claim.name}"

    def _repr_html_(self) -> str:
        parts = [pd.DataFrame(rows).to_html(index=False) for rows in self._rows() if rows]
        return "".join(parts) + "".join(f"<p>{html.escape(line)}</p>" for line in self.broken)

    def _rows(self) -> tuple[list[dict[str, object]], list[dict[str, object]]]:
        """What a table of the formats, and one of the promised latencies, shows."""
        formats = [
            {"format": name, **self._measured_on_images(check), **_format_record(check)}
            for name, check in self.formats.items()
        ]
        shown = ("device", "setting", "predicted_ms", "budget_ms", "measured_ms", "as_predicted")
        rows = [check.to_dict() for check in self.latency]
        return formats, [{name: row[name] for name in (*shown, "unmeasured")} for row in rows]

    def _measured_on_images(self, check: FormatCheck) -> dict[str, object]:
        if check.accuracy is not None:
            return {"test accuracy": check.accuracy.value}
        return {} if check.metric is None else {self._metric_name: check.metric.value}

    def to_dict(self) -> dict[str, object]:
        """A form that JSON holds, as `verify.json` has it."""
        apart = {} if self.unmeasured is None else {"unmeasured": self.unmeasured}
        metrics = {
            name: _metric_record(check.metric)
            for name, check in self.formats.items()
            if check.metric is not None
        }
        return {
            "id": self.export.id,
            "test_accuracy": {
                name: _accuracy_record(check.accuracy)
                for name, check in self.formats.items()
                if check.accuracy is not None
            },
            **({"test_metric": metrics} if metrics else {}),
            **apart,
            "largest_difference": self.largest_difference,
            "predicted_memory_bytes": self.predicted_memory_bytes,
            "formats": {name: _format_record(check) for name, check in self.formats.items()},
            "latency": [check.to_dict() for check in self.latency],
            "broken": self.broken,
        }


def _accuracy_record(accuracy: Accuracy) -> dict[str, object]:
    low, high = accuracy.interval
    images = accuracy.num_images
    beside = {} if accuracy.top5 is None else {"top5": accuracy.top5}
    return {"value": accuracy.value, "low": low, "high": high, "num_images": images, **beside}


def _metric_record(metric: Estimate) -> dict[str, object]:
    images = metric.provenance.num_images
    return {"value": metric.value, "low": metric.low, "high": metric.high, "num_images": images}


def _format_record(check: FormatCheck) -> dict[str, object]:
    apart = {} if check.grey_levels is None else {"grey_levels": check.grey_levels}
    return {
        "file": check.file,
        "size_bytes": check.size_bytes,
        "exact": check.exact,
        "largest_difference": check.difference,
        "latency_ms": check.latency.median_ms,
        "batch": check.batch,
        "peak_memory_bytes": check.peak_memory_bytes,
        **apart,
    }
