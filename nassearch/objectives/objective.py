"""What an objective is, and how its name or a user's function becomes one."""

import hashlib
import inspect
import numbers
from collections.abc import Callable
from dataclasses import dataclass
from functools import lru_cache
from typing import Any, Protocol

import numpy as np

from nassearch import config
from nassearch.errors import ConfigError, NassearchError, SearchError
from nassearch.latency.target import Target
from nassearch.objectives import OBJECTIVES
from nassearch.provenance import Estimate, Provenance
from nassearch.search.problem import Direction, Objective
from nassearch.space import Architecture, SearchSpace
from nassearch.space.additive import Floats
from nassearch.space.search_space import Genes
from nassearch.training.evaluation import Evaluator
from nassearch.training.sensitivity_record import SensitivityRecord

_DIRECTIONS = ("min", "max")


@dataclass(frozen=True)
class Context:
    """The ground of objectives; `supernet` names the weights that accuracies belong to."""

    space: SearchSpace
    targets: tuple[Target, ...] = ()
    evaluator: Evaluator | None = None
    supernet: str = ""
    sensitivity: Callable[[], SensitivityRecord] | None = None
    """Measures how much the largest network minds int8; None without images."""

    def trained_evaluator(self) -> Evaluator:
        """The evaluator; ConfigError where no supernet was trained."""
        if self.evaluator is None:
            raise ConfigError(
                "accuracy and loss need a trained supernet",
                where="objectives",
                fix="run 'nassearch train-supernet' first, or name images with --data",
            )
        return self.evaluator

    @property
    def precision(self) -> str:
        """The one that all targets run; float32 where they differ, or there is none."""
        found = {target.setting.precision for target in self.targets}
        return found.pop() if len(found) == 1 else "fp32"

    def classifying_evaluator(self) -> Evaluator:
        """The evaluator of networks that tell classes apart; ConfigError where these do not."""
        evaluator = self.trained_evaluator()
        evaluator.require_classes()
        return evaluator

    def label(self, target: Target) -> str:
        """The name that tells a target from the others: nothing, its device, or its setting."""
        if len(self.targets) == 1:
            return ""
        same = [item for item in self.targets if item.setting.device == target.setting.device]
        return target.setting.device if len(same) == 1 else str(target.setting)


class ObjectiveFunction(Protocol):
    """A callable Architecture -> float or Estimate: the one form of objective, shipped or a user's.

    A class is built from the Context first, and once for each target where it has
    `per_target = True`. What it may say beside is read from attributes of these names:
    `direction` ('min' unless it says 'max'), `unit`, `of_genes`, `minimum`, `evaluate_early_stop`,
    `source`, `setting` (see `search.problem.Objective`); `is_cheap = True` lets a plain function
    carry a budget: it is then called for every network that the search looks at.
    """

    def __call__(self, architecture: Architecture) -> float | Estimate: ...


def build(objective: str | Callable[..., Any], context: Context) -> list[Objective]:
    """The objectives called `objective`: one for each target in the case of latency.

    Args:
        objective: a name in OBJECTIVES, 'my_package.module:function', or the function itself.

    Raises:
        ConfigError: there is no such objective, or its direction is none.
    """
    if isinstance(objective, str):
        kind, function = objective, config.resolve(OBJECTIVES, objective, kind="objective")
    else:
        kind, function = getattr(objective, "__name__", type(objective).__name__), objective
    if isinstance(function, type):
        if getattr(function, "per_target", False):
            return [
                as_objective(kind, function(context, target), context, device=context.label(target))
                for target in context.targets
            ]
        function = function(context)
    if not callable(function):
        raise ConfigError(
            f"is a {type(function).__name__}, not a function",
            where=f"objective {kind}",
            fix="an objective is a function Architecture -> float",
        )
    return [as_objective(kind, function, context)]


def as_objective(
    kind: str, function: ObjectiveFunction, context: Context, *, device: str = ""
) -> Objective:
    direction: Direction = getattr(function, "direction", "min")
    if direction not in _DIRECTIONS:
        raise ConfigError(
            f"direction is {direction!r}", where=f"objective {kind}", fix="'min' or 'max'"
        )

    def evaluate(architecture: Architecture) -> Estimate:
        return _estimate(kind, function, architecture)

    of_genes = getattr(function, "of_genes", None)
    if of_genes is None and getattr(function, "is_cheap", False):
        of_genes = _one_by_one(evaluate, context.space)
    return Objective(
        kind,
        direction,
        getattr(function, "unit", ""),
        evaluate,
        of_genes,
        getattr(function, "minimum", None),
        source=getattr(function, "source", None) or code_digest(kind, function),
        evaluate_early_stop=getattr(function, "evaluate_early_stop", None),
        device=device,
        setting=getattr(function, "setting", None),
    )


def _estimate(kind: str, function: ObjectiveFunction, architecture: Architecture) -> Estimate:
    """The function's value for an architecture; SearchError where that is no number."""
    try:
        value = function(architecture)
    except NassearchError:
        raise
    except Exception as error:
        raise SearchError(
            f"raised {type(error).__name__} for {architecture.id} ({' '.join(str(error).split())})",
            where=f"objective {kind}",
            fix="mend the function; --resume goes on with what was evaluated",
        ) from error
    if isinstance(value, Estimate):
        return value
    if isinstance(value, bool) or not isinstance(value, numbers.Real):
        raise SearchError(
            f"returned a {type(value).__name__} for {architecture.id}, not a number",
            where=f"objective {kind}",
            fix="return a float",
        )
    return Estimate(float(value), Provenance(kind))


def _one_by_one(
    evaluate: Callable[[Architecture], Estimate], space: SearchSpace
) -> Callable[[Genes], Floats]:
    """A cheap function of one architecture, for many gene vectors; each is asked about once."""

    @lru_cache(maxsize=1 << 20)
    def value(genes: bytes) -> float:
        return evaluate(space.decode(list(genes))).value

    return lambda genes: np.array([value(row.tobytes()) for row in genes], dtype=np.float64)


def code_digest(kind: str, function: Callable[..., Any]) -> str:
    """A digest of a user's function: numbers of an edited one are not those of the old."""
    if kind in OBJECTIVES:
        return ""
    try:
        text = inspect.getsource(inspect.getmodule(function) or function)
    except (OSError, TypeError):
        text = repr(getattr(function, "__code__", function))
    return hashlib.sha256(text.encode()).hexdigest()[:12]
