"""Run the quickstart's recipe with several seeds and record what came out.

    python experiments/digits/record.py [--seeds 0 1 2] [--out runs/digits-record]

Writes results.csv beside this file, one row for each seed and budget, and prints mean and standard
deviation over seeds. Runs that are already in --out are not run again.
"""

import argparse
import time
from pathlib import Path

import pandas as pd
from rich.console import Console

from nassearch.latency.device import host_cpu_name
from nassearch.pipeline.export import run_all
from nassearch.pipeline.run_directory import environment, load_recipe

HERE = Path(__file__).parent
COLUMNS = ("seed", "budget", "budget_ms", "predicted_ms", "measured_ms", "test_accuracy", "params")


def record(seed: int, run: Path) -> pd.DataFrame:
    """The rows of one seed."""
    rows_path = run / "rows.csv"
    if rows_path.is_file():
        return pd.read_csv(rows_path)
    start = time.perf_counter()
    recipe = load_recipe(str(HERE / "recipe.yaml"), {"seed": seed})
    _, delivered = run_all(recipe, run, resume=run.exists())
    rows = []
    for one in delivered:
        (item,), (check,) = one.pick.latency, one.verification.latency
        accuracy = one.verification.accuracy.value
        measured = check.measured.median_ms if check.measured is not None else float("nan")
        row = (item.budget_ms, item.predicted_ms, measured, accuracy)
        rows.append((seed, one.pick.budget, *row, one.verification.export.params))
    frame = pd.DataFrame(rows, columns=list(COLUMNS))
    frame["seconds"] = round(time.perf_counter() - start, 1)
    frame.to_csv(rows_path, index=False)
    return frame


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
    facts = environment()
    console.print(
        f"{host_cpu_name()}, {facts['cores']} cores, torch {facts['torch']},"
        f" onnxruntime {facts['onnxruntime']}"
    )


if __name__ == "__main__":
    main()
