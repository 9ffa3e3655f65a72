"""A disk that is full, or that becomes read-only, at a random point of a command.

The workplace is copied to a small file system in memory, which root may mount. A full disk has
room for a random share of what the command writes; a read-only one is remounted at the command's
begin. The command must say so in one line and leave what was there as it was; with room again, it
must reach what a command left alone reaches.
"""

import shutil
import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path

import kills
import numpy as np
from child import run

BLOCK = 4096
TRIALS_OF_READ_ONLY = 4  # one trial in so many


def can_mount(place: Path) -> bool:
    """Whether this process may mount a file system."""
    place.mkdir(parents=True, exist_ok=True)
    mounted = not subprocess.run(
        ["mount", "-t", "tmpfs", "-o", "size=1m", "tmpfs", place], capture_output=True, check=False
    ).returncode
    if mounted:
        subprocess.run(["umount", place], check=True)
    return mounted


def trials(count: int, workplace: Path) -> Iterator[tuple[int, Callable[[], dict[str, object]]]]:
    disk = workplace.with_name("disk")
    subprocess.run(["umount", "-q", disk], check=False)
    if not can_mount(disk):
        raise SystemExit("disks: this process may not mount a file system, so they are left out")
    for number in range(count):
        case = kills.CASES[number % len(kills.CASES)]
        yield number, lambda n=number, c=case: trial(n, c, workplace, disk)


def trial(number: int, case: kills.Case, workplace: Path, disk: Path) -> dict[str, object]:
    rng = np.random.default_rng([number, 2])
    _, wanted = kills.undisturbed(case, workplace)
    subprocess.run(["mount", "-t", "tmpfs", "-o", "size=200m", "tmpfs", disk], check=True)
    try:
        place = disk / "place"
        shutil.copytree(workplace, place, symlinks=True)
        command = kills.command_of(case, place)
        read_only = number % TRIALS_OF_READ_ONLY == 0
        before = _contents(place)
        if read_only:
            _remount(disk, "ro")
            room = None
        else:
            left = kills.undisturbed_place(case, workplace)
            room = int(rng.uniform(0, 1) * max(BLOCK, _used(left) - _used(place)))
            _remount(disk, f"size={_taken(disk) + room}")
        outcome = run(command, place)
        after = _contents(place)
        _remount(disk, "rw,size=200m")
        fault = _wrong(outcome, before, after, read_only=read_only)
        fault = fault or kills.given_again(case, place, wanted, case.kept(place))
    finally:
        subprocess.run(["umount", disk], check=True)
    kind = "read-only" if read_only else "full"
    line = {"case": f"{kind}: {case.name}", "room": room, "code": outcome.code}
    return {**line, "line": outcome.line[-300:], "fault": fault}


def _wrong(
    outcome: kills.Outcome, before: dict[str, bytes], after: dict[str, bytes], *, read_only: bool
) -> str | None:
    if outcome.hung:
        return "hung"
    if outcome.has_traceback:
        return f"a traceback: {outcome.err[-800:]}"
    if outcome.code not in (0, 2, 3):
        return f"exit code {outcome.code}: {outcome.err[-300:]}"
    words = ("ead-only", "cannot write", "not writable") if read_only else ("full", "space")
    if outcome.code == 2 and not any(word in outcome.err for word in words):
        return f"does not say what is wrong: {outcome.line}"
    if outcome.code == 0 and read_only:
        return "a read-only disk, and it says nothing"
    for name, content in before.items():
        if name not in after:
            return f"{name} is gone"
        grown = name.endswith((".jsonl", ".log")) and after[name].startswith(content)
        if after[name] != content and not grown and not _is_derived(name):
            return f"{name} was changed"
    return None


def _is_derived(name: str) -> bool:
    """Whether a command may replace this file of the workplace: it derives from others."""
    derived = ("front.csv", "candidates.csv", "picks.json", "latest", "verify.json", "report.html")
    return Path(name).name in derived


def _contents(place: Path) -> dict[str, bytes]:
    return {
        str(path.relative_to(place)): path.read_bytes()
        for path in place.rglob("*")
        if path.is_file() and not path.name.startswith(".")
    }


def _remount(disk: Path, options: str) -> None:
    subprocess.run(["mount", "-o", f"remount,{options}", disk], check=True)


def _used(place: Path) -> int:
    """Bytes of the blocks that the files below a directory take."""
    sizes = [path.lstat().st_size for path in place.rglob("*") if not path.is_symlink()]
    return sum(-(-size // BLOCK) * BLOCK for size in sizes)


def _taken(disk: Path) -> int:
    return shutil.disk_usage(disk).used
