"""Every command under odd surroundings: locales, terminals, clocks, slow disks, closed pipes."""

import os
import sys
import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path

import kills
from child import run
from workplace import copy_of


@dataclass(frozen=True)
class Surrounding:
    """Something about where a command runs; `allowed` are its exit codes beside 0 and 3."""

    name: str
    environment: Mapping[str, str] = field(default_factory=dict)
    before: Callable[[], object] | None = None
    allowed: tuple[int, ...] = ()


def _jump(seconds: float) -> Callable[[], object]:
    """The wall clock jumps by so much, back or forth, at every tenth look at it."""

    def patch() -> None:
        plain, looks = time.time, [0]

        def jumping() -> float:
            looks[0] += 1
            return plain() + (seconds if looks[0] % 10 == 0 else 0)

        time.time = jumping

    return patch


def _slow_disk() -> None:
    """Each change of the file system takes a fifth of a second."""
    names = ("replace", "rename", "unlink", "mkdir")
    for name in names:
        plain = getattr(os, name)

        def slow(
            *arguments: object, plain: Callable[..., object] = plain, **more: object
        ) -> object:
            time.sleep(0.2)
            plain(*arguments, **more)

        setattr(os, name, slow)


def _no_home() -> None:
    for name in ("HOME", "USER", "LOGNAME", "XDG_CACHE_HOME"):
        os.environ.pop(name, None)


def _closed_stdout() -> None:
    reading, writing = os.pipe()
    os.close(reading)
    os.dup2(writing, 1)
    sys.stdout = os.fdopen(1, "w")


def _closed_stdin() -> None:
    os.close(0)


SURROUNDINGS = (
    Surrounding("LANG=C", {"LANG": "C", "LC_ALL": "C", "PYTHONUTF8": "0"}),
    Surrounding("no HOME", before=_no_home),
    Surrounding("TERM=dumb", {"TERM": "dumb"}),
    Surrounding("40 columns", {"COLUMNS": "40"}),
    Surrounding("NO_COLOR", {"NO_COLOR": "1"}),
    Surrounding("TZ far east", {"TZ": "Pacific/Kiritimati"}, before=time.tzset),
    Surrounding("clock an hour back", before=_jump(-3600)),
    Surrounding("clock a year ahead", before=_jump(365 * 86400)),
    Surrounding("a slow disk", before=_slow_disk),
    Surrounding("stdin closed", before=_closed_stdin),
    Surrounding("stdout closed", before=_closed_stdout, allowed=(1, 2)),
)


def trials(count: int, workplace: Path) -> Iterator[tuple[int, Callable[[], dict[str, object]]]]:
    """Each command under each surrounding, once."""
    for number in range(min(count, len(SURROUNDINGS) * len(kills.CASES))):
        around = SURROUNDINGS[number // len(kills.CASES)]
        case = kills.CASES[number % len(kills.CASES)]
        yield number, lambda a=around, c=case: trial(a, c, workplace)


def trial(around: Surrounding, case: kills.Case, workplace: Path) -> dict[str, object]:
    _, wanted = kills.undisturbed(case, workplace)
    place = copy_of(workplace, workplace.with_name("trial"))
    outcome = run(
        kills.command_of(case, place),
        place,
        environment=around.environment,
        before=around.before,
        timeout=300.0,
    )
    fault = None
    if outcome.hung or outcome.has_traceback or outcome.code not in (0, 3, *around.allowed):
        fault = f"exit code {outcome.code}: {outcome.err[-600:]}"
    elif (found := case.result(place)) != wanted:
        fault = f"{found} where {wanted} was expected"
    return {"case": around.name, "command": case.name, "code": outcome.code, "fault": fault}
