"""`nassearch train-supernet`."""

from pathlib import Path
from typing import Annotated, Any

import typer

import nassearch
from nassearch.cli.option import (
    DataSpec,
    Json,
    Out,
    Resume,
    Seed,
    Settings,
    Space,
    assignment,
    naming_settings,
)
from nassearch.cli.output import print_result
from nassearch.errors import ConfigError


def train_supernet(
    recipe: Annotated[str | None, typer.Option("--recipe", help="A recipe's name or file.")] = None,
    space: Space = None,
    data: DataSpec = None,
    start_from: Annotated[
        Path | None,
        typer.Option("--from", help="A run whose weights are taken over: imported or trained."),
    ] = None,
    loss: Annotated[
        str | None,
        typer.Option("--loss", help="my_package.module:function of outputs and targets."),
    ] = None,
    strategy: Annotated[str | None, typer.Option("--strategy", help="How to train.")] = None,
    epochs: Annotated[int | None, typer.Option("--epochs", min=1)] = None,
    time_budget: Annotated[
        str | None,
        typer.Option("--time-budget", help="2h: as many epochs as end within it."),
    ] = None,
    seed: Seed = None,
    out: Out = None,
    resume: Resume = False,
    workers: Annotated[int, typer.Option("--workers", min=0, help="Data-parallel workers.")] = 0,
    ray_address: Annotated[str | None, typer.Option("--ray-address")] = None,
    settings: Settings = None,
    as_json: Json = False,
) -> None:
    """Train one supernet whose subnets share weights."""
    from nassearch.cli.terminal import Bars
    from nassearch.pipeline.run_directory import choose_run, load_recipe, run_recipe

    flags = {
        "space": space,
        "data": data,
        "seed": seed,
        "training.start_from": None if start_from is None else str(start_from.resolve()),
        "training.loss": loss,
        "training.strategy": strategy,
        "training.epochs": epochs,
        "training.time_budget": time_budget,
    }
    changes: dict[str, Any] = {key: value for key, value in flags.items() if value is not None}
    if epochs is not None:
        if time_budget is not None:
            raise ConfigError("excludes --epochs", where="--time-budget", fix="give one of them")
        changes["training.time_budget"] = None
    if recipe is None and (space or data) and start_from is None:
        changes["threads"] = None  # one thread suits the default recipe's tiny networks alone
    changes |= dict(assignment(text) for text in settings or ())
    directory, base = choose_run(None, out, resume=resume), recipe
    if base is None:
        present = directory / "recipe.yaml"
        base = str(present) if resume and present.is_file() else "digits"
        if start_from is not None and not resume:
            run_recipe(start_from)  # says so where it is no run
            base = str(start_from / "recipe.yaml")
    with naming_settings(settings):
        loaded = load_recipe(base, changes)
    if out is None and not resume:
        directory = choose_run(loaded.name, None, resume=False)
    with Bars() as bars:
        trained = nassearch.train_recipe(
            loaded,
            out=directory,
            resume=resume,
            workers=workers,
            ray_address=ray_address,
            progress=bars.stage,
        )
    run = str(trained.directory)
    print_result(as_json, {"run": run}, lambda: f"supernet trained: {run}")
