# ruff: noqa: T201
"""Evaluating networks of ImageNet's size against running them as plain torch modules.

    python experiments/pretrained/throughput.py [--images 200] [--networks 4]

A network of `mobilenet_v3` is drawn from a supernet with random weights, its norms are recalibrated
on some images and its accuracy is measured on as many others: what a search does for a candidate.
Beside it the extracted network alone runs the same batches. Both are timed in processor seconds of
one thread, turn and turn about, so that a busy machine slows both; the images are generated.
Printed is the share of the plain network's images per second that the evaluation reaches.
"""

import argparse
import time
from collections.abc import Callable

import numpy as np
import torch

from nassearch.data.dataset import Data
from nassearch.data.image_set import ImageSet
from nassearch.networks import Supernet
from nassearch.networks.supernet import resize
from nassearch.space import SearchSpace
from nassearch.training.evaluation import Evaluator

BATCH = 100


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--images", type=int, default=200)
    parser.add_argument("--networks", type=int, default=4)
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    space = SearchSpace.load("mobilenet_v3")
    data = generated(arguments.images, classes=space.num_classes)
    supernet = Supernet(space).eval()
    evaluator = Evaluator(supernet, data, batch_size=BATCH)
    print("| pixels | images/s, plain | images/s, evaluated | share |")
    print("|---|---|---|---|")
    shares = []
    for architecture in space.sample_many(np.random.default_rng(0), arguments.networks):
        pixels = architecture.resolution
        subnet = supernet.extract(architecture).eval()
        splits = (data.train.images, data.val.images)
        batches = [
            resize(data.normalise(batch), pixels)
            for images in splits
            for batch in images.split(BATCH)
        ]

        def plain(subnet: torch.nn.Module = subnet, batches: list[torch.Tensor] = batches) -> None:
            with torch.inference_mode():
                for batch in batches:
                    subnet(batch)

        def evaluate(architecture: object = architecture) -> None:
            evaluator.accuracy(architecture)  # type: ignore[arg-type]

        evaluate()  # the images of a resolution are prepared once in a search
        seconds = turns((plain, evaluate), rounds=3)
        rates = [2 * arguments.images / value for value in seconds]
        shares.append(rates[1] / rates[0])
        print(f"| {pixels} | {rates[0]:.0f} | {rates[1]:.0f} | {shares[-1]:.2f} |", flush=True)
    print(f"\nmedian share: {np.median(shares):.2f}")


def turns(functions: tuple[Callable[[], None], ...], *, rounds: int) -> list[float]:
    """The median processor seconds of each function, in turn."""
    taken: list[list[float]] = [[] for _ in functions]
    for _ in range(rounds):
        for function, seconds in zip(functions, taken, strict=True):
            began = time.process_time()
            function()
            seconds.append(time.process_time() - began)
    return [float(np.median(seconds)) for seconds in taken]


def generated(count: int, *, classes: int) -> Data:
    """Images of noise, `count` to train and as many to validate."""
    generator = torch.Generator().manual_seed(0)

    def images() -> ImageSet:
        shape = (count, 3, 224, 224)
        pixels = torch.randint(0, 256, shape, dtype=torch.uint8, generator=generator)
        return ImageSet(pixels, torch.arange(count) % classes)

    names = tuple(f"class {number}" for number in range(classes))
    return Data("noise", names, images(), images(), images, mirrors=True)


if __name__ == "__main__":
    main()
