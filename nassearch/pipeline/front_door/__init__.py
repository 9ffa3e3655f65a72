"""The functions of the front door: objects or directories go in, values come out.

They are what a notebook calls, and the command line too. Each reads what it is given and hands
values to the step of its name.
"""

from pathlib import Path

Directory = Path | str


def path_or_none(place: Directory | None) -> Path | None:
    """A directory or file that may be left open, as a path."""
    return None if place is None else Path(place)
