"""`nassearch verify`."""

from pathlib import Path
from typing import Annotated

import typer

from nassearch.cli.option import Json
from nassearch.cli.output import exit_if_broken, print_result


def verify(
    export_dir: Annotated[Path, typer.Argument(help="What 'nassearch export' wrote.")],
    device: Annotated[str | None, typer.Option("--device", help="Only this device.")] = None,
    as_json: Json = False,
) -> None:
    """Measure an export again: accuracy, speed, memory and agreement of its formats."""
    from nassearch.export import verify as room
    from nassearch.report.terminal import Bars, verification_table

    with Bars() as bars:
        found = room.verify(export_dir, device=device, progress=bars.stage)
    print_result(as_json, found.to_dict(), lambda: verification_table(found))
    exit_if_broken([found])
