"""`nassearch profile`."""

from pathlib import Path
from typing import Annotated

import typer

import nassearch
from nassearch.cli.option import Batch, Json, Out, Precision, Resume, RuntimeName, Space, Threads
from nassearch.cli.output import print_result


def profile(
    device: Annotated[str, typer.Option("--device", help="The device's name; 'host' is this one.")],
    space: Space = None,
    runtime: RuntimeName = None,
    precision: Precision = None,
    batch: Batch = None,
    threads: Threads = None,
    seconds: Annotated[float, typer.Option("--seconds", min=1, help="Time for timing.")] = 60,
    time_budget: Annotated[
        str | None, typer.Option("--time-budget", help="2min: bounds loading as well.")
    ] = None,
    bundle: Annotated[
        Path | None, typer.Option("--bundle", help="Write a .zip to run on the device instead.")
    ] = None,
    target_error: Annotated[
        str, typer.Option("--target-error", help="Standard error at which timing stops.")
    ] = "0.3%",
    networks: Annotated[
        int, typer.Option("--networks", min=5, help="At most; the rest is interpolated.")
    ] = 96,
    results: Annotated[
        Path | None,
        typer.Option("--import", help="Read a bundle's .json, .yaml tables or a .csv instead."),
    ] = None,
    column: Annotated[
        str | None, typer.Option("--column", help="Of an imported .csv: the milliseconds.")
    ] = None,
    architecture: Annotated[
        str | None,
        typer.Option("--architecture", help="Of an imported .csv: what says the network."),
    ] = None,
    unit: Annotated[
        str | None, typer.Option("--unit", help="Of imported latencies: ms, us or s.")
    ] = None,
    out: Out = None,
    resume: Resume = False,
    as_json: Json = False,
) -> None:
    """Measure every block of a space on a device: its lookup table."""
    from nassearch.cli.terminal import Bars, profile_summary
    from nassearch.config import parse_seconds, parse_share

    setting = {"runtime": runtime, "precision": precision, "batch": batch, "threads": threads}
    directory = out or Path("latency_tables")
    if results is not None:
        table = nassearch.import_measurements(
            results,
            device,
            space=space,
            bundle=bundle,
            column=column,
            architecture=architecture,
            unit=unit,
            out=directory,
            **setting,  # type: ignore[arg-type]
        )
    elif bundle is not None:
        path = nassearch.write_bundle(space, device, bundle, seconds=seconds, **setting)  # type: ignore[arg-type]
        print_result(as_json, {"bundle": str(path)}, lambda: f"run it on the device: {path}")
        return
    else:
        with Bars() as bars:
            table = nassearch.profile_device(
                space,
                device,
                seconds=seconds,
                target_error=parse_share(target_error),
                time_budget=None if time_budget is None else parse_seconds(time_budget),
                max_networks=networks,
                out=directory,
                resume=resume,
                progress=bars.stage,
                **setting,  # type: ignore[arg-type]
            )
    path = table.path(directory)
    document = {
        "table": str(path),
        "blocks": len(table.blocks),
        "networks": len(table.networks),
        **table.facts,
    }
    print_result(as_json, document, lambda: profile_summary(path, table))
