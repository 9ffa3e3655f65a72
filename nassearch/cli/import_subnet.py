"""`nassearch import-subnet`."""

from pathlib import Path
from typing import Annotated

import typer

import nassearch
from nassearch.cli.option import Force, Formats, Json, Out
from nassearch.cli.output import print_result


def import_subnet(
    weights: Annotated[Path, typer.Argument(help="Once-for-all's weights: init, .safetensors.")],
    net_config: Annotated[Path, typer.Option("--net-config", help="The JSON file beside them.")],
    data: Annotated[str, typer.Option("--data", help="Images of its classes: imagefolder:PATH.")],
    resolution: Annotated[
        int | None,
        typer.Option("--resolution", min=1, help="Default: of the run.config beside it."),
    ] = None,
    formats: Formats = None,
    out: Out = None,
    force: Force = False,
    as_json: Json = False,
) -> None:
    """Make an export of a network that once-for-all specialised and published."""
    from nassearch.cli.terminal import Bars

    with Bars() as bars:
        export = nassearch.import_subnet(
            weights,
            net_config,
            data=data,
            resolution=resolution,
            formats=None if formats is None else formats.split(","),
            out=out,
            force=force,
            progress=bars.stage,
        )
    directory = str(export.directory)
    print_result(as_json, {"export": directory}, lambda: directory)
