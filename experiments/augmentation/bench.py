"""What images cost: each augmentation of the recipe, and decoding a folder of small files.

Microseconds an image, one thread: the median over rounds in which all take turns, with the 10th
and 90th percentile. `nothing` is a batch that is only picked and normalised; what an option costs
is its line less that one. Files are JPEGs made here, decoded by 0, 1 and 2 worker processes.

    python experiments/augmentation/bench.py [--pixels 32] [--rounds 15]
"""

import argparse
import platform
import tempfile
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import torch
from PIL import Image
from rich.console import Console
from rich.table import Table

from nassearch.data.dataset import Data
from nassearch.data.image_folder import read
from nassearch.data.image_set import ImageSet
from nassearch.latency.device import host_cpu_name
from nassearch.space import SearchSpace
from nassearch.training.batch import epoch_batches
from nassearch.training.state import start
from nassearch.training.training_recipe import TrainingRecipe

BATCH, FILES = 128, 8000
OPTIONS: dict[str, dict[str, object]] = {
    "nothing": {},
    "crop_padding and flip": {"crop_padding": None, "flip": True},
    "random_resized_crop": {"random_resized_crop": 0.35},
    "trivialaugment": {"auto_augment": "trivialaugment"},
    "randaugment": {"auto_augment": "randaugment"},
    "random_erasing": {"random_erasing": 1.0},
    "mixup": {"mixup": 0.2},
    "cutmix": {"cutmix": 1.0},
}


def noise(count: int, pixels: int) -> ImageSet:
    generator = torch.Generator().manual_seed(0)
    shape = (count, 3, pixels, pixels)
    images = torch.randint(0, 256, shape, dtype=torch.uint8, generator=generator)
    return ImageSet(images, torch.arange(count) % 10)


def batch_of(options: dict[str, object], pixels: int, out: Path) -> Callable[[], object]:
    """One batch, made as in a training."""
    recipe = TrainingRecipe.model_validate(
        {"batch_size": BATCH, "crop_padding": 0, "flip": False, **options}
    )
    images = noise(BATCH, pixels)
    data = Data("noise", tuple("abcdefghij"), images, images, lambda: images, mirrors=True)
    space = SearchSpace.load("digits_tiny")
    run = start(space, data, recipe=recipe, out=out, resume=False)
    return lambda: next(epoch_batches(run))


def folder_of(pixels: int, place: Path) -> Path:
    for number, image in enumerate(noise(FILES, pixels).images):
        path = place / "train" / str(number % 2) / f"{number}.jpg"
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(image.permute(1, 2, 0).numpy()).save(path)
    (place / "test").mkdir()
    return place


def in_turns(calls: dict[str, Callable[[], object]], *, rounds: int) -> dict[str, np.ndarray]:
    """Seconds of every call in every round; the first round warms up."""
    found: dict[str, list[float]] = {name: [] for name in calls}
    for _ in range(rounds + 1):
        for name, call in calls.items():
            began = time.perf_counter()
            call()
            found[name].append(time.perf_counter() - began)
    return {name: np.array(seconds[1:]) for name, seconds in found.items()}


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--pixels", type=int, default=32)
    parser.add_argument("--rounds", type=int, default=15)
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    table = Table("what", "median µs/image", "p10", "p90")
    with tempfile.TemporaryDirectory() as temporary:
        place = Path(temporary)
        batches = {
            name: batch_of(options, arguments.pixels, place / str(number))
            for number, (name, options) in enumerate(OPTIONS.items())
        }
        _, files, _ = read(folder_of(arguments.pixels, place / "images"), None)
        everything = torch.arange(FILES)
        decoding = {
            f"decoding, {count} processes": lambda count=count: replace(
                files, num_processes=count
            ).where(everything)
            for count in (0, 1, 2)
        }
        few = max(3, arguments.rounds // 3)
        for calls, count, rounds in ((batches, BATCH, arguments.rounds), (decoding, FILES, few)):
            for name, seconds in in_turns(calls, rounds=rounds).items():
                low, median, high = np.percentile(seconds * 1e6 / count, (10, 50, 90))
                table.add_row(name, f"{median:.0f}", f"{low:.0f}", f"{high:.0f}")
    console = Console()
    console.print(table)
    versions = f"python {platform.python_version()}, torch {torch.__version__}"
    console.print(f"{host_cpu_name()}, {versions}")


if __name__ == "__main__":
    main()
