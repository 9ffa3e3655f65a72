"""Where the files that a file names lie, whoever reads it and from wherever."""

import os
from pathlib import Path

HERE = "$HERE"
"""At the beginning of a path in a file: the directory of that file."""
_KINDS = ("imagefolder", "cifar10", "cifar100", "fashion-mnist")


def portable_path(path: str, directory: Path) -> str:
    """`path` as a file in `directory` names it.

    Below the working directory, as `directory` is too, it is relative to `directory`
    ($HERE/../photos), so that the whole tree may be moved; any other path is absolute. One
    that begins with $HERE is that already.
    """
    if path.startswith(HERE):
        return path
    place, project = Path(path).expanduser().absolute(), Path.cwd()
    if not (place.is_relative_to(project) and directory.absolute().is_relative_to(project)):
        return str(place)
    return f"{HERE}/{Path(os.path.relpath(place, directory.absolute())).as_posix()}"


def located_path(path: str, directory: Path) -> str:
    """`path`, named by a file in `directory`, as this process finds it.

    One without $HERE is left as it is: absolute, or relative to the working directory.
    """
    if not path.startswith(HERE):
        return path
    return os.path.normpath(directory.absolute() / path.removeprefix(HERE).lstrip("/"))


def portable_data(spec: str, directory: Path) -> str:
    """A data spec as a file in `directory` holds it; its path as `portable_path` writes it."""
    kind, path = _path_of(spec)
    return f"{kind}:{portable_path(path, directory)}" if path else spec


def located_data(spec: str, directory: Path) -> str:
    """A data spec that a file in `directory` holds, its path as this process finds it."""
    kind, path = _path_of(spec)
    return f"{kind}:{located_path(path, directory)}" if path else spec


def _path_of(spec: str) -> tuple[str, str]:
    kind, _, path = spec.partition(":")
    return kind, path if kind in _KINDS else ""
