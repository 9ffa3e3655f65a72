"""`nassearch finetune`."""

from pathlib import Path
from typing import Annotated

import typer

import nassearch
from nassearch.cli.option import (
    DataSpec,
    Force,
    GraphBatch,
    Json,
    Loss,
    Out,
    Resume,
    Seed,
    Settings,
    assignment,
    naming_settings,
)
from nassearch.cli.output import print_result


def finetune(
    export_dir: Annotated[Path, typer.Argument(help="What 'nassearch export' wrote.")],
    epochs: Annotated[int, typer.Option("--epochs", min=1)],
    data: DataSpec = None,
    teacher: Annotated[
        Path | None, typer.Option("--teacher", help="A run whose largest network teaches.")
    ] = None,
    quantized: Annotated[
        bool, typer.Option("--quantized", help="Train it as its int8 graph computes.")
    ] = False,
    lr: Annotated[
        float | None, typer.Option("--lr", help="Default: 0.01, quantized 0.0003.")
    ] = None,
    seed: Seed = None,
    settings: Settings = None,
    formats: Annotated[str | None, typer.Option("--format", help="Default: the export's.")] = None,
    batch: GraphBatch = None,
    max_accuracy_loss: Loss = 0.01,
    out: Out = None,
    force: Force = False,
    resume: Resume = False,
    as_json: Json = False,
) -> None:
    """Train an exported network on, on its images or others, into a new export beside it."""
    from nassearch.cli.terminal import Bars, finetuned_table
    from nassearch.export.format import parse_batch

    given = {"lr": lr, "seed": seed, **dict(assignment(text) for text in settings or ())}
    with Bars() as bars, naming_settings(settings):
        finetuned = nassearch.finetune_export(
            export_dir,
            epochs=epochs,
            data=data,
            options={key: value for key, value in given.items() if value is not None},
            teacher=teacher,
            quantized=quantized,
            formats=None if formats is None else formats.split(","),
            batch=None if batch is None else parse_batch(batch),
            max_accuracy_loss=max_accuracy_loss,
            out=out,
            force=force,
            resume=resume,
            progress=bars.stage,
        )
    print_result(as_json, finetuned.to_dict(), lambda: finetuned_table(finetuned))
