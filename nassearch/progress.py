"""Progress: what long work tells whoever watches it, in every room the same way."""

from typing import Protocol


class Progress(Protocol):
    """A watcher. `stage` names what is under way ('training'), `fraction`, 0..1, how much of it is
    done, `note` what is worth saying about it ('loss 0.312').
    """

    def __call__(self, stage: str, fraction: float, note: str = "") -> None: ...


def silent(stage: str, fraction: float, note: str = "") -> None:
    """A watcher that says nothing."""
