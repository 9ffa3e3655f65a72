"""Quantities of the candidates of a search, by the column and in the unit they are shown in."""

import math
from dataclasses import dataclass

import numpy as np

from nassearch.data.loading import parse_preprocessing
from nassearch.data.preprocessing import DEFAULT
from nassearch.latency.device import HOST
from nassearch.networks import block_cost
from nassearch.provenance import Provenance
from nassearch.report.figure import Floats
from nassearch.report.record import RunRecord, SearchRecord
from nassearch.search.problem import Direction
from nassearch.space import lower

COUNTED = {"macs": "multiply-accumulates", "params": "parameters"}


@dataclass(frozen=True)
class Quantity:
    """A quantity of a search's candidates in the unit it is shown in: number x `scale`.

    `key` is equal in two searches only where their numbers may be compared.
    """

    name: str
    label: str
    unit: str
    scale: float
    direction: Direction
    provenance: Provenance
    key: str
    numbers: Floats
    low: Floats | None = None
    high: Floats | None = None

    @property
    def estimated(self) -> bool:
        return self.provenance.source == "estimated"

    @property
    def title(self) -> str:
        """The title of an axis: what, in which unit, and 'estimated' where it is."""
        unit = f", {self.unit}" if self.unit else ""
        return f"{self.label}{unit}{' (estimated)' if self.estimated else ''}"

    @property
    def shown(self) -> Floats:
        return self.numbers * self.scale

    def to_dict(self) -> dict[str, object]:
        return {
            "name": self.name,
            "label": self.label,
            "unit": self.unit,
            "direction": self.direction,
            "provenance": str(self.provenance),
            "estimated": self.estimated,
            "values": _rounded(self.shown),
            "low": None if self.low is None else _rounded(self.low * self.scale),
            "high": None if self.high is None else _rounded(self.high * self.scale),
        }


def quantities(run: RunRecord, search: SearchRecord) -> list[Quantity]:
    """Everything known about the candidates of a search, and their counted costs."""
    recorded = [_recorded(run, search, name) for name in search.candidates[0].values]
    known = {quantity.name for quantity in recorded}
    return recorded + [_counted(run, search, name) for name in COUNTED if name not in known]


def _recorded(run: RunRecord, search: SearchRecord, name: str) -> Quantity:
    """A quantity that the search itself recorded."""
    values = [candidate.values[name] for candidate in search.candidates]
    numbers = np.array([value.value for value in values])
    low = np.array([math.nan if value.low is None else value.low for value in values])
    high = np.array([math.nan if value.high is None else value.high for value in values])
    known = bool(np.isfinite(low).any())
    axis = next((axis for axis in search.axes if axis.name == name), None)
    provenance = values[0].provenance
    label, unit, scale = name.replace("_", " "), axis.unit if axis is not None else "", 1.0
    key = name
    if name == "accuracy":
        label, unit, scale = "accuracy", "%", 100.0
        if provenance.split is not None:
            label = "accuracy on validation images"
        said = parse_preprocessing(run.recipe.get("preprocessing") or DEFAULT)
        key = f"{name} {run.recipe.get('data')} {said.fingerprint} {provenance}"
    elif name in search.settings:
        label = f"latency on {search.target(name)}"
        unit, scale = ("µs", 1e3) if float(np.nanmedian(numbers)) < 1.0 else ("ms", 1.0)
        key = f"latency {search.settings[name]} {_machine(run, search, name)}"
    elif not unit:
        label = COUNTED.get(name, label)
        unit, scale = count_unit(numbers)
    return Quantity(
        name=name,
        label=label,
        unit=unit,
        scale=scale,
        direction="min" if axis is None else axis.direction,
        provenance=provenance,
        key=key,
        numbers=numbers,
        low=low if known else None,
        high=high if known else None,
    )


def _machine(run: RunRecord, search: SearchRecord, name: str) -> object:
    """A value by which machines of one device's name differ: 'host' is any machine."""
    snapshot = search.snapshot(name)
    host = None if snapshot is None else snapshot.host
    return run.path if host is None and search.settings[name].device == HOST else host


def _counted(run: RunRecord, search: SearchRecord, name: str) -> Quantity:
    """A cost that adds up over blocks and was not among the objectives."""
    assert run.space is not None
    numbers = np.array(
        [
            float(
                sum(
                    getattr(block_cost(spec), name)
                    for spec in lower(run.space, candidate.architecture)
                )
            )
            for candidate in search.candidates
        ]
    )
    unit, scale = count_unit(numbers)
    counted = Provenance("counted")
    return Quantity(name, COUNTED[name], unit, scale, "min", counted, name, numbers)


def count_unit(numbers: Floats) -> tuple[str, float]:
    """The prefix that suits most of the counts, and what to multiply them with."""
    median = float(np.nanmedian(np.abs(numbers)))
    for unit, size in (("G", 1e9), ("M", 1e6), ("K", 1e3)):
        if median >= size:
            return unit, 1 / size
    return "", 1.0


def _rounded(values: Floats) -> list[float | None]:
    """Five significant digits are more than is shown, and keep the page small."""
    return [float(f"{value:.5g}") if math.isfinite(value) else None for value in values]
