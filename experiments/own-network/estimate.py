"""How far `nassearch predict model.onnx` estimates a network from its operators: against the clock.

    python experiments/own-network/estimate.py            # measures, then its part of the page
    python experiments/own-network/estimate.py --table    # its part of the page alone

torchvision's networks as ONNX files with random weights, each timed on this machine beside what its
operators would take at this machine's own rates.
"""

import argparse
import os
import tempfile
from pathlib import Path

import torch
import torchvision
from compare import HERE, Results
from page import write_part

import nassearch as ns
from nassearch.networks.cost import count
from nassearch.networks.onnx_graph import to_onnx

RESULTS = Results(HERE / "estimate.jsonl")
RUNTIMES = ("onnxruntime", "openvino")
NAMES = (
    "alexnet", "resnet18", "resnet50", "regnet_y_400mf", "densenet121", "mobilenet_v2",
    "mobilenet_v3_small", "mobilenet_v3_large", "efficientnet_b0", "mnasnet1_0",
    "shufflenet_v2_x1_0", "squeezenet1_1", "convnext_tiny",
)  # fmt: skip
SHAPE = (3, 224, 224)


def measure(name: str) -> None:
    """A line for each runtime that lacks one."""
    torch.manual_seed(0)
    module = torchvision.models.get_model(name, weights=None).eval()
    counted = count(module, torch.zeros(1, *SHAPE), name=name).macs
    with tempfile.TemporaryDirectory() as directory:
        path = Path(directory) / f"{name}.onnx"
        path.write_bytes(to_onnx(module, SHAPE))
        for runtime in RUNTIMES:
            if RESULTS.of(network=name, runtime=runtime):
                continue
            facts = ns.predict_latency(path, "host", runtime=runtime)
            line = {"network": name, "runtime": runtime, "measured_ms": facts["latency_ms"]}
            line |= {"estimated_ms": facts["estimated_ms"], "macs_equal": facts["macs"] == counted}
            line |= {"load": round(os.getloadavg()[0], 1)}
            RESULTS.keep(line)


def section() -> str:
    """The section of README.md."""
    text = [
        "## What operators say",
        "",
        "`python experiments/own-network/estimate.py` prints this section: torchvision's networks",
        "as ONNX files at 224 pixels, one thread, measured, over what `nassearch predict`",
        "estimates from their operators. Its interval is a factor of 2.5 to either side.",
        "",
        f"The machine's load was {_load()} meanwhile: on two cores, more than 1 is other work.",
        "",
        "| network | ONNX Runtime, ms | over the estimate | OpenVINO, ms | over the estimate"
        " | MACs |",
        "|---|---|---|---|---|---|",
    ]
    for name in NAMES:
        cells, equal = [name], True
        for runtime in RUNTIMES:
            lines = RESULTS.of(network=name, runtime=runtime)
            if not lines:
                cells += ["", ""]
                continue
            measured = lines[-1]["measured_ms"]
            cells += [f"{measured:.1f}", f"{measured / lines[-1]['estimated_ms']:.2f}"]
            equal = equal and lines[-1]["macs_equal"]
        text.append(f"| {' | '.join(cells)} | {'equal' if equal else 'differ'} |")
    return "\n".join(text) + "\n"


def _load() -> str:
    loads = [line["load"] for line in RESULTS.of()]
    return f"{min(loads)} to {max(loads)}" if loads else "not measured"


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--table", action="store_true")
    torch.set_num_threads(1)
    if not parser.parse_args().table:
        for name in NAMES:
            measure(name)
    write_part("estimate.py", section())


if __name__ == "__main__":
    main()
