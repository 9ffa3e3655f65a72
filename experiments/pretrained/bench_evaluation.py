"""How fast subnets of ImageNet's size are evaluated, beside plain torch inference of the same ones.

    python experiments/pretrained/bench_evaluation.py --rounds 5

An evaluation extracts a subnet, recalibrates its norms on training images and measures it on
validation images. Plain inference is the extracted network in evaluation mode on prepared batches
of the same size. They are interleaved in one process on one thread and timed by the processor's
clock, so that other work on the machine counts little; a ratio is the median over rounds of that
within a round. `validate` is of the pass over validation images alone, `whole` of both passes and
the extraction. What it takes to decode and resize is kept by the evaluator and is not in them.
"""

import argparse
import time
from collections.abc import Callable
from statistics import median

import numpy as np
import torch
from rich.console import Console

from nassearch.data.dataset import Data
from nassearch.data.image_set import ImageSet, in_memory
from nassearch.data.preprocessing import IMAGENET, Recalibration
from nassearch.networks import Supernet
from nassearch.space import Architecture, SearchSpace
from nassearch.training.evaluation import Evaluator

CLASSES = tuple(map(str, range(1000)))


def noise(count: int) -> ImageSet:
    """Photos of 256 pixels in which there is nothing to see."""
    rng = np.random.default_rng(0)
    pixels = rng.integers(0, 256, (count, 3, 256, 256), dtype=np.uint8)
    return ImageSet(torch.from_numpy(pixels), torch.arange(count) % len(CLASSES))


def seconds(run: Callable[[], object]) -> float:
    began = time.process_time()
    run()
    return time.process_time() - began


def architectures(space: SearchSpace, resolutions: list[int]) -> list[Architecture]:
    """The ends of the space and a network in between, at each resolution."""
    middle = space.sample(np.random.default_rng(0))
    return [
        Architecture(resolution, network.stages)
        for resolution in resolutions
        for network in (space.smallest, middle, space.largest)
    ]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--space", default="mobilenet_v3")
    parser.add_argument("--images", type=int, default=128, help="to recalibrate, and to validate")
    parser.add_argument("--batch", type=int, default=32)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--resolutions", type=int, nargs="+", default=[128, 224])
    arguments = parser.parse_args()
    console = Console(highlight=False)
    torch.set_num_threads(1)
    space = SearchSpace.load(arguments.space)
    images = noise(arguments.images)
    said = IMAGENET.model_copy(
        update={
            "recalibration": Recalibration(
                images=arguments.images, random_resized_crop=0.08, flip=True
            )
        }
    )
    data = Data("noise", CLASSES, images, images, lambda: images, mirrors=True, preprocessing=said)
    torch.manual_seed(0)
    evaluator = Evaluator(Supernet(space).eval(), data, batch_size=arguments.batch)
    validate: list[float] = []
    whole: list[float] = []
    for architecture in architectures(space, arguments.resolutions):
        ratios = compare(evaluator, data, architecture, arguments.batch, arguments.rounds)
        validate.append(median(row[0] for row in ratios))
        whole.append(median(row[1] for row in ratios))
        console.print(
            f"{architecture.id} at {architecture.resolution}: validate {validate[-1]:.3f},"
            f" whole {whole[-1]:.3f} of plain inference"
        )
    for name, values in (("validate", validate), ("whole", whole)):
        console.print(f"{name}: median {median(values):.3f}, smallest {min(values):.3f}")


def compare(
    evaluator: Evaluator, data: Data, architecture: Architecture, batch: int, rounds: int
) -> list[tuple[float, float]]:
    """For each round the throughput of a validation pass, and of a whole evaluation, as shares."""
    resolution, count = architecture.resolution, len(data.val)
    network = evaluator.subnet(architecture)
    inputs = data.inputs(in_memory(data.fitted(data.val, resolution)).images, resolution)

    def infer() -> None:
        with torch.inference_mode():
            for part in inputs.split(batch):
                network(part)

    def evaluate() -> None:
        evaluator.accuracy(architecture)

    def recalibrate() -> None:
        evaluator.subnet(architecture)

    found = []
    for run in (infer, evaluate):  # once before it counts: the evaluator keeps its images
        run()
    for _ in range(rounds):
        plain, both, before = (seconds(run) for run in (infer, evaluate, recalibrate))
        found.append((plain / (both - before), 2 * plain / both))
    assert count == len(inputs)
    return found


if __name__ == "__main__":
    main()
