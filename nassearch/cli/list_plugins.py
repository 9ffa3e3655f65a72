"""`nassearch list`."""

from typing import Annotated

import typer

from nassearch.cli.option import Json
from nassearch.cli.output import print_result


def list_plugins(
    what: Annotated[
        str,
        typer.Argument(
            help="spaces, devices, strategies, algorithms, runtimes, objectives, ops, formats"
        ),
    ],
    as_json: Json = False,
) -> None:
    """List plugins, spaces or devices to choose from."""
    import nassearch
    from nassearch.cli.terminal import listing_table

    rows = nassearch.list_plugins(what)
    print_result(as_json, rows, lambda: listing_table(rows))
