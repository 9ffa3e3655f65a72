"""A nassearch command in a forked child: ended at a chosen moment, and what came out of it.

A fork starts in milliseconds where a new interpreter imports torch for seconds. The parent has
imported what the commands import (`import_all`) and keeps no other thread.
"""

import importlib
import os
import pkgutil
import resource
import signal
import subprocess
import sys
import tempfile
import time
import traceback
from collections.abc import Callable, Mapping
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

import nassearch
from nassearch import cli

WRITES = {"os.rename", "os.remove", "os.mkdir", "os.rmdir", "os.truncate", "os.link", "os.symlink"}
CRASHED = 70  # exit code of a child that an exception left, which main should have caught


@dataclass(frozen=True)
class Ending:
    """How a command is ended: by a signal after some seconds, or just before its n-th write."""

    number: int = signal.SIGKILL
    seconds: float | None = None
    write: int | None = None


@dataclass(frozen=True)
class Outcome:
    """What a command gave. `code` is minus the signal's number where one ended it."""

    code: int
    out: str
    err: str
    seconds: float
    writes: int
    hung: bool = False

    @property
    def line(self) -> str:
        """The last line on standard error."""
        return (self.err.strip().splitlines() or [""])[-1]

    @property
    def has_traceback(self) -> bool:
        return "Traceback (most recent call last)" in self.err or self.code == CRASHED


def import_all() -> None:
    """Import every module of nassearch, and what its commands import when they run."""
    names = [found.name for found in pkgutil.walk_packages(nassearch.__path__, "nassearch.")]
    for name in (
        *names,
        "onnxruntime",
        "onnx",
        "sklearn.datasets",
        "plotly",
        "optuna",
        "fvcore.nn",
    ):
        if not name.endswith("__main__"):
            with suppress(ImportError):  # an extra that is not installed
                importlib.import_module(name)


class Running:
    """A `nassearch` command in a forked child, in the directory `place`.

    `before` runs first, in the child, and may change what it likes there.
    """

    def __init__(
        self,
        command: str | list[str],
        place: Path,
        *,
        ending: Ending | None = None,
        environment: Mapping[str, str] | None = None,
        before: Callable[[], object] | None = None,
    ) -> None:
        arguments = command.split() if isinstance(command, str) else command
        self._ending = ending
        self._folder = tempfile.TemporaryDirectory()  # not in the place, whose disk may be full
        self._texts = {name: Path(self._folder.name) / name for name in ("out", "err", "writes")}
        sys.stdout.flush()
        sys.stderr.flush()
        self._began = time.perf_counter()
        self._child = os.fork()
        if self._child == 0:
            _be_the_command(arguments, place, self._texts, ending, environment or {}, before)

    def wait(self, timeout: float = 120.0) -> Outcome:
        """Until it ends, sending its signal when it is time; killed after `timeout` seconds."""
        seconds = None if self._ending is None else self._ending.seconds
        while not (ended := os.waitid(os.P_PID, self._child, _LOOK)):
            passed = time.perf_counter() - self._began
            if passed > timeout:
                os.kill(self._child, signal.SIGKILL)
                break
            if seconds is not None and self._ending and passed >= seconds:
                os.kill(self._child, self._ending.number)
                seconds = None
            time.sleep(0.002)
        _, status = os.waitpid(self._child, 0)
        passed = time.perf_counter() - self._began
        with self._folder:
            found = {
                name: path.read_text(errors="replace") if path.exists() else ""
                for name, path in self._texts.items()
            }
        code = os.waitstatus_to_exitcode(status)
        writes = len(found["writes"])
        hung = not ended or (code in (-signal.SIGXCPU, -signal.SIGKILL) and self._ending is None)
        return Outcome(code, found["out"], found["err"], passed, writes, hung)


_LOOK = os.WEXITED | os.WNOHANG | os.WNOWAIT


def run(
    command: str | list[str],
    place: Path,
    *,
    ending: Ending | None = None,
    timeout: float = 120.0,
    environment: Mapping[str, str] | None = None,
    before: Callable[[], object] | None = None,
) -> Outcome:
    """Run `nassearch COMMAND` in the directory `place` until it ends."""
    running = Running(command, place, ending=ending, environment=environment, before=before)
    return running.wait(timeout)


def run_process(command: str | list[str], place: Path, *, seconds: int) -> Outcome:
    """Run `python -m nassearch COMMAND` in the directory `place`, for so much work at most."""
    arguments = command.split() if isinstance(command, str) else command
    began = time.perf_counter()
    done = subprocess.run(
        [sys.executable, "-m", "nassearch", *arguments],
        cwd=place,
        capture_output=True,
        text=True,
        errors="replace",
        check=False,
        preexec_fn=lambda: limit_work(seconds),
    )
    passed = time.perf_counter() - began
    hung = done.returncode in (-signal.SIGXCPU, -signal.SIGKILL)
    return Outcome(done.returncode, done.stdout, done.stderr, passed, 0, hung)


def _be_the_command(
    arguments: list[str],
    place: Path,
    texts: Mapping[str, Path],
    ending: Ending | None,
    environment: Mapping[str, str],
    before: Callable[[], object] | None,
) -> None:
    """What the child does; it never returns."""
    code = CRASHED
    try:
        files = {n: os.open(path, os.O_WRONLY | os.O_CREAT) for n, path in texts.items()}
        os.dup2(files["out"], 1)
        os.dup2(files["err"], 2)
        sys.stdout, sys.stderr = (os.fdopen(number, "w", encoding="utf-8") for number in (1, 2))
        for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
            default = signal.default_int_handler if number == signal.SIGINT else signal.SIG_DFL
            signal.signal(number, default)
        os.environ.update(environment)
        os.chdir(place)
        _count_writes(files["writes"], ending)
        sys.argv = ["nassearch", *arguments]
        if before is not None:
            before()
        try:
            cli.main()
            code = 0
        except SystemExit as stop:
            code = int(stop.code or 0)
    except BaseException:
        traceback.print_exc()
    finally:
        for stream in (sys.stdout, sys.stderr):
            with suppress(OSError, ValueError):
                stream.flush()
        os._exit(code)


def _count_writes(file: int, ending: Ending | None) -> None:
    """Note each event that changes the file system; end the process just before the chosen one."""
    count = 0

    def hook(event: str, arguments: tuple[object, ...]) -> None:
        nonlocal count
        opens = event == "open" and _writes(arguments)
        if not opens and event not in WRITES:
            return
        count += 1
        if ending is not None and count == ending.write:
            os.kill(os.getpid(), ending.number)
        os.write(file, b".")

    sys.addaudithook(hook)


def _writes(arguments: tuple[object, ...]) -> bool:
    flags = arguments[2]
    return isinstance(flags, int) and bool(flags & (os.O_WRONLY | os.O_RDWR | os.O_CREAT))


def limit_work(seconds: int) -> None:
    """Let the system end this process after so much work, however busy the machine is."""
    resource.setrlimit(resource.RLIMIT_CPU, (seconds, seconds))
