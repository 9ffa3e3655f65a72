"""`nassearch run`."""

from typing import Annotated

import typer

import nassearch
from nassearch.cli.option import Json, Out, Resume
from nassearch.cli.output import exit_if_broken, note, print_result


def run(
    recipe: Annotated[str, typer.Argument(help="A recipe's name or YAML file.")],
    out: Out = None,
    resume: Resume = False,
    as_json: Json = False,
) -> None:
    """Everything a recipe says: train, profile, search, export, verify, report."""
    from nassearch.cli.terminal import Bars, verified_table

    with Bars() as bars:
        verified = nassearch.run_recipe(recipe, out=out, resume=resume, progress=bars.stage)
    directory = verified[0].pick.search
    rows = [
        {
            "budget": item.pick.budget,
            "directory": str(item.exported.directory),
            **item.verification.to_dict(),
        }
        for item in verified
    ]
    document = {"run": str(directory), "networks": rows}
    print_result(as_json, document, lambda: verified_table(verified))
    note(f"report: {directory / 'report.html'}")
    exit_if_broken([item.verification for item in verified])
