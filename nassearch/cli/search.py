"""`nassearch search`."""

from pathlib import Path
from typing import Annotated

import typer

from nassearch.cli.option import Json, Out, Resume, Seed, setting_of
from nassearch.cli.output import note, print_result


def search(
    device: Annotated[str, typer.Option("--device", help="One device's name, or several: a,b.")],
    budget: Annotated[
        list[str] | None, typer.Option("--budget", help="5ms, 800us, 40%, params=3M, ...")
    ] = None,
    supernet: Annotated[Path | None, typer.Option("--supernet", help="A training's run.")] = None,
    objective: Annotated[
        list[str] | None, typer.Option("--objective", help="accuracy, latency, macs, params, ...")
    ] = None,
    algorithm: Annotated[str | None, typer.Option("--algorithm", help="How to choose.")] = None,
    trials: Annotated[int, typer.Option("--trials", min=1, help="Accuracies to measure.")] = 100,
    seed: Seed = None,
    workers: Annotated[int, typer.Option("--workers", min=0, help="Ray workers.")] = 0,
    ray_address: Annotated[str | None, typer.Option("--ray-address")] = None,
    out: Out = None,
    resume: Resume = False,
    cold: Annotated[
        bool, typer.Option("--cold", help="Do not start from what earlier searches found.")
    ] = False,
    as_json: Json = False,
) -> None:
    """Find the best networks of a trained supernet within hard budgets."""
    from nassearch.pipeline.run_directory import LATEST
    from nassearch.pipeline.search import search_supernet
    from nassearch.recipe import SearchRecipe
    from nassearch.report.terminal import Bars, outcome_table

    budgets = budget or []
    with Bars() as bars:
        outcome = search_supernet(
            supernet or LATEST,
            settings=[setting_of(name, None, None, None, None) for name in device.split(",")],
            budgets=[budgets],
            names=objective or ("accuracy", "latency"),
            algorithm=algorithm or SearchRecipe().algorithm,
            trials=trials,
            seed=seed or 0,
            out=out,
            resume=resume,
            cold=cold,
            workers=workers,
            ray_address=ray_address,
            progress=bars.search(),
        )
    print_result(as_json, outcome.to_dict(), lambda: outcome_table(outcome))
    note(f"export the choice with: nassearch export {outcome.directory}")
