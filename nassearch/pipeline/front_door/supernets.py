"""Supernets: spaces are opened, a network is adopted, supernets trained, imported and exported."""

import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from torch import Tensor, nn

from nassearch import config
from nassearch.adoption.elastic_space import Elasticity
from nassearch.data.loading import AnyData, names_code, parse_preprocessing
from nassearch.data.preprocessing import DEFAULT, Preprocessing
from nassearch.errors import ConfigError
from nassearch.ops import check_space
from nassearch.pipeline import adopt as adopting
from nassearch.pipeline import import_supernet as supernet_import
from nassearch.pipeline import run_directory
from nassearch.pipeline import train as training
from nassearch.pipeline.adopt import AdoptedNetwork
from nassearch.pipeline.front_door import Directory, path_or_none
from nassearch.pipeline.run_directory import LATEST
from nassearch.pipeline.trained_supernet import TrainedSupernet
from nassearch.progress import Progress, silent
from nassearch.recipe import Recipe
from nassearch.space import SearchSpace
from nassearch.training.task import GIVEN_LOSS, Loss

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
        strategy: A name of `list_plugins("strategies")`; by default `growing`, and with a `loss`
            of your own `delayed-shrinking`.
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
    if loss is not None:
        keys |= {"loss": loss if isinstance(loss, str) else GIVEN_LOSS}
        loss = None if isinstance(loss, str) else loss
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
    run = run_directory.choose_run(known.name, path_or_none(out), resume=resume)
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
