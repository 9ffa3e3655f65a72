"""A network that somebody has, drawn beside a front, and the networks of the front that beat it."""

from collections.abc import Mapping
from dataclasses import dataclass

from nassearch.config import format_milliseconds
from nassearch.report.record import RunRecord, SearchRecord
from nassearch.setting import Setting
from nassearch.training.evaluation import Accuracy

_SHOWN = 5


@dataclass(frozen=True)
class Beside:
    """Somebody's network: its latency in the settings it was timed in, and why not in others.

    `accuracy` is on the validation images that the candidates were measured on; None where there
    are none.
    """

    name: str
    latency_ms: Mapping[Setting, float]
    reasons: Mapping[Setting, str]
    accuracy: Accuracy | None = None

    def lines(self, record: RunRecord) -> list[str]:
        """What the page says of it, a line for each latency that a search of the run has."""
        found = [
            self._line(search, name, setting)
            for search in record.searches
            for name, setting in search.settings.items()
        ]
        return list(dict.fromkeys(found))

    def beaten_by(self, search: SearchRecord, latency: str) -> list[str]:
        """The ids of the front's networks that are no slower, no less accurate, and not equal."""
        ms = self.latency_ms.get(search.settings[latency])
        if ms is None or self.accuracy is None:
            return []
        own, found = self.accuracy.value, []
        for candidate in search.past.front:
            values = candidate.values
            if "accuracy" not in values or latency not in values:
                continue
            other_ms, other = values[latency].value, values["accuracy"].value
            if other_ms <= ms and other >= own and (other_ms, other) != (ms, own):
                found.append(candidate.architecture.id)
        return found

    def _line(self, search: SearchRecord, latency: str, setting: Setting) -> str:
        ms = self.latency_ms.get(setting)
        if ms is None:
            return f"{self.name} on {setting}: {self.reasons.get(setting, 'not measured')}"
        text = f"{self.name} on {setting}: {format_milliseconds(ms)}"
        if self.accuracy is None:
            return f"{text}; without images its accuracy is not known"
        text += f", {self.accuracy.value:.2%} of {self.accuracy.num_images} validation images"
        beaten = self.beaten_by(search, latency)
        if not beaten:
            return f"{text}; no network of the front is at once no slower and no less accurate"
        more = f" and {len(beaten) - _SHOWN} more" if len(beaten) > _SHOWN else ""
        return f"{text}; no slower and no less accurate: {', '.join(beaten[:_SHOWN])}{more}"
