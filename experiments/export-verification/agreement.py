"""Random subnets of every shipped space, in every float format, against their supernet.

    python experiments/export-verification/agreement.py run [--count 200] [--formats weights,onnx]
    python experiments/export-verification/agreement.py show

Weights are random and norms unsettled, as a training leaves them; images are as small as the
contract tests take them. Each result is kept as it comes (agreement.csv), so it can be stopped at
any time and goes on where it was.
"""

import argparse
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pandas as pd
import torch
from rich.console import Console

HERE = Path(__file__).parent
sys.path.insert(0, str(HERE.parent.parent))

from nassearch import config  # noqa: E402
from nassearch.data.dataset import Data  # noqa: E402
from nassearch.data.image_set import ImageSet  # noqa: E402
from nassearch.export.export_config import AccuracyClaim, DataConfig, ExportConfig  # noqa: E402
from nassearch.export.format import make_format  # noqa: E402
from nassearch.export.verification import TOLERANCE  # noqa: E402
from nassearch.export.writer import write_export  # noqa: E402
from nassearch.networks import Supernet  # noqa: E402
from nassearch.space import Architecture, SearchSpace  # noqa: E402
from nassearch.training.evaluation import Accuracy  # noqa: E402
from tests.contracts.conftest import shipped_space, unsettle  # noqa: E402

RESULTS = HERE / "agreement.csv"
COLUMNS = ("space", "id", "format", "difference", "largest_logit")
CHUNK = 20
console = Console(width=120)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("what", choices=("run", "show"))
    parser.add_argument("--count", type=int, default=200)
    parser.add_argument("--formats", default="weights,onnx,pt2")
    given = parser.parse_args()
    if given.what == "run":
        run(given.count, given.formats.split(","))
    show()


def run(count: int, formats: list[str]) -> None:
    torch.set_num_threads(1)
    if not RESULTS.exists():
        RESULTS.write_text(",".join(COLUMNS) + "\n")
    done = set(pd.read_csv(RESULTS)[["space", "id", "format"]].itertuples(index=False, name=None))
    names = config.list_files("search_spaces")
    for start in range(0, count, CHUNK):  # every space a little, so that a part says something
        for name in names:
            space = shipped_space(name)
            chosen = sample(space, count)[start : start + CHUNK]
            missing = [
                (one, [f for f in formats if (name, one.id, f) not in done]) for one in chosen
            ]
            if any(wanted for _, wanted in missing):
                for row in compare(space, missing):
                    with RESULTS.open("a") as file:
                        file.write(",".join(map(str, (name, *row))) + "\n")


def sample(space: SearchSpace, count: int) -> list[Architecture]:
    """So many different architectures, or all there are."""
    drawn = space.sample_many(np.random.default_rng(2026), 3 * count)
    return list({one.id: one for one in drawn}.values())[:count]


def compare(
    space: SearchSpace, chosen: list[tuple[Architecture, list[str]]]
) -> Iterator[tuple[str, str, float, float]]:
    torch.manual_seed(0)
    supernet = Supernet(space)
    unsettle(supernet)
    supernet.eval()
    data = noise(space)
    for architecture, formats in chosen:
        size = (1, space.in_channels, architecture.resolution, architecture.resolution)
        images = torch.randn(size, generator=torch.Generator().manual_seed(5))
        with torch.inference_mode():
            expected = supernet(images, architecture)
        facts = ExportConfig.of(
            space,
            architecture,
            data=DataConfig.of(data, seed=0),
            accuracy=AccuracyClaim.of(Accuracy.of(1, 2, split="val"), supernet="random"),
        )
        subnet = supernet.extract(architecture)
        with tempfile.TemporaryDirectory() as folder:
            place = Path(folder) / "export"
            write_export(subnet, place, facts=facts, data=data, formats=tuple(formats))
            for name in formats:
                one = make_format(name)
                with torch.inference_mode():
                    found = one.open(place / one.file_name)(images)
                difference = float((found - expected).abs().max())
                yield architecture.id, name, difference, float(expected.abs().max())


def noise(space: SearchSpace) -> Data:
    """A data set for the config's sake."""
    images = torch.zeros(4, space.in_channels, 8, 8, dtype=torch.uint8)
    found = ImageSet(images, torch.arange(4) % 2)
    names = tuple(f"class {number}" for number in range(space.num_classes))
    return Data("noise", names, found, found, lambda: found, mirrors=True)


def show() -> None:
    found = pd.read_csv(RESULTS)
    found["relative"] = found.difference / found.largest_logit.clip(lower=1.0)
    table = found.groupby(["space", "format"]).agg(
        subnets=("id", "nunique"),
        largest_difference=("difference", "max"),
        largest_logit=("largest_logit", "max"),
        largest_relative=("relative", "max"),
    )
    console.print(table.to_string())
    over = found[found.relative > TOLERANCE]
    console.print(
        f"{len(found)} comparisons, {len(over)} over {TOLERANCE:g} of the largest logit (or of 1)"
    )
    console.print(f"{(found.difference > TOLERANCE).sum()} over {TOLERANCE:g} in absolute terms")


if __name__ == "__main__":
    main()
