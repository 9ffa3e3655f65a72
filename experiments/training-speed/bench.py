"""How fast and in how much memory a sandwich step runs.

    python experiments/training-speed/bench.py [--rounds 6] [--threads 2]

`mobilenet_v3` at 64 pixels, batches of 64. Everything runs in one process, turn and turn about; a
figure is a median, ratios are medians over rounds. "plain" is the straightforward implementation:
NCHW float32 with the C library's own allocator settings; "ours" is what a training uses.
"""

import argparse
import ctypes
import multiprocessing
import tempfile
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F
from rich.console import Console
from torch import Tensor, nn
from torchvision.models import mobilenet_v3_large

from nassearch.data.dataset import Data
from nassearch.data.image_set import ImageSet
from nassearch.latency.device import host_cpu_name
from nassearch.space import SearchSpace
from nassearch.training.allocator import keep_buffers
from nassearch.training.state import TrainingState, start
from nassearch.training.strategy import SubnetPass
from nassearch.training.trainer import train_step
from nassearch.training.training_recipe import TrainingRecipe

BATCH, PIXELS, CLASSES = 64, 64, 1000
GLIBC_DEFAULT = 128 * 1024


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--rounds", type=int, default=6)
    parser.add_argument("--threads", type=int, default=2)
    arguments = parser.parse_args()
    torch.set_num_threads(arguments.threads)
    console = Console(width=120)
    console.print(
        f"{host_cpu_name()}, {arguments.threads} threads, torch {torch.__version__},"
        f" {arguments.rounds} rounds, batch {BATCH} at {PIXELS} pixels"
    )
    steps, parts = workloads()
    seconds = {name: [] for name in steps}
    for number in range(arguments.rounds + 1):
        for name, step in steps.items():
            began = time.perf_counter()
            step()
            if number:
                seconds[name].append(time.perf_counter() - began)
    for name, taken in seconds.items():
        low, median, high = np.percentile(taken, (10, 50, 90))
        console.print(f"{name:<24}{BATCH / median:>8.0f} images/s  ({1e3 * median:.0f} ms,"
                      f" {1e3 * low:.0f} to {1e3 * high:.0f})")  # fmt: skip
    ratio = partial(median_ratio, seconds)
    console.print(f"ours over plain, sandwich step: {ratio(['plain sandwich'], ['sandwich']):.2f}")
    console.print(f"ours over plain, largest: {ratio(['plain largest'], ['largest']):.2f}")
    console.print(f"sandwich over the sum of its networks: {ratio(['sandwich'], parts):.3f}")
    whole, single = (peak_bytes(what, arguments.threads) for what in ("sandwich", "largest"))
    console.print(
        f"peak memory of the steps: sandwich {whole / 2**20:.0f} MiB, largest"
        f" {single / 2**20:.0f} MiB, ratio {whole / single:.3f}"
    )


def median_ratio(seconds: dict[str, list[float]], above: list[str], below: list[str]) -> float:
    rows = zip(*(seconds[name] for name in (*above, *below)), strict=True)
    return float(np.median([sum(row[: len(above)]) / sum(row[len(above) :]) for row in rows]))


def workloads() -> tuple[dict[str, Callable[[], object]], list[str]]:
    """What is timed, by name, and the names of the sandwich's networks as plain modules."""
    run = make_run()
    rng = np.random.default_rng(0)
    space = run.space
    randoms = [space.sample(rng) for _ in range(2)]
    sandwich = (
        SubnetPass(space.largest),
        *(SubnetPass(each, 1.0, "in-place") for each in (space.smallest, *randoms)),
    )
    images, labels = batch()
    last = images.contiguous(memory_format=torch.channels_last)
    plain = {
        name: run.supernet.extract(each).train()
        for name, each in zip(
            ("max", "min", "random 1", "random 2"), (p.architecture for p in sandwich), strict=True
        )
    }
    peer = mobilenet_v3_large().train()
    steps: dict[str, Callable[[], object]] = {
        "largest": partial(train_step, run, sandwich[:1], last, labels),
        "smallest": partial(train_step, run, (SubnetPass(space.smallest),), last, labels),
        "random": partial(train_step, run, (SubnetPass(randoms[0]),), last, labels),
        "sandwich": partial(train_step, run, sandwich, last, labels),
        **{f"alone: {name}": partial(learn, net, last, labels) for name, net in plain.items()},
        "plain largest": as_plain(partial(train_step, run, sandwich[:1], images, labels)),
        "plain sandwich": as_plain(partial(train_step, run, sandwich, images, labels)),
        "torchvision, plain": as_plain(partial(learn, peer, images, labels)),
        "torchvision, ours": partial(learn, peer, last, labels),
    }
    return steps, [f"alone: {name}" for name in plain]


def learn(network: nn.Module, images: Tensor, labels: Tensor) -> None:
    """Forward, backward and a step of SGD."""
    F.cross_entropy(network(images), labels, label_smoothing=0.1).backward()
    with torch.no_grad():
        for parameter in network.parameters():
            if parameter.grad is not None:
                parameter.sub_(parameter.grad, alpha=1e-6)
                parameter.grad = None


def as_plain(step: Callable[[], object]) -> Callable[[], None]:
    """`step` with the C library's allocator as it is by itself."""
    mallopt = ctypes.CDLL(None).mallopt

    def run() -> None:
        for parameter in (-1, -3):  # trim and mmap thresholds
            mallopt(parameter, GLIBC_DEFAULT)
        step()
        keep_buffers()

    return run


def make_run() -> TrainingState:
    space = SearchSpace.load("mobilenet_v3").to_dict()
    space = SearchSpace.from_dict({**space, "resolution": PIXELS})
    few = ImageSet(
        torch.randint(0, 256, (2 * CLASSES, 3, PIXELS, PIXELS), dtype=torch.uint8),
        torch.arange(2 * CLASSES) % CLASSES,
    )
    names = tuple(map(str, range(CLASSES)))
    data = Data("random", names, few, few, lambda: few, mirrors=True)
    out = Path(tempfile.mkdtemp())
    return start(space, data, recipe=TrainingRecipe(lr=1e-6), out=out, resume=False)


def batch() -> tuple[Tensor, Tensor]:
    generator = torch.Generator().manual_seed(0)
    images = torch.randn(BATCH, 3, PIXELS, PIXELS, generator=generator)
    return images, torch.randint(0, CLASSES, (BATCH,), generator=generator)


def peak_bytes(what: str, threads: int) -> float:
    """What the steps of one kind add to the resident memory of a process of their own."""
    context = multiprocessing.get_context("spawn")
    receiver, sender = context.Pipe(duplex=False)
    process = context.Process(target=measure_peak, args=(what, threads, sender))
    process.start()
    found: float = receiver.recv()
    process.join()
    return found


def measure_peak(what: str, threads: int, sender: "multiprocessing.connection.Connection") -> None:
    torch.set_num_threads(threads)
    steps, _ = workloads()
    steps["smallest"]()  # momenta and thread pools exist before
    ctypes.CDLL(None).malloc_trim(0)
    Path("/proc/self/clear_refs").write_text("5")  # the high-water mark starts anew (proc(5))
    before = memory("VmRSS")
    for _ in range(3):
        steps[what]()
    sender.send(memory("VmHWM") - before)


def memory(field: str) -> int:
    """A figure of this process in bytes, by its name in /proc/self/status."""
    lines = Path("/proc/self/status").read_text().splitlines()
    found = next(line for line in lines if line.startswith(f"{field}:"))
    return 1024 * int(found.split()[1])


if __name__ == "__main__":
    main()
