"""What a training tells whoever watches it."""

from collections.abc import Mapping
from typing import Protocol


class Progress(Protocol):
    """A watcher of a training; the command line's shows a bar."""

    def start(self, total: int, *, done: int) -> None:
        """The training has `total` steps, of which `done` were done before (a resumed run)."""

    def advance(self, *, loss: float) -> None:
        """A step is done; `loss` is the largest network's (or the step's first)."""

    def report(self, record: Mapping[str, object]) -> None:
        """An epoch is done; `record` is its line of metrics.jsonl."""


class Silence:
    """A watcher that says nothing."""

    def start(self, total: int, *, done: int) -> None:
        pass

    def advance(self, *, loss: float) -> None:
        pass

    def report(self, record: Mapping[str, object]) -> None:
        pass
