"""`nassearch run`."""

from typing import Annotated

import typer

from nassearch.cli.option import Json, Out, Resume
from nassearch.cli.output import exit_if_broken, note, print_result


def run(
    recipe: Annotated[str, typer.Argument(help="A recipe's name or YAML file.")],
    out: Out = None,
    resume: Resume = False,
    as_json: Json = False,
) -> None:
    """Everything a recipe says: train, profile, search, export, verify, report."""
    from nassearch.pipeline.export import run_all
    from nassearch.pipeline.run_directory import choose_run, load_recipe
    from nassearch.report.page import write_report
    from nassearch.report.terminal import Bars, delivered_table

    loaded = load_recipe(recipe)
    directory = choose_run(loaded.name, out, resume=resume)
    with Bars() as bars:
        _, delivered = run_all(
            loaded,
            directory,
            resume=resume,
            training=bars.training(),
            searching=bars.search(),
            progress=bars.stage,
        )
    page = write_report(directory)
    rows = [
        {"budget": one.pick.budget, "directory": str(one.directory), **one.verification.to_dict()}
        for one in delivered
    ]
    print_result(
        as_json, {"run": str(directory), "networks": rows}, lambda: delivered_table(delivered)
    )
    note(f"report: {page}")
    exit_if_broken([one.verification for one in delivered])
