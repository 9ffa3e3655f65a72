"""From a finished search to exported and verified networks, and the whole run in one call."""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from nassearch.data.dataset import load_data
from nassearch.errors import ConfigError, SearchError
from nassearch.export.export_config import AccuracyClaim, DataConfig, ExportConfig, LatencyClaim
from nassearch.export.format import DEFAULT, Batch, ExportOptions, make_formats
from nassearch.export.verify import Verification, verify
from nassearch.export.writer import check_place, write_export
from nassearch.files import read_json
from nassearch.latency.device import load_device
from nassearch.pipeline.pick import PICKS, Pick
from nassearch.pipeline.profile import Progress, profile_device, silent
from nassearch.pipeline.run_directory import run_recipe, train_supernet
from nassearch.pipeline.search import Outcome, search_supernet
from nassearch.recipe import Recipe
from nassearch.search.candidate import Candidate
from nassearch.search.journal import load_front
from nassearch.space import Architecture, SearchSpace
from nassearch.training import checkpoint
from nassearch.training.evaluation import Evaluator


def export_networks(
    search: Path,
    *,
    pick: str = "best",
    formats: Sequence[str] = DEFAULT,
    batch: Batch = 1,
    max_accuracy_loss: float = 0.01,
    out: Path | None = None,
    force: bool = False,
    progress: Progress = silent,
) -> list[Path]:
    """Export networks of the search in `search` (a run, or the --out of a search).

    `pick` is best (the choice for each budget), knee, all (the front), or an architecture's id;
    `batch` and `max_accuracy_loss` are explained by `export.format.Order`. OutputError, before
    anything is written, where one of them would replace another export without `force`.
    """
    make_formats(formats)
    path = search / "search" / PICKS
    if not path.is_file():
        raise SearchError("holds no finished search", where=search, fix="run 'nassearch search'")
    picks = read_json(path)
    run = Path(picks["run"])
    saved = checkpoint.load(run)
    supernet = checkpoint.load_supernet(run)
    recipe = run_recipe(run)
    data = load_data(recipe.data, seed=recipe.seed)
    evaluator = Evaluator(supernet, data)
    latencies = _promises(picks["picks"])
    front = load_front(search, space=supernet.space)
    chosen = {
        (out or search / "exports") / architecture.id: architecture
        for architecture in _chosen(pick, front.candidates, front.knee(), list(latencies))
    }
    described = DataConfig.of(data, seed=recipe.seed)
    name = f"{run.name} step {saved.step}"
    facts = {
        directory: _facts(evaluator, supernet.space, architecture, described, name).model_copy(
            update={"latency": latencies.get(architecture, ())}
        )
        for directory, architecture in chosen.items()
    }
    for directory, fact in facts.items():
        check_place(directory, fact, force=force)
    order = ExportOptions(data, batch, max_accuracy_loss, progress)
    for number, (directory, architecture) in enumerate(chosen.items()):
        progress("exporting", number / len(chosen))
        write_export(
            evaluator.subnet(architecture),
            directory,
            facts=facts[directory],
            order=order,
            formats=tuple(formats),
            force=force,
        )
    progress("exporting", 1.0)
    return list(chosen)


def _facts(
    evaluator: Evaluator,
    space: SearchSpace,
    architecture: Architecture,
    data: DataConfig,
    name: str,
) -> ExportConfig:
    """What there is to say about a network before it is promised anything or written."""
    return ExportConfig.of(
        space,
        architecture,
        data=data,
        accuracy=AccuracyClaim.of(evaluator.accuracy(architecture), supernet=name),
    )


def _promises(picks: Sequence[Any]) -> dict[Architecture, tuple[LatencyClaim, ...]]:
    """What each chosen network promises: chosen for several budgets, it keeps the tightest."""
    found: dict[Architecture, tuple[LatencyClaim, ...]] = {}
    for item in picks:
        architecture = Architecture.from_dict(item["architecture"])
        promised = tuple(LatencyClaim(**latency) for latency in item["latency"])
        known = found.get(architecture)
        if known is None or _budgets(promised) < _budgets(known):
            found[architecture] = promised
    return found


def _budgets(promised: Sequence[LatencyClaim]) -> list[float]:
    return [item.budget_ms if item.budget_ms is not None else math.inf for item in promised]


def _chosen(
    pick: str, front: Sequence[Candidate], knee: Candidate, best: Sequence[Architecture]
) -> list[Architecture]:
    if pick == "best":
        return list(best)
    if pick == "knee":
        return [knee.architecture]
    if pick == "all":
        return [candidate.architecture for candidate in front]
    found = [c.architecture for c in front if c.architecture.id == pick]
    if not found:
        known = ", ".join(candidate.architecture.id for candidate in front)
        raise ConfigError(f"no network '{pick}' on the front", fix=f"best, knee, all, or {known}")
    return found


@dataclass(frozen=True)
class ExportedNetwork:
    """A network chosen for a budget, exported and verified."""

    pick: Pick
    directory: Path
    verification: Verification


def run_all(
    recipe: Recipe,
    run: Path,
    *,
    resume: bool = False,
    training: Any = None,
    searching: Any = None,
    progress: Progress = silent,
) -> tuple[Outcome, list[ExportedNetwork]]:
    """Train, profile this machine, search, export, verify: everything the recipe says."""
    supernet = train_supernet(recipe, run, resume=resume, progress=training)
    device = load_device(recipe.device)
    setting = device.setting()
    if device.present:
        profile_device(
            supernet.space,
            setting,
            run / "latency_tables",
            seconds=recipe.profile.seconds,
            seed=recipe.seed,
            progress=progress,
        )
    outcome = search_supernet(
        run,
        settings=[(device, setting)],
        budgets=[[budget] for budget in recipe.search.budgets],
        names=recipe.search.objectives,
        algorithm=recipe.search.algorithm,
        trials=recipe.search.trials,
        batch=recipe.search.batch,
        seed=recipe.seed,
        resume=resume,
        progress=searching,
    )
    exported = export_networks(
        run,
        formats=recipe.export.formats,
        batch=recipe.export.batch,
        max_accuracy_loss=recipe.export.max_accuracy_loss,
        force=resume,
        progress=progress,
    )
    by_id = {directory.name: directory for directory in exported}
    verified = {}
    for number, (name, directory) in enumerate(by_id.items()):
        progress("verifying", number / len(by_id))
        verified[name] = verify(directory)
    return outcome, [
        ExportedNetwork(pick, by_id[name], verified[name])
        for pick in outcome.picks
        for name in [pick.candidate.architecture.id]
    ]
