"""How long it takes from a published file to the first verified network.

    python experiments/pretrained/first_network.py [--trials 30]

Once-for-all's MobileNetV3 with random weights (its time is that of trained ones), generated
photos of a thousand classes, of which 500 recalibrate and 500 validate. Latencies are those of the
`zen4` tables that ship. The stages' seconds are printed as they end.
"""

import argparse
import sys
import tempfile
import time
from pathlib import Path

import numpy as np
import torch
from PIL import Image
from rich.console import Console

import nassearch as ns
from nassearch.data.preprocessing import IMAGENET
from nassearch.latency.device import host_cpu_name

sys.path.insert(0, str(Path(__file__).parents[2]))
from tests.networks.published import ofa_package

CLASSES, IMAGES = 1000, 500
_RECALIBRATION = IMAGENET.recalibration.model_copy(update={"images": IMAGES})
LIKE_IMAGENET = IMAGENET.model_copy(update={"recalibration": _RECALIBRATION})


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--trials", type=int, default=30)
    arguments = parser.parse_args()
    console = Console(width=120)
    with tempfile.TemporaryDirectory() as folder:
        place = Path(folder)
        network = ofa_package.build("ofa_mbv3_w10")
        torch.save({"state_dict": network.state_dict()}, place / "ofa.pth")
        write_photos(place / "photos")
        console.print(f"{host_cpu_name()}, {torch.get_num_threads()} threads")
        began = last = time.perf_counter()

        def ended(stage: str) -> None:
            nonlocal last
            now = time.perf_counter()
            console.print(f"{stage}: {now - last:.0f} s")
            last = now

        data = ns.load_data(
            f"imagefolder:{place / 'photos'}",
            val_share=0.25,
            preprocessing=LIKE_IMAGENET,
            pixels=224,
        )
        ended(f"reading images, {IMAGES} to recalibrate with, {len(data.val)} to validate")
        supernet = ns.import_supernet(place / "ofa.pth", data=data, out=place / "run")
        ended("import")
        result = ns.search_subnets(
            supernet, devices=["zen4"], budgets=["50%"], trials=arguments.trials
        )
        ended(f"search of {arguments.trials} networks at {supernet.space.resolutions} pixels")
        exports = ns.export_subnets(result, formats=["weights", "onnx"], out=place / "exports")
        ended("export")
        [check] = ns.verify_exports(exports)
        ended("verification")
        console.print(f"largest difference of outputs: {check.largest_difference:.1e}")
        console.print(f"all of it: {(time.perf_counter() - began) / 60:.1f} minutes")


def write_photos(folder: Path) -> None:
    """Two photos of each class to train on and one to test: smooth colours, of odd sizes."""
    rng = np.random.default_rng(0)
    for split, count in (("train", 2), ("test", 1)):
        for label in range(CLASSES):
            (folder / split / f"n{label:04d}").mkdir(parents=True)
            for number in range(count):
                coarse = rng.integers(0, 256, (8, 8, 3), dtype=np.uint8)
                size = tuple(int(side) for side in rng.integers(240, 520, 2))
                image = Image.fromarray(coarse).resize(size, Image.Resampling.BICUBIC)
                image.save(folder / split / f"n{label:04d}" / f"{number}.jpg")


if __name__ == "__main__":
    main()
