"""`nassearch export`."""

from pathlib import Path
from typing import Annotated

import typer

import nassearch
from nassearch.cli.option import DataSpec, Force, Formats, GraphBatch, Json, Loss, Out
from nassearch.cli.output import note, print_result


def export(
    search_dir: Annotated[Path | None, typer.Argument(help="A searched run.")] = None,
    pick: Annotated[str, typer.Option("--pick", help="best, knee, all, an id, supernet.")] = "best",
    formats: Formats = None,
    batch: GraphBatch = None,
    max_accuracy_loss: Loss = 0.01,
    preprocess_in_graph: Annotated[
        bool, typer.Option("--preprocess-in-graph", help="Graphs take photos, uint8, any size.")
    ] = False,
    data: DataSpec = None,
    out: Out = None,
    force: Force = False,
    as_json: Json = False,
) -> None:
    """Write chosen networks in formats that run anywhere."""
    from nassearch.cli.terminal import Bars
    from nassearch.export.format import parse_batch

    if pick == "supernet":
        file = str(nassearch.export_supernet(search_dir, out=out))
        print_result(as_json, {"supernet": file}, lambda: file)
        return
    with Bars() as bars:
        exports = nassearch.export_subnets(
            search_dir,
            pick=pick,
            formats=None if formats is None else formats.split(","),
            batch=None if batch is None else parse_batch(batch),
            max_accuracy_loss=max_accuracy_loss,
            preprocess_in_graph=preprocess_in_graph,
            data=data,
            out=out,
            force=force,
            progress=bars.stage,
        )
    names = list(dict.fromkeys(str(item.directory) for item in exports))
    remarks = [f"{item.directory}: {remark}" for item in exports for remark in item.remarks]
    for remark in dict.fromkeys(remarks):
        note(remark)
    print_result(as_json, {"exports": names}, lambda: "\n".join(names))
