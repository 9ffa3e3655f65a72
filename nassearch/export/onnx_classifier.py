"""A classifier that somebody has as an ONNX file: read with care, costed, timed and tested.

It is a stranger's file, like one in an export: tensors in other files are not read, and what the
runtime refuses is one line.
"""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from functools import cached_property, partial
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import torch
from torch import Tensor

from nassearch.errors import CheckpointError, ConfigError, RuntimeUnavailableError
from nassearch.export.format import Run, in_batches
from nassearch.export.onnx_file import read_graph
from nassearch.export.photo_graph import network_part
from nassearch.networks.cost import Cost, Layer
from nassearch.networks.onnx_graph import INPUT, OUTPUT
from nassearch.networks.onnx_layers import graph_cost, is_quantized
from nassearch.runtimes.onnx import OnnxRuntime
from nassearch.setting import Setting

MOST_BYTES = 2**31
"""Of a file: no protocol buffer is larger."""
_MOST_PIXELS = 4096
_ANEW = "export it again"


@dataclass(frozen=True)
class OnnxClassifier:
    """A graph of one input, images (n, c, h, w) in float32, and one output, logits (n, classes).

    In `model` they are called as ours are; `batch` is how many images it takes at once, None for
    any number.
    """

    path: Path
    model: bytes
    input_shape: tuple[int, int, int]
    batch: int | None
    num_classes: int
    is_quantized: bool

    @cached_property
    def cost(self) -> Cost:
        """What one image costs; SpaceError where an operator cannot be counted."""
        graph = onnx.load_from_string(self.of_batch(1))
        found = graph_cost(graph, run_shapes=self._run_shapes, where=self.path)
        images = self.batch or 1
        if images == 1:
            return found
        return Cost(
            tuple((_of_one_image(layer, images), times) for layer, times in found.layers),
            found.params,
        )

    def of_batch(self, batch: int) -> bytes:
        """The graph for so many images, where it takes any number; else as it is."""
        if self.batch is not None:
            return self.model
        graph = onnx.load_from_string(self.model)
        graph.graph.input[0].type.tensor_type.shape.dim[0].dim_value = batch
        fixed: bytes = graph.SerializeToString()
        return fixed

    def setting(self, asked: Setting, *, batch: int | None, precision: str | None) -> Setting:
        """`asked` as the file can run in it: in its own batch and precision.

        Raises:
            ConfigError: The user asked for another `batch` or `precision` than the file has.
        """
        if batch is not None and self.batch not in (None, batch):
            raise ConfigError(
                f"takes {self.batch} images at once, not {batch}",
                where=self.path,
                fix=f"ask for --batch {self.batch}, or export it with an open batch",
            )
        own = "int8" if self.is_quantized else "fp32"
        if precision is not None and (precision == "int8") != self.is_quantized:
            raise ConfigError(
                f"computes in {own}, not in {precision}",
                where=self.path,
                fix=f"leave --precision out, or give the file in {precision}",
            )
        is_other = (asked.precision == "int8") != self.is_quantized
        return Setting(
            asked.device,
            asked.runtime,
            own if is_other else asked.precision,
            self.batch or asked.batch,
            asked.threads,
        )

    def open(self) -> Run:
        """The network in ONNX Runtime on one thread of this CPU, for any number of images."""
        session = OnnxRuntime(Setting("host", "onnxruntime")).session(self.model, where=self.path)

        def run(images: Tensor) -> Tensor:
            return torch.from_numpy(session.run(None, {INPUT: images.numpy()})[0])

        return in_batches(partial(self.guarded, run), self.batch)

    def _run_shapes(self, names: Sequence[str]) -> dict[str, list[int]]:
        """The shapes of tensors within the graph, by running it once."""
        graph = onnx.load_from_string(self.of_batch(1))
        graph.graph.output.extend(onnx.ValueInfoProto(name=name) for name in names)
        runtime = OnnxRuntime(Setting("host", "onnxruntime"))
        session = runtime.session(graph.SerializeToString(), where=self.path)
        image = np.zeros((self.batch or 1, *self.input_shape), dtype=np.float32)
        found = self.guarded(session.run, list(names), {INPUT: image})
        return {name: list(value.shape) for name, value in zip(names, found, strict=True)}

    def guarded(self, run: Callable[..., Any], *given: Any) -> Any:
        """What `run` gives; RuntimeUnavailableError on one line where the runtime cannot go on."""
        try:
            return run(*given)
        except Exception as error:  # whatever an engine raises inside a stranger's graph
            text = " ".join(str(error).split())[:160]
            raise RuntimeUnavailableError(
                f"cannot be run ({text})", where=self.path, fix="check it where it was made"
            ) from error


def read_classifier(path: Path) -> OnnxClassifier:
    """The classifier in an ONNX file.

    Raises:
        CheckpointError: There is no such file, it is no ONNX graph, its tensors lie in other files,
            or it is no network of images to logits.
    """
    if not path.is_file():
        raise CheckpointError("there is no such file", where=path, fix="name an .onnx file")
    if path.stat().st_size > MOST_BYTES:
        raise CheckpointError("is larger than an ONNX file can be", where=path, fix=_ANEW)
    graph = onnx.load_from_string(network_part(read_graph(path)))
    _check_names(graph, path)
    batch, shape = _input(graph, path)
    _rename(graph, _inputs(graph)[0].name, INPUT)
    classes = _classes(graph, path)
    _rename(graph, graph.graph.output[0].name, OUTPUT)
    model: bytes = graph.SerializeToString()
    return OnnxClassifier(path, model, shape, batch, classes, is_quantized(graph))


def _check_names(model: onnx.ModelProto, path: Path) -> None:
    """CheckpointError where a name is no text: a damaged file is read as bytes there."""
    for graph in _graphs(model.graph):
        named = [item.name for item in (*graph.initializer, *graph.input, *graph.output)]
        for node in graph.node:
            named += [node.name, node.op_type, node.domain, *node.input, *node.output]
        if not all(isinstance(name, str) for name in named):
            raise CheckpointError("holds names that are no text", where=path, fix=_ANEW)


def _inputs(model: onnx.ModelProto) -> list[onnx.ValueInfoProto]:
    weights = {tensor.name for tensor in model.graph.initializer}
    return [value for value in model.graph.input if value.name not in weights]


def _input(model: onnx.ModelProto, path: Path) -> tuple[int | None, tuple[int, int, int]]:
    """(images at once or None, shape of an image) of the one input."""
    inputs = _inputs(model)
    if len(inputs) != 1:
        raise _no_classifier(f"takes {len(inputs)} inputs", path, "images alone, (n, c, h, w)")
    kind = inputs[0].type.tensor_type
    if kind.elem_type != onnx.TensorProto.FLOAT:
        name = onnx.TensorProto.DataType.Name(kind.elem_type).lower()
        raise _no_classifier(f"takes {name} images", path, "float32 images, normalised")
    dims = kind.shape.dim
    sizes = [dim.dim_value for dim in dims]
    if len(sizes) != 4 or min(sizes[1:]) < 1 or sizes[1] > 4:
        text = ", ".join(str(dim.dim_value or dim.dim_param or "?") for dim in dims)
        raise _no_classifier(f"takes ({text})", path, "images (n, c, h, w) of a fixed size")
    if max(sizes[2:]) > _MOST_PIXELS or sizes[0] > _MOST_PIXELS:
        raise _no_classifier(f"takes ({sizes[0]}, {sizes[1]}, {sizes[2]}, {sizes[3]})", path,
                             f"images of at most {_MOST_PIXELS} pixels")  # fmt: skip
    return sizes[0] or None, (sizes[1], sizes[2], sizes[3])


def _classes(model: onnx.ModelProto, path: Path) -> int:
    outputs = model.graph.output
    if len(outputs) != 1:
        raise _no_classifier(f"has {len(outputs)} outputs", path, "logits (n, classes) alone")
    try:
        inferred = onnx.shape_inference.infer_shapes(model).graph.output[0]
    except (onnx.shape_inference.InferenceError, ValueError):
        inferred = outputs[0]
    sizes = [dim.dim_value for dim in inferred.type.tensor_type.shape.dim]
    if len(sizes) != 2 or sizes[1] < 1:
        raise _no_classifier(f"gives {tuple(sizes)}", path, "logits (n, classes)")
    return sizes[1]


def _no_classifier(what: str, path: Path, wanted: str) -> CheckpointError:
    return CheckpointError(what, where=path, fix=f"give a classifier with {wanted}")


def _rename(model: onnx.ModelProto, old: str, new: str) -> None:
    """Call a tensor `new`, and what was called so something else."""
    if old == new:
        return
    names = {old: new, new: f"{new}/before"}
    for graph in _graphs(model.graph):
        for value in (*graph.input, *graph.output, *graph.value_info):
            value.name = names.get(value.name, value.name)
        for tensor in graph.initializer:
            tensor.name = names.get(tensor.name, tensor.name)
        for node in graph.node:
            node.input[:] = [names.get(name, name) for name in node.input]
            node.output[:] = [names.get(name, name) for name in node.output]


def _graphs(graph: onnx.GraphProto) -> Iterator[onnx.GraphProto]:
    """A graph and those within its nodes, branches and loops."""
    yield graph
    for node in graph.node:
        for item in node.attribute:
            for inner in (item.g, *item.graphs) if item.HasField("g") else item.graphs:
                yield from _graphs(inner)


def _of_one_image(layer: Layer, images: int) -> Layer:
    """A layer of a graph of several images, for one."""
    return replace(
        layer,
        inputs=layer.inputs // images,
        outputs=layer.outputs // images,
        macs=layer.macs // images,
    )
