"""Journal: what a search has told so far, on disk as it happens.

    <out>/search/<search id>/search.json        what was searched for
                             candidates.jsonl   one line per candidate, the source of truth
                             optuna.log         the same for optuna-dashboard
                             candidates.csv, front.csv   written when the search ends
    <out>/search/candidates.csv, front.csv      those of the search that ended last

Every search has a directory of its own, locked by its process while it runs, so two searches on one
run cannot corrupt one another.
"""

import fcntl
import hashlib
import json
import logging
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import IO, Any, Self

from nassearch import files
from nassearch.errors import ConfigError, OutputError, SearchError
from nassearch.search.candidate import Axis, Candidate, Problem
from nassearch.search.dashboard import Dashboard
from nassearch.search.pareto import ParetoFront, write_candidates
from nassearch.space.search_space import SearchSpace

SCHEMA = 1
GIVEN = "given"
logger = logging.getLogger(__name__)


class Journal:
    """One search's directory; `candidates` are those told before, `num_skipped` broken lines.

    `num_trials` counts those that the search itself evaluated: the others it was given to start.

    A context manager: leaving it releases the directory.
    """

    def __init__(self, directory: Path, problem: Problem, *, lock: IO[str]) -> None:
        self.directory = directory
        self.search_id = directory.name
        self._space = problem.space
        self._lock = lock
        self._path = directory / "candidates.jsonl"
        _end_line(self._path)
        self.candidates, self.num_trials, self.num_skipped = _read(self._path, problem.space)
        if self.num_skipped:
            logger.warning(
                "%s: %d corrupt line(s) skipped; their candidates are evaluated again",
                self._path,
                self.num_skipped,
            )
        self._dashboard = Dashboard(directory / "optuna.log", problem, name=self.search_id)
        for candidate in self.candidates:
            self._dashboard.add(candidate)

    @classmethod
    def open(cls, out: Path, problem: Problem, *, algorithm: str, resume: bool) -> "Journal":
        """The journal of a new search under `out`, or with `resume` of the latest equal one.

        Raises SearchError where the search to resume is running in another process.
        """
        root = files.make_directory(out / "search")
        settings = {"schema": SCHEMA, "algorithm": algorithm, **problem.settings()}
        digest = hashlib.sha256(json.dumps(settings, sort_keys=True).encode()).hexdigest()[:8]
        earlier = _searches(root, digest)
        if resume and earlier:
            lock = _lock(earlier[-1])
            if lock is None:
                raise SearchError(
                    "this search is running in another process",
                    where=earlier[-1],
                    fix="wait for it, or start a new search without --resume",
                )
            return cls(earlier[-1], problem, lock=lock)
        if resume and any(root.glob("*/search.json")):
            logger.warning("%s holds no search with these settings: a new one starts", root)
        number = 1 + max((_number(path) for path in earlier), default=0)
        while True:
            directory = root / f"{digest}-{number}"
            try:
                directory.mkdir()
                break
            except FileExistsError:
                number += 1  # another process took this one
            except OSError as error:
                raise OutputError(f"cannot create ({error.strerror})", where=directory) from error
        lock = _lock(directory)
        assert lock is not None
        files.write_json(directory / "search.json", settings)
        return cls(directory, problem, lock=lock)

    def append(self, candidate: Candidate, *, given: bool = False) -> None:
        """Add one candidate; it is on disk when this returns. One `given` is no trial."""
        record = candidate.to_record(self._space)
        files.append_json_line(self._path, {**record, GIVEN: True} if given else record)
        self.candidates.append(candidate)
        self.num_trials += not given
        self._dashboard.add(candidate)

    def finish(self, front: ParetoFront) -> None:
        """Write candidates.csv and front.csv, here and as the latest of the run."""
        for directory in (self.directory, self.directory.parent):
            write_candidates(directory / "candidates.csv", self.candidates, space=self._space)
            front.write(directory / "front.csv", space=self._space)
        files.write_text(self.directory.parent / "latest", self.search_id + "\n")

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self._lock.close()


@dataclass(frozen=True)
class PastSearch:
    """A search as its directory tells it; `ended` is False where it was killed under way."""

    directory: Path
    settings: Mapping[str, Any]
    candidates: tuple[Candidate, ...]
    front: ParetoFront
    ended: bool


def load_searches(out: Path, *, space: SearchSpace) -> list[PastSearch]:
    """Every search under `out` that told something, the newest first.

    Raises SearchError where one is of another space, ConfigError where its settings are damaged.
    """
    found = []
    for path in sorted((out / "search").glob("*/search.json"), key=_modified, reverse=True):
        settings = files.read_json(path)
        axes = _axes(settings, space, where=path)
        candidates, _, _ = _read(path.parent / "candidates.jsonl", space)
        front = ParetoFront(axes, (candidate for candidate in candidates if candidate.is_finite))
        ended = (path.parent / "front.csv").is_file()
        if candidates:
            found.append(PastSearch(path.parent, settings, tuple(candidates), front, ended))
    return found


def latest_search(out: Path) -> Path:
    """The directory of the search that ended last under `out`; SearchError where none did."""
    root = out / "search"
    try:
        return root / (root / "latest").read_text(encoding="utf-8").strip()
    except OSError as error:
        raise SearchError("no finished search", where=root, fix="run nassearch search") from error


def load_front(out: Path, *, space: SearchSpace) -> ParetoFront:
    """The front of the search that ended last under `out`, without anything that evaluates.

    Raises SearchError where there is none, or where it is of another space.
    """
    directory = latest_search(out)
    try:
        settings: Mapping[str, Any] = files.read_json(directory / "search.json")
    except ConfigError as error:
        raise SearchError(
            "no finished search", where=directory.parent, fix="run nassearch search"
        ) from error
    axes = _axes(settings, space, where=directory.parent)
    return ParetoFront.read(directory / "front.csv", space=space, axes=axes)


def _axes(settings: Mapping[str, Any], space: SearchSpace, *, where: Path) -> list[Axis]:
    if settings["space"] != space.fingerprint:
        raise SearchError(f"the search is not one of the space {space.name}", where=where)
    return [Axis(item["name"], item["direction"], item["unit"]) for item in settings["objectives"]]


def _modified(path: Path) -> float:
    """When a search last wrote something."""
    return max(file.stat().st_mtime for file in path.parent.iterdir())


def _searches(root: Path, digest: str) -> list[Path]:
    """The directories of searches with these settings, oldest first."""
    found = [path.parent for path in root.glob(f"{digest}-*/search.json")]
    return sorted(found, key=_number)


def _number(directory: Path) -> int:
    number = directory.name.rpartition("-")[2]
    return int(number) if number.isdecimal() else 0


def _lock(directory: Path) -> IO[str] | None:
    """An open file that holds the directory, or None where another process does.

    The kernel lets go of it however the process ends, so a kill leaves nothing behind.
    """
    try:
        file = (directory / "lock").open("a")
    except OSError as error:
        raise OutputError(f"cannot write ({error.strerror})", where=directory) from error
    try:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        file.close()
        return None
    return file


def _end_line(path: Path) -> None:
    """End an incomplete last line (a kill while writing), so the next record starts its own."""
    if not path.exists():
        return
    with path.open("rb+") as file:
        if file.seek(0, 2) > 0:
            file.seek(-1, 2)
            if file.read(1) != b"\n":
                file.write(b"\n")


def _read(path: Path, space: SearchSpace) -> tuple[list[Candidate], int, int]:
    """A journal's candidates, each architecture once; how many are trials; how many are corrupt."""
    candidates: dict[str, Candidate] = {}
    given: set[str] = set()
    skipped = 0
    lines = path.read_bytes().splitlines() if path.exists() else []
    for line in lines:
        try:
            record = json.loads(line)
            candidate = Candidate.from_record(record, space=space)
            candidates[candidate.architecture.id] = candidate
            if record.get(GIVEN):
                given.add(candidate.architecture.id)
        except (ValueError, SearchError):
            skipped += 1
    return list(candidates.values()), len(candidates) - len(given), skipped
