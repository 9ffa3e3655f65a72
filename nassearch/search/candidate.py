"""The values a search trades in: Value, Objective, Budget, Problem and Candidate."""

import itertools
import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import cached_property
from typing import Any, Literal

import numpy as np
import numpy.typing as npt

from nassearch.errors import ArchitectureError, BudgetError, SearchError
from nassearch.space.architecture import Architecture
from nassearch.space.search_space import Genes, SearchSpace

Floats = npt.NDArray[np.float64]
Direction = Literal["max", "min"]


@dataclass(frozen=True, slots=True)
class ObjectiveValue:
    """A number with where it came from and, where known, the interval it lies in.

    One that `is_partial` was cut short: it is only known that another candidate is better.
    """

    number: float
    provenance: str
    low: float | None = None
    high: float | None = None
    stopped_early: bool = False

    @property
    def is_finite(self) -> bool:
        return math.isfinite(self.number)


@dataclass(frozen=True, slots=True)
class Axis:
    """What a front is plotted over: a named quantity, which way is better, and its unit."""

    name: str
    direction: Direction
    unit: str

    @property
    def sign(self) -> float:
        """Number times sign is a loss: smaller is better."""
        return -1.0 if self.direction == "max" else 1.0


@dataclass(frozen=True)
class Objective:
    """A quantity of an architecture.

    `of_genes` makes it cheap: it maps canonical gene vectors, uint8 (n, genes), to n numbers that
    equal those of `evaluate`; an objective without it is expensive and evaluated one architecture
    at a time. `screen` evaluates too, but may stop where it is sure of a number worse than the one
    given. `minimum` gives the smallest number in the space and an architecture that has it, where
    that is known exactly. `source` says what the numbers depend on beside the space (a
    checkpoint, a table): a journal resumes only where it is the same.
    """

    name: str
    direction: Direction
    unit: str
    evaluate: Callable[[Architecture], ObjectiveValue]
    of_genes: Callable[[Genes], Floats] | None = None
    minimum: Callable[[], tuple[float, Architecture]] | None = None
    source: str = ""
    evaluate_early_stop: Callable[[Architecture, float], ObjectiveValue] | None = None

    @property
    def is_cheap(self) -> bool:
        return self.of_genes is not None

    @property
    def axis(self) -> Axis:
        return Axis(self.name, self.direction, self.unit)

    def numbers(self, genes: Genes) -> Floats:
        """The numbers of canonical gene vectors, (n,); only for cheap objectives."""
        assert self.of_genes is not None
        return np.asarray(self.of_genes(genes), dtype=np.float64)


@dataclass(frozen=True, slots=True)
class Budget:
    """An upper limit on a cheap objective, in the objective's unit."""

    objective: str
    limit: float
    unit: str

    def __str__(self) -> str:
        return f"{self.objective} <= {self.limit:g} {self.unit}".rstrip()


@dataclass(frozen=True)
class Problem:
    """What is searched for: `objectives` are optimised, `measures` are only recorded.

    Both may carry budgets, several at once. `warm_start_score` names a cheap quantity of which
    more is promising among networks of equal size; a search may start from it. `wanted` are sets of
    budgets, each beside `budgets`, for each of which the best network is asked for. Raises
    SearchError or BudgetError where the parts do not fit together.
    """

    space: SearchSpace
    objectives: tuple[Objective, ...]
    budgets: tuple[Budget, ...] = ()
    seed: int = 0
    recorded: tuple[Objective, ...] = ()
    warm_start_score: str | None = None
    wanted: tuple[tuple[Budget, ...], ...] = ()

    def __post_init__(self) -> None:
        names = [objective.name for objective in self.quantities]
        if not self.objectives:
            raise SearchError("no objective is given", fix="name at least one")
        twice = sorted({name for name in names if names.count(name) > 1})
        if twice:
            raise SearchError(f"the objective {twice[0]} is given twice")
        if self.warm_start_score is not None and (
            self.warm_start_score not in names or not self.quantity(self.warm_start_score).is_cheap
        ):
            raise SearchError(f"{self.warm_start_score} is not a cheap quantity of the problem")
        for budget in itertools.chain(self.budgets, *self.wanted):
            if budget.objective not in names:
                raise BudgetError(
                    f"a budget for {budget.objective}, which is not computed",
                    fix=f"known here: {', '.join(names)}",
                )
            if not self.quantity(budget.objective).is_cheap:
                raise BudgetError(
                    f"a budget for {budget.objective}, which is only known after an evaluation",
                    fix="choose the network from the front instead",
                )
            if not (math.isfinite(budget.limit)):
                raise BudgetError(f"the budget {budget} is not a finite number")

    @property
    def quantities(self) -> tuple[Objective, ...]:
        """Everything recorded about a candidate."""
        return (*self.objectives, *self.recorded)

    @property
    def axes(self) -> tuple[Axis, ...]:
        return tuple(objective.axis for objective in self.objectives)

    @cached_property
    def fronts(self) -> tuple[tuple[int, ...], ...]:
        """Which of the objectives make a front, for each front that is wanted.

        Objectives called 'latency:box', 'latency:phone' are alternatives: nobody trades one for the
        other, so each makes a front of its own with the rest.
        """
        kinds = [name.partition(":")[0] for name in (axis.name for axis in self.axes)]
        shared = [kind for kind in dict.fromkeys(kinds) if kinds.count(kind) > 1]
        places = range(len(kinds))
        options = [[place for place in places if kinds[place] == kind] for kind in shared]
        rest = {place for place in places if kinds[place] not in shared}
        return tuple(tuple(sorted({*rest, *chosen})) for chosen in itertools.product(*options))

    def quantity(self, name: str) -> Objective:
        return next(objective for objective in self.quantities if objective.name == name)

    @cached_property
    def limits(self) -> dict[str, float]:
        """The tightest limit of each budgeted quantity."""
        limits: dict[str, float] = {}
        for budget in self.budgets:
            limits[budget.objective] = min(budget.limit, limits.get(budget.objective, math.inf))
        return limits

    def settings(self) -> dict[str, Any]:
        """What must be equal for two searches to share a journal."""
        return {
            "space": self.space.fingerprint,
            "seed": self.seed,
            "objectives": [_identity(objective) for objective in self.objectives],
            "measures": [_identity(objective) for objective in self.recorded],
            "budgets": dict(sorted(self.limits.items())),
        }


def _identity(objective: Objective) -> dict[str, str]:
    return {
        "name": objective.name,
        "direction": objective.direction,
        "unit": objective.unit,
        "source": objective.source,
    }


@dataclass(frozen=True)
class Candidate:
    """An architecture with everything known about it."""

    architecture: Architecture
    values: Mapping[str, ObjectiveValue]

    def number(self, name: str) -> float:
        return self.values[name].number

    @property
    def is_finite(self) -> bool:
        """Whether every number is one: a candidate with a NaN is recorded and dropped."""
        return all(value.is_finite for value in self.values.values())

    def to_record(self, space: SearchSpace) -> dict[str, Any]:
        """A form JSON holds (a NaN becomes null); `from_record` inverts it."""
        return {
            "architecture": self.architecture.id,
            "genes": list(space.encode(self.architecture)),
            "values": {
                name: {
                    "number": value.number if value.is_finite else None,
                    "provenance": value.provenance,
                    "low": value.low,
                    "high": value.high,
                }
                for name, value in self.values.items()
            },
        }

    @classmethod
    def from_record(cls, record: Mapping[str, Any], *, space: SearchSpace) -> "Candidate":
        """The candidate `to_record` wrote; SearchError where it is not one of this space."""
        try:
            values = {
                str(name): ObjectiveValue(
                    math.nan if value["number"] is None else float(value["number"]),
                    str(value["provenance"]),
                    _optional(value["low"]),
                    _optional(value["high"]),
                )
                for name, value in record["values"].items()
            }
            architecture = space.decode([int(gene) for gene in record["genes"]])
            if architecture.id != record["architecture"]:
                raise SearchError(f"{record['architecture']} is not an architecture of the space")
        except ArchitectureError as error:
            raise SearchError(error.what) from error
        except (KeyError, TypeError, ValueError, AttributeError) as error:
            raise SearchError(f"is not a candidate ({type(error).__name__}: {error})") from error
        return cls(architecture, values)

    def to_row(self, space: SearchSpace) -> dict[str, str]:
        """A flat row: architecture, genes, and for each value number, low, high, provenance."""
        row = {
            "architecture": self.architecture.id,
            "genes": "-".join(map(str, space.encode(self.architecture))),
        }
        for name, value in self.values.items():
            row[name] = repr(value.number)
            row[f"{name}_low"] = "" if value.low is None else repr(value.low)
            row[f"{name}_high"] = "" if value.high is None else repr(value.high)
            row[f"{name}_provenance"] = value.provenance
        return row

    @classmethod
    def from_row(cls, row: Mapping[str, str], *, space: SearchSpace) -> "Candidate":
        """The candidate `to_row` wrote; SearchError where it is not one of this space."""
        ending = "_provenance"
        names = [column.removesuffix(ending) for column in row if column.endswith(ending)]
        try:
            record = {
                "architecture": row["architecture"],
                "genes": [gene for gene in row["genes"].split("-") if gene],
                "values": {
                    name: {
                        "number": row[name],
                        "provenance": row[f"{name}{ending}"],
                        "low": row[f"{name}_low"] or None,
                        "high": row[f"{name}_high"] or None,
                    }
                    for name in names
                },
            }
        except (KeyError, AttributeError) as error:
            raise SearchError(f"is not a row of a front ({error})") from error
        return cls.from_record(record, space=space)


def _optional(value: Any) -> float | None:
    return None if value is None else float(value)
