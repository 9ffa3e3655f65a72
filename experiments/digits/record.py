"""Run the quickstart's recipe with several seeds and record what came out.

    python experiments/digits/record.py [--seeds 0 1 2] [--out runs/digits-record]

Writes results.csv beside this file, one row for each seed and budget, and prints mean and standard
deviation over seeds. Runs that are already in --out are not run again.
"""

import argparse
import time
from pathlib import Path

import numpy as np
import numpy.typing as npt
import pandas as pd
import torch
from rich.console import Console

import nassearch as ns
from nassearch.latency.device import host_cpu_name
from nassearch.networks.supernet import resize
from nassearch.pipeline.run_directory import environment, load_recipe

HERE = Path(__file__).parent
_Z_90 = 1.645
COLUMNS = ("seed", "budget", "budget_ms", "predicted_ms", "measured_ms", "test_accuracy", "params")


def record(seed: int, run: Path) -> pd.DataFrame:
    """The rows of one seed."""
    rows_path = run / "rows.csv"
    if rows_path.is_file():
        return pd.read_csv(rows_path)
    start = time.perf_counter()
    recipe = load_recipe(str(HERE / "recipe.yaml"), {"seed": seed})
    rows = []
    delivered = ns.run_recipe(recipe, out=run, resume=run.exists())
    for verified in delivered:
        (claim,), (check,) = verified.pick.latency, verified.verification.latency
        accuracy = verified.verification.accuracy.value
        measured = check.measured.median_ms if check.measured is not None else float("nan")
        row = (claim.budget_ms, claim.predicted_ms, measured, accuracy)
        rows.append((seed, verified.pick.budget, *row, verified.verification.export.params))
    frame = pd.DataFrame(rows, columns=list(COLUMNS))
    first, last = (right(item.exported.directory, seed) for item in (delivered[0], delivered[-1]))
    difference = last - first
    frame["gain"] = difference.mean()  # of the largest budget's network over the smallest's
    frame["gain_error"] = _Z_90 * difference.std() / len(difference) ** 0.5
    frame["seconds"] = round(time.perf_counter() - start, 1)
    frame.to_csv(rows_path, index=False)
    return frame


def right(export: Path, seed: int) -> npt.NDArray[np.float64]:
    """Whether an exported network is right about each test image, 0 or 1."""
    data, network = ns.load_data("digits", seed=seed), ns.load(export)
    test = data.test()
    images = resize(data.normalise(test.images), network.input_shape[-1])
    with torch.inference_mode():
        return (network(images).argmax(1) == test.labels).numpy().astype(np.float64)


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--seeds", type=int, nargs="+", default=[0, 1, 2])
    parser.add_argument("--out", type=Path, default=Path("runs/digits-record"))
    arguments = parser.parse_args()
    frames = [record(seed, arguments.out / f"seed-{seed}") for seed in arguments.seeds]
    results = pd.concat(frames)
    results.to_csv(HERE / "results.csv", index=False, float_format="%.6g")
    numbers = ["budget_ms", "predicted_ms", "measured_ms", "test_accuracy", "params"]
    grouped = results.groupby("budget", sort=False)[numbers].agg(["mean", "std"])
    console = Console(width=160)
    console.print(grouped.to_string(float_format=lambda value: f"{value:.4g}"))
    best = results.groupby("seed").test_accuracy.max()
    seconds = results.groupby("seed").seconds.first()
    console.print(
        f"best test accuracy per seed {best.mean():.4f} ± {best.std():.4f},"
        f" {seconds.mean():.0f} ± {seconds.std():.0f} s a run"
    )
    for seed, gain, error in results.groupby("seed")[["gain", "gain_error"]].first().itertuples():
        console.print(
            f"seed {seed}: the largest budget's network gains {100 * gain:.1f} points,"
            f" {100 * (gain - error):.1f} to {100 * (gain + error):.1f} (paired, 90 %)"
        )
    facts = environment()
    console.print(
        f"{host_cpu_name()}, {facts['cores']} cores, torch {facts['torch']},"
        f" onnxruntime {facts['onnxruntime']}"
    )


if __name__ == "__main__":
    main()
