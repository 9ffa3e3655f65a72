"""Plain networks as ONNX graphs: the form every deployment runtime eats."""

import io
import warnings

import torch
from torch import nn

OPSET = 17
INPUT, OUTPUT = "images", "logits"


def to_onnx(
    module: nn.Module, input_shape: tuple[int, int, int], *, batch: int | None = 1
) -> bytes:
    """`module` as a serialised ONNX graph for images of `input_shape` (channels, height, width).

    Batch norm is folded into the convolutions. `batch` None leaves the batch size open. Node names
    carry the module path ("/blocks/blocks.3/expand/conv/Conv"), by which the profiler finds the
    block a node belongs to. The graph-tracing exporter is used on purpose: for these networks it
    gives the same graph as the torch.export one and takes a twentieth of the time.
    """
    images = torch.zeros(batch or 1, *input_shape)
    buffer = io.BytesIO()
    dynamic = {INPUT: {0: "batch"}, OUTPUT: {0: "batch"}} if batch is None else None
    was_training = module.training
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # torch's own deprecation notices
        torch.onnx.export(
            module.eval(),
            (images,),
            buffer,  # type: ignore[arg-type]  # takes a file-like object as well
            dynamo=False,
            opset_version=OPSET,
            input_names=[INPUT],
            output_names=[OUTPUT],
            dynamic_axes=dynamic,
        )
    module.train(was_training)
    return buffer.getvalue()
