"""`nassearch describe`."""

from typing import Annotated

import typer

from nassearch.cli.option import Json
from nassearch.cli.output import print_result


def describe(
    name: Annotated[
        str,
        typer.Argument(
            help="A space, a published network (mobilenet_v3:large), a device, an export."
        ),
    ],
    as_json: Json = False,
) -> None:
    """A space, a published network, a device or an exported network."""
    import nassearch
    from nassearch.cli.describe_table import overview

    facts = nassearch.describe(name)
    print_result(as_json, facts, lambda: overview(facts))
