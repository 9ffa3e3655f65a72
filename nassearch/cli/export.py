"""`nassearch export`."""

from pathlib import Path
from typing import Annotated

import typer

from nassearch.cli.option import Force, Formats, GraphBatch, Json, Loss, Out
from nassearch.cli.output import print_result


def export(
    search_dir: Annotated[Path | None, typer.Argument(help="A searched run.")] = None,
    pick: Annotated[str, typer.Option("--pick", help="best, knee, all or an id.")] = "best",
    formats: Formats = "config,weights,onnx",
    batch: GraphBatch = "1",
    max_accuracy_loss: Loss = 0.01,
    out: Out = None,
    force: Force = False,
    as_json: Json = False,
) -> None:
    """Write chosen networks in formats that run anywhere."""
    from nassearch.export.format import parse_batch
    from nassearch.pipeline.export import export_networks
    from nassearch.pipeline.run_directory import LATEST
    from nassearch.report.terminal import Bars

    with Bars() as bars:
        written = export_networks(
            search_dir or LATEST,
            pick=pick,
            formats=tuple(formats.split(",")),
            batch=parse_batch(batch),
            max_accuracy_loss=max_accuracy_loss,
            out=out,
            force=force,
            progress=bars.stage,
        )
    names = [str(path) for path in written]
    print_result(as_json, {"exports": names}, lambda: "\n".join(names))
