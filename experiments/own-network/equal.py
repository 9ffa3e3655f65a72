"""A space written by hand and the adopted one of the same network: are they one?

    python experiments/own-network/equal.py latency                   # on a quiet machine
    python experiments/own-network/equal.py same
    python experiments/own-network/equal.py train --data CIFAR10_FOLDER [--seed 0] [--out DIR]
    python experiments/own-network/equal.py report

`latency` builds MobileNetV2 and ResNet-50, whole and as subnets of random depths and inner widths,
from a space of the package's own ops and from torchvision's module that was adopted; it checks that
their parameters and multiply-accumulates are equal to the digit and times all of them in one
interleaved run (ONNX Runtime, fp32, one thread). `same` gives a small MobileNetV2's supernets of
both kinds the same weights and compares losses and gradients in training; `train` trains both with
one recipe on some of CIFAR-10 and tests equal networks of both. Results lie in equal.jsonl, the
sizes in compare.yaml.
"""

import argparse
import statistics
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
import torchvision
from compare import HERE, PLAN, Results, recipe, some
from page import write_part
from rich.console import Console
from torch import nn

import nassearch as ns
from nassearch import files
from nassearch.adoption.adoption import adopt
from nassearch.adoption.elastic_space import Elasticity
from nassearch.data.dataset import Data
from nassearch.latency.timing import interleave
from nassearch.networks import Subnet, Supernet
from nassearch.networks.cost import network_cost
from nassearch.runtimes.onnx import OnnxRuntime
from nassearch.setting import Setting
from nassearch.space import Architecture, SearchSpace, lower
from nassearch.training.evaluation import Evaluator, measure_accuracy
from nassearch.training.trainer import train

RESULTS = Results(HERE / "equal.jsonl")
KINDS = ("hand-written", "adopted")
# stage by stage of MobileNetV2: width, blocks, stride, expand ratio (Sandler et al., table 2)
TABLE = ((16, 1, 1, 1), (24, 2, 2, 6), (32, 3, 2, 6), (64, 4, 2, 6), (96, 3, 1, 6), (160, 3, 2, 6))
TABLE = (*TABLE, (320, 1, 1, 6))
HALF = 0.5  # of inner widths, besides all of them


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("what", choices=("latency", "same", "train", "report"))
    parser.add_argument("--data", type=Path)
    parser.add_argument("--out", type=Path, default=Path("runs/own-network-equal"))
    parser.add_argument("--seed", type=int, help="by default every seed of compare.yaml")
    given = parser.parse_args()
    torch.set_num_threads(1)
    if given.what == "latency":
        latency()
    elif given.what == "same":
        same()
    elif given.what == "train":
        for seed in PLAN["seeds"] if given.seed is None else [given.seed]:
            for kind in KINDS:
                train_one(kind, seed, given.data, given.out)
    else:
        text = section()
        Console().print(text)
        write_part("equal.py", text)


@dataclass(frozen=True)
class Twin:
    """One network's two spaces; `first` is the adopted space's stage that is the other's first."""

    name: str
    written: SearchSpace
    module: nn.Module
    first: int

    def adopted(self) -> SearchSpace:
        return self.adoption().space

    def adoption(self) -> Any:
        every = tuple(range(1, 9))
        elasticity = Elasticity(width=(1.0,), inner=(HALF, 1.0), depth=every)
        pixels = self.written.resolutions[-1]
        image = torch.zeros(1, 3, pixels, pixels)
        return adopt(self.module.eval(), image, name=self.name, elasticity=elasticity)

    def networks(self, count: int, adopted: SearchSpace) -> list[tuple[Architecture, Architecture]]:
        """The largest network and random ones, from both spaces; their costs are equal."""
        rng = np.random.default_rng(0)
        drawn = [self.written.largest, *self.written.sample_many(rng, count - 1)]
        pairs = [(one, self._same(one, adopted)) for one in drawn]
        for one, other in pairs:
            costs = [network_cost(lower(*item)) for item in ((self.written, one), (adopted, other))]
            assert (costs[0].macs, costs[0].params) == (costs[1].macs, costs[1].params), self.name
        return pairs

    def _same(self, network: Architecture, adopted: SearchSpace) -> Architecture:
        """The adopted space's network of the same depths and inner widths."""
        values: dict[str, Any] = {}
        for index, stage in enumerate(network.stages):
            place = f"stages[{index + self.first}]"
            values[f"{place}.depth"] = len(stage.blocks)
            full = max(self.written.definition.stages[index].expand_ratio or (1,))
            for number, block in enumerate(stage.blocks):
                share = dict(block.choices).get("expand_ratio", full) / full
                values[f"{place}.blocks[{number}].inner_ratio"] = share
        genes = [
            gene.choices.index(values[gene.name]) if gene.name in values else len(gene.choices) - 1
            for gene in adopted.genes
        ]
        return adopted.decode(genes)


def mobilenet(pixels: int, *, strides: Sequence[int], stem: int, share: float = 1.0) -> Twin:
    """MobileNetV2 for images of so many pixels; `share` of its widths."""
    widths = [round(share * width) for width, *_ in TABLE]
    plain = {"kernel_size": 3, "activation": "relu6"}
    stages = [
        {"op": "mbconv", "width": width, "depth": list(range(1, blocks + 1)), "stride": stride}
        | {"expand_ratio": [3, 6] if ratio > 1 else 1, **plain}
        for width, stride, (_, blocks, _, ratio) in zip(widths, strides, TABLE, strict=True)
    ]
    first = round(32 * share)
    written = SearchSpace.from_dict(
        {
            "name": "mobilenet_v2_by_hand",
            "resolution": pixels,
            "num_classes": 10,
            "stem": {"op": "conv", "width": first, "stride": stem, **plain},
            "stages": stages,
            "head": {"expand_width": 1280, "activation": "relu6"},
        }
    )
    setting = [
        [ratio, width, blocks, stride]
        for width, stride, (_, blocks, _, ratio) in zip(widths, strides, TABLE, strict=True)
    ]
    torch.manual_seed(0)
    module = torchvision.models.MobileNetV2(
        num_classes=10, inverted_residual_setting=setting, round_nearest=1
    )
    if share != 1.0 or stem != 2:
        module.features[0][0] = nn.Conv2d(3, first, 3, stem, 1, bias=False)
        module.features[0][1] = nn.BatchNorm2d(first)
        block = torchvision.models.mobilenetv2.InvertedResidual
        module.features[1] = block(first, widths[0], strides[0], 1)
    return Twin("mobilenet_v2", written, module, 1)


def resnet() -> Twin:
    """ResNet-50 at 224 pixels."""
    depths = (3, 4, 6, 3)
    stages = [
        {"op": "bottleneck", "width": 256 << number, "depth": list(range(1, depth + 1))}
        | {"stride": 1 if number == 0 else 2, "kernel_size": 3, "activation": "relu"}
        | {"expand_ratio": [0.125, 0.25]}
        for number, depth in enumerate(depths)
    ]
    stem = {"op": "pooled_conv", "width": 64, "kernel_size": 7, "stride": 4, "activation": "relu"}
    content = {"name": "resnet50_by_hand", "resolution": 224, "num_classes": 10}
    written = SearchSpace.from_dict({**content, "stem": stem, "stages": stages, "head": {}})
    torch.manual_seed(0)
    return Twin("resnet50", written, torchvision.models.resnet50(num_classes=10), 1)


# -- latency ---------------------------------------------------------------------------------------


def latency() -> None:
    twins = [mobilenet(224, strides=[row[2] for row in TABLE], stem=2), resnet()]
    runtime = OnnxRuntime(Setting("here", "onnxruntime", "fp32", batch=1, threads=1))
    for twin in twins:
        adopted = twin.adopted()
        pairs = twin.networks(PLAN["equal"]["pairs"], adopted)
        runs = []
        for one, other in pairs:
            for space, network in ((twin.written, one), (adopted, other)):
                torch.manual_seed(0)
                runs.append(runtime.load(Subnet(lower(space, network)).eval()).run_ms)
        timing = interleave(runs, seconds=PLAN["equal"]["seconds"])
        ms = timing.medians_ms.reshape(-1, 2)
        line: dict[str, Any] = {"kind": "latency", "network": twin.name}
        line |= {"ms": ms.round(4).tolist(), "ratios": (ms[:, 1] / ms[:, 0]).round(4).tolist()}
        RESULTS.keep({**line, "noise": round(timing.noise_floor, 4)})


# -- accuracy --------------------------------------------------------------------------------------


def small_mobilenet() -> Twin:
    """What is trained on CIFAR-10."""
    return mobilenet(32, strides=(1, 1, 2, 2, 1, 2, 1), stem=1, share=HALF)


def same() -> None:
    """By how much losses and gradients differ where the weights are the same."""
    twin = small_mobilenet()
    adopted = twin.adopted()
    supernets = [Supernet(space).train() for space in (twin.written, adopted)]
    parameters = [list(supernet.parameters()) for supernet in supernets]
    with torch.no_grad():
        for one, other in zip(*parameters, strict=True):
            other.copy_(one)
    images, labels = torch.randn(64, 3, 32, 32), torch.randint(10, (64,))
    differences = []
    for pair in twin.networks(PLAN["equal"]["networks"], adopted):
        found = []
        for supernet, own, network in zip(supernets, parameters, pair, strict=True):
            supernet.zero_grad(set_to_none=True)
            loss = F.cross_entropy(supernet(images, network), labels)
            loss.backward()
            gradients = [weight.grad for weight in own if weight.grad is not None]
            found.append(torch.cat([loss.detach().view(1), *(one.flatten() for one in gradients)]))
        differences.append(float((found[0] - found[1]).abs().max()))
    RESULTS.keep({"kind": "same", "differences": differences})


def train_one(kind: str, seed: int, images: Path, out: Path) -> None:
    """A supernet of one kind of space, and the test accuracies of equal networks."""
    if RESULTS.of(kind="accuracy", space=kind, seed=seed):
        return
    twin = small_mobilenet()
    adoption = twin.adoption()
    whole = ns.load_data(f"imagefolder:{images}", val_share=PLAN["val_share"], seed=0)
    data: Data = some(whole, PLAN["equal"]["images"], 0)
    keys = {"strategy": "sandwich", "sandwich_rule": "in-turn", "epochs": PLAN["equal"]["epochs"]}
    run = out / f"{kind}-{seed}"
    space = twin.written if kind == KINDS[0] else adoption.space
    supernet = train(space, data, recipe=recipe(keys, seed=seed, lr=0.1), out=run, resume=True)
    evaluator = Evaluator(supernet, data)
    tests = []
    for pair in twin.networks(PLAN["equal"]["networks"], adoption.space):
        subnet = evaluator.subnet(pair[KINDS.index(kind)])
        tests.append(measure_accuracy(subnet, data.test(), data, split="test", resolution=32).value)
    line = {"kind": "accuracy", "space": kind, "seed": seed, "tests": tests}
    seconds = files.read_json_lines(run / "metrics.jsonl")[-1]["seconds"]
    RESULTS.keep({**line, "mean": statistics.mean(tests), "seconds": round(seconds)})


# -- report ----------------------------------------------------------------------------------------


def section() -> str:
    """The section of README.md."""
    plan = PLAN["equal"]
    text = [
        "## Written by hand, and adopted",
        "",
        "`python experiments/own-network/equal.py latency`, `equal.py same`, `equal.py train`",
        "and `equal.py report` make this section. The same networks from a space",
        "of the package's own ops and from torchvision's adopted module; parameters and",
        "multiply-accumulates are equal to the digit.",
        "",
    ]
    lines = {line["network"]: line for line in RESULTS.of(kind="latency")}
    if lines:
        text += ["| network | networks | adopted over hand-written, latency | largest difference |"]
        text += ["|---|---|---|---|"]
    else:
        text.append("Latencies were not measured yet: that wants a quiet machine.")
    for name, line in lines.items():
        ratios = line["ratios"]
        worst = max(abs(ratio - 1) for ratio in ratios)
        spread = f"{min(ratios):.3f} to {max(ratios):.3f}"
        text.append(f"| {name} | {len(ratios)} | {spread} | {worst:.1%} |")
    for line in RESULTS.of(kind="same")[-1:]:
        most = max(line["differences"])
        text += [
            "",
            "`equal.py same`: with the same weights, losses and gradients in training of"
            f" {len(line['differences'])} networks",
            f"of a small MobileNetV2 {f'differ by at most {most:.0e}' if most else 'are equal'}.",
        ]
    found = {kind: RESULTS.of(kind="accuracy", space=kind) for kind in KINDS}
    if not all(found.values()):
        text += ["", "The trainings were not run yet."]
    if all(found.values()):
        text += [
            "",
            f"Trained on {plan['images']:,} images for {plan['epochs']} epochs, each from random"
            f" weights of its own, the mean test accuracy of {plan['networks']} networks:",
            "",
            "| space | seeds | test accuracy |",
            "|---|---|---|",
        ]
    for kind, trained in found.items():
        if trained:
            text.append(f"| {kind} | {len(trained)} | {_spread(trained)} |")
    return "\n".join(text) + "\n"


def _spread(lines: Sequence[Mapping[str, Any]]) -> str:
    means = [100 * line["mean"] for line in lines]
    deviation = statistics.stdev(means) if len(means) > 1 else 0.0
    return f"{statistics.mean(means):.2f} ± {deviation:.2f}%"


if __name__ == "__main__":
    main()
