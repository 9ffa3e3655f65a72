"""The output of a command: its result on stdout, all else on stderr, promises in the exit code."""

import contextlib
import json
import os
import sys
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any

import typer

from nassearch.errors import OutputError

if TYPE_CHECKING:
    from nassearch.export.verification import Verification
    from nassearch.pipeline.onnx_model import ModelCheck

BROKEN_PROMISE = 3


def print_result(as_json: bool, document: Any, text: Callable[[], object]) -> None:
    """The JSON document, or what a person reads; nothing else goes to stdout."""
    if as_json:
        _write(json.dumps(document, indent=2) + "\n")
        return
    from rich.console import Console

    # Where nobody sets a width (a pipe), cells must not wrap at a guessed one.
    is_terminal = sys.stdout is not None and sys.stdout.isatty()
    console = Console(width=None if is_terminal else 160)
    with console.capture() as capture:
        console.print(text(), highlight=False, soft_wrap=not is_terminal)
    _write(capture.get())


def _write(text: str) -> None:
    """Write to stdout, in what characters it has; OutputError where it is full or closed."""
    try:
        if sys.stdout is None:
            raise OSError("it is closed")
        sys.stdout.write(spelled(text, sys.stdout.encoding or "utf-8"))
        sys.stdout.flush()
    except (OSError, ValueError) as error:
        _drop_stdout()
        reason = error.strerror if isinstance(error, OSError) and error.strerror else error
        raise OutputError(
            f"cannot write ({reason}); the work is done",
            where="standard output",
            fix="what it left on disk is whole: ask again, or use 'nassearch report'",
        ) from error


def spelled(text: str, encoding: str) -> str:
    """`text` in the characters that an encoding has: 'us' for 'µs', '?' for what is like none."""
    try:
        text.encode(encoding)
    except UnicodeEncodeError:
        return text.translate(_LIKE).encode(encoding, "replace").decode(encoding)
    return text


_LIKE = str.maketrans({"µ": "u", "μ": "u", "±": "+-", "×": "x", "…": "...", "–": "-", "─": "-"})


def _drop_stdout() -> None:
    """Let what is still buffered go nowhere: Python would fail on it again at exit."""
    stdout = sys.__stdout__
    if stdout is not None and sys.stdout is stdout:
        with contextlib.suppress(OSError, ValueError):
            os.dup2(os.open(os.devnull, os.O_WRONLY), stdout.fileno())


def note(text: str) -> None:
    """A line beside the result, where somebody listens."""
    if sys.stderr is not None:
        with contextlib.suppress(OSError, ValueError):
            sys.stderr.write(text + "\n")


def exit_if_broken(verified: "Sequence[Verification | ModelCheck]") -> None:
    """Exit 3, naming each promise that a verified export does not keep."""
    broken = [f"{item.name}: {line}" for item in verified for line in item.broken]
    for line in dict.fromkeys(broken):  # one network may be the pick of several budgets
        note(f"nassearch: promise broken: {line}")
    if broken:
        raise typer.Exit(BROKEN_PROMISE)
