"""`nassearch import-supernet`."""

from pathlib import Path
from typing import Annotated

import typer

import nassearch
from nassearch.cli.option import DataSpec, Json, Out, Seed, Space
from nassearch.cli.output import note, print_result


def import_supernet(
    file: Annotated[Path, typer.Argument(help="A published checkpoint: .pth or .safetensors.")],
    space: Space = None,
    data: DataSpec = None,
    seed: Seed = None,
    out: Out = None,
    as_json: Json = False,
) -> None:
    """Make a run of a supernet that others trained: once-for-all's, or one exported here."""
    trained = nassearch.import_supernet(file, space=space, data=data, seed=seed or 0, out=out)
    record, run = trained.import_record, str(trained.directory)
    assert record is not None
    document = {"run": run, **record.model_dump(mode="json")}
    lines = [*record.lines, f"supernet imported: {run}"]
    print_result(as_json, document, lambda: "\n".join(lines))
    if trained.images is None:
        note("it has no images yet: name those of its classes with --data when you search")
