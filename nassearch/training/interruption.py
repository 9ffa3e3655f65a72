"""Ctrl-C and its like between steps: a step is finished and saved before they pass.

SIGTERM is what a cluster sends before it takes a machine back, SIGHUP what a closed terminal sends.
"""

import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType

_SIGNALS = tuple(
    getattr(signal, name) for name in ("SIGINT", "SIGTERM", "SIGHUP") if hasattr(signal, name)
)


class Interruption:
    """Whether Ctrl-C was pressed, or the process was asked to end."""

    def __init__(self) -> None:
        self.requested = False


@contextmanager
def deferred() -> Iterator[Interruption]:
    """Within the block Ctrl-C, SIGTERM and SIGHUP only set `requested`; a second one acts at once.

    One that the process ignores (SIGHUP, under nohup) stays ignored.

    Outside the main thread, where signals do not arrive, it does nothing.
    """
    interruption = Interruption()
    if threading.current_thread() is not threading.main_thread():
        yield interruption
        return
    handlers = {number: signal.getsignal(number) for number in _SIGNALS}
    before = {number: old for number, old in handlers.items() if old is not signal.SIG_IGN}

    def restore() -> None:
        for number, handler in before.items():
            signal.signal(number, handler)

    def note(number: int, frame: FrameType | None) -> None:
        interruption.requested = True
        restore()

    for number in before:
        signal.signal(number, note)
    try:
        yield interruption
    finally:
        restore()
