"""ParetoFront: the candidates no other beats in every objective at once."""

from collections.abc import Iterable, Iterator, Mapping, Sequence

import numpy as np
import pandas as pd
from optuna._hypervolume import compute_hypervolume, get_non_dominated_box_bounds

from nassearch.budget import Budget
from nassearch.errors import BudgetError, SearchError
from nassearch.search.candidate import Candidate
from nassearch.search.problem import Axis, Floats
from nassearch.space.search_space import SearchSpace


def non_dominated(losses: Floats) -> np.ndarray:
    """Mask rows of (n, objectives) losses that no other dominates, (n,); equal rows all stay."""
    rows, inverse = np.unique(losses, axis=0, return_inverse=True)  # in lexicographic order
    mask = np.zeros(len(rows), dtype=bool)
    if losses.shape[1] == 2:
        # A row is dominated by one that came before it with a second number as small.
        smallest = np.minimum.accumulate(rows[:, 1])
        mask = np.r_[True, rows[1:, 1] < smallest[:-1]][: len(rows)]
        return mask[inverse.reshape(-1)]
    front = np.empty((0, losses.shape[1]))
    for index, row in enumerate(rows):
        # In lexicographic order a row is dominated only by one that came before it.
        if not (front <= row).all(axis=1).any():
            mask[index] = True
            front = np.vstack([front, row])
    return mask[inverse.reshape(-1)]


def hypervolume(losses: Floats, reference: Floats) -> float:
    """The volume that (n, objectives) losses dominate below the reference point.

    The one place that calls Optuna's implementation (WFG, While et al. 2012), which is not part of
    its public interface and refuses points beyond the reference.
    """
    inside = losses[(losses < reference).all(axis=1)]
    return float(compute_hypervolume(inside, reference)) if len(inside) else 0.0


def hypervolume_gain(losses: Floats, points: Floats, *, reference: Floats) -> Floats:
    """The gain in hypervolume of `losses` by each of (n, objectives) points, (n,).

    The region not yet dominated is cut into boxes (Lacour et al. 2017, as Optuna does it), so all
    points are answered at once.
    """
    inside = losses[(losses < reference).all(axis=1)]
    if len(reference) == 1:
        return np.clip(min(reference[0], *inside[:, 0], np.inf) - points[:, 0], 0.0, None)
    if len(inside):
        lower, upper = get_non_dominated_box_bounds(inside[non_dominated(inside)], reference)
    else:
        lower, upper = np.full((1, len(reference)), -np.inf), reference[None]
    gain = np.zeros(len(points))
    for low, high in zip(lower, upper, strict=True):
        gain += np.clip(high - np.maximum(points, low), 0.0, None).prod(axis=1)
    return gain


class ParetoFront:
    """The non-dominated candidates over any number of objectives."""

    def __init__(self, axes: Sequence[Axis], candidates: Iterable[Candidate] = ()) -> None:
        self.axes = tuple(axes)
        self.candidates: list[Candidate] = []
        self._signs = np.array([axis.sign for axis in self.axes])
        self._losses = np.empty((0, len(self.axes)))
        for candidate in candidates:
            self.add(candidate)

    def __len__(self) -> int:
        return len(self.candidates)

    def __iter__(self) -> Iterator[Candidate]:
        return iter(self.candidates)

    def __repr__(self) -> str:
        return f"ParetoFront({', '.join(axis.name for axis in self.axes)}: {len(self)} candidates)"

    def loss(self, candidate: Candidate) -> Floats:
        """The candidate's objectives as losses, (objectives,): smaller is better."""
        return self._signs * [candidate.rank(axis.name) for axis in self.axes]

    def add(self, candidate: Candidate) -> bool:
        """Add a candidate; False where it is dominated, equal to one here, or not a number."""
        loss = self.loss(candidate)
        if not np.isfinite(loss).all() or (self._losses <= loss).all(axis=1).any():
            return False
        keep = np.logical_not((loss <= self._losses).all(axis=1))
        self.candidates = [
            c for c, kept in zip(self.candidates, keep.tolist(), strict=True) if kept
        ]
        self.candidates.append(candidate)
        self._losses = np.vstack([self._losses[keep], loss])
        return True

    def to_beat(self, name: str, others: Mapping[str, float]) -> float | None:
        """The best number in `name` among the candidates no worse in all others; None: nobody's."""
        index = next(index for index, axis in enumerate(self.axes) if axis.name == name)
        known = [number for number, axis in enumerate(self.axes) if axis.name != name]
        limits = self._signs[known] * [others[self.axes[number].name] for number in known]
        rivals = self._losses[(self._losses[:, known] <= limits).all(axis=1), index]
        return float(self._signs[index] * rivals.min()) if len(rivals) else None

    def sorted(self) -> list[Candidate]:
        """The candidates from the best in the first objective to the worst."""
        return sorted(self.candidates, key=lambda candidate: tuple(self.loss(candidate)))

    def hypervolume(self, reference: Mapping[str, float]) -> float:
        """The volume dominated within the reference, a number per objective, in their units."""
        point = self._signs * [reference[axis.name] for axis in self.axes]
        return hypervolume(self._losses, point)

    def within(self, budgets: Iterable[Budget]) -> list[Candidate]:
        """The candidates that keep every budget, the best in the first objective first."""
        limits = list(budgets)
        return [
            candidate
            for candidate in self.sorted()
            if all(candidate.number(budget.name) <= budget.limit for budget in limits)
        ]

    def best(self, budgets: Sequence[Budget] = ()) -> Candidate:
        """The best candidate in the first objective that keeps the budgets.

        Raises BudgetError where the front has none, naming the smallest values it has.
        """
        allowed = self.within(budgets)
        if allowed:
            return allowed[0]
        if not self.candidates:
            raise SearchError("is empty", where="front", fix="search with more --trials")
        smallest = "; ".join(
            f"the smallest {budget.name} on the front is"
            f" {min(c.number(budget.name) for c in self.candidates):g} {budget.unit}".rstrip()
            for budget in budgets
        )
        raise BudgetError(
            f"no candidate keeps {', '.join(map(str, budgets))}", where="front", fix=smallest
        )

    def knee(self) -> Candidate:
        """The candidate that lies deepest below the plane through the best of each objective.

        With each objective scaled to 0..1 over the front that is the smallest sum of losses (Das,
        "On characterizing the knee of the Pareto curve", 1999).
        """
        if not self.candidates:
            raise SearchError("is empty", where="front", fix="search with more --trials")
        span = np.ptp(self._losses, axis=0)
        scaled = (self._losses - self._losses.min(axis=0)) / np.where(span > 0, span, 1.0)
        return self.candidates[int(scaled.sum(axis=1).argmin())]

    def to_pandas(self, *, space: SearchSpace | None = None) -> pd.DataFrame:
        """The front as a table, the best in the first objective first; with `space`, its genes."""
        return candidate_table(self.sorted(), space=space)


def candidate_table(
    candidates: Sequence[Candidate], *, space: SearchSpace | None = None
) -> pd.DataFrame:
    """Candidates as a table: of each value a number, its interval and where it comes from."""
    columns = None if candidates else ["architecture", "genes"]
    return pd.DataFrame([item.to_row(space) for item in candidates], columns=columns)
