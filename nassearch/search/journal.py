"""Journal: what a search has told so far, on disk as it happens.

    <out>/search/<search id>/search.json        what was searched for
                             candidates.jsonl   one line per candidate, the source of truth
                             optuna.log         the same for optuna-dashboard
                             conclusion.json, candidates.csv, front.csv   written when it ends
    <out>/search/candidates.csv, front.csv      those of the search that ended last

Every search has a directory of its own, locked by its process while it runs, so two searches on one
run cannot corrupt one another.
"""

import hashlib
import json
import logging
from collections.abc import Mapping, Sequence
from collections.abc import Set as AbstractSet
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Annotated, Any, Literal, Self

from filelock import FileLock, Timeout
from pydantic import BaseModel, Field

from nassearch import config, files
from nassearch.errors import ConfigError, OutputError, SearchError
from nassearch.provenance import Belief
from nassearch.search.algorithm import algorithm_name
from nassearch.search.candidate import Candidate
from nassearch.search.dashboard import Dashboard
from nassearch.search.pareto import ParetoFront, candidate_table
from nassearch.search.problem import Axis, Problem
from nassearch.space.search_space import SearchSpace

SCHEMA = 1
GIVEN = "given"
CONCLUSION = "conclusion.json"
logger = logging.getLogger(__name__)


class _AxisRecord(BaseModel):
    """What search.json holds of an axis or an objective, of those keys that are read again."""

    direction: Literal["min", "max"]
    unit: str
    kind: str | None = None
    name: str | None = None
    device: str = ""
    setting: dict[str, str | int | None] | None = None


class _NamedRecord(_AxisRecord):
    name: str


class _SearchRecord(BaseModel):
    """What search.json must hold; other keys pass."""

    algorithm: str
    space: str
    precisions: tuple[str, ...] = ()
    seed: int
    objectives: tuple[_NamedRecord, ...]
    measures: tuple[_NamedRecord, ...] = ()
    budgets: dict[str, Annotated[config.Finite, Field(strict=True)]]
    axes: tuple[_AxisRecord, ...] | None = None


class _Conclusion(BaseModel):
    """What conclusion.json holds."""

    remark: str | None = None
    beliefs: dict[str, dict[str, Belief]] = {}


class Journal:
    """One search's directory; `candidates` are those told before, `num_skipped` broken lines.

    `num_trials` counts those that the search itself evaluated: the others it was given to start.

    A context manager: leaving it releases the directory.
    """

    def __init__(self, directory: Path, problem: Problem, *, lock: FileLock) -> None:
        self.directory = directory
        self.search_id = directory.name
        self._space = problem.space
        self._lock = lock
        self._path = directory / "candidates.jsonl"
        names = {item.name for item in problem.quantities}
        self.candidates, self.num_trials, self.num_skipped = _read(self._path, problem.space, names)
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
        identity = {"schema": SCHEMA, "algorithm": algorithm, **problem.identity()}
        earlier = _equal_searches(root, identity)
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
        digest = hashlib.sha256(json.dumps(identity, sort_keys=True).encode()).hexdigest()[:8]
        directory = _new_directory(root, digest)
        lock = _lock(directory)
        assert lock is not None
        axes = [axis.to_dict() for axis in problem.axes]
        files.write_json(directory / "search.json", {**identity, "axes": axes})
        return cls(directory, problem, lock=lock)

    def append(self, candidate: Candidate, *, given: bool = False) -> None:
        """Add one candidate; it is on disk when this returns. One `given` is no trial."""
        record = candidate.to_record(self._space)
        files.append_json_line(self._path, {**record, GIVEN: True} if given else record)
        self.candidates.append(candidate)
        self.num_trials += not given
        self._dashboard.add(candidate)

    def conclude(self, candidates: Sequence[Candidate], *, remark: str | None) -> None:
        """Write down what is believed of the candidates, all of them, and why the search ended."""
        self.candidates = list(candidates)
        beliefs = {
            item.architecture.id: {
                name: value.belief.to_dict()
                for name, value in item.values.items()
                if value.belief is not None
            }
            for item in candidates
        }
        known = {name: found for name, found in beliefs.items() if found}
        files.write_json(self.directory / CONCLUSION, {"remark": remark, "beliefs": known})

    def finish(self, front: ParetoFront) -> None:
        """Write candidates.csv and front.csv, here and as the latest of the run."""
        for directory in (self.directory, self.directory.parent):
            for name, items in (("candidates", self.candidates), ("front", front.sorted())):
                table = candidate_table(items, space=self._space)
                files.write_text(directory / f"{name}.csv", table.to_csv(index=False))
        files.write_text(self.directory.parent / "latest", self.search_id + "\n")

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self._lock.release()


@dataclass(frozen=True)
class PastSearch:
    """A search as its directory tells it; `ended` is False where it was killed under way."""

    directory: Path
    settings: Mapping[str, Any]
    space: SearchSpace
    candidates: tuple[Candidate, ...]
    front: ParetoFront
    ended: bool
    remark: str | None = None
    """Why it ended before its trials, or could have."""


def load_searches(out: Path, *, space: SearchSpace) -> list[PastSearch]:
    """Every search under `out` that told something, the newest first.

    Raises SearchError where one is of another space, ConfigError where its settings are damaged.
    """
    searches = []
    for path in sorted((out / "search").glob("*/search.json"), key=_modified, reverse=True):
        search = _load(path, space)
        if search.candidates:
            searches.append(search)
    return searches


def load_latest(out: Path, *, space: SearchSpace) -> PastSearch:
    """The search that ended last under `out`, without anything that evaluates.

    Raises SearchError where there is none, or where it is of another space.
    """
    path = latest_search(out) / "search.json"
    if not path.is_file():
        raise SearchError("no finished search", where=out / "search", fix="run nassearch search")
    return _load(path, space)


def _load(path: Path, space: SearchSpace) -> PastSearch:
    settings = files.read_json(path)
    space = space.mixed(config.parse(_SearchRecord, settings, where=path).precisions)
    axes = _axes(settings, space, where=path)
    measured = (*settings["objectives"], *settings.get("measures", ()))
    names = {item["name"] for item in measured}
    if unknown := [axis.name for axis in axes if axis.name not in names]:
        raise SearchError(
            f"is damaged (its axes name {unknown[0]}, which no candidate was told)",
            where=path,
            fix="run nassearch search again",
        )
    observed, _, _ = _read(path.parent / "candidates.jsonl", space, names)
    conclusion = _conclusion(path.parent / CONCLUSION)
    believed = conclusion.beliefs
    candidates = [item.believing(believed.get(item.architecture.id, {})) for item in observed]
    front = ParetoFront(axes, (candidate for candidate in candidates if candidate.is_finite))
    ended = (path.parent / "front.csv").is_file()
    return PastSearch(
        path.parent, settings, space, tuple(candidates), front, ended, conclusion.remark
    )


def _conclusion(path: Path) -> _Conclusion:
    """What a search concluded; one of version 0.2, or that was killed, nothing."""
    if not path.is_file():
        return _Conclusion()
    return config.parse(_Conclusion, files.read_json(path), where=path)


def latest_search(out: Path) -> Path:
    """The directory of the search that ended last under `out`; SearchError where none did."""
    root = out / "search"
    try:
        return root / (root / "latest").read_text(encoding="utf-8").strip()
    except OSError as error:
        raise SearchError("no finished search", where=root, fix="run nassearch search") from error


def _axes(settings: Mapping[str, Any], space: SearchSpace, *, where: Path) -> list[Axis]:
    if settings["space"] != space.fingerprint:
        raise SearchError(
            f"the search is not one of the space {space.name}",
            where=where,
            fix="name the run of that search, or search again without it",
        )
    try:
        return [Axis.from_dict(item) for item in settings.get("axes") or settings["objectives"]]
    except (KeyError, TypeError, ConfigError) as error:
        raise SearchError(
            f"is damaged (an objective: {error})", where=where, fix="run nassearch search again"
        ) from error


def _modified(path: Path) -> float:
    """When a search last wrote something."""
    return max(file.stat().st_mtime for file in path.parent.iterdir())


def _equal_searches(root: Path, identity: Mapping[str, Any]) -> list[Path]:
    """The directories of searches for the same, by the same algorithm, oldest first."""
    directories = []
    for path in root.glob("*/search.json"):
        content = files.read_json(path)
        content.pop("axes", None)
        content["algorithm"] = algorithm_name(str(content["algorithm"]))
        if content == identity:
            directories.append(path.parent)
    return sorted(directories, key=_number)


def _new_directory(root: Path, digest: str) -> Path:
    number = 1 + max((_number(path) for path in root.glob(f"{digest}-*")), default=0)
    while True:
        directory = root / f"{digest}-{number}"
        try:
            directory.mkdir()
            return directory
        except FileExistsError:
            number += 1  # another process took this one
        except OSError as error:
            raise OutputError(
                f"cannot create ({error.strerror})",
                where=directory,
                fix="choose a place with --out where you may write",
            ) from error


def _number(directory: Path) -> int:
    number = directory.name.rpartition("-")[2]
    return int(number) if number.isdecimal() else 0


def _lock(directory: Path) -> FileLock | None:
    """A lock that holds the directory, or None where another process does.

    The operating system lets go of it however the process ends, so a kill leaves nothing behind.
    """
    lock = FileLock(directory / "lock", timeout=0, thread_local=False)
    try:
        lock.acquire()
    except Timeout:
        return None
    except OSError as error:
        raise OutputError(
            f"cannot write ({error.strerror})",
            where=directory,
            fix="choose a place with --out where you may write",
        ) from error
    return lock


def _read(
    path: Path, space: SearchSpace, names: AbstractSet[str]
) -> tuple[list[Candidate], int, int]:
    """A journal's candidates, each architecture once; how many are trials; how many are corrupt.

    A candidate is corrupt, too, where one of the values called so is missing.
    """
    candidates: dict[str, Candidate] = {}
    given: set[str] = set()
    skipped = 0
    lines = path.read_bytes().splitlines() if path.exists() else []
    for line in lines:
        try:
            record = json.loads(line)
            candidate = Candidate.from_record(record, space=space)
            if not candidate.values.keys() >= names:
                skipped += 1
                continue
            candidates[candidate.architecture.id] = candidate
            if record.get(GIVEN):
                given.add(candidate.architecture.id)
        except (ValueError, RecursionError, SearchError):
            skipped += 1
    return list(candidates.values()), len(candidates) - len(given), skipped
