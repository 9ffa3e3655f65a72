"""Ctrl-C and its like: what is under way is finished and saved before they pass.

SIGTERM is what a cluster sends before it takes a machine back, SIGHUP what a closed terminal sends.
"""

import signal
import threading
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from types import FrameType
from typing import Any

_SIGNALS = tuple(
    getattr(signal, name) for name in ("SIGINT", "SIGTERM", "SIGHUP") if hasattr(signal, name)
)
_Handler = Callable[[int, FrameType | None], Any] | int


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
    before = _handlers()

    def restore() -> None:
        _handle(before)

    def note(number: int, frame: FrameType | None) -> None:
        interruption.requested = True
        restore()

    _handle(dict.fromkeys(before, note))
    try:
        yield interruption
    finally:
        restore()


@contextmanager
def put_off() -> Iterator[None]:
    """Ctrl-C, SIGTERM and SIGHUP wait until the block is done, and raise KeyboardInterrupt then."""
    with deferred() as interruption:
        yield
    if interruption.requested:
        raise KeyboardInterrupt


@contextmanager
def alike() -> Iterator[None]:
    """Within the block SIGTERM and SIGHUP raise KeyboardInterrupt, as Ctrl-C does.

    One that the process ignores stays ignored. Outside the main thread it does nothing.
    """
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    before = _handlers()
    _handle(dict.fromkeys(before.keys() - {signal.SIGINT}, signal.default_int_handler))
    try:
        yield
    finally:
        _handle(before)


def _handlers() -> dict[signal.Signals, _Handler]:
    """What each signal does now, of those that the process does not ignore.

    None stands for a handler that is not Python's, and that Python cannot put back.
    """
    handlers = {number: signal.getsignal(number) for number in _SIGNALS}
    return {
        number: handler
        for number, handler in handlers.items()
        if handler is not None and handler is not signal.SIG_IGN
    }


def _handle(handlers: Mapping[signal.Signals, _Handler]) -> None:
    for number, handler in handlers.items():
        signal.signal(number, handler)
