"""The ask/tell protocol every search algorithm follows."""

from typing import Protocol

from nassearch.search.candidate import Candidate, Problem
from nassearch.space.architecture import Architecture


class Algorithm(Protocol):
    """Chooses what to evaluate next. A class with this form is listed in ALGORITHMS.

    It is built from the problem alone and draws all its randomness from the problem's seed.
    """

    def __init__(self, problem: Problem) -> None: ...

    def ask(self, count: int) -> list[Architecture]:
        """Up to `count` architectures within the budgets, none asked or told before.

        Fewer, or none, where the space within the budgets has no more.
        """

    def tell(self, candidate: Candidate) -> None:
        """Take in a result, also of an architecture that was not asked for (a resumed search).

        A candidate with a NaN only says that its architecture is not to be asked again.
        """
