"""What spaces cost and what merging large kernels saves, measured on this machine, as tables.

Loading and sampling a space of 10^30 networks; the import; generated spaces; and, for each kernel
size, whether the merged large kernel agrees with its trained branches and how much faster it is.
Branched and merged run the same images in the same process, turn and turn about; the speed-up is
the median of the ratios of neighbours, with its 10th and 90th percentile. A floor is the same
figure for the merged form against another copy of itself.

    python experiments/spaces/bench.py [--rounds 30] [--threads 1] [--quick]
"""

import argparse
import itertools
import platform
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path

import numpy as np
import onnxruntime as ort
import torch
import yaml
from rich.console import Console
from rich.table import Table
from torch import nn

from nassearch.latency.device import host_cpu_name
from nassearch.networks.activation_memory import peak_activation_bytes
from nassearch.networks.cost import network_cost
from nassearch.networks.onnx_graph import to_onnx
from nassearch.networks.subnet import Subnet
from nassearch.ops import static_op
from nassearch.ops.large_kernel import BranchedLargeKernel, branches_of
from nassearch.space import BlockSpec, SearchSpace, lower

KERNELS = (5, 7, 9, 13, 17, 31)
SHAPES = ((40, 56), (80, 28), (160, 14))  # channels and pixels of large_kernel's stages at 224
RUNTIMES = ("torch", "onnxruntime")
AGREEMENT = 1e-5
SPEEDUP = 1.5
LOAD_SECONDS, SAMPLE_SECONDS, SAMPLES = 0.2, 2.0, 100_000
Call = Callable[[], object]


class Kernel(nn.Module):
    """What the merge replaces, alone: the depthwise kernel with or without its branches."""

    def __init__(self, branched: BranchedLargeKernel, *, reparameterize: bool) -> None:
        super().__init__()
        self.branched = branched
        self.large = branched.reparameterize().depthwise if reparameterize else None

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        if self.large is not None:
            return self.large(images)
        out = self.branched.block.depthwise(images)
        for name, branch in self.branched.branches.items():
            out = out + self.branched.scales[name] * branch(images)
        return out


def ratios(first: Call, second: Call, *, rounds: int) -> tuple[float, float, float]:
    """Median, 10th and 90th percentile of time(first) / time(second), neighbours compared."""
    found = []
    for number in range(rounds + 2):
        seconds = {}
        for call in (first, second) if number % 2 else (second, first):
            start = time.perf_counter()
            call()
            seconds[call] = time.perf_counter() - start
        found.append(seconds[first] / seconds[second])
    low, median, high = np.percentile(found[2:], (10, 50, 90))
    return float(median), float(low), float(high)


def median_and_worst(call: Call, *, times: int = 5) -> tuple[float, float]:
    """Median and worst seconds of a few calls."""
    found = []
    for _ in range(times):
        start = time.perf_counter()
        call()
        found.append(time.perf_counter() - start)
    return float(np.median(found)), max(found)


def verdict(value: float, target: float, *, most: bool) -> str:
    """'reached', or by how much not."""
    reached = value <= target if most else value >= target
    return "reached" if reached else f"not reached ({value / target:.2f} of the target)"


def space_of_1e30() -> dict[str, object]:
    """once-for-all's MobileNetV3 stages, up to seven deep: over 10^30 networks."""
    content = SearchSpace.load("mobilenet_v3").to_dict()
    for stage in content["stages"][1:]:
        stage["depth"] = [2, 3, 4, 5, 6, 7]
    return content


def loading(table: Table) -> None:
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "large.yaml"
        path.write_text(yaml.safe_dump(space_of_1e30()), encoding="utf-8")
        space = SearchSpace.load(path)
        median, worst = median_and_worst(lambda: SearchSpace.load(path).genes)
        size = f"{space.size():.1e}"
        found = f"{median:.3f} s (worst {worst:.3f})"
        told = verdict(median, LOAD_SECONDS, most=True)
        table.add_row(f"load a space of {size}", found, f"< {LOAD_SECONDS} s", told)

        def sample() -> object:
            fresh = SearchSpace.load(path)  # nothing remembered from the time before
            return fresh.sample_many(np.random.default_rng(0), SAMPLES)

        median, worst = median_and_worst(sample)
        found = f"{median:.2f} s (worst {worst:.2f})"
        told = verdict(median, SAMPLE_SECONDS, most=True)
        table.add_row(f"sample {SAMPLES} of it", found, f"< {SAMPLE_SECONDS:.0f} s", told)


def importing(table: Table) -> None:
    code = "import sys, nassearch.space; sys.exit('torch' in sys.modules)"
    codes = []

    def run() -> None:
        codes.append(subprocess.run([sys.executable, "-c", code], check=False).returncode)

    median, _ = median_and_worst(run, times=3)
    told = "not reached" if any(codes) else "reached"
    table.add_row("import nassearch.space", f"{median:.2f} s", "without torch", told)


def generated(table: Table) -> None:
    """The property tests of tests/contracts, run and counted from their own output."""
    root = Path(__file__).resolve().parents[2]
    command = [sys.executable, "-m", "pytest", "-q", "tests/contracts/test_generated.py"]
    command += ["--hypothesis-show-statistics", "-m", "not slow", "-p", "no:cacheprovider"]
    done = subprocess.run(command, cwd=root, capture_output=True, text=True, check=False)
    test = ""
    for line in done.stdout.splitlines():
        if line.startswith("tests/"):
            test = line.partition("::")[2].strip(":")
        if " passing, " in line and "generate phase" not in line:
            table.add_row(test, line.strip(" -"), "", "")
    lines = done.stdout.splitlines()
    last = next((line for line in reversed(lines) if " passed" in line or " failed" in line), "")
    told = "reached" if done.returncode == 0 else "not reached"
    table.add_row("property tests", last, "300 spaces, 7 networks each, built and run", told)


def patching() -> Table:
    """What patch-based schedules trade: the largest networks of mcu, early kernels capped."""
    table = Table("kernels", "tiles", "peak activations (fp32)", "MACs", title="patch by patch")
    content = SearchSpace.load("mcu").to_dict()
    for kernel_size in (3, 5, 7):
        content["stages"][2]["kernel_size"] = kernel_size
        largest = SearchSpace.from_dict(content).largest
        assert largest.patches is not None
        for grid in (1, *range(2, largest.patches.grid + 1)):
            patches = None if grid == 1 else replace(largest.patches, grid=grid)
            specs = lower(SearchSpace.from_dict(content), replace(largest, patches=patches))
            peak = f"{peak_activation_bytes(specs) / 1e3:.0f} KB"
            macs = f"{network_cost(specs).macs / 1e6:.1f} M"
            table.add_row(str(kernel_size), f"{grid}x{grid}", peak, macs)
    return table


def branched_block(kernel_size: int, channels: int, pixels: int) -> BranchedLargeKernel:
    """A block as training leaves it: no statistic and no scale at its neutral value."""
    choices = (("kernel_size", kernel_size), ("expand_ratio", 2), ("activation", "gelu"))
    block = BranchedLargeKernel(BlockSpec("large_kernel", channels, channels, pixels, 1, choices))
    generator = torch.Generator().manual_seed(kernel_size)
    with torch.no_grad():
        for name, tensor in block.state_dict().items():
            if name.endswith(("running_var", "norm.weight")) or name.startswith("scales"):
                tensor.uniform_(0.5, 1.5, generator=generator)
            elif name.endswith(("running_mean", "norm.bias")):
                tensor.normal_(0.0, 0.2, generator=generator)
    return block.eval()


def networks() -> Iterator[tuple[str, Subnet, Subnet]]:
    """The largest networks of the large-kernel space, branched and merged, kernels capped."""
    content = SearchSpace.load("large_kernel").to_dict()
    for most in (31, 13, 7):
        for stage in content["stages"]:
            stage["kernel_size"] = [k for k in stage["kernel_size"] if k <= most]
        space = SearchSpace.from_dict({**content, "resolution": 224})
        specs = lower(space, space.largest)
        trained = [static_op(spec.op).trained()(spec) for spec in specs]
        reparameterize = [block.reparameterize() for block in trained]
        kernels = "-".join(str(max(stage["kernel_size"])) for stage in content["stages"])
        yield kernels, Subnet(specs, trained).eval(), Subnet(specs, reparameterize).eval()


def network_speedups(arguments: argparse.Namespace) -> Table:
    """What the target is about: the merged network against the branched one."""
    names = ("kernels", "runtime", "branched / merged", "floor", "1.5x")
    table = Table(*names, title="whole networks, 224 pixels, median of ratios (10-90 %)")
    for kernels, branched, reparameterize in networks():
        images = torch.randn(1, 3, 224, 224, generator=torch.Generator().manual_seed(1))
        for runtime in RUNTIMES:
            first, second, again = (
                call_of(network, images, runtime, arguments.threads)
                for network in (branched, reparameterize, reparameterize)
            )
            figures = [ratios(one, second, rounds=arguments.rounds) for one in (first, again)]
            told = (f"{median:.2f} ({low:.2f}-{high:.2f})" for median, low, high in figures)
            table.add_row(kernels, runtime, *told, verdict(figures[0][0], SPEEDUP, most=False))
    return table


def call_of(module: nn.Module, images: torch.Tensor, runtime: str, threads: int) -> Call:
    """One inference of a module in a runtime."""
    if runtime == "torch":

        def run() -> object:
            with torch.no_grad():
                return module(images)

        return run
    options = ort.SessionOptions()
    options.intra_op_num_threads = threads
    _, channels, height, width = images.shape
    graph = to_onnx(module, (channels, height, width))
    session = ort.InferenceSession(graph, options, providers=["CPUExecutionProvider"])
    feed = {session.get_inputs()[0].name: images.numpy()}
    return lambda: session.run(None, feed)


def merging(arguments: argparse.Namespace) -> Table:
    """Each kernel size and shape, of the kernel with its branches alone and of the whole block."""
    names = ("kernel", "MACs ratio", "shape", "runtime", "difference", "kernel alone", "block")
    title = "branched / merged: median of ratios (10-90 %)"
    table = Table(*names, "floor (block)", title=title)
    for kernel_size, (channels, pixels) in itertools.product(KERNELS, SHAPES):
        block = branched_block(kernel_size, channels, pixels)
        generator = torch.Generator().manual_seed(1)
        images = torch.randn(1, channels, pixels, pixels, generator=generator)
        with torch.no_grad():
            difference = float((block(images) - block.reparameterize()(images)).abs().max())
        assert difference <= AGREEMENT
        taps = sum(size**2 for size in branches_of(kernel_size).values())
        for runtime in RUNTIMES:
            pairs = (
                (Kernel(block, reparameterize=False), Kernel(block, reparameterize=True)),
                (block, block.reparameterize()),
                (block.reparameterize(), block.reparameterize()),
            )
            figures = [
                ratios(
                    call_of(first.eval(), images, runtime, arguments.threads),
                    call_of(second.eval(), images, runtime, arguments.threads),
                    rounds=arguments.rounds,
                )
                for first, second in pairs
            ]
            table.add_row(
                str(kernel_size),
                f"{1 + taps / kernel_size**2:.2f}",
                f"{channels}x{pixels}x{pixels}",
                runtime,
                f"{difference:.0e}",
                *(f"{median:.2f} ({low:.2f}-{high:.2f})" for median, low, high in figures),
            )
    return table


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--rounds", type=int, default=30)
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--quick", action="store_true", help="without the property tests")
    arguments = parser.parse_args()
    torch.set_num_threads(arguments.threads)
    console = Console(width=150)
    console.print(
        f"{host_cpu_name()}, {arguments.threads} thread(s), {arguments.rounds} rounds,"
        f" torch {torch.__version__}, onnxruntime {ort.__version__}, Python"
        f" {platform.python_version()}",
        highlight=False,
    )
    table = Table("figure", "found", "target", "verdict")
    loading(table)
    importing(table)
    if not arguments.quick:
        generated(table)
    console.print(table)
    console.print(patching())
    console.print(merging(arguments))
    console.print(network_speedups(arguments))


if __name__ == "__main__":
    main()
