"""INT8 networks: static quantization with quantize-dequantize pairs, which every runtime reads."""

import logging
import tempfile
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import onnx
from onnxruntime.quantization import CalibrationDataReader, QuantFormat, QuantType, quantize_static

from nassearch.networks.onnx_graph import INPUT

Images = npt.NDArray[np.float32]


def quantize(model: bytes, images: Iterable[Images]) -> bytes:
    """An ONNX graph in int8; activation ranges are those of `images`, batches of the graph's size.

    Activations are unsigned and weights signed, a scale for each channel: the form that x86
    processors run fastest (measured here: signed activations can be slower than fp32).
    """
    with tempfile.TemporaryDirectory(prefix="nassearch-int8-") as folder, _quiet():
        path = Path(folder) / "int8.onnx"
        quantize_static(
            onnx.load_from_string(model),
            path,
            _Batches(images),
            quant_format=QuantFormat.QDQ,
            activation_type=QuantType.QUInt8,
            weight_type=QuantType.QInt8,
            per_channel=True,
        )
        return path.read_bytes()


class _Batches(CalibrationDataReader):  # type: ignore[misc]  # onnxruntime is not typed
    """Calibration batches as onnxruntime asks for them."""

    def __init__(self, images: Iterable[Images]) -> None:
        self._images = iter(images)

    def get_next(self) -> dict[str, Any] | None:
        batch = next(self._images, None)
        return None if batch is None else {INPUT: batch}


@contextmanager
def _quiet() -> Iterator[None]:
    """Without the advice that onnxruntime gives on the root logger: our graphs are folded."""
    before = logging.root.manager.disable
    logging.disable(logging.WARNING)
    try:
        yield
    finally:
        logging.disable(before)
