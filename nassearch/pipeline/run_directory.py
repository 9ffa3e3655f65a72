"""Run directories: what a run is made from and where it lies."""

import importlib.metadata
import os
import platform
import secrets
import shlex
import subprocess
import sys
import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from datetime import datetime
from pathlib import Path
from typing import Any

import torch

from nassearch import config
from nassearch.data.dataset import Data
from nassearch.data.identity import DataIdentity
from nassearch.data.loading import AnyData, load_data, names_code, restore_data
from nassearch.data.location import located_data, located_path, portable_data, portable_path
from nassearch.data.preprocessing import Preprocessing
from nassearch.errors import ConfigError, DataError
from nassearch.files import make_directory, write_json, write_text
from nassearch.latency.device import host_cpu_name
from nassearch.ops import check_space
from nassearch.recipe import Recipe
from nassearch.space import SearchSpace
from nassearch.training import checkpoint
from nassearch.training.training_recipe import TrainingRecipe

RUNS = Path("runs")
LATEST = RUNS / "latest"
DEFAULT_RECIPE = "digits"
NO_IMAGES = "none"
"""The data of a run that was imported without images."""
_YAML = (".yaml", ".yml")


def load_recipe(name: str, changes: dict[str, Any] | None = None) -> Recipe:
    """The recipe called `name` in experiments/, or the file `name`, with `changes` put in.

    `changes` maps dotted keys ("training.epochs") to values.
    """
    path = Path(name)
    if path.suffix.lower() not in _YAML:
        places = config.data_directories("experiments")
        found = [place / name / "recipe.yaml" for place in places]
        path = next((place for place in found if place.is_file()), found[0])
    content = config.read_yaml(path)
    if not isinstance(content, dict):
        raise ConfigError(
            "must be a mapping of keys to values",
            where=path,
            fix="write space: NAME and data: NAME, one key a line",
        )
    if not (path.parent / "checkpoints").exists():
        config.look_beside(path)
    for key, value in (changes or {}).items():
        *parents, leaf = key.split(".")
        target = content
        for parent in parents:
            target = target.setdefault(parent, {})
            if not isinstance(target, dict):
                error = ConfigError(
                    f"'{key}' is not a key of the recipe",
                    where=path,
                    fix=f"'{parent}' holds a value: set it itself, or a key of a mapping",
                )
                error.key = key
                raise error
        target[leaf] = value
    return _located(config.parse(Recipe, content, where=path), path.parent)


def _located(recipe: Recipe, directory: Path) -> Recipe:
    """The recipe of a file in `directory`, with paths as this process finds them."""
    return recipe.model_copy(
        update={
            "training": _with_start(recipe.training, located_path, directory),
            "data": located_data(recipe.data, directory),
            "space": located_path(recipe.space, directory),
        }
    )


def _portable(recipe: Recipe, directory: Path) -> Recipe:
    """The recipe as a file in `directory` holds it, wherever that is moved to."""
    is_file = Path(recipe.space).suffix.lower() in _YAML
    return recipe.model_copy(
        update={
            "training": _with_start(recipe.training, portable_path, directory),
            "data": portable_data(recipe.data, directory),
            "space": portable_path(recipe.space, directory) if is_file else recipe.space,
        }
    )


def _with_start(
    training: TrainingRecipe, spelled: Callable[[str, Path], str], directory: Path
) -> TrainingRecipe:
    """The training with the run that it started from spelled anew."""
    if training.start_from is None:
        return training
    return training.model_copy(update={"start_from": spelled(training.start_from, directory)})


def new_run(name: str) -> Path:
    """A directory name under runs/ that no other run has, also of those that begin just now."""
    started = datetime.now().strftime("%Y%m%d-%H%M%S")
    return RUNS / f"{name}-{started}-{secrets.token_hex(2)}"


def choose_run(name: str | None, out: Path | None, *, resume: bool) -> Path:
    """The directory of a run: `out`, the latest run to resume, or a new one."""
    if out is not None:
        return out
    if resume:
        if not LATEST.is_dir():
            raise ConfigError("there is no run to resume", where=LATEST, fix="name it with --out")
        return LATEST.resolve()
    return new_run(name or DEFAULT_RECIPE)


def load_space(name: str | None, run: Path) -> SearchSpace:
    """The space called `name`, or that of a run's supernet, or the default recipe's.

    `name` may be a space's name, its file, or a run's directory.
    """
    if name is not None and checkpoint.paths(Path(name)):
        return checkpoint.load(Path(name)).space
    if name is not None:
        return check_space(SearchSpace.load(name))
    if checkpoint.paths(run):
        return checkpoint.load(run).space
    return check_space(SearchSpace.load(load_recipe(DEFAULT_RECIPE).space))


def link_latest(run: Path) -> None:
    """Let runs/latest name this run."""
    make_directory(RUNS)
    # a tree that was copied, with its links followed, has a directory there
    if LATEST.is_dir() and not LATEST.is_symlink():
        aside = new_run(LATEST.name)
        LATEST.rename(aside)
        warnings.warn(f"{LATEST} was a directory, not a link: it is {aside} now", stacklevel=2)
    temporary = RUNS / f".latest-{os.getpid()}"
    temporary.unlink(missing_ok=True)
    try:
        temporary.symlink_to(os.path.relpath(run, RUNS), target_is_directory=True)
        temporary.replace(LATEST)
    except OSError as error:  # some disks hold no links, and Windows asks for a right to make one
        with suppress(OSError):
            LATEST.unlink()  # it named another run
        reason = error.strerror or error
        warnings.warn(
            f"{LATEST} cannot be linked to {run} ({reason}); name the run with --supernet",
            stacklevel=2,
        )


def start_run(recipe: Recipe, run: Path) -> None:
    """Write what the run is and where it runs, and make it the latest."""
    content = _portable(recipe, run).model_dump(mode="json")
    write_text(run / "recipe.yaml", config.dump_yaml(content))
    write_json(run / "environment.json", environment())
    link_latest(run)


def run_recipe(run: Path) -> Recipe:
    """The recipe a run was started with; ConfigError where `run` is none."""
    path = run / "recipe.yaml"
    if not path.is_file():
        raise ConfigError(
            "is not a run: it has no recipe.yaml",
            where=run,
            fix="train one with 'nassearch train-supernet', or name one with --supernet",
        )
    return _located(config.load(Recipe, path), run)


def run_data(run: Path, override: AnyData | None = None) -> Data:
    """The images that a run's supernet was trained on, split as they were then.

    Args:
        run: A run directory with a checkpoint.
        override: Where the images lie now, or the images themselves; by default where the run's
            recipe says.

    Raises:
        DataError: they are not there, or are others than the checkpoint recorded (its classes in
            order, the files' names and sizes, the split).
    """
    recipe, saved = run_recipe(run), checkpoint.load(run)
    seed = int(saved.recipe.get("seed", recipe.seed))
    if not saved.data:
        if override is None:
            raise no_images(run)
        said = override.preprocessing if isinstance(override, Data) else recipe.preprocessing
        data = load_images(override, saved.space, preprocessing=said, seed=seed)
        check_images(data, saved.space, fix=new_classifier(run, data))
        return data
    identity = DataIdentity.from_dict(saved.data)
    if override is not None:
        return restore_data(override, identity, seed=seed)
    if names_code(recipe.data):
        raise DataError(
            f"its images are made by code, {recipe.data}, which opening a run does not run",
            where=run,
            fix=f"name it: --data {recipe.data}",
        )
    try:
        return restore_data(recipe.data, identity, seed=seed)
    except DataError as error:
        if "--data" in error.fix:
            raise
        fix = f"{error.fix}; or say with --data where the images lie now".removeprefix("; or ")
        raise DataError(error.what, where=error.where, fix=fix) from error


def load_images(
    source: AnyData, space: SearchSpace, *, preprocessing: Preprocessing, seed: int
) -> Data:
    """Images for the networks of a space; cropped ones are kept at its largest resolution."""
    pixels = space.resolutions[-1] if preprocessing.resize.is_crop else None
    return load_data(source, seed=seed, preprocessing=preprocessing, pixels=pixels)


def no_images(run: Path) -> DataError:
    """What is raised where images are asked for that an imported run does not have."""
    return DataError(
        "was imported without images, and this needs them",
        where=run,
        fix="name images of its classes with --data; for a search without any:"
        " --objective zero_cost --objective latency",
    )


def check_images(data: Data, space: SearchSpace, *, fix: str) -> None:
    """DataError unless images have the channels and as many classes as an imported network."""
    if data.in_channels != space.in_channels:
        raise DataError(
            f"has images of {data.in_channels} channels, the network takes {space.in_channels}",
            where=data.name,
            fix="give images of as many channels",
        )
    if space.definition.outputs is not None and not data.has_targets:
        raise DataError(
            f"holds classes, the network gives {', '.join(space.definition.outputs)}",
            where=data.name,
            fix="give images with targets of your own, load_data(..., collate=...)",
        )
    if not data.has_targets and data.num_classes != space.num_classes:
        raise DataError(
            f"holds {data.num_classes} classes, the network tells {space.num_classes} apart",
            where=data.name,
            fix=fix,
        )


def new_classifier(run: Path, data: Data) -> str:
    """How an imported supernet learns the classes of other images."""
    return (
        "import it without these images, and give it their classifier: nassearch"
        f" train-supernet --from {run} --data {data.name} --epochs 10"
    )


def environment() -> dict[str, Any]:
    """Versions, hardware and commit, as recorded with every run."""
    packages = ("nassearch", "torch", "torchvision", "onnxruntime", "optuna", "ray", "numpy")
    return {
        "python": platform.python_version(),
        **{name: importlib.metadata.version(name) for name in packages},
        "system": platform.platform(),
        "cpu": host_cpu_name(),
        "cores": os.cpu_count(),
        "gpu": torch.cuda.get_device_name() if torch.cuda.is_available() else None,
        "commit": _commit(),
        "command": command_line(),
    }


def _commit() -> str | None:
    """The commit of a source checkout; None elsewhere, and where there is no git."""
    try:
        answer = subprocess.run(
            ["git", "rev-parse", "HEAD"],
            cwd=config.ROOT,
            capture_output=True,
            text=True,
            check=False,
        )
    except OSError:
        return None
    return answer.stdout.strip() or None


def command_line() -> str:
    """The command that was given, as it can be given again."""
    program = Path(sys.argv[0]).name
    return shlex.join(
        ["nassearch" if program in ("cli.py", "__main__.py") else program, *sys.argv[1:]]
    )


@contextmanager
def torch_threads(number: int | None) -> Iterator[None]:
    """PyTorch on so many threads within the block; None leaves them as they are."""
    before = torch.get_num_threads()
    torch.set_num_threads(number or before)
    try:
        yield
    finally:
        torch.set_num_threads(before)
