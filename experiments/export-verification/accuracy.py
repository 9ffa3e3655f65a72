"""What int8 costs on CIFAR-10: two small networks trained briefly, exported, and verified.

    python experiments/export-verification/accuracy.py --data cifar10 [--epochs 3] [--seeds 3]

A residual network (the smallest of cifar_resnet, 32 pixels) and an inverted-residual one (the
smallest of mobilenet_v3, taken at 64 pixels) are trained from scratch with the loop of `finetune`;
`verify` then measures the test accuracy of fp32 and int8. An interrupted training goes on.
"""

import argparse
from pathlib import Path

import numpy as np
import torch
from rich.console import Console
from rich.table import Table

from nassearch.cli.terminal import verification_table
from nassearch.config import parse
from nassearch.data.loading import load_data
from nassearch.export.export_config import CONFIG, AccuracyClaim, DataConfig, ExportConfig
from nassearch.export.verify import verify
from nassearch.export.writer import write_export
from nassearch.networks import Subnet
from nassearch.space import SearchSpace, lower
from nassearch.training.evaluation import measure_accuracy
from nassearch.training.finetuning import finetune
from nassearch.training.training_recipe import TrainingRecipe

PIXELS = {"cifar_resnet": 32, "mobilenet_v3": 64}
RECIPE = {"batch_size": 128, "lr": 0.1, "lr_warmup_epochs": 0.2, "label_smoothing": 0.0}
console = Console(width=150)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--data", required=True)
    parser.add_argument("--epochs", type=int, default=3)
    parser.add_argument("--out", type=Path, default=Path("runs/int8"))
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--networks", default=",".join(PIXELS))
    given = parser.parse_args()
    torch.set_num_threads(1)
    table = Table("network", "seed", "fp32", "int8", "loss, points", "kept in float")
    for name in given.networks.split(","):
        lost = []
        for seed in range(given.seeds):
            directory = given.out / f"{name}-{seed}"
            if not (directory / CONFIG).is_file():
                train(name, given.data, given.epochs, seed, directory)
            found = verify(directory, seconds=5)
            console.print(verification_table(found))
            whole, int8 = (found.formats[each].accuracy.value for each in ("onnx", "int8"))
            lost.append(100 * (whole - int8))
            facts = found.export.formats["int8"]
            kept = f"{len(facts['kept_in_float'])} of {facts['layers']}"
            table.add_row(name, str(seed), f"{whole:.2%}", f"{int8:.2%}", f"{lost[-1]:+.2f}", kept)
        spread = f" ± {np.std(lost, ddof=1):.2f}" if len(lost) > 1 else ""
        table.add_row(name, "all", "", "", f"{np.mean(lost):+.2f}{spread}", "", end_section=True)
    console.print(table)


def train(name: str, spec: str, epochs: int, seed: int, directory: Path) -> None:
    data = load_data(spec, seed=seed)
    space = SearchSpace.from_dict(
        {**SearchSpace.load(name).to_dict(), "resolution": [PIXELS[name]]}
    )
    space = space.for_data(in_channels=data.in_channels, num_classes=data.num_classes)
    torch.manual_seed(seed)
    network = Subnet(lower(space, space.smallest))
    keys = {**RECIPE, "epochs": epochs, "seed": seed, "channels_last": name == "mobilenet_v3"}
    recipe = parse(TrainingRecipe, keys, where="recipe")
    finetune(network, data, recipe=recipe, out=directory, resume=True)
    measured = measure_accuracy(network, data.val, data, split="val", resolution=PIXELS[name])
    facts = ExportConfig.of(
        space,
        space.smallest,
        data=DataConfig.of(data, seed=seed),
        accuracy=AccuracyClaim.of(measured, supernet="none: trained alone"),
    )
    write_export(
        network,
        directory,
        facts=facts,
        data=data,
        formats=("weights", "onnx", "int8"),
    )


if __name__ == "__main__":
    main()
