"""The functions of the front door: objects or directories go in, values come out.

They are what a notebook calls, and the command line too. Each reads what it is given and hands
values to the step of its name.
"""

import re
import warnings
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Literal

from torch import Tensor, nn

from nassearch import config
from nassearch.adoption.elastic_space import Elasticity
from nassearch.budget import BudgetSet
from nassearch.data.dataset import AnyData, names_code, parse_preprocessing
from nassearch.data.preprocessing import DEFAULT, Preprocessing
from nassearch.errors import ConfigError
from nassearch.export import verify as verification
from nassearch.export.export_config import read_export
from nassearch.export.format import Batch, photo_options
from nassearch.export.onnx_classifier import read_classifier
from nassearch.export.writer import VERIFICATION
from nassearch.files import write_json
from nassearch.latency.coverage import MAX_NETWORKS
from nassearch.latency.device import (
    HOST,
    Device,
    device_elsewhere,
    known_or_new_device,
    resolve_setting,
)
from nassearch.latency.table import LatencyTable, find_table
from nassearch.latency.target import Target
from nassearch.ops import check_space
from nassearch.pipeline import adopt as adopting
from nassearch.pipeline import export as exporting
from nassearch.pipeline import finetune as finetuning
from nassearch.pipeline import import_measurements as importing
from nassearch.pipeline import import_subnet as subnet_import
from nassearch.pipeline import import_supernet as supernet_import
from nassearch.pipeline import profile as profiling
from nassearch.pipeline import recipe_run, run_directory
from nassearch.pipeline import train as training
from nassearch.pipeline.accuracy_table import AccuracyTable
from nassearch.pipeline.adopt import AdoptedNetwork
from nassearch.pipeline.export import ExportedNetwork
from nassearch.pipeline.measure_beside import measure_beside
from nassearch.pipeline.onnx_model import (
    ModelCheck,
    is_onnx_file,
    model_facts,
    model_latency,
    verify_model,
)
from nassearch.pipeline.pick import Pick
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
from nassearch.setting import Setting
from nassearch.space import Architecture, SearchSpace
from nassearch.training.task import Loss, as_metric

Directory = Path | str
TABLES = "latency_tables"
GIVEN = "given"
"""The data of a recipe whose images are given in Python; its training names them."""


def load_space(space: SearchSpace | Directory | None = None) -> SearchSpace:
    """Open a search space.

    Args:
        space: The name of a space that ships, a YAML file, or a run's directory; by default the
            space of the latest run.

    Returns:
        The space, whose every network can be built.

    Raises:
        SpaceError: The file describes no space that can work.
        ConfigError: There is no space of that name.

    Examples:
        >>> import nassearch as ns
        >>> ns.load_space("digits_tiny").size()
        6048
    """
    if isinstance(space, SearchSpace):
        return check_space(space)
    return run_directory.load_space(None if space is None else str(space), LATEST)


def adopt(
    module: nn.Module | str,
    input_shape: Tensor | tuple[int, int, int] | str,
    *,
    weights: Directory | None = None,
    data: AnyData | None = None,
    width: Sequence[float] | None = None,
    inner: Sequence[float] | None = None,
    depth: Sequence[int] | None = None,
    kernel: Sequence[int] | None = None,
    resolution: Sequence[int] | None = None,
    fixed: Sequence[str] = (),
    outputs: Sequence[str] | None = None,
    keep_outputs: bool = False,
    seed: int = 0,
    out: Directory | None = None,
) -> AdoptedNetwork:
    """Make a search space and a supernet of a network of your own, with its weights.

    Args:
        module: The network, or `my_package.module:make_model`: a classifier of images, or one that
            gives feature maps, or what a head makes of them, as a tensor or a dict or list of them.
        input_shape: (channels, height, width) of its images, '3x224x224', or an example,
            (1, c, h, w).
        weights: A file of its state dict, .pt or .safetensors, where it does not hold them yet.
        data: Images of its classes, for a search without further training.
        width: Shares of each width between blocks, for instance (0.5, 0.75, 1.0).
        inner: Shares of the channels within blocks.
        depth: Blocks that a stage may have.
        kernel: Sizes that larger kernels may be cut to.
        resolution: Image sizes that a network may take, beside that of `input_shape`.
        fixed: Paths of modules that keep their channels, kernels and depth.
        outputs: Names of what it gives, in order; by default its keys, or out0, out1, ...
        keep_outputs: Let feature maps that it gives keep their channels, so that what follows fits
            every network.
        seed: Of the validation split.
        out: The directory; by default a new one below `runs/`.

    Returns:
        The space, what of each layer became elastic, and the run that holds them.

    Raises:
        AdoptionError: The network cannot be traced, or is not of blocks in a row.
        DataError: The images are of other classes.

    Examples:
        >>> import nassearch as ns, torch
        >>> from torchvision.models import squeezenet1_1
        >>> adopted = ns.adopt(squeezenet1_1(num_classes=10), (3, 64, 64), out="my_space")
        >>> adopted.change < 1e-5
        True
    """
    name = module.rpartition(":")[2] if isinstance(module, str) else type(module).__name__
    path = None if weights is None else Path(weights)
    network = adopting.load_module(module, path) if isinstance(module, str) else module
    if isinstance(input_shape, str):
        input_shape = adopting.parse_input(input_shape)
    if isinstance(input_shape, Tensor):
        input_shape = tuple(input_shape.shape[-3:])  # type: ignore[assignment]
    content = {
        "width": width,
        "inner": inner,
        "depth": depth,
        "kernel": kernel,
        "resolution": resolution,
        "fixed": fixed,
        "outputs": outputs,
    }
    given: dict[str, object] = {"keep_outputs": keep_outputs}
    given |= {key: tuple(value) for key, value in content.items() if value is not None}
    return adopting.adopt_network(
        network,
        input_shape,  # type: ignore[arg-type]
        Path(out) if out is not None else run_directory.new_run(name.lower()),
        name=name,
        elasticity=config.parse(Elasticity, given, where=f"adopt {name}"),
        data=data,
        seed=seed,
    )


def train_supernet(
    space: SearchSpace | Directory | None,
    data: AnyData,
    *,
    preprocessing: Preprocessing | Mapping[str, Any] | str | None = None,
    start_from: TrainedSupernet | Directory | None = None,
    strategy: str | None = None,
    epochs: int | None = None,
    time_budget: str | None = None,
    seed: int = 0,
    threads: int | None = None,
    options: Mapping[str, Any] | None = None,
    loss: Loss | str | None = None,
    out: Directory | None = None,
    resume: bool = False,
    workers: int = 0,
    ray_address: str | None = None,
    progress: Progress = silent,
) -> TrainedSupernet:
    """Train one supernet whose subnets share weights.

    Args:
        space: A search space, its name, or its YAML file; None is the space of `start_from`.
        data: The images, or what `load_data` reads them from; with targets of your own, boxes or
            masks, `load_data(..., collate=...)`.
        preprocessing: How images that `data` names become what a network takes, as of `load_data`;
            by default as in the run of `start_from`.
        start_from: A supernet, or its run, whose weights, norms and channel order are taken over;
            optimizer and schedule start anew, and so does the classifier of other classes.
        strategy: A name of `list_plugins("strategies")`; by default delayed shrinking.
        epochs: Passes over the training images.
        time_budget: A time, '2h', instead of epochs: as many are planned as end within it.
        seed: Seed of all randomness, and of the validation split where `data` is text.
        threads: PyTorch's threads; by default as many as it likes.
        options: Other keys of a recipe's `training` section, for instance {"lr": 0.05}.
        loss: Takes logits, float (n, classes), and labels, int64 (n,), and returns a scalar;
            cross entropy by default. Of a network with named outputs it takes a tensor by the name
            of each, and of your own data the targets of a batch. Or its name, in text. Where there
            are no classes every network learns from the targets alone: `distillation: none`.
        out: The run's directory; by default a new one below `runs/`.
        resume: Go on with the training that `out` holds.
        workers: Data-parallel Ray workers; 0 trains in this process.
        ray_address: A Ray cluster to join.
        progress: Told the stage, the fraction that is done, 0..1, and a note.

    Returns:
        The supernet, in evaluation mode, with its images and its run.

    Raises:
        OutputError: `out` holds a training that is not to be resumed.
        ConfigError: An option does not exist, or the loss diverged again and again.

    Examples:
        >>> import nassearch as ns
        >>> supernet = ns.train_supernet("digits_tiny", ns.load_data("digits"), epochs=1)
        >>> supernet.space.name
        'digits_tiny'
    """
    keys = {**(options or {})}
    keys |= {} if strategy is None else {"strategy": strategy}
    keys |= {} if epochs is None else {"epochs": epochs}
    keys |= {} if time_budget is None else {"time_budget": time_budget}
    if isinstance(loss, str):
        keys, loss = {**keys, "loss": loss}, None
    if epochs is not None and time_budget is not None:
        raise ConfigError("excludes epochs", where="time_budget", fix="give one of them")
    if start_from is not None:
        source = start_from if isinstance(start_from, TrainedSupernet) else None
        run = source.directory if source is not None else Path(start_from)  # type: ignore[arg-type]
        keys |= {"start_from": str(run.resolve())}
        space = run_directory.load_space(str(run), run) if space is None else space
        preprocessing = preprocessing or run_directory.run_recipe(run).preprocessing
    elif space is None:
        raise ConfigError("is missing", where="space", fix="name a space, or give start_from")
    owner = load_space(space)
    content = {
        "name": re.sub(r"[^a-z0-9_-]+", "-", owner.name.lower()),
        "space": owner.name if isinstance(space, SearchSpace) else str(space),
        "data": data if isinstance(data, str) else GIVEN,
        "preprocessing": parse_preprocessing(preprocessing or DEFAULT),
        "seed": seed,
        "threads": threads,
        "training": keys,
    }
    return train_recipe(
        config.parse(Recipe, content, where="training"),
        data=None if isinstance(data, str) else data,
        space=owner if isinstance(space, SearchSpace) else None,
        loss=loss,
        out=out,
        resume=resume,
        workers=workers,
        ray_address=ray_address,
        progress=progress,
    )


def train_recipe(
    recipe: Recipe | str,
    *,
    data: AnyData | None = None,
    space: SearchSpace | None = None,
    loss: Loss | None = None,
    out: Directory | None = None,
    resume: bool = False,
    workers: int = 0,
    ray_address: str | None = None,
    progress: Progress = silent,
) -> TrainedSupernet:
    """Train the supernet of a recipe.

    Args:
        recipe: A recipe, the name of one in `experiments/`, or its YAML file.
        data: The images, instead of those that the recipe names.
        space: The search space, instead of the one that the recipe names.
        loss: Takes logits, float (n, classes), and labels, int64 (n,), and returns a scalar.
        out: The run's directory; by default a new one below `runs/`.
        resume: Go on with the training that `out` holds.
        workers: Data-parallel Ray workers; 0 trains in this process.
        ray_address: A Ray cluster to join.
        progress: Told the stage, the fraction that is done, 0..1, and a note.

    Returns:
        The supernet, in evaluation mode, with its images and its run.

    Raises:
        ConfigError: The recipe has a key that does not exist, or a value that it cannot have.
        OutputError: `out` holds a training that is not to be resumed.

    Examples:
        >>> import nassearch as ns
        >>> from pathlib import Path
        >>> recipe = "{name: mine, space: digits_tiny, data: digits, training: {epochs: 1}}"
        >>> _ = Path("mine.yaml").write_text(recipe)
        >>> ns.train_recipe("mine.yaml", out="runs/mine").space.name
        'digits_tiny'
    """
    known = run_directory.load_recipe(recipe) if isinstance(recipe, str) else recipe
    run = run_directory.choose_run(known.name, _path(out), resume=resume)
    training.train_supernet(
        known,
        run,
        data=data,
        space=space,
        loss=loss,
        resume=resume,
        workers=workers,
        address=ray_address,
        progress=progress,
    )
    if data is None and names_code(known.data):  # a run that is opened runs no code
        data = known.data
    return TrainedSupernet.load(run, data=data)


def load_supernet(
    supernet: TrainedSupernet | Directory | None = None, *, data: AnyData | None = None
) -> TrainedSupernet:
    """Open the supernet of a run; nothing is trained.

    Args:
        supernet: The run's directory; by default the latest run.
        data: The images, where they are not where the run's recipe says.

    Returns:
        The supernet, in evaluation mode, with its images and its run.

    Raises:
        ConfigError: The directory is no run.
        CheckpointError: It holds no checkpoint, or a damaged one.
        DataError: The images are not those it was trained on.

    Examples:
        In a directory where something was trained:

        >>> import nassearch as ns
        >>> ns.load_supernet("runs/latest").data.name
        'digits'
    """
    if isinstance(supernet, TrainedSupernet):
        return supernet
    return TrainedSupernet.load(Path(supernet or LATEST), data=data)


def import_supernet(
    path: Directory,
    *,
    space: str | None = None,
    data: AnyData | None = None,
    seed: int = 0,
    out: Directory | None = None,
) -> TrainedSupernet:
    """Make a run of a supernet that others trained and published.

    Args:
        path: The file: a state dict as torch saves it, or .safetensors; of once-for-all's
            MobileNetV3 (w1.0, w1.2), ProxylessNAS (w1.3) or ResNet-50, or one that
            `export_supernet` wrote. It is recognised by its tensors, and nothing in it is run.
        space: A space of the same networks at other resolutions, by name or file; by default the
            format's own.
        data: Images of its classes, in their order; they can be named later, and some searches
            need none.
        seed: Draws the validation split.
        out: The run's directory; by default a new one below `runs/`.

    Returns:
        The supernet, in evaluation mode, and its run, whose `import.json` says what was loaded,
        what was left out and on whose terms.

    Raises:
        CheckpointError: The file is damaged, would run code, or is no supernet that is known; the
            message names the nearest that is.
        SpaceError: `space` has other networks.
        DataError: The images have other classes: `train_supernet(..., start_from=...)` takes them.
        OutputError: `out` holds a run.

    Examples:
        >>> import nassearch as ns
        >>> file = ns.export_supernet("runs/latest", out="mine.safetensors")
        >>> ns.import_supernet(file, data="digits", out="runs/imported").space.name
        'digits_tiny'
    """
    name = Path(path).name.partition(".")[0]
    run = Path(out) if out is not None else run_directory.new_run(name)
    supernet_import.import_supernet(Path(path), run, space=space, data=data, seed=seed)
    return TrainedSupernet.load(run, data=None if isinstance(data, str) else data)


def import_subnet(
    weights: Directory,
    net_config: Directory,
    *,
    data: AnyData,
    resolution: int | None = None,
    formats: Sequence[str] | None = None,
    out: Directory | None = None,
    force: bool = False,
    progress: Progress = silent,
) -> ExportedNetwork:
    """Make an export of a network that once-for-all specialised and published.

    Args:
        weights: Its state dict (`init`), or .safetensors.
        net_config: The JSON file beside it, which says its blocks.
        data: Images of its classes, in their order.
        resolution: Pixels of its images; by default those of the `run.config` beside it.
        formats: Names of `list_plugins("formats")`; by default weights and ONNX.
        out: The export's directory; by default its id below `exports/`.
        force: Replace another export that lies there.
        progress: Told the stage, the fraction that is done, 0..1, and a note.

    Returns:
        The export, which `verify_exports` measures and `finetune_export` trains on.

    Raises:
        CheckpointError: A file is damaged, or the two do not belong together.
        ConfigError: Nobody says how many pixels its images have.
        DataError: The images have other classes.
        OutputError: The directory holds another export; nothing was written.

    Examples:
        With once-for-all's two files in a directory; here it has none:

        >>> import nassearch as ns
        >>> ns.import_subnet("net/init", "net/net.config", data="digits", resolution=224)
        Traceback (most recent call last):
        nassearch.errors.ConfigError: net/net.config: cannot read (No such file or directory); ...
    """
    directory, written = subnet_import.import_subnet(
        Path(weights),
        Path(net_config),
        data=data,
        resolution=resolution,
        formats=formats,
        out=_path(out),
        force=force,
        progress=progress,
    )
    return ExportedNetwork(directory, written)


def export_supernet(
    supernet: TrainedSupernet | Directory | None = None, *, out: Directory | None = None
) -> Path:
    """Write a run's supernet as one .safetensors file, with its space.

    `nassearch.Supernet.load(file)` reads it back, and `import_supernet` makes a run of it.

    Args:
        supernet: A trained supernet, or the run that holds one; by default the latest run.
        out: The file; by default `exports/supernet.safetensors` of the run.

    Returns:
        The file's path.

    Raises:
        ConfigError: The directory is no run.
        OutputError: The place cannot be written to.

    Examples:
        >>> import nassearch as ns
        >>> file = ns.export_supernet("runs/latest", out="mine.safetensors")
        >>> ns.Supernet.load(file).space.name
        'digits_tiny'
    """
    known = supernet if isinstance(supernet, TrainedSupernet) else None
    run = Path(supernet or LATEST) if known is None else known.directory  # type: ignore[arg-type]
    file = run / "exports" / "supernet.safetensors" if out is None else Path(out)
    return supernet_import.export_supernet(run, file)


def profile_device(
    space: SearchSpace | Directory | None = None,
    device: str = "host",
    *,
    runtime: str | None = None,
    precision: str | None = None,
    batch: int | None = None,
    threads: int | None = None,
    seconds: float = 60.0,
    target_error: float = 0.003,
    time_budget: float | None = None,
    max_networks: int = MAX_NETWORKS,
    seed: int = 0,
    out: Directory = TABLES,
    resume: bool = False,
    progress: Progress = silent,
) -> LatencyTable:
    """Measure every block of a space on this machine: its lookup table.

    Args:
        space: Whose blocks are measured; by default the latest run's.
        device: What this machine is called; 'host' is always this one.
        runtime: A name of `list_plugins("runtimes")`; so `precision`, `batch` (images at once) and
            `threads`. By default the device's own.
        seconds: Of timing; loading the networks comes on top.
        target_error: Relative standard error at which timing stops.
        time_budget: Seconds that bound loading as well.
        max_networks: Whole networks measured at most; what they do not hold is interpolated.
        seed: Of the choice of networks.
        out: The directory of tables; what it holds already is kept.
        resume: Do not measure again what the table there has.
        progress: Told the stage, the fraction that is done, 0..1, and a note.

    Returns:
        The table, also written to `out`.

    Raises:
        RuntimeUnavailableError: The runtime or its precision is not on this machine.

    Examples:
        >>> import nassearch as ns
        >>> table = ns.profile_device("digits_tiny", runtime="fake", seconds=1)
        >>> table.setting.stem
        'fake-fp32-b1-t1'
    """
    directory = Path(out)
    known = known_or_new_device(device, [directory])
    setting = known.setting(runtime=runtime, precision=precision, batch=batch, threads=threads)
    if (warning := profiling.oversubscribed(setting)) is not None:
        warnings.warn(warning, stacklevel=2)
    return profiling.profile_device(
        load_space(space),
        setting,
        directory,
        device=known,
        seconds=seconds,
        target_error=target_error,
        time_budget=time_budget,
        max_networks=max_networks,
        seed=seed,
        resume=resume,
        progress=progress,
    )


def write_bundle(
    space: SearchSpace | Directory | None,
    device: str,
    path: Directory,
    *,
    runtime: str | None = None,
    precision: str | None = None,
    batch: int | None = None,
    threads: int | None = None,
    seconds: float = 60.0,
) -> Path:
    """Write a .zip that measures a space on a device that cannot install torch.

    Unpacked there, its `run.py` writes what `import_measurements` reads.

    Args:
        space: Whose blocks are measured; by default the latest run's.
        device: What the device is called.
        path: The file; its name ends in .zip.
        runtime: A name of `list_plugins("runtimes")`; so `precision`, `batch` (images at once) and
            `threads`. By default the device's own.
        seconds: Of timing on the device.

    Returns:
        The file's path.

    Raises:
        RuntimeUnavailableError: A bundle cannot run this runtime or precision.

    Examples:
        >>> import nassearch as ns
        >>> ns.write_bundle("digits_tiny", "my_board", "bundle.zip", seconds=5).name
        'bundle.zip'
    """
    known = device_elsewhere(device, [Path(TABLES)], runtime=runtime)
    setting = known.setting(runtime=runtime, precision=precision, batch=batch, threads=threads)
    return profiling.bundle_for(load_space(space), setting, Path(path), seconds=seconds)


def import_measurements(
    path: Directory,
    device: str,
    *,
    runtime: str | None = None,
    precision: str | None = None,
    batch: int | None = None,
    threads: int | None = None,
    space: SearchSpace | Directory | None = None,
    bundle: Directory | None = None,
    column: str | None = None,
    architecture: str | None = None,
    unit: str | None = None,
    out: Directory = TABLES,
) -> LatencyTable:
    """Read what was measured elsewhere into a device's table.

    Args:
        path: A bundle's results (.json), tables of once-for-all or ProxylessNAS (.yaml, or a folder
            of them), or whole networks of `space` with their times (.csv).
        device: What the device is called.
        runtime: What the network ran in; so `precision`, `batch` (images at once) and `threads`.
            By default the device's own.
        space: Whose networks a .csv holds.
        bundle: The bundle that the results must be of.
        column: Of a .csv: which column holds the times; each is of one setting.
        architecture: Of a .csv: which column says what network a row is, where its columns do not
            tell (docs/devices.md lists the forms).
        unit: Of the times: ms (by default), us or s.
        out: The directory of tables; what it holds already is kept.

    Returns:
        The table, also written to `out`.

    Raises:
        TableError: The file is damaged, of another setting, or in another unit; nothing was
            written.

    Examples:
        Whole networks of a space, timed by others: kernel sizes, expand ratios and depths of each
        as once-for-all writes them, and milliseconds.

        >>> import nassearch as ns
        >>> from pathlib import Path
        >>> blocks, depths = "-".join(["3"] * 20), "-".join(["2"] * 5)
        >>> header = "resolution,ks20,expand20,depth5,ms"
        >>> row = f"160,{blocks},{blocks},{depths},4.2"
        >>> _ = Path("timed.csv").write_text(header + chr(10) + row)
        >>> table = ns.import_measurements(
        ...     "timed.csv", "phone", runtime="torch", space="mobilenet_v3", column="ms"
        ... )
        >>> len(table.networks)
        1
    """
    directory, file = Path(out), Path(path)
    known = device_elsewhere(device, [directory], runtime=runtime)
    setting = known.setting(runtime=runtime, precision=precision, batch=batch, threads=threads)
    return importing.import_measurements(
        file,
        setting,
        directory,
        device=known,
        space=load_space(space) if file.suffix.lower() == ".csv" else None,
        bundle=_path(bundle),
        column=column,
        architecture=architecture,
        unit=unit,
    )


def load_table(table: LatencyTable | Directory, *, tables: Directory = TABLES) -> LatencyTable:
    """Open a latency table.

    Args:
        table: The CSV's path, or a setting: 'zen4/openvino-int8-b1-t1'.
        tables: A directory of tables that is looked in before those that ship.

    Returns:
        The table: milliseconds of blocks, and of whole networks, in one setting.

    Raises:
        ConfigError: There is no table of this setting.
        TableError: The table is damaged.

    Examples:
        >>> import nassearch as ns
        >>> ns.load_table("zen4/openvino-int8-b1-t1").setting.precision
        'int8'
    """
    if isinstance(table, LatencyTable):
        return table
    if Path(table).suffix.lower() == ".csv":
        return LatencyTable.load(Path(table))
    _, setting = resolve_setting(str(table), places=[Path(tables)])
    found = find_table(setting, [Path(tables), *profiling.table_places(None)])
    if found is None:
        raise ConfigError(
            f"there is no table of {setting}",
            where=tables,
            fix=f"measure it: nassearch profile {setting.options}",
        )
    return found


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


def export_subnets(
    picks: SearchResult | Sequence[Pick] | Directory | None = None,
    *,
    pick: str = "best",
    formats: Sequence[str] | None = None,
    batch: Batch | None = None,
    max_accuracy_loss: float = 0.01,
    preprocess_in_graph: bool = False,
    data: AnyData | None = None,
    out: Directory | None = None,
    force: bool = False,
    progress: Progress = silent,
) -> ResultList[ExportedNetwork]:
    """Write chosen subnets in formats that run anywhere.

    Args:
        picks: The picks of a search, or a search, or the directory that holds one; by default the
            latest run.
        pick: Of a whole search: 'best' (the choice for each budget), 'knee', 'all' (the front) or
            a network's id.
        formats: Names of `list_plugins("formats")`; config and weights are always written beside.
            By default weights, ONNX, and the file that each promised latency was measured with.
        batch: Images that a graph takes at once, or 'dynamic'; by default as many as was promised.
        max_accuracy_loss: What int8 may cost on validation images; 0.01 is one point.
        preprocess_in_graph: Let the graphs of onnx and int8 take photos, uint8 (n, height, width,
            channels), and resize and normalise them themselves.
        data: The images, where they are not where the run's recipe says.
        out: The directory of the exports; by default `exports/` of the search.
        force: Replace other exports that lie there.
        progress: Told the stage, the fraction that is done, 0..1, and a note.

    Returns:
        One export for each pick, in their order.

    Raises:
        OutputError: A directory holds another export; nothing was written.
        ExportError: A format cannot hold a network.

    Examples:
        >>> import nassearch as ns
        >>> result = ns.load_search("runs/latest")
        >>> exports = ns.export_subnets(result.picks, formats=["weights", "onnx"], out="exports")
        >>> [export.directory.name == export.pick.architecture.id for export in exports]
        [True, True]
    """
    if picks is None or isinstance(picks, SearchResult | Path | str):
        picks = exporting.pick_networks(load_search(picks, data=data), pick)
    return ResultList(
        exporting.export_picks(
            picks,
            formats=formats,
            batch=batch,
            max_accuracy_loss=max_accuracy_loss,
            options=photo_options(preprocess_in_graph),
            out=_path(out),
            force=force,
            progress=progress,
        )
    )


def load_export(export: Directory) -> ExportedNetwork:
    """Open an export: what its config says, and its network.

    Args:
        export: The directory of one network, as `export_subnets` wrote it.

    Returns:
        The export; its `load()` is the plain module.

    Raises:
        CheckpointError: The directory is no export, or one of its files was changed.

    Examples:
        >>> import nassearch as ns
        >>> [written, *_] = ns.export_subnets("runs/latest", out="exports")
        >>> ns.load_export(written.directory).config.id == written.pick.architecture.id
        True
    """
    return ExportedNetwork(Path(export), read_export(Path(export)))


def verify_exports(
    exports: ExportedNetwork | Directory | Sequence[ExportedNetwork | Directory],
    data: AnyData | None = None,
    *,
    preprocessing: Preprocessing | Mapping[str, Any] | str | None = None,
    evaluate: Evaluate | None = None,
    device: str | None = None,
    seconds: float = 3.0,
    out: Directory | None = None,
    progress: Progress = silent,
) -> ResultList[verification.Verification | ModelCheck]:
    """Measure exports again: accuracy, speed, memory, agreement of formats, promised latencies.

    An ONNX file of somebody's, which promises nothing, is measured: its accuracy and its latency.

    Args:
        exports: What `export_subnets` wrote, directories of exports, or any classifier as an ONNX
            file, 'model.onnx'.
        data: The images, where they are not where the export says. The test split is used.
        preprocessing: How an ONNX file takes its images, as of `load_data`; exports say it
            themselves.
        evaluate: Of networks for targets of your own: the metric, or its name. Without it, or
            without images, outputs and latencies are compared, and it is said that no more is.
        device: Check only the latencies promised on this device; of an ONNX file by default 'host'.
        seconds: Of timing, for each export.
        out: A directory for each export's `verify.json`; by default the export itself.
        progress: Told the stage, the fraction that is done, 0..1, and a note.

    Returns:
        What was found; `broken` of each names the promises that do not hold.

    Raises:
        CheckpointError: An export is damaged.
        ConfigError: No latency is promised on `device`.

    Examples:
        >>> import nassearch as ns
        >>> exports = ns.export_subnets("runs/latest", formats=["weights"], out="exports")
        >>> [check.broken for check in ns.verify_exports(exports[:1], seconds=0.5)]
        [[]]
    """
    if isinstance(exports, ExportedNetwork | Path | str):
        exports = [exports]
    metric = config.resolve({}, evaluate, kind="metric") if isinstance(evaluate, str) else evaluate
    found: list[verification.Verification | ModelCheck] = []
    for number, item in enumerate(exports):
        directory = item.directory if isinstance(item, ExportedNetwork) else Path(item)
        images = data
        if data is None and isinstance(item, ExportedNetwork) and item.pick is not None:
            images = item.pick.supernet.images

        def part(stage: str, fraction: float, note: str = "", *, number: int = number) -> None:
            progress(stage, (number + fraction) / len(exports), note)

        if is_onnx_file(directory):
            known, setting = _device_setting(device or HOST, None, None, None, None)
            check = verify_model(
                directory,
                data=images,
                preprocessing=preprocessing,
                device=known.with_default(setting),
                seconds=seconds,
            )
            if out is not None:
                write_json(Path(out) / directory.stem / VERIFICATION, check.to_dict())
            found.append(check)
            continue
        if preprocessing is not None:
            raise ConfigError(
                "says itself how it takes its images",
                where=directory,
                fix="leave the preprocessing out",
            )
        found.append(
            verification.verify(
                directory,
                device=device,
                data=images,
                metric=None if metric is None else as_metric(metric),
                seconds=seconds,
                out=None if out is None else Path(out) / directory.resolve().name,
                progress=part,
            )
        )
    return ResultList(found)


def finetune_export(
    export: ExportedNetwork | Directory,
    *,
    epochs: int,
    data: AnyData | None = None,
    options: Mapping[str, Any] | None = None,
    teacher: TrainedSupernet | Directory | None = None,
    quantized: bool = False,
    formats: Sequence[str] | None = None,
    batch: Batch | None = None,
    max_accuracy_loss: float = 0.01,
    out: Directory | None = None,
    force: bool = False,
    resume: bool = False,
    progress: Progress = silent,
) -> finetuning.Finetuned:
    """Train an exported network on, on its images or others, into a new export beside it.

    Args:
        export: The export, which stays as it is.
        epochs: Passes over the training images.
        data: The images, by default the export's; with other classes the classifier starts anew.
        options: Keys of a recipe's `training` section, for instance {"lr": 0.001}.
        teacher: A supernet, or its run, whose largest network teaches.
        quantized: Train it as its int8 graph computes, so that int8 costs less accuracy.
        formats: By default those of the export; with `quantized` int8 as well.
        batch: Images that a graph takes at once, or 'dynamic'.
        max_accuracy_loss: What int8 may cost on validation images; 0.01 is one point.
        out: By default the export's name with '-finetuned'.
        force: Replace another export that lies there.
        resume: Go on with the training that `out` holds.
        progress: Told the stage, the fraction that is done, 0..1, and a note.

    Returns:
        Accuracies before and after, and where the new export lies.

    Raises:
        CheckpointError: The export is damaged or holds no weights.
        OutputError: `out` holds something else.

    Examples:
        >>> import nassearch as ns
        >>> [export, *_] = ns.export_subnets("runs/latest", out="exports")
        >>> tuned = ns.finetune_export(export, epochs=1, options={"lr": 0.001}, out="tuned")
        >>> tuned.after.split
        'val'
    """
    directory = export.directory if isinstance(export, ExportedNetwork) else Path(export)
    if isinstance(teacher, TrainedSupernet):
        teacher = teacher.directory
    return finetuning.finetune_export(
        directory,
        epochs=epochs,
        data=data,
        settings=options,
        teacher=_path(teacher),
        quantized=quantized,
        formats=formats,
        batch=batch,
        options={"max_accuracy_loss": max_accuracy_loss},
        out=_path(out),
        force=force,
        resume=resume,
        progress=progress,
    )


def predict_latency(
    network: ExportedNetwork | Architecture | Directory,
    device: str | LatencyTable | Target = "host",
    *,
    space: SearchSpace | Directory | None = None,
    runtime: str | None = None,
    precision: str | None = None,
    batch: int | None = None,
    threads: int | None = None,
) -> dict[str, Any]:
    """Predict one network's latency with its interval, and count its costs.

    Args:
        network: An architecture of `space` or its YAML file, an export, a published network
            ('mobilenet_v3:large'), or any classifier as an ONNX file, 'model.onnx', which is also
            measured where the device is this machine.
        device: A device's name, one of its settings, or a table.
        space: Of an architecture; by default the latest run's.
        runtime: The runtime of a device that is given by name alone; so `precision`, `batch`
            (images at once) and `threads`. By default the device's own.

    Returns:
        `latency_ms` with `low_ms` and `high_ms` where they are known, `macs`, `params`,
        `peak_memory_bytes`, and where the latency comes from. Of an ONNX file that is measured,
        also `estimated_ms`, what its operators would take.

    Raises:
        ConfigError: There is no such network, space or device.
        MissingKeyError: The device's table lacks blocks of the network, and nothing else tells.

    Examples:
        >>> import nassearch as ns
        >>> network = ns.load_space("digits_tiny").smallest
        >>> facts = ns.predict_latency(network, "raspberry_pi_4", space="digits_tiny")
        >>> facts["provenance"]
        'estimated'
    """
    if is_onnx_file(network):
        known, setting = _device_setting(device, runtime, precision, batch, threads)
        model = read_classifier(Path(network))  # type: ignore[arg-type]
        asked = {"batch": batch, "precision": precision}
        latency = model_latency(model, known, setting, **asked)  # type: ignore[arg-type]
        return model_facts(model, latency)
    if isinstance(network, Architecture):
        owner = load_space(space)
        architecture = owner.check(network)
    else:
        path = network.directory if isinstance(network, ExportedNetwork) else Path(network)
        name = None if space is None else str(space)
        owner, architecture = profiling.read_network(path, name, LATEST)
    target = make_target(
        device,
        owner,
        places=profiling.table_places(LATEST),
        runtime=runtime,
        precision=precision,
        batch=batch,
        threads=threads,
    )
    return profiling.describe_network(architecture, target)


def _device_setting(
    device: str | LatencyTable | Target,
    runtime: str | None,
    precision: str | None,
    batch: int | None,
    threads: int | None,
) -> tuple[Device, Setting]:
    """The device and the setting that a user means by a name, a table or a target."""
    text = device if isinstance(device, str) else str(device.setting)
    return resolve_setting(
        text,
        runtime=runtime,
        precision=precision,
        batch=batch,
        threads=threads,
        places=profiling.table_places(LATEST),
    )


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
    run = run_directory.choose_run(known.name, _path(out), resume=resume)
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
    return page.write_report(*directories, out=_path(out), beside=other)


def _path(place: Directory | None) -> Path | None:
    return None if place is None else Path(place)
