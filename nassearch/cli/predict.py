"""`nassearch predict`."""

from pathlib import Path
from typing import Annotated

import typer

from nassearch.cli.option import Batch, Json, Precision, RuntimeName, Space, Threads, setting_of
from nassearch.cli.output import print_result


def predict(
    network: Annotated[
        Path, typer.Argument(help="An architecture's YAML, an export or mobilenet_v3:large.")
    ],
    device: Annotated[str, typer.Option("--device", help="The device's name.")],
    space: Space = None,
    runtime: RuntimeName = None,
    precision: Precision = None,
    batch: Batch = None,
    threads: Threads = None,
    as_json: Json = False,
) -> None:
    """Latency with its interval, multiply-accumulates and parameters of one network."""
    from nassearch.pipeline.profile import describe_network, read_network
    from nassearch.pipeline.run_directory import LATEST
    from nassearch.report.terminal import fact_table

    found, setting = setting_of(device, runtime, precision, batch, threads)
    owner, architecture = read_network(network, space, LATEST)
    facts = describe_network(owner, architecture, found, setting)
    print_result(as_json, facts, lambda: fact_table(facts))
