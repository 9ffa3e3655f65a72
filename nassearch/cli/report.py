"""`nassearch report`."""

from pathlib import Path
from typing import Annotated

import typer

import nassearch
from nassearch.cli.option import Json, Out
from nassearch.cli.output import print_result


def report(
    run_dir: Annotated[Path, typer.Argument(help="A run, or the --out of a search.")],
    other_run: Annotated[Path | None, typer.Argument(help="A second run beside it.")] = None,
    out: Out = None,
    image: Annotated[
        Path | None, typer.Option("--image", help="Also the front, for a paper: .svg, .png, .pdf.")
    ] = None,
    as_json: Json = False,
) -> None:
    """One self-contained HTML page about a run, or about two side by side."""
    runs = [run_dir] if other_run is None else [run_dir, other_run]
    written = {"report": str(nassearch.write_report(*runs, out=out, image=image))}
    written |= {} if image is None else {"image": str(image)}
    print_result(as_json, written, lambda: "\n".join(written.values()))
