"""What a run's directory holds, read into values for the page; what it lacks is named."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

from nassearch import config
from nassearch.errors import ConfigError
from nassearch.files import read_json, read_json_lines
from nassearch.latency.snapshot import LatencySnapshot, read_snapshots
from nassearch.search.candidate import Axis, Candidate
from nassearch.search.journal import PastSearch, load_searches
from nassearch.space import Architecture, BlockSpec, SearchSpace, lower
from nassearch.training import checkpoint

PICKS = "picks.json"


@dataclass(frozen=True)
class Budgeted:
    """The network chosen for a budget, and what its export was verified to be."""

    budget: str
    architecture: Architecture
    latency: tuple[Mapping[str, Any], ...]
    verified: Mapping[str, Any] | None


@dataclass(frozen=True)
class SearchRecord:
    """A search: its candidates, its choices, and what its latencies were made of."""

    past: PastSearch
    snapshots: tuple[LatencySnapshot, ...]
    picks: tuple[Budgeted, ...]
    measured: Mapping[tuple[str, str], float]
    """(device, architecture id) -> milliseconds measured after the search."""
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

    @property
    def latency_names(self) -> list[str]:
        """The latencies among the candidates' values."""
        names = self.candidates[0].values
        return [name for name in names if name.partition(":")[0] == "latency"]

    def snapshot(self, latency: str) -> LatencySnapshot | None:
        """What the latency called so was made of."""
        device = latency.partition(":")[2]
        found = [snapshot for snapshot in self.snapshots if device in ("", snapshot.device)]
        return found[0] if found else None

    def device(self, latency: str) -> str:
        """The device of the latency called so, by the setting in its provenance."""
        return latency.partition(":")[2] or self.setting(latency).partition("/")[0]

    def setting(self, latency: str) -> str:
        """The setting, 'host/onnxruntime-fp32-b1-t1': the last word of the provenance."""
        return self.candidates[0].values[latency].provenance.rpartition(" ")[2]

    def limits(self) -> list[tuple[str, str, float]]:
        """(budget as it was given, latency's name, milliseconds) of every latency budget."""
        names = self.latency_names
        found = [
            (pick.budget, name, float(item["budget_ms"]))
            for pick in self.picks
            for item in pick.latency
            for name in names
            if item.get("budget_ms") is not None and self.device(name) == item["device"]
        ]
        budgets = self.past.settings.get("budgets", {})
        loosest = [("budget", name, float(budgets[name])) for name in names if name in budgets]
        return list(dict.fromkeys(found or loosest))


@dataclass(frozen=True)
class RunRecord:
    """A run: `missing` says, line by line, what it does not hold and which command makes it."""

    path: Path
    recipe: Mapping[str, Any]
    environment: Mapping[str, Any]
    metrics: tuple[Mapping[str, Any], ...]
    space: SearchSpace | None
    searches: tuple[SearchRecord, ...]
    verified: tuple[Mapping[str, Any], ...]
    """The verify.json of every export."""
    missing: tuple[str, ...]

    @property
    def name(self) -> str:
        return self.path.resolve().name

    @cached_property
    def specs(self) -> tuple[BlockSpec, ...]:
        """Every block that a candidate has, each once."""
        found: dict[BlockSpec, None] = {}
        if self.space is not None:
            for search in self.searches:
                for candidate in search.candidates:
                    found |= dict.fromkeys(lower(self.space, candidate.architecture))
        return tuple(found)


def read_run(path: Path) -> RunRecord:
    """What is in `path`, a run or the --out of a search.

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
    metrics = tuple(read_json_lines(home / "metrics.jsonl"))
    space = None
    if checkpoint.paths(home):
        space = checkpoint.load(home).space
    else:
        missing.append(f"No trained supernet yet: nassearch train-supernet --out {path} --resume")
    if not any(key.startswith("val_accuracy") for record in metrics for key in record):
        missing.append("No accuracy was measured during training yet.")
    searches = [] if space is None else list(_searches(path, space))
    if not searches and space is not None:
        fix = f"nassearch search --supernet {path} --device NAME --budget 5ms"
        missing.append(f"No search yet, so there is no front and no candidate: {fix}")
    missing += [line for search in searches for line in _lacking(search)]
    environment = home / "environment.json"
    return RunRecord(
        path=path,
        recipe=_recipe(home),
        environment=read_json(environment) if environment.is_file() else {},
        metrics=metrics,
        space=space,
        searches=tuple(searches),
        verified=tuple(read_json(one) for one in sorted(path.glob("exports/*/verify.json"))),
        missing=tuple(dict.fromkeys(missing)),
    )


def _home(path: Path) -> Path:
    """The run that a directory of searches belongs to, where it is not a run itself."""
    if (path / "recipe.yaml").is_file():
        return path
    run = Path(read_json(path / "search" / PICKS)["run"])
    if not (run / "recipe.yaml").is_file():
        raise ConfigError(f"belongs to the run {run}, which is not there any more", where=path)
    return run


def _recipe(home: Path) -> Mapping[str, Any]:
    content = config.read_yaml(home / "recipe.yaml")
    if not isinstance(content, dict):
        raise ConfigError("must be a mapping of keys to values", where=home / "recipe.yaml")
    return content


def _searches(path: Path, space: SearchSpace) -> Iterable[SearchRecord]:
    """The searches that ended in choices, the newest first; where none did, the newest of all.

    A search goes on in rounds when a measurement breaks a prediction; only its last round chooses.
    """
    past = load_searches(path, space=space)
    chosen = [search for search in past if _picks_file(search, path).is_file()]
    for search in chosen or past[:1]:
        picks = _picks_file(search, path)
        content = read_json(picks) if picks.is_file() else {"picks": [], "measured": []}
        yield SearchRecord(
            past=search,
            snapshots=read_snapshots(search.directory),
            picks=tuple(_budgeted(item, path) for item in content["picks"]),
            measured={(row["device"], row["id"]): row["ms"] for row in content["measured"]},
            command=str(content.get("command", "")),
        )


def _picks_file(search: PastSearch, path: Path) -> Path:
    """Where a search's choices are; those of the latest stand beside all searches as well."""
    latest = path / "search" / "latest"
    if latest.is_file() and latest.read_text(encoding="utf-8").strip() == search.directory.name:
        return path / "search" / PICKS
    return search.directory / PICKS


def _budgeted(item: Mapping[str, Any], path: Path) -> Budgeted:
    architecture = Architecture.from_dict(item["architecture"])
    verified = path / "exports" / architecture.id / "verify.json"
    return Budgeted(
        str(item["budget"]),
        architecture,
        tuple(item["latency"]),
        read_json(verified) if verified.is_file() else None,
    )


def _lacking(search: SearchRecord) -> Iterable[str]:
    name = search.past.directory.name
    if not search.past.ended:
        yield f"The search {name} was stopped before its end: --resume goes on."
    elif not search.picks:
        yield f"The search {name} chose no network: none was measured within its budgets."
    if search.latency_names and not search.snapshots:
        yield (
            f"The search {name} kept no block times, so networks are drawn without them:"
            " search again to have them."
        )
