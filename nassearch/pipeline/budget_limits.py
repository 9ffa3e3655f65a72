"""Budgets as a user names them, as limits on the objectives of a search."""

from collections.abc import Sequence

from nassearch.budget import AnyBudget, Budget, BudgetSet, parse_budget_set
from nassearch.errors import BudgetError
from nassearch.latency.target import Target
from nassearch.objectives.objective import Context
from nassearch.search.problem import LATENCY


def resolve_budgets(budgets: Sequence[BudgetSet], context: Context) -> list[tuple[Budget, ...]]:
    """Each set of budgets as limits on objectives; shares become each device's own milliseconds.

    Without budgets there is one empty set: the best network of all is chosen.
    """
    return [
        tuple(limit for item in parse_budget_set(budget_set) for limit in _limits(item, context))
        for budget_set in budgets
    ] or [()]


def _limits(budget: AnyBudget, context: Context) -> list[Budget]:
    """A budget on each target it speaks of; BudgetError where it names none."""
    if isinstance(budget, Budget) and budget.kind != LATENCY:
        return [budget]
    names = {name for item in context.targets for name in (item.setting.device, str(item.setting))}
    if budget.device and budget.device not in names:
        raise BudgetError(
            "names a device that is not searched for",
            where=f"budget {budget}",
            fix=f"name one of {', '.join(sorted(names))}"
            if names
            else f"search with --device {budget.device}",
        )
    if not context.targets:
        raise BudgetError("needs a device", where=f"budget {budget}", fix="name one with --device")
    return [
        Budget(LATENCY, _milliseconds(budget, target), "ms", context.label(target))
        for target in context.targets
        if budget.device in ("", target.setting.device, str(target.setting))
    ]


def _milliseconds(budget: AnyBudget, target: Target) -> float:
    """A latency budget; a share lies so far from the target's fastest network to its largest."""
    if isinstance(budget, Budget):
        return budget.limit
    predictor = target.predictor
    fastest = predictor.minimum()[1]
    largest = float(predictor.predict([predictor.space.largest])[0])
    return fastest + budget.share * (largest - fastest)


def loosest(budget_sets: Sequence[Sequence[Budget]]) -> tuple[Budget, ...]:
    """For each objective that every set limits, its largest limit."""
    shared = set.intersection(*({budget.name for budget in budgets} for budgets in budget_sets))
    limits: dict[str, Budget] = {}
    for budgets in budget_sets:
        for budget in budgets:
            known = limits.get(budget.name)
            if budget.name in shared and (known is None or budget.limit > known.limit):
                limits[budget.name] = budget
    return tuple(limits.values())
