"""What memory this process may still take, and a limit that makes taking more an error."""

import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import torch

_CGROUP = Path("/sys/fs/cgroup")  # of a container, as it sees itself
_WORDS = ("not enough memory", "can't allocate memory", "out of memory")


def is_out_of_memory(error: BaseException) -> bool:
    """Whether this is how Python, NumPy, or PyTorch on a CPU or a GPU say that memory is short."""
    if isinstance(error, MemoryError | torch.OutOfMemoryError):
        return True
    return isinstance(error, RuntimeError) and any(w in str(error).lower() for w in _WORDS)


@contextmanager
def limited_to_what_is_free() -> Iterator[None]:
    """Within the block, wanting more memory than there is raises an error.

    Linux otherwise grants what it does not have and kills the process once it is used. Elsewhere,
    and where a limit is set already, nothing changes.
    """
    if not sys.platform.startswith("linux"):
        yield
        return
    import resource  # POSIX alone has it

    before = resource.getrlimit(resource.RLIMIT_DATA)
    taken, free = _taken_bytes(), free_bytes()
    if _own_limit() is not None or taken is None or free is None:
        yield
        return
    resource.setrlimit(resource.RLIMIT_DATA, (taken + free, before[1]))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_DATA, before)


def free_bytes() -> int | None:
    """Bytes that this process may still take of Linux and of the container; None where unknown."""
    machine = _facts(Path("/proc/meminfo")).get("MemAvailable:")
    limit, used = _number(_CGROUP / "memory.max"), _number(_CGROUP / "memory.current")
    found = [] if machine is None else [1024 * machine]
    own, taken = _own_limit(), _taken_bytes()
    if own is not None and taken is not None:
        found.append(max(0, own - taken))
    if limit is not None and used is not None:
        cached = _facts(_CGROUP / "memory.stat").get("inactive_file", 0)
        found.append(max(0, limit - used + cached))
    return min(found, default=None)


def _own_limit() -> int | None:
    """The limit of this process alone (`ulimit -d`); None without one."""
    if not sys.platform.startswith("linux"):
        return None
    import resource  # POSIX alone has it

    limit, _ = resource.getrlimit(resource.RLIMIT_DATA)
    return None if limit == resource.RLIM_INFINITY else limit


def _taken_bytes() -> int | None:
    """What counts against RLIMIT_DATA already."""
    taken = _facts(Path("/proc/self/status")).get("VmData:")
    return None if taken is None else 1024 * taken


def _facts(path: Path) -> dict[str, int]:
    """The lines 'name number [kB]' of one of the kernel's files."""
    try:
        lines = [line.split() for line in path.read_text().splitlines()]
    except OSError:
        return {}
    return {words[0]: int(words[1]) for words in lines if len(words) > 1 and words[1].isdecimal()}


def _number(path: Path) -> int | None:
    try:
        text = path.read_text().strip()
    except OSError:
        return None
    return int(text) if text.isdecimal() else None
