"""The content of a run's directory, read into values for the page; what it lacks is named."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

from nassearch import config
from nassearch.errors import ConfigError
from nassearch.export.export_config import LatencyClaim
from nassearch.export.picks import (
    PICKS,
    MeasuredRecord,
    PickRecord,
    PicksFile,
    load_picks,
    run_of,
)
from nassearch.files import read_json, read_json_lines
from nassearch.latency.snapshot import LatencySnapshot, read_snapshots
from nassearch.search.candidate import Candidate
from nassearch.search.journal import PastSearch, load_searches
from nassearch.search.problem import Axis
from nassearch.setting import Setting
from nassearch.space import Architecture, BlockSpec, SearchSpace, lower
from nassearch.training import checkpoint
from nassearch.training.sensitivity_record import SensitivityRecord, read_sensitivity


@dataclass(frozen=True)
class BudgetPick:
    """The network chosen for a budget, and what its export was verified to be."""

    budget: str
    architecture: Architecture
    latency: tuple[LatencyClaim, ...]
    verified: Mapping[str, Any] | None


@dataclass(frozen=True)
class SearchRecord:
    """A search: its candidates, its choices, and what its latencies were made of."""

    past: PastSearch
    snapshots: tuple[LatencySnapshot, ...]
    picks: tuple[BudgetPick, ...]
    measured: tuple[MeasuredRecord, ...]
    """Latencies measured after the search."""
    command: str

    @property
    def candidates(self) -> tuple[Candidate, ...]:
        return self.past.candidates

    @property
    def axes(self) -> tuple[Axis, ...]:
        return self.past.front.axes

    @cached_property
    def front_ids(self) -> frozenset[str]:
        return frozenset(candidate.architecture.id for candidate in self.past.front)

    @cached_property
    def settings(self) -> dict[str, Setting]:
        """The setting of each latency among the candidates' values, by its name."""
        values = self.candidates[0].values
        return {
            name: value.provenance.setting
            for name, value in values.items()
            if value.provenance.setting is not None
        }

    def snapshot(self, latency: str) -> LatencySnapshot | None:
        """The tables and fits that the latency called so was predicted from."""
        setting = self.settings[latency]
        return next((item for item in self.snapshots if item.setting == setting), None)

    def target(self, latency: str) -> str:
        """How the latency's target is called: its device, or its setting where several share it."""
        setting = self.settings[latency]
        same = [item for item in self.settings.values() if item.device == setting.device]
        return setting.device if len(same) == 1 else str(setting)

    def measured_ms(self, latency: str) -> dict[str, float]:
        """Architecture id -> milliseconds measured for the latency called so."""
        setting = self.settings[latency]
        return {
            item.id: item.ms
            for item in self.measured
            if item.setting == str(setting)
            or (item.setting is None and item.device == setting.device)
        }

    def limits(self) -> list[tuple[str, str, float]]:
        """(budget as it was given, latency's name, milliseconds) of every latency budget."""
        limits = [
            (pick.budget, name, claim.budget_ms)
            for pick in self.picks
            for claim in pick.latency
            for name, setting in self.settings.items()
            if claim.budget_ms is not None and claim.setting == setting
        ]
        budgets = self.past.settings.get("budgets", {})
        loosest = [
            ("budget", name, float(budgets[name])) for name in self.settings if name in budgets
        ]
        return list(dict.fromkeys(limits or loosest))


DrawnBlock = tuple[BlockSpec, str | None]
"""A block as a run has it, and its precision where a policy says one."""


@dataclass(frozen=True)
class RunRecord:
    """A run: `missing` says, line by line, what it does not hold and which command makes it."""

    path: Path
    home: Path
    """The run itself, where `path` is the --out of a search."""
    recipe: Mapping[str, Any]
    environment: Mapping[str, Any]
    metrics: tuple[Mapping[str, Any], ...]
    space: SearchSpace | None
    searches: tuple[SearchRecord, ...]
    verified: tuple[Mapping[str, Any], ...]
    """The verify.json of every export."""
    missing: tuple[str, ...]
    sensitivity: SensitivityRecord | None = None
    """How much its largest network minds int8."""

    @property
    def name(self) -> str:
        return self.path.resolve().name

    @cached_property
    def blocks(self) -> tuple[DrawnBlock, ...]:
        """Every block that a candidate has, each once."""
        blocks: dict[DrawnBlock, None] = {}
        for search in self.searches:
            for candidate in search.candidates:
                blocks |= dict.fromkeys(self.blocks_of(candidate.architecture))
        return tuple(blocks)

    def blocks_of(self, architecture: Architecture) -> list[DrawnBlock]:
        """The blocks of a network, stem first, head last."""
        if self.space is None:
            return []
        specs = lower(self.space, architecture)
        return list(zip(specs, architecture.precisions or (None,) * len(specs), strict=True))


def read_run(path: Path) -> RunRecord:
    """Read `path`, a run or the --out of a search.

    Raises ConfigError where it is neither, and what the rooms raise for a file that is damaged.
    """
    if not (path / "recipe.yaml").is_file() and not (path / "search" / PICKS).is_file():
        raise ConfigError(
            "is not a run: it has no recipe.yaml",
            where=path,
            fix="name a directory that 'nassearch run', 'train-supernet' or 'search' wrote",
        )
    home = _home(path)
    missing: list[str] = []
    metrics = tuple(filter(_is_epoch, read_json_lines(home / "metrics.jsonl")))
    space = None
    if checkpoint.paths(home):
        space = checkpoint.load(home).space
    else:
        missing.append(f"No trained supernet yet: nassearch train-supernet --out {path} --resume")
    if not any(key.startswith("val_") for record in metrics for key in record):
        missing.append("No accuracy was measured during training yet.")
    searches = [] if space is None else list(_searches(path, space))
    if not searches and space is not None:
        fix = f"nassearch search --supernet {path} --device NAME --budget 5ms"
        missing.append(f"No search yet, so there is no front and no candidate: {fix}")
    missing += [line for search in searches for line in _lacking(search)]
    environment = home / "environment.json"
    return RunRecord(
        path=path,
        home=home,
        recipe=_recipe(home),
        environment=read_json(environment) if environment.is_file() else {},
        metrics=metrics,
        space=space,
        searches=tuple(searches),
        verified=tuple(map(read_json, sorted(path.glob("exports/*/verify.json")))),
        missing=tuple(dict.fromkeys(missing)),
        sensitivity=read_sensitivity(home),
    )


def _is_epoch(line: Mapping[str, Any]) -> bool:
    """Whether a line of metrics is that of an epoch; one that is damaged is left out."""
    return "epoch" in line and all(isinstance(x, int | float | None) for x in line.values())


def _home(path: Path) -> Path:
    """The run that a directory of searches belongs to, where it is not a run itself."""
    if (path / "recipe.yaml").is_file():
        return path
    run = run_of(path)
    if not (run / "recipe.yaml").is_file():
        raise ConfigError(
            f"belongs to the run {run}, which is not there any more",
            where=path,
            fix="put the run back there, or search again in a run that is there",
        )
    return run


def _recipe(home: Path) -> Mapping[str, Any]:
    content = config.read_yaml(home / "recipe.yaml")
    if not isinstance(content, dict):
        raise ConfigError(
            "must be a mapping of keys to values",
            where=home / "recipe.yaml",
            fix="put back the recipe that the run wrote",
        )
    return content


def _searches(path: Path, space: SearchSpace) -> Iterable[SearchRecord]:
    """The searches that ended in choices, the newest first; where none did, the newest of all.

    A search goes on in rounds when a measurement breaks a prediction; only its last round chooses.
    """
    past = load_searches(path, space=space)
    chosen = [search for search in past if _picks_file(search, path).is_file()]
    for search in chosen or past[:1]:
        place = _picks_file(search, path)
        content = load_picks(place) if place.is_file() else PicksFile(run="", picks=())
        yield SearchRecord(
            past=search,
            snapshots=read_snapshots(search.directory),
            picks=tuple(_pick(item, path) for item in content.picks),
            measured=content.measured,
            command=content.command,
        )


def _picks_file(search: PastSearch, path: Path) -> Path:
    """Where a search's choices are; those of the latest stand beside all searches as well."""
    latest = path / "search" / "latest"
    if latest.is_file() and latest.read_text(encoding="utf-8").strip() == search.directory.name:
        return path / "search" / PICKS
    return search.directory / PICKS


def _pick(item: PickRecord, path: Path) -> BudgetPick:
    architecture = Architecture.from_dict(item.architecture)
    verified = path / "exports" / architecture.id / "verify.json"
    return BudgetPick(
        item.budget,
        architecture,
        item.latency,
        read_json(verified) if verified.is_file() else None,
    )


def _lacking(search: SearchRecord) -> Iterable[str]:
    name = search.past.directory.name
    if not search.past.ended:
        yield f"The search {name} was stopped before its end: --resume goes on."
    elif not search.picks:
        yield f"The search {name} chose no network: none was measured within its budgets."
    if search.settings and not search.snapshots:
        yield (
            f"The search {name} kept no block times, so networks are drawn without them:"
            " search again to have them."
        )
