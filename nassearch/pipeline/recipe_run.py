"""A whole run in one call: train, profile, search, export, verify, as a recipe says."""

from dataclasses import dataclass
from pathlib import Path
from typing import Any

from nassearch.data.loading import names_code
from nassearch.export.format import photo_options
from nassearch.export.verification import Verification
from nassearch.export.verify import verify
from nassearch.latency.device import load_device
from nassearch.pipeline.export import ExportedNetwork, export_picks
from nassearch.pipeline.pick import Pick
from nassearch.pipeline.profile import profile_device, table_places
from nassearch.pipeline.search import (
    SearchRequest,
    make_target,
    resolve_evaluate,
    search_supernet,
)
from nassearch.pipeline.search_result import SearchResult
from nassearch.pipeline.train import train_supernet
from nassearch.pipeline.trained_supernet import TrainedSupernet
from nassearch.progress import Progress, silent
from nassearch.recipe import Recipe
from nassearch.search.runner import SearchPlan
from nassearch.training.task import Metric


@dataclass(frozen=True)
class VerifiedPick:
    """A network chosen for a budget, exported and verified."""

    pick: Pick
    exported: ExportedNetwork
    verification: Verification

    def to_row(self) -> dict[str, Any]:
        """A row of a table: the budget, the network and what was verified."""
        return {"budget": self.pick.budget, **self.verification.to_row()}


def run_recipe(
    recipe: Recipe, run: Path, *, resume: bool = False, progress: Progress = silent
) -> tuple[SearchResult, list[VerifiedPick]]:
    """Train, profile this machine, search, export, verify: everything the recipe says."""
    train_supernet(recipe, run, resume=resume, progress=progress)
    supernet = TrainedSupernet.load(run, data=recipe.data if names_code(recipe.data) else None)
    device = load_device(recipe.device)
    if device.present:
        profile_device(
            supernet.space,
            device.setting(),
            run / "latency_tables",
            seconds=recipe.profile.seconds,
            seed=recipe.seed,
            progress=progress,
        )
    target = make_target(recipe.device, supernet.space, places=table_places(run))
    options = recipe.search
    metric = resolve_evaluate(options.evaluate, supernet.images)
    request = SearchRequest(
        options.budgets,
        options.objectives,
        metric,
        plan=SearchPlan(
            options.algorithm, options.algorithm_options, options.trials, options.batch
        ),
        seed=recipe.seed,
    )
    result = search_supernet(supernet, [target], request, resume=resume, progress=progress)
    exports = export_picks(
        result.picks,
        formats=recipe.export.formats,
        batch=recipe.export.batch,
        max_accuracy_loss=recipe.export.max_accuracy_loss,
        options=photo_options(recipe.export.preprocess_in_graph),
        force=resume,
        progress=progress,
    )
    by_id = {item.directory.name: item for item in exports}
    verified = {}
    for number, (name, item) in enumerate(by_id.items()):
        progress("verifying", number / len(by_id))
        verified[name] = verify(
            item.directory,
            data=supernet.images if supernet.images and supernet.images.has_targets else None,
            metric=metric if isinstance(metric, Metric) else None,
        )
    return result, [
        VerifiedPick(pick, by_id[pick.architecture.id], verified[pick.architecture.id])
        for pick in result.picks
    ]
