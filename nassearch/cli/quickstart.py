"""`nassearch quickstart`."""

from nassearch.cli.option import Json, Out
from nassearch.cli.run import run


def quickstart(out: Out = None, as_json: Json = False) -> None:
    """Train, profile this CPU, search three budgets, export and verify on handwritten digits."""
    run("digits", out=out, resume=False, as_json=as_json)
