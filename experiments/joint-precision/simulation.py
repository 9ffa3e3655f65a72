"""Accuracy of random policies: simulated, by ONNX Runtime, and with ranges by percentiles.

    python experiments/joint-precision/simulation.py RUN --data imagefolder:/cifar10 --networks 20

Prints one JSON line a network: every fifth all in int8, the others with a random policy.
"""

import argparse
import json
import sys
import tempfile
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from time import process_time

import numpy as np
import torch
from torch import Tensor

import nassearch as ns
from nassearch.data.image_set import Images
from nassearch.export.int8 import calibration_images
from nassearch.export.onnx_file import open_graph
from nassearch.networks.onnx_graph import to_onnx
from nassearch.runtimes.quantization import quantize_blocks
from nassearch.runtimes.simulation import simulate
from nassearch.training.evaluation import measure_accuracy

METHODS = ("minmax", "percentile")


@dataclass
class Measure:
    """The accuracy of networks on some images, gathered in a row."""

    data: ns.Data
    images: Images
    pixels: int
    row: dict[str, object] = field(default_factory=dict)

    def __call__(self, name: str, run: Callable[[Tensor], Tensor]) -> None:
        began = process_time()
        found = measure_accuracy(run, self.images, self.data, split="val", resolution=self.pixels)
        seconds = process_time() - began
        self.row[name] = {"accuracy": found.value, "loss": found.loss, "seconds": seconds}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("run", type=Path)
    parser.add_argument("--data")
    parser.add_argument("--networks", type=int, default=20)
    parser.add_argument("--images", type=int, default=1000)
    parser.add_argument("--seed", type=int, default=0)
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    trained = ns.load_supernet(arguments.run, data=arguments.data)
    data, rng = trained.data, np.random.default_rng(arguments.seed)
    # the images of a folder lie class by class
    count = min(arguments.images, len(data.val))
    val = data.val.where(torch.linspace(0, len(data.val) - 1, count).long())
    for number in range(arguments.networks):
        (architecture,) = trained.supernet.space.sample_many(rng, 1)
        network = trained.evaluator.subnet(architecture).eval()
        pixels, count = network.input_shape[1], len(network.blocks)
        policy = [("fp32", "int8")[choice] for choice in rng.integers(0, 2, count)]
        policy = policy if number % 5 else ["int8"] * count
        measure = Measure(data, val, pixels)
        began = process_time()
        graph = to_onnx(network, network.input_shape, batch=None)
        measure.row |= {"architecture": architecture.id, "policy": policy}
        measure.row["export_seconds"] = process_time() - began
        measure("float", network)
        images = calibration_images(data, pixels).numpy()
        with tempfile.TemporaryDirectory() as folder:
            for method in METHODS:
                ranges = Path(folder) / method
                for kind in ("first", "again"):
                    began = process_time()
                    model = quantize_blocks(graph, policy, images, ranges=ranges, method=method)
                    measure.row[f"{method}_{kind}_seconds"] = process_time() - began
                measure(f"{method}_simulated", simulate(model))
                measure(f"{method}_onnxruntime", open_graph(model))
        sys.stdout.write(json.dumps(measure.row) + "\n")
        sys.stdout.flush()


if __name__ == "__main__":
    main()
