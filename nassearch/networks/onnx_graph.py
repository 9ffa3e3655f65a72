"""Plain networks as ONNX graphs: the form every deployment runtime eats."""

import io
import warnings

import onnx
import torch
from torch import nn
from torch.onnx.errors import OnnxExporterError

from nassearch.errors import ExportError
from nassearch.networks.wiring import LOGITS

OPSET = 17
INPUT, OUTPUT = "images", LOGITS


def to_onnx(
    module: nn.Module,
    input_shape: tuple[int, int, int],
    *,
    batch: int | None = 1,
    opset: int = OPSET,
) -> bytes:
    """`module` as a serialised ONNX graph for images of `input_shape` (channels, height, width).

    Its outputs have the names that the module says (`output_names`), one is `logits`.
    Batch norm is folded into the convolutions. `batch` None leaves the batch size open. Node names
    carry the module path ("/blocks/blocks.3/expand/conv/Conv"), by which the profiler finds the
    block a node belongs to. The graph-tracing exporter is used on purpose: for these networks it
    gives the same graph as the torch.export one and takes a twentieth of the time. Raises
    ExportError where ONNX lacks an operator.
    """
    images = torch.zeros(batch or 1, *input_shape)
    buffer = io.BytesIO()
    names = list(getattr(module, "output_names", (OUTPUT,)))
    dynamic = {name: {0: "batch"} for name in (INPUT, *names)} if batch is None else None
    was_training = module.training
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # torch's own deprecation notices
        try:
            torch.onnx.export(
                module.eval(),
                (images,),
                buffer,  # type: ignore[arg-type]  # takes a file-like object as well
                dynamo=False,
                opset_version=opset,
                input_names=[INPUT],
                output_names=names,
                dynamic_axes=dynamic,
            )
        except OnnxExporterError as error:
            raise ExportError(
                f"ONNX cannot hold the network ({' '.join(str(error).split())[:200]})",
                where="format onnx",
                fix="export it without onnx, or write the op with others",
            ) from error
    module.train(was_training)
    return _unshared(buffer.getvalue())


def _unshared(model: bytes) -> bytes:
    """The graph with a tensor of its own for every weight.

    The exporter hands layers whose weights are equal (the zero biases of fresh networks) one tensor
    through an Identity. The quantizer takes that for a computed bias and leaves the layer in float:
    an untrained int8 network would be timed at a third of its speed.
    """
    graph = onnx.load_from_string(model)
    tensors = {tensor.name: tensor for tensor in graph.graph.initializer}
    shared = [
        node for node in graph.graph.node if node.op_type == "Identity" and node.input[0] in tensors
    ]
    for node in shared:
        copy = graph.graph.initializer.add()
        copy.CopyFrom(tensors[node.input[0]])
        copy.name = node.output[0]
        graph.graph.node.remove(node)
    return graph.SerializeToString() if shared else model
