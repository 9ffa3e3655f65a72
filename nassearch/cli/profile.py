"""`nassearch profile`."""

from pathlib import Path
from typing import Annotated

import typer

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
    out: Out = None,
    resume: Resume = False,
    as_json: Json = False,
) -> None:
    """Measure every block of a space on a device: its lookup table."""
    from nassearch.config import parse_seconds, parse_share
    from nassearch.latency.device import known_or_new_device
    from nassearch.latency.table import LatencyTable
    from nassearch.pipeline.import_measurements import import_measurements
    from nassearch.pipeline.profile import bundle_for, profile_device
    from nassearch.pipeline.run_directory import LATEST, load_space
    from nassearch.report.terminal import Bars, profile_summary

    directory = out or Path("latency_tables")
    limit = None if time_budget is None else parse_seconds(time_budget)
    elsewhere = bundle is not None or results is not None
    found = known_or_new_device(device, [directory], elsewhere=elsewhere)
    setting = found.setting(runtime=runtime, precision=precision, batch=batch, threads=threads)
    if bundle is not None and results is None:
        bundle_for(load_space(space, LATEST), setting, bundle, seconds=seconds)
        print_result(as_json, {"bundle": str(bundle)}, lambda: f"run it on the device: {bundle}")
        return
    if results is not None:
        owner = load_space(space, LATEST) if results.suffix == ".csv" else None
        path = import_measurements(
            results, setting, directory, space=owner, bundle=bundle, column=column
        )
    else:
        with Bars() as bars:
            path = profile_device(
                load_space(space, LATEST),
                setting,
                directory,
                seconds=seconds,
                target_error=parse_share(target_error),
                time_budget=limit,
                max_networks=networks,
                resume=resume,
                progress=bars.stage,
            )
    found.with_default(setting).save(directory)
    table = LatencyTable.load(path, setting)
    document = {
        "table": str(path),
        "blocks": len(table.blocks),
        "networks": len(table.networks),
        **table.facts,
    }
    print_result(as_json, document, lambda: profile_summary(path, table))
