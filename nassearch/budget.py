"""Budget and ShareBudget: what a network may take, parsed once where text comes in."""

from collections.abc import Sequence
from dataclasses import dataclass

from nassearch import config
from nassearch.errors import BudgetError

LATENCY = "latency"


@dataclass(frozen=True, slots=True)
class Budget:
    """An upper limit on the objective `kind`, in its unit; `device` where only one is meant."""

    kind: str
    limit: float
    unit: str = ""
    device: str = ""

    @property
    def name(self) -> str:
        """The name of the objective that is limited."""
        return f"{self.kind}:{self.device}" if self.device else self.kind

    def __str__(self) -> str:
        return f"{self.name} <= {self.limit:g} {self.unit}".rstrip()


@dataclass(frozen=True, slots=True)
class ShareBudget:
    """A latency that lies so far, 0..1, from each device's fastest network to its largest."""

    share: float
    device: str = ""

    def __str__(self) -> str:
        name = f"{LATENCY}:{self.device}=" if self.device else ""
        return f"{name}{100 * self.share:g}%"


AnyBudget = Budget | ShareBudget


def parse_budget(text: str) -> AnyBudget:
    """A budget as users write it; BudgetError where it is none.

    '5ms', 'latency=800us' and '40%' hold on every device, 'latency:zen4=30us' on one. Any other
    objective is named with its quantity, 'params=3M', a user's as 'my_package.module:function=2'.
    """
    name, equals, amount = text.strip().rpartition("=")
    kind, _, device = name.partition(":")
    if equals and kind != LATENCY:
        return Budget(name, config.parse_count(amount))
    if equals and name.endswith(":"):
        raise BudgetError(
            f"'{text}' names no device", where="budget", fix="write it as latency:DEVICE=5ms"
        )
    if amount.endswith("%"):
        return ShareBudget(config.parse_share(amount), device)
    return Budget(LATENCY, config.parse_milliseconds(amount), "ms", device)


BudgetSet = str | AnyBudget | Sequence[str | AnyBudget]
"""Budgets that hold together: '5ms', or ('5ms', 'params=3M')."""


def parse_budget_set(value: BudgetSet) -> tuple[AnyBudget, ...]:
    """What holds together: one budget, or several that a sequence names."""
    if isinstance(value, Budget | ShareBudget):
        return (value,)
    if isinstance(value, str):
        return (parse_budget(value),)
    return tuple(part for item in value for part in parse_budget_set(item))
