"""The command line: it parses, calls and prints, and is the only catcher of errors."""

import json
import sys
import traceback
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from nassearch.errors import ConfigError, NassearchError

if TYPE_CHECKING:
    from nassearch.export.verify import Verification
    from nassearch.latency.device import Device
    from nassearch.latency.setting import Setting
    from nassearch.recipe import Recipe

app = typer.Typer(
    name="nassearch",
    help="Train one supernet, measure a device once, read off the best network for any budget.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    rich_markup_mode=None,
)

BROKEN_PROMISE = 3
INTERRUPTED = 130
Json = Annotated[bool, typer.Option("--json", help="One JSON document on stdout.")]
Out = Annotated[Path | None, typer.Option("--out", help="Where to write.")]
Resume = Annotated[bool, typer.Option("--resume", help="Go on where it stopped.")]
Seed = Annotated[int | None, typer.Option("--seed", min=0, help="Seed of all randomness.")]
Space = Annotated[str | None, typer.Option("--space", help="A space's name or YAML file.")]
RuntimeName = Annotated[str | None, typer.Option("--runtime", help="onnxruntime, fake, ...")]
Precision = Annotated[str | None, typer.Option("--precision", help="fp32, fp16, int8, ...")]
Batch = Annotated[int | None, typer.Option("--batch", min=1, help="Images at once.")]
Formats = Annotated[str, typer.Option("--format", help="config, weights, onnx, pt2, int8.")]
GraphBatch = Annotated[str, typer.Option("--batch", help="Images a graph takes: 1, 8, dynamic.")]
Loss = Annotated[
    float, typer.Option("--max-accuracy-loss", min=0, max=1, help="What int8 may cost: 0.01.")
]
Force = Annotated[bool, typer.Option("--force", help="Replace another export.")]
DataSpec = Annotated[str | None, typer.Option("--data", help="digits, cifar10:/path, ...")]
Settings = Annotated[
    list[str] | None, typer.Option("--set", help="Any key of the recipe, as key=value.")
]
Threads = Annotated[int | None, typer.Option("--threads", min=1, help="Threads of the runtime.")]


@app.command()
def quickstart(out: Out = None, as_json: Json = False) -> None:
    """Train, profile this CPU, search three budgets, export and verify on handwritten digits."""
    run("digits", out=out, resume=False, as_json=as_json)


@app.command()
def run(
    recipe: Annotated[str, typer.Argument(help="A recipe's name or YAML file.")],
    out: Out = None,
    resume: Resume = False,
    as_json: Json = False,
) -> None:
    """Everything a recipe says: train, profile, search, export, verify, report."""
    from nassearch.pipeline.delivery import run_all
    from nassearch.pipeline.run import choose_run, load_recipe
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
    _print(as_json, {"run": str(directory), "networks": rows}, lambda: delivered_table(delivered))
    _note(f"report: {page}")
    _exit_if_broken([one.verification for one in delivered])


@app.command()
def train_supernet(
    recipe: Annotated[str | None, typer.Option("--recipe", help="A recipe's name or file.")] = None,
    space: Space = None,
    data: DataSpec = None,
    strategy: Annotated[str | None, typer.Option("--strategy", help="How to train.")] = None,
    epochs: Annotated[int | None, typer.Option("--epochs", min=1)] = None,
    seed: Seed = None,
    out: Out = None,
    resume: Resume = False,
    workers: Annotated[int, typer.Option("--workers", min=0, help="Data-parallel workers.")] = 0,
    ray_address: Annotated[str | None, typer.Option("--ray-address")] = None,
    settings: Settings = None,
    as_json: Json = False,
) -> None:
    """Train one supernet whose subnets share weights."""
    from nassearch.pipeline.run import choose_run, load_recipe, train_supernet
    from nassearch.report.terminal import Bars

    flags = {
        "space": space,
        "data": data,
        "seed": seed,
        "training.strategy": strategy,
        "training.epochs": epochs,
    }
    changes: dict[str, Any] = {key: value for key, value in flags.items() if value is not None}
    if recipe is None and (space or data):
        changes["threads"] = None  # one thread suits the default recipe's tiny networks alone
    changes |= dict(_assignment(text) for text in settings or ())
    directory, base = choose_run(None, out, resume=resume), recipe
    if base is None:
        present = directory / "recipe.yaml"
        base = str(present) if resume and present.is_file() else "digits"
    loaded: Recipe = load_recipe(base, changes)
    if out is None and not resume:
        directory = choose_run(loaded.name, None, resume=False)
    with Bars() as bars:
        train_supernet(
            loaded,
            directory,
            resume=resume,
            workers=workers,
            address=ray_address,
            progress=bars.training(),
        )
    _print(as_json, {"run": str(directory)}, lambda: f"supernet trained: {directory}")


@app.command()
def profile(
    device: Annotated[str, typer.Option("--device", help="The device's name; 'host' is this one.")],
    space: Space = None,
    runtime: RuntimeName = None,
    precision: Precision = None,
    batch: Batch = None,
    threads: Threads = None,
    seconds: Annotated[float, typer.Option("--seconds", min=1, help="Time for timing.")] = 60,
    time_budget: Annotated[
        str | None, typer.Option("--time-budget", help="2min: bounds loading as well.")
    ] = None,
    bundle: Annotated[
        Path | None, typer.Option("--bundle", help="Write a .zip to run on the device instead.")
    ] = None,
    target_error: Annotated[
        str, typer.Option("--target-error", help="Standard error at which timing stops.")
    ] = "0.3%",
    networks: Annotated[
        int, typer.Option("--networks", min=5, help="At most; the rest is interpolated.")
    ] = 96,
    results: Annotated[
        Path | None,
        typer.Option("--import", help="Read a bundle's .json, .yaml tables or a .csv instead."),
    ] = None,
    column: Annotated[
        str | None, typer.Option("--column", help="Of an imported .csv: the milliseconds.")
    ] = None,
    out: Out = None,
    resume: Resume = False,
    as_json: Json = False,
) -> None:
    """Measure every block of a space on a device: its lookup table."""
    from nassearch.config import parse_seconds, parse_share
    from nassearch.latency.device import known_or_new_device
    from nassearch.latency.table import LatencyTable
    from nassearch.pipeline.importer import import_measurements
    from nassearch.pipeline.prediction import bundle_for, profile_device
    from nassearch.pipeline.run import LATEST, load_space
    from nassearch.report.terminal import Bars, profile_summary

    directory = out or Path("latency_tables")
    limit = None if time_budget is None else parse_seconds(time_budget)
    elsewhere = bundle is not None or results is not None
    found = known_or_new_device(device, [directory], elsewhere=elsewhere)
    setting = found.setting(runtime=runtime, precision=precision, batch=batch, threads=threads)
    if bundle is not None and results is None:
        bundle_for(load_space(space, LATEST), setting, bundle, seconds=seconds)
        _print(as_json, {"bundle": str(bundle)}, lambda: f"run it on the device: {bundle}")
        return
    if results is not None:
        owner = load_space(space, LATEST) if results.suffix == ".csv" else None
        path = import_measurements(
            results, setting, directory, space=owner, bundle=bundle, column=column
        )
    else:
        with Bars() as bars:
            path = profile_device(
                load_space(space, LATEST),
                setting,
                directory,
                seconds=seconds,
                target_error=parse_share(target_error),
                time_budget=limit,
                max_networks=networks,
                resume=resume,
                progress=bars.stage,
            )
    found.with_default(setting).save(directory)
    table = LatencyTable.load(path, setting)
    document = {
        "table": str(path),
        "blocks": len(table.blocks),
        "networks": len(table.networks),
        **table.facts,
    }
    _print(as_json, document, lambda: profile_summary(path, table))


@app.command()
def predict(
    network: Annotated[
        Path, typer.Argument(help="An architecture's YAML, an export or mobilenet_v3:large.")
    ],
    device: Annotated[str, typer.Option("--device", help="The device's name.")],
    space: Space = None,
    runtime: RuntimeName = None,
    precision: Precision = None,
    batch: Batch = None,
    threads: Threads = None,
    as_json: Json = False,
) -> None:
    """Latency with its interval, multiply-accumulates and parameters of one network."""
    from nassearch.pipeline.prediction import describe_network, read_network
    from nassearch.pipeline.run import LATEST
    from nassearch.report.terminal import fact_table

    found, setting = _setting(device, runtime, precision, batch, threads)
    owner, architecture = read_network(network, space, LATEST)
    facts = describe_network(owner, architecture, found, setting)
    _print(as_json, facts, lambda: fact_table(facts))


@app.command()
def search(
    device: Annotated[str, typer.Option("--device", help="One device's name, or several: a,b.")],
    budget: Annotated[
        list[str] | None, typer.Option("--budget", help="5ms, 800us, 40%, params=3M, ...")
    ] = None,
    supernet: Annotated[Path | None, typer.Option("--supernet", help="A training's run.")] = None,
    objective: Annotated[
        list[str] | None, typer.Option("--objective", help="accuracy, latency, macs, params, ...")
    ] = None,
    algorithm: Annotated[str | None, typer.Option("--algorithm", help="How to choose.")] = None,
    trials: Annotated[int, typer.Option("--trials", min=1, help="Accuracies to measure.")] = 100,
    seed: Seed = None,
    workers: Annotated[int, typer.Option("--workers", min=0, help="Ray workers.")] = 0,
    ray_address: Annotated[str | None, typer.Option("--ray-address")] = None,
    out: Out = None,
    resume: Resume = False,
    as_json: Json = False,
) -> None:
    """Find the best networks of a trained supernet within hard budgets."""
    from nassearch.pipeline.run import LATEST
    from nassearch.pipeline.selection import search_supernet
    from nassearch.recipe import SearchRecipe
    from nassearch.report.terminal import Bars, outcome_table

    budgets = budget or []
    with Bars() as bars:
        outcome = search_supernet(
            supernet or LATEST,
            settings=[_setting(name, None, None, None, None) for name in device.split(",")],
            budgets=[budgets],
            names=objective or ("accuracy", "latency"),
            algorithm=algorithm or SearchRecipe().algorithm,
            trials=trials,
            seed=seed or 0,
            out=out,
            resume=resume,
            workers=workers,
            ray_address=ray_address,
            progress=bars.search(),
        )
    _print(as_json, outcome.to_dict(), lambda: outcome_table(outcome))
    _note(f"export the choice with: nassearch export {outcome.directory}")


@app.command()
def export(
    search_dir: Annotated[Path | None, typer.Argument(help="A searched run.")] = None,
    pick: Annotated[str, typer.Option("--pick", help="best, knee, all or an id.")] = "best",
    formats: Formats = "config,weights,onnx",
    batch: GraphBatch = "1",
    max_accuracy_loss: Loss = 0.01,
    out: Out = None,
    force: Force = False,
    as_json: Json = False,
) -> None:
    """Write chosen networks in formats that run anywhere."""
    from nassearch.export.format import parse_batch
    from nassearch.pipeline.delivery import export_networks
    from nassearch.pipeline.run import LATEST
    from nassearch.report.terminal import Bars

    with Bars() as bars:
        written = export_networks(
            search_dir or LATEST,
            pick=pick,
            formats=tuple(formats.split(",")),
            batch=parse_batch(batch),
            max_accuracy_loss=max_accuracy_loss,
            out=out,
            force=force,
            progress=bars.stage,
        )
    names = [str(path) for path in written]
    _print(as_json, {"exports": names}, lambda: "\n".join(names))


@app.command()
def finetune(
    export_dir: Annotated[Path, typer.Argument(help="What 'nassearch export' wrote.")],
    epochs: Annotated[int, typer.Option("--epochs", min=1)],
    data: DataSpec = None,
    teacher: Annotated[
        Path | None, typer.Option("--teacher", help="A run whose largest network teaches.")
    ] = None,
    lr: Annotated[float | None, typer.Option("--lr", help="Default: 0.01.")] = None,
    seed: Seed = None,
    settings: Settings = None,
    formats: Annotated[str | None, typer.Option("--format", help="Default: the export's.")] = None,
    batch: GraphBatch = "1",
    max_accuracy_loss: Loss = 0.01,
    out: Out = None,
    force: Force = False,
    resume: Resume = False,
    as_json: Json = False,
) -> None:
    """Train an exported network on, on its images or others, into a new export beside it."""
    from nassearch.export.format import parse_batch
    from nassearch.pipeline.finetuning import finetune_export
    from nassearch.report.terminal import Bars, finetuned_table

    given = {"lr": lr, "seed": seed, **dict(_assignment(text) for text in settings or ())}
    with Bars() as bars:
        found = finetune_export(
            export_dir,
            epochs=epochs,
            data=data,
            settings={key: value for key, value in given.items() if value is not None},
            teacher=teacher,
            formats=None if formats is None else formats.split(","),
            batch=parse_batch(batch),
            max_accuracy_loss=max_accuracy_loss,
            out=out,
            force=force,
            resume=resume,
            training=bars.training(),
            progress=bars.stage,
        )
    _print(as_json, found.to_dict(), lambda: finetuned_table(found))


@app.command()
def verify(
    export_dir: Annotated[Path, typer.Argument(help="What 'nassearch export' wrote.")],
    device: Annotated[str | None, typer.Option("--device", help="Only this device.")] = None,
    as_json: Json = False,
) -> None:
    """Measure an export again: accuracy, speed, memory and agreement of its formats."""
    from nassearch.export import verify as room
    from nassearch.report.terminal import Bars, verification_table

    with Bars() as bars:
        found = room.verify(export_dir, device=device, progress=bars.stage)
    _print(as_json, found.to_dict(), lambda: verification_table(found))
    _exit_if_broken([found])


@app.command()
def report(
    run_dir: Annotated[Path, typer.Argument(help="A run, or the --out of a search.")],
    other_run: Annotated[Path | None, typer.Argument(help="A second run beside it.")] = None,
    out: Out = None,
    image: Annotated[
        Path | None, typer.Option("--image", help="Also the front, for a paper: .svg, .png, .pdf.")
    ] = None,
    as_json: Json = False,
) -> None:
    """One self-contained HTML page about a run, or about two side by side."""
    from nassearch.report.page import write_front, write_report

    runs = [run_dir] if other_run is None else [run_dir, other_run]
    if image is not None:
        write_front(*runs, out=image)
    written = {"report": str(write_report(*runs, out=out))}
    written |= {} if image is None else {"image": str(image)}
    _print(as_json, written, lambda: "\n".join(written.values()))


@app.command(name="list")
def list_plugins(
    what: Annotated[
        str,
        typer.Argument(
            help="spaces, devices, strategies, algorithms, runtimes, objectives, ops, formats"
        ),
    ],
    as_json: Json = False,
) -> None:
    """What there is to choose from."""
    from nassearch.pipeline.inventory import listing
    from nassearch.report.terminal import listing_table

    rows = listing(what)
    _print(as_json, rows, lambda: listing_table(rows))


@app.command()
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
    from nassearch.pipeline.inventory import description
    from nassearch.report.overview import overview

    facts = description(name)
    _print(as_json, facts, lambda: overview(facts))


def main() -> None:
    """The console script: exit 0, 2 on a user's error, 3 on a broken promise, 130 on Ctrl-C."""
    debug = "--debug" in sys.argv
    if debug:
        sys.argv.remove("--debug")
    warnings.formatwarning = _warning_line
    try:
        app()
    except NassearchError as error:
        if debug:
            traceback.print_exc()
        sys.stderr.write(f"nassearch: {error}\n")
        sys.exit(2)
    except SystemExit as stop:
        if stop.code == INTERRUPTED:
            _note("nassearch: interrupted; what was done is saved, --resume goes on")
        raise


def _setting(
    name: str,
    runtime: str | None,
    precision: str | None,
    batch: int | None,
    threads: int | None,
) -> "tuple[Device, Setting]":
    from nassearch.latency.device import load_device

    device = load_device(name)
    return device, device.setting(
        runtime=runtime, precision=precision, batch=batch, threads=threads
    )


def _assignment(text: str) -> tuple[str, Any]:
    import yaml

    key, equals, value = text.partition("=")
    if not equals or not key:
        raise ConfigError(f"--set {text} is not key=value", fix="for instance training.lr=0.05")
    try:
        return key, yaml.safe_load(value)
    except yaml.YAMLError as error:
        raise ConfigError(f"--set {text}: the value is not YAML") from error


def _print(as_json: bool, document: Any, text: Callable[[], Any]) -> None:
    """The JSON document, or what a person reads; nothing else goes to stdout."""
    if as_json:
        sys.stdout.write(json.dumps(document, indent=2) + "\n")
        return
    from rich.console import Console

    # Where nobody sets a width (a pipe), cells must not wrap at a guessed one.
    console = Console(width=None if sys.stdout.isatty() else 160)
    console.print(text(), highlight=False, soft_wrap=not sys.stdout.isatty())


def _warning_line(message: Warning | str, *_: object, **__: object) -> str:
    return f"nassearch: warning: {message}\n"


def _note(text: str) -> None:
    sys.stderr.write(text + "\n")


def _exit_if_broken(found: "list[Verification]") -> None:
    broken = [f"{one.export.id}: {line}" for one in found for line in one.broken]
    for line in broken:
        sys.stderr.write(f"nassearch: promise broken: {line}\n")
    if broken:
        raise typer.Exit(BROKEN_PROMISE)


if __name__ == "__main__":
    main()
