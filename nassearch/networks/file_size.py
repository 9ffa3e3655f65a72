"""Bytes that a block takes in a network's file, in float and in int8."""

from functools import lru_cache

import torch
from torch import nn

from nassearch.ops import build_op
from nassearch.space import BlockSpec

# What an ONNX graph says of a layer beside its numbers: names, attributes, the activation after it
# and, in int8, the pairs that quantize and dequantize (measured on the files of five spaces).
_DESCRIPTION_BYTES = 500
_INT8_DESCRIPTION_BYTES = 2700
_FLOAT_BYTES = 4
_INT8_CHANNEL_BYTES = 9  # bias and scale of four bytes each, and a zero point


@lru_cache(maxsize=65536)
def file_bytes(spec: BlockSpec, precision: str) -> int:
    """Bytes of a block in the file that a precision is deployed in, batch norm folded.

    Weights of int8 take a byte each, and every output channel has a scale; in all other precisions
    the file holds float32.
    """
    with torch.device("meta"):
        modules = list(build_op(spec.whole).modules())
    layers = [layer for layer in modules if isinstance(layer, nn.Conv2d | nn.Linear)]
    weights = sum(layer.weight.numel() for layer in layers)
    channels = sum(layer.weight.shape[0] for layer in layers)
    if precision == "int8":
        return weights + _INT8_CHANNEL_BYTES * channels + _INT8_DESCRIPTION_BYTES * len(layers)
    return _FLOAT_BYTES * (weights + channels) + _DESCRIPTION_BYTES * len(layers)
