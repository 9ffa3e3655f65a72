"""CPU seconds of every condition's training, from steps timed in turn.

The runs shared their machine, so their own clocks say little. CPU time on one thread is less
disturbed by neighbours; the conditions take turns, so what disturbs one disturbs all.
"""

import tempfile
import time
from pathlib import Path

import numpy as np
import torch
from rich.console import Console

from nassearch.data.dataset import Data
from nassearch.data.seeding import Stream, numpy_generator
from nassearch.space import SearchSpace
from nassearch.training.allocator import keep_buffers
from nassearch.training.schedule import StepPosition
from nassearch.training.state import TrainingState, freeze_teacher, start
from nassearch.training.strategy import make_strategy
from nassearch.training.trainer import train_step
from nassearch.training.training_recipe import TrainingRecipe

MOMENTS = 24


def time_conditions(space: SearchSpace, data: Data, recipes: dict[str, TrainingRecipe]) -> None:
    """Time steps at moments spread evenly over each condition's training."""
    torch.set_num_threads(1)
    keep_buffers()
    runs = {name: begin(space, data, recipe) for name, recipe in recipes.items()}
    images = data.normalise(data.train.where(torch.arange(64)).images)
    images = images.contiguous(memory_format=torch.channels_last)
    labels = data.train.labels[:64]
    taken: dict[str, list[float]] = {name: [] for name in runs}
    for share in [0.0, *np.linspace(0, 1, MOMENTS, endpoint=False)]:  # the first warms up
        for name, run in runs.items():
            moment = StepPosition(int(share * run.total_steps), run.steps_per_epoch)
            rng = numpy_generator(0, Stream.SUBNETS, moment.step)
            step = make_strategy(space, run.recipe).step(moment, rng)
            train_step(run, step.passes, images, labels)
            if run.recipe.strategy == "progressive-shrinking" and moment.step and not run.teacher:
                freeze_teacher(run)
            began = time.process_time()
            train_step(run, step.passes, images, labels)
            taken[name].append(time.process_time() - began)
    console = Console()
    for name, run in runs.items():
        seconds = np.array(taken[name][1:])
        error = seconds.std() / len(seconds) ** 0.5
        console.print(
            f"| {name} | {run.total_steps * seconds.mean():.0f} ± {run.total_steps * error:.0f} |"
        )


def begin(space: SearchSpace, data: Data, recipe: TrainingRecipe) -> TrainingState:
    return start(space, data, recipe=recipe, out=Path(tempfile.mkdtemp()), resume=False)
