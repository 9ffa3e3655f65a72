"""`nassearch verify`."""

from pathlib import Path
from typing import Annotated

import typer

import nassearch
from nassearch.cli.option import DataSpec, Json, Out, Preprocess, said
from nassearch.cli.output import exit_if_broken, note, print_result


def verify(
    export_dir: Annotated[Path, typer.Argument(help="What 'export' wrote, or model.onnx.")],
    device: Annotated[str | None, typer.Option("--device", help="Only this device.")] = None,
    data: DataSpec = None,
    preprocessing: Preprocess = None,
    evaluate: Annotated[
        str | None,
        typer.Option("--evaluate", help="my_package.module:metric, of targets of your own."),
    ] = None,
    out: Out = None,
    as_json: Json = False,
) -> None:
    """Measure an export, or any ONNX classifier: accuracy, speed, agreement of its formats."""
    from nassearch.cli.terminal import Bars, checked_table

    with Bars() as bars:
        (verification,) = nassearch.verify_exports(
            export_dir,
            data=data,
            preprocessing=said(preprocessing),
            evaluate=evaluate,
            device=device,
            out=out,
            progress=bars.stage,
        )
    if verification.unmeasured is not None:
        note(verification.unmeasured)
    print_result(as_json, verification.to_dict(), lambda: checked_table(verification))
    exit_if_broken([verification])
