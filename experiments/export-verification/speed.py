"""Exports against what a person writes by hand, and int8 against fp32, on this machine's CPU.

    python experiments/export-verification/speed.py handwritten|int8 [--seconds 20] [--clock cpu]

One thread of ONNX Runtime, one image. All graphs of a row run in one process, turn and turn about
in random order, with their common drift divided out (nassearch.latency.timing). A ratio is the
median over rounds of the ratio of the fastest runs within a round, with its 10th and 90th
percentile; a floor is the same figure for the second graph's two sessions. `handwritten` copies
torchvision's networks, weights and all, into the space that holds them and exports both; whether
onnxruntime makes the same operators of both is told beside. `int8` takes two published networks,
and the smallest and random ones of three spaces. On a busy machine `--clock cpu` counts the
thread's own time.
"""

import argparse
import platform
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import onnxruntime
import torch
from rich.console import Console
from torch import nn
from torchvision import models

from nassearch.latency.device import host_cpu_name
from nassearch.latency.timing import interleave
from nassearch.networks import Subnet, Supernet
from nassearch.networks.onnx_graph import INPUT, to_onnx
from nassearch.networks.weight_transfer import transfer_weights
from nassearch.runtimes.onnx import OnnxRuntime
from nassearch.runtimes.quantization import quantize
from nassearch.setting import Setting
from nassearch.space import SearchSpace, load_published_network, lower

HANDWRITTEN: dict[str, Callable[..., nn.Module]] = {
    "mobilenet_v3:large": models.mobilenet_v3_large,
    "mobilenet_v2:w10": models.mobilenet_v2,
    "efficientnet:b0": models.efficientnet_b0,
    "resnet:50": models.resnet50,
}
CLOCKS = {"wall": time.perf_counter_ns, "cpu": time.thread_time_ns}
RUNTIME = OnnxRuntime(Setting("host", "onnxruntime"))
console = Console(width=130)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("what", choices=("handwritten", "int8"))
    parser.add_argument("--seconds", type=float, default=20.0)
    parser.add_argument("--clock", choices=CLOCKS, default="wall")
    parser.add_argument("--subnets", type=int, default=4)
    parser.add_argument("--spaces", default="mobilenet_v3,resnet50,cifar_resnet")
    given = parser.parse_args()
    torch.set_num_threads(1)
    console.print(f"{host_cpu_name()}, onnxruntime {onnxruntime.__version__}, one thread,")
    console.print(f"torch {torch.__version__}, Python {platform.python_version()}")
    console.print("network | ms | against | ms | ratio | 10-90 % | floor")
    rows = handwritten(given) if given.what == "handwritten" else int8(given)
    for row in rows:
        console.print(" | ".join(row))


def handwritten(given: Any) -> Iterator[Sequence[str]]:
    """Exported through nassearch against torchvision's code exported by torch.onnx."""
    for name, make in HANDWRITTEN.items():
        torch.manual_seed(0)
        theirs, ours = make().eval(), copied(name, make)
        shape = ours.input_shape
        for one in (theirs, ours):
            _settle(one)
        graphs = [to_onnx(ours, shape), to_onnx(theirs, shape)]
        same = "same operators" if len({_operators(graph) for graph in graphs}) == 1 else "others"
        yield *_row(name, "by hand", graphs, shape, given, inverse=False), same


def copied(name: str, make: Callable[..., nn.Module]) -> Subnet:
    """Torchvision's network as an architecture of the space that holds it."""
    torch.manual_seed(0)
    reference = load_published_network(name)
    supernet = Supernet(reference.space)
    transfer_weights(supernet, make(), architecture=reference.architecture)
    return supernet.extract(reference.architecture).eval()


def int8(given: Any) -> Iterator[Sequence[str]]:
    """Each network's int8 graph against its fp32 one; speed-ups, so larger is better."""
    networks = {name: load_published_network(name) for name in ("mobilenet_v3:large", "resnet:50")}
    chosen = [(name, found.space, found.architecture) for name, found in networks.items()]
    for name in given.spaces.split(","):
        space = SearchSpace.load(name)
        chosen.append((f"{name}, smallest, at {space.smallest.resolution}", space, space.smallest))
        for one in space.sample_many(np.random.default_rng(1), given.subnets):
            chosen.append((f"{name} {one.id} at {one.resolution}", space, one))
    for name, space, architecture in chosen:
        network = Subnet(lower(space, architecture)).eval()
        _settle(network)
        shape = network.input_shape
        graph = to_onnx(network, shape)
        images = np.random.default_rng(0).standard_normal((4, 1, *shape), dtype=np.float32)
        yield _row(name, "fp32", [quantize(graph, images), graph], shape, given)


def _settle(network: nn.Module) -> None:
    """Norms as a training leaves them: none with the neutral values that exporters drop."""
    generator = torch.Generator().manual_seed(7)
    for module in network.modules():
        if isinstance(module, nn.BatchNorm2d):
            module.running_mean.normal_(0.0, 0.2, generator=generator)  # type: ignore[union-attr]
            module.running_var.uniform_(0.5, 1.5, generator=generator)  # type: ignore[union-attr]


def _row(
    name: str,
    other: str,
    graphs: Sequence[bytes],
    shape: tuple[int, int, int],
    given: Any,
    *,
    inverse: bool = True,
) -> Sequence[str]:
    images = {INPUT: np.random.default_rng(0).standard_normal((1, *shape), dtype=np.float32)}
    # two sessions of each in mirrored order: where a session's weights lie in memory counts too
    order = (graphs[0], graphs[1], graphs[1], graphs[0])
    sessions = [RUNTIME.session(graph) for graph in order]
    timed = [_timed(session, images, CLOCKS[given.clock]) for session in sessions]
    timing = interleave(timed, seconds=given.seconds, max_rounds=100_000)
    # the fastest run of each burst: what else a machine does only ever adds
    each = timing.samples_ms.min(axis=2)  # (subjects, rounds)
    ratio, floor = (each[0] + each[3]) / (each[1] + each[2]), each[2] / each[1]
    if inverse:
        ratio = 1 / ratio
    low, middle, high = np.percentile(ratio, (10, 50, 90))
    first, second = (f"{np.median(row):.3f}" for row in each[:2])
    return (
        name, first, other, second, f"{middle:.3f}", f"{low:.3f}-{high:.3f}",
        f"{np.median(floor):.3f}",
    )  # fmt: skip


def _timed(session: Any, images: dict[str, Any], clock: Callable[[], int]) -> Callable[[], float]:
    def run() -> float:
        start = clock()
        session.run(None, images)
        return (clock() - start) / 1e6

    return run


def _operators(graph: bytes) -> tuple[tuple[str, tuple[tuple[int, ...], ...]], ...]:
    """What onnxruntime makes of a graph: every operator with the shapes of its weights, sorted."""
    with tempfile.TemporaryDirectory() as folder:
        options = onnxruntime.SessionOptions()
        options.optimized_model_filepath = str(Path(folder) / "optimized.onnx")
        options.log_severity_level = 3
        onnxruntime.InferenceSession(graph, options)
        found = onnx.load(options.optimized_model_filepath).graph
    shapes = {tensor.name: tuple(tensor.dims) for tensor in found.initializer}
    return tuple(
        sorted((n.op_type, tuple(shapes[i] for i in n.input if i in shapes)) for n in found.node)
    )


if __name__ == "__main__":
    main()
