"""Run directories: what a run is made from and where it lies."""

import importlib.metadata
import os
import platform
import shlex
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import datetime
from functools import partial
from pathlib import Path
from typing import Any

import torch
import yaml

from nassearch import config
from nassearch.data.dataset import load_data
from nassearch.errors import ConfigError
from nassearch.files import make_directory, write_json, write_text
from nassearch.latency.device import host_cpu_name
from nassearch.networks import Supernet
from nassearch.ops import check_space
from nassearch.pipeline.teacher import load_teacher
from nassearch.recipe import Recipe
from nassearch.space import SearchSpace
from nassearch.training import checkpoint
from nassearch.training.strategies import STRATEGIES
from nassearch.training.trainer import train

RUNS = Path("runs")
LATEST = RUNS / "latest"
DEFAULT_RECIPE = "digits"


def load_recipe(name: str, changes: dict[str, Any] | None = None) -> Recipe:
    """The recipe called `name` in experiments/, or the file `name`, with `changes` put in.

    `changes` maps dotted keys ("training.epochs") to values.
    """
    path = Path(name)
    if not name.endswith((".yaml", ".yml")):
        places = config.data_directories("experiments")
        found = [place / name / "recipe.yaml" for place in places]
        path = next((place for place in found if place.is_file()), found[0])
    content = config.read_yaml(path)
    for key, value in (changes or {}).items():
        *parents, leaf = key.split(".")
        target = content
        for parent in parents:
            target = target.setdefault(parent, {})
            if not isinstance(target, dict):
                raise ConfigError(f"'{key}' is not a key of the recipe", where=path)
        target[leaf] = value
    return config.parse(Recipe, content, where=path)


def new_run(name: str) -> Path:
    """A fresh directory name under runs/."""
    return RUNS / f"{name}-{datetime.now().strftime('%Y%m%d-%H%M%S')}"


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
    temporary = RUNS / f".latest-{os.getpid()}"
    temporary.unlink(missing_ok=True)
    temporary.symlink_to(os.path.relpath(run, RUNS), target_is_directory=True)
    temporary.replace(LATEST)


def start_run(recipe: Recipe, run: Path) -> None:
    """Write what the run is and where it runs, and make it the latest."""
    make_directory(run)
    text = yaml.safe_dump(recipe.model_dump(mode="json"), sort_keys=False, allow_unicode=True)
    write_text(run / "recipe.yaml", text)
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
    return config.load(Recipe, path)


def environment() -> dict[str, Any]:
    """Versions, hardware and commit, as recorded with every run."""
    packages = ("nassearch", "torch", "torchvision", "onnxruntime", "optuna", "ray", "numpy")
    commit = subprocess.run(
        ["git", "rev-parse", "HEAD"],
        cwd=config.ROOT,
        capture_output=True,
        text=True,
        check=False,
    ).stdout.strip()
    return {
        "python": platform.python_version(),
        **{name: importlib.metadata.version(name) for name in packages},
        "system": platform.platform(),
        "cpu": host_cpu_name(),
        "cores": os.cpu_count(),
        "gpu": torch.cuda.get_device_name() if torch.cuda.is_available() else None,
        "commit": commit or None,
        "command": command_line(),
    }


def command_line() -> str:
    """The command that was given, as it can be given again."""
    program = Path(sys.argv[0]).name
    return shlex.join(["nassearch" if program == "cli.py" else program, *sys.argv[1:]])


@contextmanager
def torch_threads(number: int | None) -> Iterator[None]:
    """PyTorch on so many threads within the block; None leaves them as they are."""
    before = torch.get_num_threads()
    torch.set_num_threads(number or before)
    try:
        yield
    finally:
        torch.set_num_threads(before)


def train_supernet(
    recipe: Recipe,
    run: Path,
    *,
    resume: bool = False,
    workers: int = 0,
    address: str | None = None,
    progress: Any = None,
) -> Supernet:
    """Train the recipe's supernet into the run directory, on Ray where workers are asked for."""
    config.resolve(STRATEGIES, recipe.training.strategy, kind="strategy")
    space = check_space(SearchSpace.load(recipe.space))
    training = recipe.training.model_copy(update={"seed": recipe.seed})
    read = None if training.teacher is None else partial(load_teacher, training.teacher)
    if workers or address is not None:
        from nassearch.training.distribution import train_on_workers

        start_run(recipe, run)
        return train_on_workers(
            space,
            recipe.data,
            recipe=training,
            out=run,
            workers=max(1, workers),
            address=address,
            resume=resume,
            load_teacher=read,
            progress=progress,
        )
    data = load_data(recipe.data, seed=recipe.seed)
    teacher = None if read is None else read(data)
    start_run(recipe, run)
    with torch_threads(recipe.threads):
        return train(
            space,
            data,
            recipe=training,
            out=run,
            resume=resume,
            teacher=teacher,
            progress=progress,
        )
