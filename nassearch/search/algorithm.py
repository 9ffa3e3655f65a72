"""The ask/tell protocol that every search algorithm follows."""

from collections.abc import Mapping
from typing import Any, ClassVar, Protocol

from nassearch import config
from nassearch.config import StrictModel
from nassearch.search.algorithms import ALGORITHMS
from nassearch.search.candidate import Candidate
from nassearch.search.feasible_region import FeasibleRegion
from nassearch.search.problem import Problem
from nassearch.space.architecture import Architecture


class Algorithm(Protocol):
    """Chooses what to evaluate next. A class of this form is listed in ALGORITHMS.

    It draws all its randomness from the problem's seed. `region` holds the architectures within
    the problem's budgets; `options` is an `Options`, whose fields all have defaults. One that has a
    `posterior` (see `search.posterior`) lends it to the search, which else makes one to choose by.
    """

    Options: ClassVar[type[StrictModel]]

    def __init__(self, problem: Problem, region: FeasibleRegion, options: Any) -> None: ...

    def ask(self, count: int) -> list[Architecture]:
        """Up to `count` architectures within the budgets, none asked or told before.

        Fewer, or none, where the space within the budgets has no more.
        """

    def tell(self, candidate: Candidate) -> None:
        """Take in a result, also of an architecture that was not asked for (a resumed search).

        A candidate with a NaN only says that its architecture is not to be asked again.
        """


def make_algorithm(
    problem: Problem, name: str, *, options: Mapping[str, object] | None = None
) -> Algorithm:
    """The algorithm called `name` in ALGORITHMS, or a user's 'my_package.module:Class'.

    Raises:
        ConfigError: there is none of that name, or it has no such option.
        BudgetError: a budget of the problem cannot be reached.
    """
    algorithm: type[Algorithm] = config.resolve(ALGORITHMS, name, kind="algorithm")
    chosen = config.parse(algorithm.Options, options or {}, where=f"algorithm {name}")
    return algorithm(problem, FeasibleRegion(problem), chosen)


def algorithm_name(text: str) -> str:
    """The name of the algorithm that a journal keeps: version 0.1 kept the path of its class."""
    shipped = {target.rpartition(":")[2]: name for name, target in ALGORITHMS.items()}
    module, _, attribute = text.partition(":")
    return shipped.get(attribute, text) if module.startswith("nassearch.search.") else text
