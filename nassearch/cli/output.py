"""What a command says: its result on stdout, all else on stderr, its promises in the exit code."""

import json
import sys
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import typer

if TYPE_CHECKING:
    from nassearch.export.verify import Verification

BROKEN_PROMISE = 3


def print_result(as_json: bool, document: Any, text: Callable[[], Any]) -> None:
    """The JSON document, or what a person reads; nothing else goes to stdout."""
    if as_json:
        sys.stdout.write(json.dumps(document, indent=2) + "\n")
        return
    from rich.console import Console

    # Where nobody sets a width (a pipe), cells must not wrap at a guessed one.
    console = Console(width=None if sys.stdout.isatty() else 160)
    console.print(text(), highlight=False, soft_wrap=not sys.stdout.isatty())


def note(text: str) -> None:
    """A line beside the result."""
    sys.stderr.write(text + "\n")


def exit_if_broken(found: "list[Verification]") -> None:
    """Exit 3, naming each promise that a verified export does not keep."""
    broken = [f"{one.export.id}: {line}" for one in found for line in one.broken]
    for line in broken:
        sys.stderr.write(f"nassearch: promise broken: {line}\n")
    if broken:
        raise typer.Exit(BROKEN_PROMISE)
