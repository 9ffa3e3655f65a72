"""`nassearch search`."""

from pathlib import Path
from typing import Annotated, Literal

import typer

import nassearch
from nassearch.cli.option import (
    Batch,
    DataSpec,
    Json,
    Out,
    Precision,
    Resume,
    RuntimeName,
    Seed,
    Settings,
    Threads,
    assignment,
    naming_settings,
)
from nassearch.cli.output import note, print_result
from nassearch.errors import ConfigError


def search(
    device: Annotated[
        str,
        typer.Option(
            "--device", help="A device, or several: a,b. Or one setting: zen4/openvino-int8-b1-t1."
        ),
    ],
    budget: Annotated[
        list[str] | None,
        typer.Option(
            "--budget",
            help="5ms, 800us, 40%, latency:DEVICE=5ms, params=3M, ... Several hold together.",
        ),
    ] = None,
    supernet: Annotated[Path | None, typer.Option("--supernet", help="A training's run.")] = None,
    data: DataSpec = None,
    objective: Annotated[
        list[str] | None, typer.Option("--objective", help="accuracy, latency, macs, params, ...")
    ] = None,
    evaluate: Annotated[
        str | None,
        typer.Option("--evaluate", help="my_package.module:metric, measured instead of accuracy."),
    ] = None,
    accuracies: Annotated[
        Path | None,
        typer.Option("--accuracies", help="A CSV of accuracies that are known; none is measured."),
    ] = None,
    runtime: RuntimeName = None,
    precision: Precision = None,
    batch: Batch = None,
    threads: Threads = None,
    algorithm: Annotated[str, typer.Option("--algorithm", help="How to choose.")] = "guided",
    settings: Settings = None,
    trials: Annotated[
        str | None,
        typer.Option("--trials", help="Accuracies to measure, 100; or auto: while it pays."),
    ] = None,
    time_budget: Annotated[
        str | None, typer.Option("--time-budget", help="1h: the search ends within it.")
    ] = None,
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
    from nassearch.cli.terminal import Bars, search_table

    with Bars() as bars, naming_settings(settings):
        result = nassearch.search_subnets(
            supernet,
            devices=device.split(","),
            budgets=[tuple(budget)] if budget else [],
            objectives=objective or None,
            evaluate=evaluate,
            accuracies=accuracies,
            data=data,
            runtime=runtime,
            precision=precision,
            batch=batch,
            threads=threads,
            algorithm=algorithm,
            algorithm_options=dict(assignment(text) for text in settings or ()),
            trials=_trials(trials),
            time_budget=time_budget,
            seed=seed or 0,
            out=out,
            resume=resume,
            cold=cold,
            workers=workers,
            ray_address=ray_address,
            progress=bars.stage,
        )
    print_result(as_json, result.to_dict(), lambda: search_table(result))
    if result.remark is not None:
        note(result.remark)
    note(f"export the choice with: nassearch export {result.directory}")


def _trials(text: str | None) -> int | Literal["auto"] | None:
    """A number of trials, 'auto', or nothing, as --trials has it."""
    if text is None or text == "auto":
        return text  # type: ignore[return-value]
    if not text.isdecimal() or int(text) < 1:
        raise ConfigError(f"is '{text}'", where="--trials", fix="give 1 or more, or auto")
    return int(text)
