"""`nassearch report`."""

from pathlib import Path
from typing import Annotated

import typer

import nassearch
from nassearch.cli.option import DataSpec, Json, Out, Preprocess, said
from nassearch.cli.output import print_result


def report(
    run_dir: Annotated[Path, typer.Argument(help="A run, or the --out of a search.")],
    other_run: Annotated[Path | None, typer.Argument(help="A second run beside it.")] = None,
    out: Out = None,
    image: Annotated[
        Path | None, typer.Option("--image", help="Also the front, for a paper: .svg, .png, .pdf.")
    ] = None,
    beside: Annotated[
        Path | None, typer.Option("--beside", help="model.onnx, drawn beside the front.")
    ] = None,
    data: DataSpec = None,
    preprocessing: Preprocess = None,
    as_json: Json = False,
) -> None:
    """One self-contained HTML page about a run, or about two side by side."""
    runs = [run_dir] if other_run is None else [run_dir, other_run]
    page = nassearch.write_report(
        *runs,
        out=out,
        image=image,
        beside=beside,
        data=data,
        preprocessing=said(preprocessing),
    )
    written = {"report": str(page)}
    written |= {} if image is None else {"image": str(image)}
    print_result(as_json, written, lambda: "\n".join(written.values()))
