"""What comes out: plain networks in formats that run anywhere, verified on the device."""

FORMATS = {
    "weights": "nassearch.export.weights:Weights",
    "onnx": "nassearch.export.onnx_file:OnnxFile",
    "pt2": "nassearch.export.pt2:TorchExport",
    "int8": "nassearch.export.int8:Int8",
}
"""Beside `config`, which every export has: it says what the others are."""
