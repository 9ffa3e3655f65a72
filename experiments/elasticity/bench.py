"""What elasticity costs: forward and backward of supernet(x, arch) against the extracted network.

Both run the same batch in the same process, turn and turn about; the figure is the median of the
ratios of neighbours, with its 10th and 90th percentile. The noise floor is the same figure for the
extracted network against itself.

    python experiments/elasticity/bench.py [--rounds 15] [--threads 1]
"""

import argparse
import platform
import time
from collections.abc import Callable
from functools import partial

import numpy as np
import torch
from rich.console import Console
from rich.table import Table

from nassearch.latency.device import host_cpu_name
from nassearch.networks import Supernet
from nassearch.space import SearchSpace

WORKLOADS = (("digits_tiny", 8, 64), ("mobilenet_v3", 64, 64))


def at_resolution(name: str, resolution: int) -> SearchSpace:
    """The space called `name` with one resolution."""
    content = SearchSpace.load(name).to_dict()
    return SearchSpace.from_dict({**content, "resolution": resolution})


def step(network: Callable[[torch.Tensor], torch.Tensor], images: torch.Tensor) -> None:
    """One forward and backward pass."""
    network(images).sum().backward()


def ratios(
    first: Callable[[], object], second: Callable[[], object], *, rounds: int
) -> tuple[float, float, float]:
    """Median, 10th and 90th percentile of time(first) / time(second), neighbours compared."""
    found = []
    for number in range(rounds + 2):
        pair = (first, second) if number % 2 else (second, first)
        seconds = {}
        for call in pair:
            start = time.perf_counter()
            call()
            seconds[call] = time.perf_counter() - start
        found.append(seconds[first] / seconds[second])
    low, median, high = np.percentile(found[2:], (10, 50, 90))
    return float(median), float(low), float(high)


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--rounds", type=int, default=15)
    parser.add_argument("--threads", type=int, default=1)
    arguments = parser.parse_args()
    torch.set_num_threads(arguments.threads)
    rng = np.random.default_rng(0)
    table = Table("space", "network", "supernet / extracted", "10-90 %", "noise floor")
    for name, resolution, batch in WORKLOADS:
        space = at_resolution(name, resolution)
        supernet = Supernet(space).train()
        images = torch.randn(batch, space.in_channels, resolution, resolution)
        networks = {"max": space.largest, "min": space.smallest, "random": space.sample(rng)}
        for label, architecture in networks.items():
            calls = [
                partial(step, run, images)
                for run in (
                    partial(supernet, architecture=architecture),
                    supernet.extract(architecture),
                    supernet.extract(architecture),
                )
            ]
            median, low, high = ratios(calls[0], calls[1], rounds=arguments.rounds)
            floor, *_ = ratios(calls[2], calls[1], rounds=arguments.rounds)
            table.add_row(
                f"{name} {resolution} px, batch {batch}",
                label,
                f"{median:.3f}",
                f"{low:.3f} to {high:.3f}",
                f"{floor:.3f}",
            )
    console = Console(width=120)
    console.print(table)
    console.print(
        f"{host_cpu_name()}, {arguments.threads} thread(s), torch {torch.__version__},"
        f" Python {platform.python_version()}, {arguments.rounds} rounds"
    )


if __name__ == "__main__":
    main()
