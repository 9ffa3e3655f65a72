"""Candidate: an architecture with everything that is known about it."""

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any

from nassearch.errors import ArchitectureError, ConfigError, SearchError
from nassearch.provenance import Belief, Estimate
from nassearch.space.architecture import Architecture
from nassearch.space.search_space import SearchSpace


@dataclass(frozen=True)
class Candidate:
    """An architecture with an Estimate of each quantity, by the quantity's name."""

    architecture: Architecture
    values: Mapping[str, Estimate]

    def number(self, name: str) -> float:
        return self.values[name].value

    def rank(self, name: str) -> float:
        """What is believed, else the number with ties between accuracies in the order of losses."""
        return self.values[name].rank

    def believing(self, beliefs: Mapping[str, Belief]) -> "Candidate":
        """This candidate with what is believed of some of its numbers."""
        values = {
            name: replace(value, belief=beliefs[name]) if name in beliefs else value
            for name, value in self.values.items()
        }
        return Candidate(self.architecture, values)

    @property
    def is_finite(self) -> bool:
        """Whether every number is one: a candidate with a NaN is recorded and dropped."""
        return all(value.is_finite for value in self.values.values())

    def to_record(self, space: SearchSpace) -> dict[str, object]:
        """A form that JSON holds; `from_record` inverts it."""
        return {
            "architecture": self.architecture.id,
            "genes": list(space.encode(self.architecture)),
            "values": {name: value.to_dict() for name, value in self.values.items()},
        }

    @classmethod
    def from_record(cls, record: Mapping[str, Any], *, space: SearchSpace) -> "Candidate":
        """The candidate that `to_record` wrote; SearchError where it is not one of this space."""
        try:
            values = {
                str(name): Estimate.from_dict(value) for name, value in record["values"].items()
            }
            architecture = space.decode([int(gene) for gene in record["genes"]])
            if architecture.id != record["architecture"]:
                raise SearchError(
                    f"{record['architecture']} is not an architecture of the space",
                    where="candidate",
                    fix="search again in this space",
                )
        except (ArchitectureError, ConfigError) as error:
            raise SearchError(error.what, where="candidate", fix=error.fix) from error
        except (KeyError, TypeError, ValueError, AttributeError, OverflowError) as error:
            raise SearchError(
                f"cannot be read ({type(error).__name__}: {error})",
                where="candidate",
                fix="give what `to_record` wrote",
            ) from error
        return cls(architecture, values)

    def to_row(self, space: SearchSpace | None = None) -> dict[str, object]:
        """A flat row of a table, for people: nothing reads it back. Genes only with a space."""
        row: dict[str, object] = {"architecture": self.architecture.id}
        if space is not None:
            row["genes"] = "-".join(map(str, space.encode(self.architecture)))
        for name, value in self.values.items():
            row |= {
                name: value.value,
                f"{name}_low": value.low,
                f"{name}_high": value.high,
                f"{name}_provenance": str(value.provenance),
            }
            if value.belief is not None:
                row |= {
                    f"{name}_expected": value.belief.mean,
                    f"{name}_expected_low": value.belief.low,
                    f"{name}_expected_high": value.belief.high,
                }
            if value.loss is not None:
                row["validation_loss"] = value.loss
            if value.top5 is not None:
                row["top5"] = value.top5
        return row
