"""`nassearch predict`."""

from pathlib import Path
from typing import Annotated

import typer

import nassearch
from nassearch.cli.option import Batch, Json, Precision, RuntimeName, Space, Threads
from nassearch.cli.output import print_result


def predict(
    network: Annotated[
        Path,
        typer.Argument(help="An architecture's YAML, an export, mobilenet_v3:large, model.onnx."),
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
    from nassearch.cli.terminal import fact_table

    facts = nassearch.predict_latency(
        network,
        device,
        space=space,
        runtime=runtime,
        precision=precision,
        batch=batch,
        threads=threads,
    )
    print_result(as_json, facts, lambda: fact_table(facts))
