"""Writing and reading files so that a kill at any moment leaves the old file or the new one."""

import json
import os
import tempfile
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from nassearch.errors import ConfigError, OutputError


@contextmanager
def atomic_write(path: Path) -> Iterator[Path]:
    """Yield a temporary path beside `path`; rename it over `path` when the block succeeds.

    Raises OutputError where the directory cannot be written or the disk is full; the file that
    stood at `path` before survives either way.
    """
    make_directory(path.parent)
    temporary: Path | None = None
    try:
        handle, name = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}.", suffix=".tmp")
        os.close(handle)
        temporary = Path(name)
        yield temporary
        temporary.chmod(0o644)
        with temporary.open("rb") as written:
            os.fsync(written.fileno())
        temporary.replace(path)
    except OSError as error:
        raise OutputError(f"cannot write ({error.strerror or error})", where=path) from error
    finally:
        if temporary is not None:
            temporary.unlink(missing_ok=True)


def write_text(path: Path, text: str) -> None:
    """Replace `path` by `text` atomically."""
    with atomic_write(path) as temporary:
        temporary.write_text(text, encoding="utf-8")


def write_json(path: Path, value: object) -> None:
    """Replace `path` by the JSON form of `value` atomically."""
    write_text(path, json.dumps(value, indent=2, sort_keys=False) + "\n")


def append_json_line(path: Path, record: Mapping[str, object]) -> None:
    """Append one JSON record to `path`; a kill can at worst leave one incomplete last line."""
    try:
        with path.open("a", encoding="utf-8") as file:
            file.write(json.dumps(record) + "\n")
    except OSError as error:
        raise OutputError(f"cannot write ({error.strerror or error})", where=path) from error


def read_json(path: Path) -> Any:
    """The JSON document at `path`; ConfigError where it is missing or damaged."""
    try:
        return json.loads(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise ConfigError(f"cannot read ({error.strerror or error})", where=path) from error
    except ValueError as error:
        raise ConfigError(f"is not valid JSON ({error})", where=path) from error


def read_json_lines(path: Path) -> list[dict[str, Any]]:
    """The records of a JSON-lines file; an incomplete line (a kill while writing) is skipped."""
    if not path.exists():
        return []
    records = []
    for line in path.read_text(encoding="utf-8").splitlines():
        try:
            records.append(json.loads(line))
        except ValueError:
            continue
    return records


def make_directory(path: Path) -> Path:
    """Create `path` with its parents; OutputError where that is not allowed."""
    try:
        path.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise OutputError(
            f"cannot create the directory ({error.strerror or error})",
            where=path,
            fix="choose a writable place with --out",
        ) from error
    if not os.access(path, os.W_OK):
        raise OutputError(
            "the directory is not writable", where=path, fix="choose another with --out"
        )
    return path
