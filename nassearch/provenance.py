"""Provenance and Estimate: a number never travels without where it came from."""

import math
import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from nassearch.setting import Setting

Z_95 = 1.959964  # the normal quantile of a two-sided 95 % interval
_IMAGES = re.compile(r"(\w+) \((\d+) images\)")
_SETTING = re.compile(r"(.*?)(?:predicted from )?(measured|interpolated|estimated) (\S+/\S+)")


@dataclass(frozen=True, slots=True)
class Provenance:
    """Where a number comes from.

    `source` is what was done: 'evaluated' on images; 'measured', 'interpolated' (predicted from a
    table of measured, or partly interpolated, blocks) or 'estimated' (from a datasheet) of a
    latency; 'counted' of a cost; 'structure' of a score; or the name of a user's function. A
    latency has a `setting`; an accuracy has the `split` and the number of images.
    """

    source: str
    setting: Setting | None = None
    split: str | None = None
    num_images: int | None = None

    def __str__(self) -> str:
        if self.split is not None:
            return f"{self.split} ({self.num_images} images)"
        if self.setting is None:
            return self.source
        made = self.source if self.source == "estimated" else f"predicted from {self.source}"
        return f"{made} {self.setting}"

    def to_dict(self) -> dict[str, object]:
        """A form that JSON holds, without what is not known."""
        found: dict[str, object] = {"source": self.source}
        if self.setting is not None:
            found["setting"] = self.setting.to_dict()
        if self.split is not None:
            found |= {"split": self.split, "num_images": self.num_images}
        return found

    @classmethod
    def from_dict(cls, value: Mapping[str, Any] | str) -> "Provenance":
        """The provenance that `to_dict` wrote, or the sentence that version 0.1 kept instead."""
        if isinstance(value, str):
            return _from_sentence(value)
        setting, num_images = value.get("setting"), value.get("num_images")
        if num_images is not None and not (isinstance(num_images, int) and num_images > 0):
            raise ValueError(f"num_images is {num_images}")
        return cls(
            str(value["source"]),
            None if setting is None else Setting.from_dict(setting),
            value.get("split"),
            num_images,
        )


def _from_sentence(text: str) -> Provenance:
    images, latency = _IMAGES.fullmatch(text), _SETTING.fullmatch(text)
    if images is not None:
        return Provenance("evaluated", split=images[1], num_images=int(images[2]))
    if latency is not None:
        return Provenance(latency[2], Setting.parse(latency[3]))
    return Provenance(text)


@dataclass(frozen=True, slots=True)
class Belief:
    """What a search expects of a number it observed with noise, and the 95 % interval of that."""

    mean: float
    low: float
    high: float

    def to_dict(self) -> dict[str, float]:
        """A form that JSON holds, the fields by name."""
        return {"mean": self.mean, "low": self.low, "high": self.high}


@dataclass(frozen=True, slots=True)
class Estimate:
    """A number with where it comes from and, where known, the interval it lies in.

    One that `stopped_early` is only known to be worse than another candidate's. `loss` is the mean
    cross entropy on the images of an accuracy: of networks that tie, the smaller loss ranks first.
    `top5` is the share of these images whose class is among the five likeliest.
    `belief` is what a search that learned from many networks expects of this one; it ranks first.
    """

    value: float
    provenance: Provenance
    low: float | None = None
    high: float | None = None
    stopped_early: bool = False
    loss: float | None = None
    top5: float | None = None
    belief: Belief | None = None

    @property
    def variance(self) -> float | None:
        """That of the noise in the value, which a 95 % interval tells; None: not known."""
        if self.low is None or self.high is None or not math.isfinite(self.high - self.low):
            return None
        return ((self.high - self.low) / (2 * Z_95)) ** 2

    @property
    def rank(self) -> float:
        """What is believed; else the value, lower by less than half an image the larger the loss
        is: it orders ties."""
        if self.belief is not None:
            return self.belief.mean
        if self.loss is None or self.provenance.num_images is None:
            return self.value
        return self.value - 0.5 / self.provenance.num_images * self.loss / (1 + self.loss)

    @property
    def is_finite(self) -> bool:
        return math.isfinite(self.value)

    def to_dict(self) -> dict[str, object]:
        """A form that JSON holds: a number that is not finite becomes null."""
        record: dict[str, Any] = {
            "number": self.value if self.is_finite else None,
            "low": self.low,
            "high": self.high,
            "provenance": self.provenance.to_dict(),
        }
        beside = {"loss": self.loss, "top5": self.top5}
        record |= {name: value for name, value in beside.items() if value is not None}
        if self.belief is not None:
            record["expected"] = self.belief.to_dict()
        return record

    @classmethod
    def from_dict(cls, record: Mapping[str, Any]) -> "Estimate":
        """The estimate that `to_dict` wrote."""
        value = record["number"]
        low, high = record["low"], record["high"]
        loss, top5 = record.get("loss"), record.get("top5")
        return cls(
            math.nan if value is None else float(value),
            Provenance.from_dict(record["provenance"]),
            None if low is None else float(low),
            None if high is None else float(high),
            loss=None if loss is None else float(loss),
            top5=None if top5 is None else float(top5),
        )
