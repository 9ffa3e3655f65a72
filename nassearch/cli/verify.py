"""`nassearch verify`."""

from pathlib import Path
from typing import Annotated

import typer

import nassearch
from nassearch.cli.option import DataSpec, Json, Out
from nassearch.cli.output import exit_if_broken, note, print_result


def verify(
    export_dir: Annotated[Path, typer.Argument(help="What 'nassearch export' wrote.")],
    device: Annotated[str | None, typer.Option("--device", help="Only this device.")] = None,
    data: DataSpec = None,
    evaluate: Annotated[
        str | None,
        typer.Option("--evaluate", help="my_package.module:metric, of targets of your own."),
    ] = None,
    out: Out = None,
    as_json: Json = False,
) -> None:
    """Measure an export again: accuracy, speed, memory and agreement of its formats."""
    from nassearch.cli.terminal import Bars, verification_table

    with Bars() as bars:
        (verification,) = nassearch.verify_exports(
            export_dir,
            data=data,
            evaluate=evaluate,
            device=device,
            out=out,
            progress=bars.stage,
        )
    if verification.unmeasured is not None:
        note(verification.unmeasured)
    print_result(as_json, verification.to_dict(), lambda: verification_table(verification))
    exit_if_broken([verification])
