"""Searches: of a supernet, of all that a recipe says, and the report about them."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Literal

from nassearch.budget import BudgetSet
from nassearch.data.loading import AnyData
from nassearch.data.preprocessing import Preprocessing
from nassearch.latency.table import LatencyTable
from nassearch.latency.target import Target
from nassearch.pipeline import profile as profiling
from nassearch.pipeline import recipe_run, run_directory
from nassearch.pipeline.accuracy_table import AccuracyTable
from nassearch.pipeline.front_door import Directory, path_or_none
from nassearch.pipeline.front_door.supernets import load_supernet
from nassearch.pipeline.measure_beside import measure_beside
from nassearch.pipeline.result_list import ResultList
from nassearch.pipeline.run_directory import LATEST
from nassearch.pipeline.search import (
    Evaluate,
    ObjectiveName,
    SearchRequest,
    make_target,
    resolve_evaluate,
    search_supernet,
    usual_objectives,
)
from nassearch.pipeline.search_result import SearchResult
from nassearch.pipeline.trained_supernet import TrainedSupernet
from nassearch.progress import Progress, silent
from nassearch.recipe import Recipe
from nassearch.report import page
from nassearch.search.runner import SearchPlan


def search_subnets(
    supernet: TrainedSupernet | Path | str | None = None,
    *,
    devices: Sequence[str | LatencyTable | Target],
    budgets: Sequence[BudgetSet] = (),
    objectives: Sequence[ObjectiveName] | None = None,
    evaluate: Evaluate | None = None,
    accuracies: Directory | None = None,
    data: AnyData | None = None,
    runtime: str | None = None,
    precision: str | None = None,
    batch: int | None = None,
    threads: int | None = None,
    algorithm: str = "guided",
    algorithm_options: Mapping[str, Any] | None = None,
    trials: int | Literal["auto"] | None = None,
    time_budget: str | None = None,
    seed: int = 0,
    workers: int = 0,
    ray_address: str | None = None,
    out: Path | str | None = None,
    resume: bool = False,
    cold: bool = False,
    progress: Progress = silent,
) -> SearchResult:
    """Find the best subnets of a trained supernet within hard budgets.

    Args:
        supernet: A trained supernet, or the run that holds one; by default the latest run.
        devices: For each device its name, one of its settings ('zen4/openvino-int8-b1-t1'), or a
            table that was measured in this session.
        budgets: Each entry gets a pick of its own, and what stands in one tuple holds together:
            `["5ms", ("8ms", "params=3M")]` gives two picks. Latencies carry a unit; '40%' lies so
            far from each device's fastest network to its largest.
        objectives: Names of objectives, the user's own as 'my_package.module:function', or
            functions Architecture -> float. The first decides a pick. By default accuracy and
            latency; of a supernet that was imported without images `zero_cost` and latency.
        evaluate: Measures the accuracy instead of the validation images: takes the subnet, an
            `nn.Module` with recalibrated batch norm, and returns its accuracy, or that and its
            standard error. Of images with targets of your own it takes the network and batches of
            (images, targets), and says what is better: `function.direction = "max"`, or "min". Or
            its name, 'my_package.module:function'.
        accuracies: A CSV that says the accuracies of networks of the space, instead of measuring
            any: those of others are predicted from it. Its columns: `genes`, or once-for-all's
            `resolution`, `ks`, `e`, `d`; `accuracy`; and `error`, a standard error, if known.
        data: The images, where they are not where the run's recipe says.
        runtime: The runtime of every device that is given by name alone; so are `precision`,
            `batch` (images at once) and `threads`. By default each device's own.
        algorithm: A name of `list_plugins("algorithms")`, with `algorithm_options`.
        seed: Of all that is drawn at random.
        trials: How many networks are evaluated, by default 100, or as many as `time_budget` allows.
            'auto': until less is expected from going on than the noise of an accuracy hides.
        time_budget: A time, '1h', in which the search ends.
        workers: Ray workers that evaluate; 0 evaluates in this process.
        out: Where the search is written; by default into the run.
        resume: Go on with an interrupted search for the same.
        cold: Do not start from what earlier searches evaluated.
        ray_address: A Ray cluster to join.
        progress: Told the stage, the fraction that is done, 0..1, and a note.

    Returns:
        The front, and one pick for each entry of `budgets`, in that order.

    Raises:
        ConfigError: A name is unknown, or an option does not exist.
        BudgetError: A budget cannot be read or reached; nothing was evaluated.
        SearchError: No network was measured within a budget.

    Examples:
        >>> import nassearch as ns
        >>> supernet = ns.load_supernet("runs/latest")
        >>> devices, budgets = ["raspberry_pi_4"], ["50%", ("80%", "params=50K")]
        >>> result = ns.search_subnets(supernet, devices=devices, budgets=budgets, trials=4)
        >>> [pick.budget for pick in result.picks]
        ['50%', '80% and params=50K']
    """
    trained = load_supernet(supernet, data=data)
    overrides = {"runtime": runtime, "precision": precision, "batch": batch, "threads": threads}
    places = profiling.table_places(trained.directory)
    metric = resolve_evaluate(evaluate, trained.images)
    knows = accuracies is not None
    targets = [
        make_target(device, trained.space, places=places, **overrides)  # type: ignore[arg-type]
        for device in devices
    ]
    request = SearchRequest(
        tuple(budgets),
        tuple(objectives or usual_objectives(trained, metric, knows_accuracy=knows)),
        metric,
        SearchPlan.sized(
            algorithm, algorithm_options or {}, trials=trials, timed=time_budget is not None
        ),
        seed=seed,
        cold=cold,
        workers=workers,
        ray_address=ray_address,
        accuracies=None if accuracies is None else AccuracyTable(Path(accuracies), trained.space),
        time_budget=time_budget,
    )
    directory = None if out is None else Path(out)
    return search_supernet(
        trained, targets, request, out=directory, resume=resume, progress=progress
    )


def load_search(
    search: SearchResult | Directory | None = None, *, data: AnyData | None = None
) -> SearchResult:
    """Open the search that ended last; nothing is evaluated again.

    Args:
        search: A run, or the `out` of a search; by default the latest run.
        data: The images, where they are not where the run's recipe says.

    Returns:
        The front and the picks, as `search_subnets` returned them.

    Raises:
        SearchError: No search ended there.

    Examples:
        In a directory where something was searched:

        >>> import nassearch as ns
        >>> len(ns.load_search("runs/latest").picks)
        2
    """
    if isinstance(search, SearchResult):
        return search
    return SearchResult.load(Path(search or LATEST), data=data)


def run_recipe(
    recipe: Recipe | str,
    *,
    out: Directory | None = None,
    resume: bool = False,
    progress: Progress = silent,
) -> ResultList[recipe_run.VerifiedPick]:
    """Do everything a recipe says: train, profile, search, export, verify, report.

    Args:
        recipe: A recipe, the name of one in `experiments/`, or its YAML file.
        out: The run's directory; by default a new one below `runs/`.
        resume: Go on with the run that `out` holds.
        progress: Told the stage, the fraction that is done, 0..1, and a note.

    Returns:
        For each budget the pick, its export and what was verified.

    Raises:
        ConfigError: The recipe has a key that does not exist, or a value that it cannot have.
        OutputError: `out` holds a run that is not to be resumed.

    Examples:
        >>> import nassearch as ns
        >>> from pathlib import Path
        >>> _ = Path("all.yaml").write_text(
        ...     "{name: all, space: digits_tiny, data: digits, device: raspberry_pi_4,"
        ...     " training: {epochs: 1}, search: {budgets: [40%], trials: 4},"
        ...     " export: {formats: [weights]}}"
        ... )
        >>> [done.pick.budget for done in ns.run_recipe("all.yaml", out="runs/all")]
        ['40%']
    """
    known = run_directory.load_recipe(recipe) if isinstance(recipe, str) else recipe
    run = run_directory.choose_run(known.name, path_or_none(out), resume=resume)
    _, verified = recipe_run.run_recipe(known, run, resume=resume, progress=progress)
    page.write_report(run)
    return ResultList(verified)


def write_report(
    *runs: TrainedSupernet | SearchResult | Directory,
    out: Directory | None = None,
    image: Directory | None = None,
    beside: Directory | None = None,
    data: AnyData | None = None,
    preprocessing: Preprocessing | Mapping[str, Any] | str | None = None,
) -> Path:
    """Write one self-contained HTML page about a run, or about two side by side.

    Args:
        runs: One or two runs, or the values that a step returned.
        out: The page's file; by default `report.html` of the first run.
        image: Also draw the front for a paper: .svg, .png or .pdf.
        beside: An ONNX file, 'model.onnx': it is measured as the candidates of the first run were,
            drawn beside its front, and the networks of the front that beat it are named.
        data: The first run's images, where they are not where its recipe says.
        preprocessing: How `beside` takes its images, as of `load_data`; by default as the run does.

    Returns:
        The page's path.

    Raises:
        ConfigError: A directory is no run, or drawing `image` needs what is not installed.

    Examples:
        >>> import nassearch as ns
        >>> ns.write_report("runs/latest", out="report.html").name
        'report.html'
    """
    directories = [
        Path(run) if isinstance(run, Path | str) else run.directory for run in runs or (LATEST,)
    ]
    if image is not None:
        page.write_front(*directories, out=Path(image))
    other = None
    if beside is not None:
        other = measure_beside(Path(beside), directories[0], data=data, preprocessing=preprocessing)
    return page.write_report(*directories, out=path_or_none(out), beside=other)
