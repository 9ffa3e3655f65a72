"""Problem: what is searched for, the objectives it trades and the budgets it must keep."""

import itertools
import math
from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Any, Literal

import numpy as np
import numpy.typing as npt

from nassearch.budget import Budget
from nassearch.errors import BudgetError, SearchError
from nassearch.provenance import Estimate
from nassearch.setting import Setting
from nassearch.space.architecture import Architecture
from nassearch.space.search_space import Genes, SearchSpace

Floats = npt.NDArray[np.float64]
Direction = Literal["max", "min"]
ACCURACY, LATENCY = "accuracy", "latency"
SENSITIVITY = "sensitivity"
"""A cheap quantity that says which places of a space of policies mind a lower precision most."""


@dataclass(frozen=True, slots=True)
class Axis:
    """A quantity as a front is drawn over it: its kind, which way is better, its unit.

    `device` tells the latencies of several devices apart, `setting` is what one was predicted for.
    """

    kind: str
    direction: Direction
    unit: str
    device: str = ""
    setting: Setting | None = None

    @property
    def name(self) -> str:
        """The column of this quantity: 'accuracy', 'latency', or 'latency:zen4' of several."""
        return f"{self.kind}:{self.device}" if self.device else self.kind

    @property
    def sign(self) -> float:
        """Number times sign is a loss: smaller is better."""
        return -1.0 if self.direction == "max" else 1.0

    def to_dict(self) -> dict[str, object]:
        """A form that JSON holds."""
        setting = None if self.setting is None else self.setting.to_dict()
        return {
            "kind": self.kind,
            "direction": self.direction,
            "unit": self.unit,
            "device": self.device,
            "setting": setting,
        }

    @classmethod
    def from_dict(cls, value: dict[str, Any]) -> "Axis":
        """The axis that `to_dict` wrote, or an objective of version 0.1, which had a name alone."""
        if "kind" in value:
            setting = value.get("setting")
            known = None if setting is None else Setting.from_dict(setting)
            return cls(value["kind"], value["direction"], value["unit"], value["device"], known)
        kind, _, device = value["name"].partition(":")
        if kind != LATENCY:
            kind, device = value["name"], ""
        return cls(kind, value["direction"], value["unit"], device)


@dataclass(frozen=True)
class Objective:
    """A quantity of an architecture.

    `of_genes` makes it cheap: it maps canonical gene vectors, uint8 (n, genes), to n numbers that
    equal those of `evaluate`; an objective without it is expensive and evaluated one architecture
    at a time. `evaluate_early_stop` evaluates too, but may stop where it is sure of a number worse
    than the one given. `minimum` gives the smallest number in the space and an architecture that
    has it, where that is known exactly. `source` says what the numbers depend on beside the space
    (a checkpoint, a table, a function's code): a journal resumes, and a cache answers, only where
    it is the same.
    """

    kind: str
    direction: Direction
    unit: str
    evaluate: Callable[[Architecture], Estimate]
    of_genes: Callable[[Genes], Floats] | None = None
    minimum: Callable[[], tuple[float, Architecture]] | None = None
    source: str = ""
    evaluate_early_stop: Callable[[Architecture, float], Estimate] | None = None
    device: str = ""
    setting: Setting | None = None

    @property
    def axis(self) -> Axis:
        return Axis(self.kind, self.direction, self.unit, self.device, self.setting)

    @property
    def name(self) -> str:
        return self.axis.name

    @property
    def is_cheap(self) -> bool:
        return self.of_genes is not None

    def numbers(self, genes: Genes) -> Floats:
        """The numbers of canonical gene vectors, (n,); only for cheap objectives."""
        assert self.of_genes is not None
        return np.asarray(self.of_genes(genes), dtype=np.float64)

    def budget(self, limit: float) -> Budget:
        """An upper limit on this objective."""
        return Budget(self.kind, limit, self.unit, self.device)

    def identity(self) -> dict[str, str]:
        """The part of an objective that is equal where two searches share numbers."""
        return {
            "name": self.name,
            "direction": self.direction,
            "unit": self.unit,
            "source": self.source,
        }


@dataclass(frozen=True)
class Problem:
    """A search to be made: `objectives` are optimised, `recorded` ones are only written down.

    Both may carry budgets, several at once. `warm_start_score` names a cheap quantity of which
    more is promising among networks of equal size; a search may start from it. `budget_sets` are
    sets of budgets, each beside `budgets`, for each of which the best network is asked for.

    Raises:
        SearchError: an objective is missing or given twice.
        BudgetError: a budget is on a quantity that is not computed, or is not known in advance.
    """

    space: SearchSpace
    objectives: tuple[Objective, ...]
    budgets: tuple[Budget, ...] = ()
    seed: int = 0
    recorded: tuple[Objective, ...] = ()
    warm_start_score: str | None = None
    budget_sets: tuple[tuple[Budget, ...], ...] = ()

    def __post_init__(self) -> None:
        names = [objective.name for objective in self.quantities]
        if not self.objectives:
            raise SearchError(
                "no objective is given", where="objectives", fix="name at least one, accuracy"
            )
        twice = sorted({name for name in names if names.count(name) > 1})
        if twice:
            raise SearchError(f"{twice[0]} is given twice", where="objectives", fix="name it once")
        score = self.warm_start_score
        if score is not None and (score not in names or not self.quantity(score).is_cheap):
            cheap = ", ".join(item.name for item in self.quantities if item.is_cheap)
            raise SearchError(
                f"{score} is not a cheap quantity of the problem",
                where="warm_start_score",
                fix=f"name one of {cheap}, or None",
            )
        for budget in itertools.chain(self.budgets, *self.budget_sets):
            self._check(budget, names)

    def _check(self, budget: Budget, names: list[str]) -> None:
        if budget.name not in names:
            raise BudgetError(
                f"a budget for {budget.name}, which is not computed",
                where="budgets",
                fix=f"known here: {', '.join(names)}",
            )
        if not self.quantity(budget.name).is_cheap:
            raise BudgetError(
                f"a budget for {budget.name}, which is only known after an evaluation",
                where="budgets",
                fix="choose the network from the front instead; a function of your own that is"
                " cheap says so with `is_cheap = True`",
            )
        if not math.isfinite(budget.limit):
            raise BudgetError(
                "is not a finite number", where=f"budget {budget}", fix="write a number, 5ms"
            )

    @property
    def quantities(self) -> tuple[Objective, ...]:
        """Everything recorded about a candidate."""
        return (*self.objectives, *self.recorded)

    @property
    def expensive(self) -> tuple[Objective, ...]:
        """The quantities that are only known after an evaluation."""
        return tuple(item for item in self.quantities if not item.is_cheap)

    @property
    def axes(self) -> tuple[Axis, ...]:
        return tuple(objective.axis for objective in self.objectives)

    @cached_property
    def fronts(self) -> tuple[tuple[int, ...], ...]:
        """The places of the objectives that make a front, for each front that is asked for.

        Latencies on several devices are alternatives: nobody trades one for the other, so each
        makes a front of its own with the rest.
        """
        alternatives: dict[str, list[int]] = {}
        shared = []
        for place, axis in enumerate(self.axes):
            if axis.device:
                alternatives.setdefault(axis.kind, []).append(place)
            else:
                shared.append(place)
        return tuple(
            tuple(sorted({*shared, *chosen}))
            for chosen in itertools.product(*alternatives.values())
        )

    def quantity(self, name: str) -> Objective:
        return next(objective for objective in self.quantities if objective.name == name)

    def under(self, budgets: tuple[Budget, ...]) -> "Problem":
        """This problem with a set of budgets beside its own."""
        return replace(self, budgets=(*self.budgets, *budgets), budget_sets=())

    @cached_property
    def limits(self) -> dict[str, float]:
        """The tightest limit of each budgeted quantity."""
        limits: dict[str, float] = {}
        for budget in self.budgets:
            limits[budget.name] = min(budget.limit, limits.get(budget.name, math.inf))
        return limits

    def identity(self) -> dict[str, object]:
        """The part of a problem that is equal where two searches share a journal."""
        return {
            "space": self.space.fingerprint,
            **({"precisions": list(self.space.precisions)} if self.space.precisions else {}),
            "seed": self.seed,
            "objectives": [objective.identity() for objective in self.objectives],
            "measures": [objective.identity() for objective in self.recorded],
            "budgets": dict(sorted(self.limits.items())),
        }
