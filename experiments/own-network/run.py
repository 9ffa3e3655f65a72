"""Twenty-five networks of torchvision and timm, adopted: what becomes of each.

    python experiments/own-network/run.py              # measures what results.jsonl lacks
    python experiments/own-network/run.py --table      # prints the table into README.md alone

A network a line in results.jsonl, so a run that was stopped goes on. Networks have random weights
and unsettled norms: nothing here depends on what they learned. Each is adopted at its usual images,
where costs and its largest network are compared with the module, and once more at 64 pixels, where
50 random subnets are extracted and compared with the supernet, and as ONNX graphs.
"""

import argparse
import json
import time
import warnings
from pathlib import Path

import numpy as np
import onnxruntime
import torch
import torchvision
from page import write_part
from torch import nn

from nassearch.adoption.adoption import Adoption, adopt, module_cost
from nassearch.errors import AdoptionError
from nassearch.networks.cost import network_cost
from nassearch.networks.onnx_graph import to_onnx
from nassearch.space import lower

HERE = Path(__file__).parent
RESULTS = HERE / "results.jsonl"
PIXELS, SMALL = 224, 64
# ONNX holds no adaptive pooling of fewer pixels than it gives
AT_FULL_SIZE = ("alexnet", "vgg11_bn")
TORCHVISION = (
    "alexnet", "vgg11_bn", "resnet18", "resnet50", "resnext50_32x4d", "wide_resnet50_2",
    "regnet_y_400mf", "densenet121", "mobilenet_v2", "mobilenet_v3_small", "mobilenet_v3_large",
    "efficientnet_b0", "efficientnet_v2_s", "mnasnet1_0", "shufflenet_v2_x1_0", "squeezenet1_1",
    "googlenet", "convnext_tiny",
)  # fmt: skip
TIMM = (
    "mobilenetv4_conv_small", "mobileone_s0", "repvit_m0_9", "ghostnet_100", "lcnet_100",
    "edgenext_xx_small", "resnest14d",
)  # fmt: skip


def make(name: str) -> nn.Module:
    """The network with random weights, and norms as a training leaves them."""
    torch.manual_seed(0)
    if name in TIMM:
        import timm

        module: nn.Module = timm.create_model(name)
    else:
        options = {"aux_logits": False, "init_weights": False} if name == "googlenet" else {}
        module = torchvision.models.get_model(name, weights=None, **options)
    generator = torch.Generator().manual_seed(1)
    for layer in module.modules():
        if isinstance(layer, nn.BatchNorm2d):
            layer.running_mean.uniform_(-0.2, 0.2, generator=generator)
            layer.running_var.uniform_(0.5, 1.5, generator=generator)
    return module.eval()


def relative(actual: torch.Tensor, expected: torch.Tensor) -> float:
    return float((actual - expected).abs().max() / expected.abs().max())


def subnets(adoption: Adoption, count: int, num_onnx: int) -> dict[str, float]:
    """The largest differences of random subnets: extracted, and the first ones as ONNX graphs."""
    space, supernet = adoption.space, adoption.supernet
    pixels = space.resolutions[0]
    images = torch.randn(
        1, space.in_channels, pixels, pixels, generator=torch.Generator().manual_seed(2)
    )
    extracted, graphs = [], []
    for number, architecture in enumerate(space.sample_many(np.random.default_rng(3), count)):
        subnet = supernet.extract(architecture)
        with torch.no_grad():
            expected, actual = supernet(images, architecture), subnet(images)
        extracted.append(relative(actual, expected))
        if number < num_onnx:
            session = onnxruntime.InferenceSession(to_onnx(subnet, subnet.input_shape))
            logits = session.run(None, {session.get_inputs()[0].name: images.numpy()})[0]
            graphs.append(relative(torch.from_numpy(logits), actual))
    return {
        "subnets": len(extracted),
        "extracted_difference": max(extracted),
        "onnx_subnets": len(graphs),
        "onnx_difference": max(graphs, default=0.0),
    }


def measure(name: str, count: int, num_onnx: int) -> dict[str, object]:
    """One line of the table."""
    began = time.monotonic()
    module = make(name)
    example = torch.randn(1, 3, PIXELS, PIXELS, generator=torch.Generator().manual_seed(4))
    try:
        adoption = adopt(module, example, name=name)
    except AdoptionError as error:
        return {"network": name, "refused": str(error)}
    seconds = time.monotonic() - began
    space = adoption.space
    smallest = network_cost(lower(space, space.smallest)).macs
    row: dict[str, object] = {
        "network": name,
        "networks": space.size(),
        "stages": len(space.definition.stages),
        "depth_elastic": sum(len(stage.depth) > 1 for stage in space.definition.stages),
        "layers": len(adoption.layers),
        "elastic_layers": len(adoption.layers) - len(adoption.fixed),
        "largest_difference": adoption.change,
        "costs_equal": (adoption.params, adoption.macs) == module_cost(module, example, name=name),
        "macs": adoption.macs,
        "smallest_share": smallest / adoption.macs,
        "seconds": round(seconds, 1),
    }  # fmt: skip
    pixels = PIXELS if name in AT_FULL_SIZE else SMALL
    small = adopt(module, example[:, :, :pixels, :pixels], name=name)
    return {**row, **subnets(small, count, num_onnx), "torch": torch.__version__}


def table(rows: list[dict[str, object]]) -> str:
    """The page."""
    adopted = [row for row in rows if "refused" not in row]
    enough = [row for row in adopted if int(str(row["networks"])) > 10**6]
    text = [
        "# A network of one's own, twenty-five times",
        "",
        "`python experiments/own-network/run.py` prints this section (`results.jsonl` holds a line",
        "for each network; a run that was stopped goes on). torchvision and timm with random",
        f"weights, adopted at {PIXELS} pixels with no options, then at {SMALL} (AlexNet and VGG at",
        f"{PIXELS}) for the random subnets, their number in brackets. Differences are of logits,",
        "over the largest logit.",
        "",
        f"**{len(adopted)} of {len(rows)} adopted, {len(enough)} with over a million networks.**",
        "",
        "| network | networks | stages, with elastic depth | layers, elastic | largest = module |"
        " params and MACs | smallest, share of MACs | extracted = supernet | ONNX |",
        "|---|---|---|---|---|---|---|---|---|",
    ]
    for row in rows:
        if "refused" in row:
            text.append(f"| {row['network']} | refused, see below | | | | | | | |")
            continue
        text.append(
            f"| {row['network']} | {float(str(row['networks'])):.2g} |"
            f" {row['stages']}, {row['depth_elastic']} | {row['layers']}, {row['elastic_layers']} |"
            f" {row['largest_difference']:.0e} | {'equal' if row['costs_equal'] else 'differ'} |"
            f" {row['smallest_share']:.0%} |"
            f" {row['extracted_difference']:.0e} ({row['subnets']}) |"
            f" {row['onnx_difference']:.0e} ({row['onnx_subnets']}) |"
        )
    text += ["", "## Refused", ""]
    text += [f"- {row['network']}: `{row['refused']}`" for row in rows if "refused" in row]
    missing = [
        name for name in (*TORCHVISION, *TIMM) if name not in {row["network"] for row in rows}
    ]
    if missing:
        text += ["", f"Not run yet: {', '.join(missing)}."]
    return "\n".join(text) + "\n"


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--table", action="store_true", help="write its part of README.md alone")
    parser.add_argument("--subnets", type=int, default=50)
    parser.add_argument("--onnx", type=int, default=50, help="of the subnets, as ONNX graphs")
    parser.add_argument("names", nargs="*", help="by default all that results.jsonl lacks")
    given = parser.parse_args()
    torch.set_num_threads(1)
    warnings.simplefilter("ignore")
    known = {}
    if RESULTS.exists():
        lines = RESULTS.read_text(encoding="utf-8").splitlines()
        known = {row["network"]: row for row in map(json.loads, lines)}
    names = [] if given.table else given.names or [*TORCHVISION, *TIMM]
    for name in names:
        if name in known and not given.names:
            continue
        known[name] = measure(name, given.subnets, given.onnx)
        with RESULTS.open("a", encoding="utf-8") as file:
            file.write(json.dumps(known[name]) + "\n")
    rows = [known[name] for name in (*TORCHVISION, *TIMM) if name in known]
    write_part("run.py", table(rows))


if __name__ == "__main__":
    main()
