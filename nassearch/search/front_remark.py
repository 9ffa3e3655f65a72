"""A line on a front as a whole: why it is one network, or that none is better than guessing."""

from collections.abc import Sequence

from nassearch.config import format_count, format_milliseconds
from nassearch.provenance import Estimate
from nassearch.search.candidate import Candidate
from nassearch.search.pareto import ParetoFront
from nassearch.search.problem import ACCURACY, Problem

HARDER = "try a space with smaller networks, harder data, or more validation images"


def front_remark(
    front: ParetoFront, candidates: Sequence[Candidate], problem: Problem
) -> str | None:
    """Say that a front is no better than guessing, or why one of one network has no others.

    Args:
        front: What the search ended with.
        candidates: Everything that it evaluated.
        problem: What it searched for.

    Returns:
        One line with the reason and what to do; None where the front has several networks, or one
        for no reason that shows in these numbers.
    """
    guessing = _guessing(front, problem.space.num_classes)
    if guessing is not None or len(front) != 1:
        return guessing
    (best,) = front
    reason = _tied(best, [item for item in candidates if item.is_finite]) or _idle(problem)
    return None if reason is None else f"the front is one network: {reason}"


def _guessing(front: ParetoFront, num_classes: int) -> str | None:
    """That no accuracy on the front is above what a constant answer has."""
    accuracies = [item.values[ACCURACY] for item in front if ACCURACY in item.values]
    if not accuracies:
        return None
    best = max(accuracies, key=lambda item: item.value)
    if (best.value if best.low is None else best.low) > 1 / num_classes:
        return None
    return (
        f"no accuracy on the front can be told from guessing one of {num_classes} classes: the best"
        f" is {best.value:.2%} on {best.provenance}; see whether the loss in metrics.jsonl fell,"
        " and train for longer or with a smaller lr"
    )


def _tied(best: Candidate, candidates: Sequence[Candidate]) -> str | None:
    """The accuracies where they cannot tell networks apart."""
    accuracy = best.values.get(ACCURACY)
    if accuracy is None or len(candidates) < 2:
        return None
    if _is_saturated(accuracy):
        return (
            f"its validation accuracy, {accuracy.value:.2%} on {accuracy.provenance}, cannot be"
            f" told from 100 %, so nothing larger is better; {HARDER}"
        )
    others = [item.values[ACCURACY] for item in candidates]
    if not all(_holds(other, accuracy.value) for other in others):
        return None
    low, high = min(other.value for other in others), max(other.value for other in others)
    return (
        f"all {len(candidates)} candidates tie in accuracy, {low:.2%} to {high:.2%} on"
        f" {accuracy.provenance}; {HARDER}"
    )


def _is_saturated(accuracy: Estimate) -> bool:
    """Whether the interval reaches 100 %, to half an image."""
    num_images = accuracy.provenance.num_images
    slack = 0.0 if num_images is None else 0.5 / num_images
    return (accuracy.value if accuracy.high is None else accuracy.high) >= 1.0 - slack


def _holds(estimate: Estimate, value: float) -> bool:
    """Whether the interval, or else the number alone, holds `value`."""
    low = estimate.value if estimate.low is None else estimate.low
    high = estimate.value if estimate.high is None else estimate.high
    return low <= value <= high


def _idle(problem: Problem) -> str | None:
    """The budgets where the largest network of the space keeps them all."""
    budgets = {budget for budgets in problem.budget_sets for budget in budgets}
    budgets |= set(problem.budgets)
    if not budgets:
        return None
    largest = {
        name: problem.quantity(name).evaluate(problem.space.largest)
        for name in sorted({budget.name for budget in budgets})
    }
    if any(largest[budget.name].value > budget.limit for budget in budgets):
        return None
    sizes = ", ".join(
        f"{name} {_amount(estimate.value, problem.quantity(name).unit)}"
        for name, estimate in largest.items()
    )
    return (
        f"its budget is above the largest network of the space ({sizes}), so nothing had to be"
        " given up; give a smaller budget"
    )


def _amount(value: float, unit: str) -> str:
    return format_milliseconds(value) if unit == "ms" else f"{format_count(value)} {unit}".rstrip()
