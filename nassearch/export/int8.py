"""INT8 for ONNX Runtime: calibrated on training images, sensitive layers left in float."""

import tempfile
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from time import perf_counter
from typing import Annotated, Any, ClassVar

import numpy as np
import onnx
import torch
from pydantic import Field
from torch import Tensor

from nassearch.config import format_count, format_milliseconds
from nassearch.data.dataset import Data
from nassearch.data.image_set import in_memory
from nassearch.export.format import PhotoOptions, Run
from nassearch.export.onnx_file import (
    OnnxFile,
    checked,
    graph_facts,
    network_graph,
    open_graph,
    photo_facts,
    read_graph,
)
from nassearch.export.photo_graph import with_preprocessing
from nassearch.latency.timing import interleave
from nassearch.networks import Subnet
from nassearch.progress import Progress
from nassearch.runtimes.quantization import (
    Images,
    node_blocks,
    quantizable,
    quantize,
    quantize_blocks,
)
from nassearch.setting import INT8
from nassearch.training.evaluation import measure_accuracy

CALIBRATION_IMAGES = 256
PROBE_IMAGES = 64
_OPEN_BATCH = 32
_TIMED_SECONDS = 0.5
_SLOWER = 1.05
"""Times the float graph's time: less is noise."""


class Int8Options(PhotoOptions):
    """An int8 graph may lose so much accuracy on validation images; 0.01 is one point."""

    max_accuracy_loss: Annotated[float, Field(ge=0, le=1, strict=False)] = 0.01
    ranges: Annotated[Path | None, Field(exclude=True)] = None
    """A file of activation ranges to take, of a network that was trained under them."""


@dataclass(frozen=True)
class Int8:
    """`model-int8.onnx`: signed weights with a scale for each channel, unsigned activations."""

    options: Int8Options = field(default_factory=Int8Options)
    title: ClassVar[str] = "ONNX Runtime, int8"
    file_name: ClassVar[str] = "model-int8.onnx"
    imports: ClassVar[tuple[str, ...]] = OnnxFile.imports
    exact: ClassVar[bool] = False

    def write(
        self, subnet: Subnet, path: Path, *, data: Data, progress: Progress
    ) -> dict[str, object]:
        pixels, batch = subnet.input_shape[1], self.options.fixed_batch
        images = calibration_images(data, pixels)

        def accuracy(network: Run) -> float:
            return measure_accuracy(network, data.val, data, split="val", resolution=pixels).value

        with tempfile.TemporaryDirectory(prefix="nassearch-int8-") as folder:
            graph = FloatGraph(
                network_graph(subnet, self.options),
                images,
                batch or _OPEN_BATCH,
                self.options.ranges or Path(folder) / "ranges.json",
            )
            whole = accuracy(subnet)

            def loss(model: bytes) -> float:
                return whole - accuracy(open_graph(model))

            if subnet.precisions is not None:
                found = by_policy(graph, subnet.precisions, loss)
            else:
                found = keep_sensitive(
                    graph,
                    loss,
                    bound=self.options.max_accuracy_loss,
                    progress=lambda fraction: progress("quantizing", fraction),
                )
        model = found.model
        if self.options.preprocess_in_graph:
            model = with_preprocessing(model, data, subnet.input_shape)
        path.write_bytes(checked(model))
        return graph_facts(model) | {
            "batch": self.options.batch,
            "calibration_images": len(images),
            "accuracy_loss": found.loss,
            "max_accuracy_loss": self.options.max_accuracy_loss,
            "split": "val",
            "layers": len(quantizable(graph.model)),
            "kept_in_float": list(found.kept),
            **photo_facts(subnet, self),
            **_beside_float(graph.model, found.model, images[: batch or 1]),
        }

    def open(self, path: Path) -> Run:
        return open_graph(read_graph(path), where=path)

    def snippet(self) -> tuple[str, str, str]:
        first, second, third = OnnxFile().snippet()
        return first, second.replace(OnnxFile.file_name, self.file_name), third


def _beside_float(model: bytes, quantized: bytes, images: Tensor) -> dict[str, Any]:
    """Bytes and milliseconds of the float graph, and a remark where int8 gains nothing by them."""

    def run_ms(run: Run) -> float:
        start = perf_counter()
        run(images)
        return (perf_counter() - start) * 1e3

    runs = [open_graph(quantized), open_graph(model)]
    timing = interleave([partial(run_ms, run) for run in runs], seconds=_TIMED_SECONDS)
    int8_ms, float_ms = (measured.median_ms for measured in timing.measurements())
    remarks = []
    if len(quantized) > len(model):
        sizes = f"{format_count(len(quantized))}B, in float {format_count(len(model))}B"
        remarks.append(f"larger than in float ({sizes})")
    if int8_ms > _SLOWER * float_ms:
        times = f"{format_milliseconds(int8_ms)}, in float {format_milliseconds(float_ms)}"
        remarks.append(f"slower than in float on one thread of this CPU ({times})")
    facts = {"float_size_bytes": len(model), "float_ms": float_ms, "int8_ms": int8_ms}
    return {**facts, "remark": " and ".join(remarks)} if remarks else facts


def calibration_images(data: Data, pixels: int) -> Tensor:
    """Training images as the network takes them, always the same ones."""
    order = np.random.default_rng(0).permutation(len(data.train))
    chosen = torch.from_numpy(order[:CALIBRATION_IMAGES])
    fitted = data.fitted(data.train.among(chosen), pixels)
    return data.inputs(in_memory(fitted).images, pixels)


@dataclass(frozen=True)
class FloatGraph:
    """A graph with the images that say how large its activations get, in batches of `batch`."""

    model: bytes
    images: Tensor
    batch: int
    ranges: Path

    def quantize(self, *, only: Sequence[str] = (), keep: Sequence[str] = ()) -> bytes:
        return quantize(self.model, self._batches(), only=only, keep=keep, ranges=self.ranges)

    def quantize_blocks(self, precisions: Sequence[str]) -> bytes:
        return quantize_blocks(self.model, precisions, self.images.numpy(), ranges=self.ranges)

    def _batches(self) -> list[Images]:
        """Whole batches: the first images come again where the last batch is short."""
        images = self.images.numpy()
        count = -(-len(images) // self.batch) * self.batch
        return np.split(np.resize(images, (count, *images.shape[1:])), count // self.batch)


@dataclass(frozen=True)
class Quantized:
    """An int8 graph, what it loses and the operators that were left in float."""

    model: bytes
    loss: float
    kept: tuple[str, ...] = ()


def by_policy(
    graph: FloatGraph, precisions: Sequence[str], loss: Callable[[bytes], float]
) -> Quantized:
    """The graph with those blocks in int8 that a policy says, whatever that loses."""
    model = graph.quantize_blocks(precisions)
    blocks = node_blocks(onnx.load_from_string(graph.model).graph)
    kept = [name for name in quantizable(graph.model) if precisions[blocks[name]] != INT8]
    return Quantized(model, loss(model), tuple(kept))


def keep_sensitive(
    graph: FloatGraph,
    loss: Callable[[bytes], float],
    *,
    bound: float,
    progress: Callable[[float], None] = lambda fraction: None,
) -> Quantized:
    """The graph in int8 with as few operators in float as keep its `loss` within `bound`.

    Operators are left in float from the most sensitive on: the one that, alone in int8, moves the
    logits most. How many it takes is found by bisection. If int8 loses too much in every mixture,
    all are left in float.
    """
    model = graph.quantize()
    lost = loss(model)
    if lost <= bound:
        return Quantized(model, lost)
    ranked = _most_sensitive_first(graph, progress)
    best = Quantized(graph.model, 0.0, tuple(ranked))
    too_few, enough = 0, len(ranked)
    while enough - too_few > 1:
        count = (too_few + enough) // 2
        model = graph.quantize(keep=ranked[:count])
        lost = loss(model)
        if lost <= bound:
            best, enough = Quantized(model, lost, tuple(ranked[:count])), count
        else:
            too_few = count
    progress(1.0)
    return best


def _most_sensitive_first(graph: FloatGraph, progress: Callable[[float], None]) -> list[str]:
    images = graph.images[:PROBE_IMAGES]
    expected = open_graph(graph.model)(images)
    names, errors = quantizable(graph.model), {}
    for number, name in enumerate(names):
        progress(number / (len(names) + 1))
        logits = open_graph(graph.quantize(only=[name]))(images)
        errors[name] = float((logits - expected).square().mean())
    return sorted(names, key=lambda name: errors[name], reverse=True)
