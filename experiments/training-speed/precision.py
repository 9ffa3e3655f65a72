"""Whole training steps in bfloat16 against float32, and what convolutions take of them.

    python experiments/training-speed/precision.py [--rounds 20] [--threads 1]

The recipe of experiments/cifar10-front (`cifar_dense`, Muon, one random network of 128 images a
step). Steps of both precisions take turns on the same plans; ratios are medians over rounds, with
the quartiles.
"""

import argparse
import tempfile
import time
from pathlib import Path

import numpy as np
import torch
import yaml
from rich.console import Console
from torch.profiler import ProfilerActivity, profile

from nassearch.data.dataset import Data
from nassearch.data.image_set import ImageSet
from nassearch.latency.device import host_cpu_name
from nassearch.space import SearchSpace
from nassearch.training.schedule import StepPosition
from nassearch.training.state import TrainingState, start
from nassearch.training.strategy import SubnetPass, make_strategy
from nassearch.training.trainer import train_step
from nassearch.training.training_recipe import TrainingRecipe

PLAN = yaml.safe_load(
    (Path(__file__).parents[1] / "cifar10-front" / "plan.yaml").read_text(encoding="utf-8")
)
LAST = StepPosition(PLAN["epochs"] * 100 - 1, 100)


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--rounds", type=int, default=20)
    parser.add_argument("--threads", type=int, default=1)
    arguments = parser.parse_args()
    torch.set_num_threads(arguments.threads)
    states = {name: make_state(name) for name in ("float32", "bf16")}
    seconds: dict[str, list[float]] = {name: [] for name in states}
    for number in range(-1, arguments.rounds):
        for name, state in states.items():
            began = time.perf_counter()
            step(state, number)
            if number >= 0:
                seconds[name].append(time.perf_counter() - began)
    console = Console(width=120)
    console.print(f"{host_cpu_name()}, {arguments.threads} threads, torch {torch.__version__}")
    for name, state in states.items():
        images = state.recipe.batch_size / np.median(seconds[name])
        share = share_of_convolutions(state)
        console.print(f"{name}: {images:.0f} images/s, of which convolutions take {share:.0%}")
    low, median, high = np.percentile(
        np.array(seconds["float32"]) / np.array(seconds["bf16"]), (25, 50, 75)
    )
    console.print(f"bf16 is {median:.2f} times as fast ({low:.2f} to {high:.2f})")


def make_state(precision: str) -> TrainingState:
    space = SearchSpace.load(PLAN["space"])
    generator = torch.Generator().manual_seed(0)
    images = torch.randint(0, 256, (2_000, 3, 32, 32), dtype=torch.uint8, generator=generator)
    few = ImageSet(images, torch.arange(len(images)) % 10)
    data = Data("random", tuple("0123456789"), few, few, lambda: few, mirrors=True)
    keys = {**PLAN["shared"], **PLAN["supernet"], "epochs": PLAN["epochs"], "precision": precision}
    recipe = TrainingRecipe(**keys)
    return start(space, data, recipe=recipe, out=Path(tempfile.mkdtemp()), resume=False)


def step(state: TrainingState, number: int) -> None:
    generator = torch.Generator().manual_seed(number + 1)
    size = state.recipe.batch_size
    images = torch.randn(size, 3, 32, 32, generator=generator)
    images = images.contiguous(memory_format=torch.channels_last)
    labels = torch.randint(0, 10, (size,), generator=generator)
    train_step(state, passes(state, number), images, labels)


def passes(state: TrainingState, number: int) -> tuple[SubnetPass, ...]:
    rng = np.random.default_rng(number + 1)
    return make_strategy(state.space, state.recipe).step(LAST, rng).passes


def share_of_convolutions(state: TrainingState) -> float:
    """Of a step's time on the CPU, by what each operator takes itself."""
    with profile(activities=[ProfilerActivity.CPU]) as found:
        for number in range(3):
            step(state, number)
    events = found.key_averages()
    total = sum(event.self_cpu_time_total for event in events)
    ours = sum(event.self_cpu_time_total for event in events if "conv" in event.key)
    return ours / total


if __name__ == "__main__":
    main()
