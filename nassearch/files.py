"""Writing and reading files so that a kill at any moment leaves the old file or the new one.

A directory is owned by whoever writes to it: `owned` keeps a second writer out.
"""

import errno
import json
import os
import re
import shutil
import socket
import struct
import tempfile
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from datetime import datetime
from pathlib import Path
from pickle import UnpicklingError
from typing import Any
from zipfile import ZIP_STORED, BadZipFile, ZipFile

from filelock import FileLock, Timeout

from nassearch.errors import ConfigError, NassearchError, OutputError

LOCK = ".nassearch.lock"
"""Held by the operating system while a process writes to the directory, and gone with it."""
OWNER = ".nassearch.owner"
"""Says who holds the lock: a file of its own, as nobody else may read a locked one on Windows."""
SCRAMBLED = (
    RuntimeError, EOFError, OSError, ValueError, LookupError, AttributeError, TypeError,
    ArithmeticError, AssertionError, UnpicklingError, struct.error, BadZipFile,
)  # fmt: skip
"""PyTorch's ways of saying that a file it should load is cut short or scrambled."""
_BLOCK = 64 * 1024  # more than any block of a file system that is left unused when it is full
_TEMPORARY = re.compile(r"\.(.+)\.[a-z0-9_]+\.tmp")


@contextmanager
def owned(directory: Path, *, doing: str, wait_seconds: float = 0.0) -> Iterator[Path]:
    """Own `directory` while the block writes to it.

    The operating system holds the lock, so that one left behind by a killed process is no lock. A
    directory that was made for the block and is still empty at its end is removed again.

    Args:
        directory: Made where it does not exist.
        doing: For the message that others get, "training".
        wait_seconds: How long another may go on before this is refused.

    Raises:
        OutputError: another process, or another thread of this one, owns it, naming host and
            process; or the directory cannot be written.
    """
    made = [path for path in (directory, *directory.parents) if not path.exists()]
    make_directory(directory)
    path, owner = directory / LOCK, directory / OWNER
    lock = FileLock(path)
    try:
        try:
            lock.acquire(timeout=wait_seconds)
        except Timeout:
            raise _owned_by_another(owner) from None
        except OSError as error:
            raise _cannot_write(path, error) from error
        try:
            owner.write_text(json.dumps(_owner(doing)), encoding="utf-8")
            yield directory
        finally:
            for held in (owner, path):  # before the release: after it, they may be another's
                with suppress(OSError):  # Windows removes no open file
                    held.unlink()
            lock.release()
    finally:
        with suppress(OSError):  # not empty
            for path in made:
                path.rmdir()


def _owner(doing: str) -> dict[str, object]:
    since = datetime.now().isoformat(sep=" ", timespec="seconds")
    return {"doing": doing, "host": socket.gethostname(), "process": os.getpid(), "since": since}


def _owned_by_another(record: Path) -> OutputError:
    """The refusal, with what the owner wrote of itself; it may be about to write that."""
    try:
        owner = json.loads(record.read_text(encoding="utf-8"))
        article = "an" if owner["doing"][0] in "aeiou" else "a"
        who = (
            f"{article} {owner['doing']} runs here (process {owner['process']} on {owner['host']},"
            f" since {owner['since']})"
        )
    except (OSError, ValueError, LookupError, TypeError):
        who = "another process writes here"
    return OutputError(who, where=record.parent, fix="wait until it ends, or choose another --out")


def _cannot_write(path: Path, error: OSError) -> OutputError:
    """What kept a file from being written, in plain words."""
    if error.errno in (errno.ENOSPC, errno.EDQUOT):
        return OutputError(
            "the disk is full", where=path, fix="free some space and go on with --resume"
        )
    if error.errno == errno.EFBIG:
        return OutputError(
            "cannot write: the file would be larger than this process may write (ulimit -f)",
            where=path,
            fix="raise the limit, ulimit -f unlimited",
        )
    return OutputError(
        f"cannot write ({error.strerror or error})",
        where=path,
        fix="choose a place where you may write",
    )


@contextmanager
def writing(path: Path) -> Iterator[None]:
    """Within the block an OSError is an OutputError that says why `path` cannot be written."""
    try:
        yield
    except OSError as error:
        raise _cannot_write(path, error) from error


def _says_full(error: Exception, directory: Path) -> bool:
    """Whether an error of a writer in another language comes of a file system without room."""
    no_block_left = shutil.disk_usage(directory).free < _BLOCK
    return no_block_left or os.strerror(errno.ENOSPC) in str(error)


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
        with temporary.open("rb+") as written:  # Windows flushes no file that is only read
            os.fsync(written.fileno())
        temporary.replace(path)
    except OSError as error:
        raise _cannot_write(path, error) from error
    except NassearchError:
        raise
    except Exception as error:  # writers in other languages have errors of their own
        if _says_full(error, path.parent):
            raise _cannot_write(path, OSError(errno.ENOSPC, str(error))) from error
        raise
    finally:
        if temporary is not None:
            temporary.unlink(missing_ok=True)


def final_name(path: Path) -> str:
    """The name that a temporary file of `atomic_write` would have got; of another, its own.

    A kill leaves such a file behind.
    """
    left = _TEMPORARY.fullmatch(path.name)
    return path.name if left is None else left[1]


def write_text(path: Path, text: str) -> None:
    """Replace `path` by `text` atomically."""
    with atomic_write(path) as temporary:
        temporary.write_text(text, encoding="utf-8")


def write_bytes(path: Path, content: bytes | memoryview) -> None:
    """Replace `path` by `content` atomically."""
    with atomic_write(path) as temporary, temporary.open("wb") as file:
        file.write(content)


def write_json(path: Path, value: object) -> None:
    """Replace `path` by the JSON form of `value` atomically."""
    write_text(path, json.dumps(value, indent=2, sort_keys=False) + "\n")


def append_json_line(path: Path, record: Mapping[str, object]) -> None:
    """Append one JSON record to `path`; a kill can at worst leave one incomplete last line.

    What a kill left incomplete stays a line of its own; a full disk leaves the file as it was.
    """
    line = json.dumps(record) + "\n"
    with writing(path), path.open("ab+") as file:
        if size := file.tell():
            file.seek(-1, os.SEEK_END)
            line = ("" if file.read() == b"\n" else "\n") + line
        try:
            file.write(line.encode())
            file.flush()
        except OSError:
            file.truncate(size)
            raise


def read_json(path: Path) -> Any:
    """The JSON document at `path`; ConfigError where it is missing or damaged."""
    try:
        return json.loads(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise ConfigError(
            f"cannot read ({error.strerror or error})",
            where=path,
            fix="name a file that is there and that you may read",
        ) from error
    except (ValueError, RecursionError) as error:
        raise ConfigError(
            f"is not valid JSON ({error})",
            where=path,
            fix="put back the file that nassearch wrote, or repeat the command that wrote it",
        ) from error


def read_json_lines(path: Path) -> list[dict[str, Any]]:
    """The records of a JSON-lines file; a line that is none (a kill while writing) is skipped."""
    if not path.exists():
        return []
    records = []
    for line in path.read_bytes().splitlines():
        with suppress(ValueError, RecursionError):
            record = json.loads(line)
            if isinstance(record, dict):
                records.append(record)
    return records


def compressed_entry(archive: ZipFile) -> str | None:
    """The first entry of an archive that is compressed; None where all are as large as they look.

    PyTorch compresses nothing. A few bytes of a stranger's archive could unfold to terabytes.
    """
    packed = (entry for entry in archive.infolist() if entry.compress_type != ZIP_STORED)
    return next((entry.filename for entry in packed), None)


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
