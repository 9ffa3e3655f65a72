"""The command line: it parses, calls and prints, and is the only catcher of errors.

Each command is a function in a module of its name (`list` in `list_plugins`), which reads like its
page in a manual. What it needs is imported when it runs, so that --help answers at once.
"""

import errno
import sys
import traceback
import warnings
from collections.abc import Callable
from typing import Annotated

import typer

from nassearch import __version__, interruption
from nassearch.cli.adopt import adopt
from nassearch.cli.describe import describe
from nassearch.cli.export import export
from nassearch.cli.finetune import finetune
from nassearch.cli.import_subnet import import_subnet
from nassearch.cli.import_supernet import import_supernet
from nassearch.cli.list_plugins import list_plugins
from nassearch.cli.output import note, print_result
from nassearch.cli.predict import predict
from nassearch.cli.profile import profile
from nassearch.cli.quickstart import quickstart
from nassearch.cli.report import report
from nassearch.cli.run import run
from nassearch.cli.search import search
from nassearch.cli.train_supernet import train_supernet
from nassearch.cli.verify import verify
from nassearch.errors import ConfigError, Interrupted, NassearchError

COMMANDS: dict[str, Callable[..., None]] = {
    "quickstart": quickstart,
    "run": run,
    "adopt": adopt,
    "train-supernet": train_supernet,
    "import-supernet": import_supernet,
    "import-subnet": import_subnet,
    "profile": profile,
    "predict": predict,
    "search": search,
    "export": export,
    "finetune": finetune,
    "verify": verify,
    "report": report,
    "list": list_plugins,
    "describe": describe,
}
INTERRUPTED = 130

app = typer.Typer(
    name="nassearch",
    help="Train one supernet, measure a device once, read off the best network for any budget.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    rich_markup_mode=None,
)


def _print_version(asked: bool) -> None:
    if asked:
        print_result(False, {}, lambda: f"nassearch {__version__}")
        raise typer.Exit


@app.callback()
def options(
    version: Annotated[
        bool,
        typer.Option("--version", callback=_print_version, is_eager=True, help="Show it and exit."),
    ] = False,
) -> None:
    """Train one supernet, measure a device once, read off the best network for any budget."""


for name, command in COMMANDS.items():
    app.command(name)(command)


def main() -> None:
    """The console script: exit 0, 2 on a user's error, 3 on a broken promise, 130 when interrupted.

    SIGTERM and SIGHUP interrupt as Ctrl-C does.
    """
    debug = "--debug" in sys.argv
    if debug:
        sys.argv.remove("--debug")
    warnings.formatwarning = _warning_line
    try:
        with interruption.alike():
            app()
    except NassearchError as error:
        if debug:
            traceback.print_exc()
        note(f"nassearch: {error}")
        sys.exit(2)
    except OSError as error:
        if error.errno != errno.ENAMETOOLONG:
            raise
        what, fix = "is too long to be the name of a file", "give a shorter one"
        note(f"nassearch: {ConfigError(what, where=f'{str(error.filename)[:60]}...', fix=fix)}")
        sys.exit(2)
    except (SystemExit, KeyboardInterrupt) as stop:
        if isinstance(stop, SystemExit) and stop.code != INTERRUPTED:
            raise
        note(f"nassearch: interrupted{_saved(stop)}")
        sys.exit(INTERRUPTED)


def _saved(stop: BaseException) -> str:
    """What was saved before an interruption, as the one that led to `stop` says."""
    cause: BaseException | None = stop
    while cause is not None and not isinstance(cause, Interrupted):
        cause = cause.__cause__ or cause.__context__
    return "" if cause is None else f"; {cause}"


def _warning_line(message: Warning | str, *_: object, **__: object) -> str:
    return f"nassearch: warning: {message}\n"
