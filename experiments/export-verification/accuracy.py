"""What int8 costs on CIFAR-10: two small networks trained briefly, exported, and verified.

    python experiments/export-verification/accuracy.py --data cifar10 [--epochs 3] [--out DIR]

A residual network (the smallest of cifar_resnet, 32 pixels) and an inverted-residual one (the
smallest of mobilenet_v3, taken at 64 pixels) are trained from scratch with the loop of `finetune`;
`verify` then measures the test accuracy of fp32 and int8. An interrupted training goes on.
"""

import argparse
from pathlib import Path

import torch
from rich.console import Console
from rich.table import Table

from nassearch.config import parse
from nassearch.export.export import write_export
from nassearch.export.export_file import CONFIG, AccuracyFile, DataFile, ExportFile
from nassearch.export.format import Order
from nassearch.export.verify import Verification, verify
from nassearch.networks import Subnet
from nassearch.report.terminal import verification_table
from nassearch.space import SearchSpace, lower
from nassearch.training.data import load_data
from nassearch.training.evaluation import measure_accuracy
from nassearch.training.finetuning import finetune
from nassearch.training.recipe import TrainingRecipe

PIXELS = {"cifar_resnet": 32, "mobilenet_v3": 64}
RECIPE = {"batch_size": 128, "lr": 0.1, "lr_warmup_epochs": 0.2, "label_smoothing": 0.0}
console = Console(width=150)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--data", required=True)
    parser.add_argument("--epochs", type=int, default=3)
    parser.add_argument("--out", type=Path, default=Path("runs/int8"))
    parser.add_argument("--networks", default=",".join(PIXELS))
    given = parser.parse_args()
    torch.set_num_threads(1)
    table = Table("network", "fp32", "int8", "loss, points", "kept in float", "fp32 / int8 time")
    for name in given.networks.split(","):
        directory = given.out / name
        if not (directory / CONFIG).is_file():
            train(name, given.data, given.epochs, directory)
        found = verify(directory, seconds=20)
        console.print(verification_table(found))
        table.add_row(name, *row(found))
    console.print(table)


def train(name: str, spec: str, epochs: int, directory: Path) -> None:
    data = load_data(spec)
    space = SearchSpace.from_dict(
        {**SearchSpace.load(name).to_dict(), "resolution": [PIXELS[name]]}
    )
    space = space.for_data(in_channels=data.in_channels, num_classes=data.num_classes)
    torch.manual_seed(0)
    network = Subnet(lower(space, space.smallest))
    keys = {**RECIPE, "epochs": epochs, "channels_last": name == "mobilenet_v3"}
    recipe = parse(TrainingRecipe, keys, where="recipe")
    finetune(network, data, recipe=recipe, out=directory, resume=True)
    measured = measure_accuracy(network, data.val, data, split="val", resolution=PIXELS[name])
    facts = ExportFile.of(
        space,
        space.smallest,
        data=DataFile.of(data, seed=0),
        accuracy=AccuracyFile.of(measured, supernet="none: trained alone"),
    )
    write_export(
        network, directory, facts=facts, order=Order(data), formats=("weights", "onnx", "int8")
    )


def row(found: Verification) -> tuple[str, ...]:
    whole, int8 = found.formats["onnx"], found.formats["int8"]
    lost = 100 * (whole.accuracy.value - int8.accuracy.value)
    facts = found.export.formats["int8"]
    return (
        f"{whole.accuracy.value:.2%}",
        f"{int8.accuracy.value:.2%}",
        f"{lost:+.2f}",
        f"{len(facts['kept_in_float'])} of {facts['layers']}",
        f"{whole.latency.median_ms / int8.latency.median_ms:.2f}",
    )


if __name__ == "__main__":
    main()
