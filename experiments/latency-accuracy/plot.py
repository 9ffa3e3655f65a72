"""Draw what `bench.py device` measured: one PNG for each CSV it wrote."""

from pathlib import Path

import numpy as np
import pandas as pd
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure

BLUE, GREY, RED = "#2b6cb0", "#a0aec0", "#c53030"
GROUPS = 5


def draw(path: Path) -> Path:
    """Predicted against measured, error by size, coverage by size; the PNG lies beside the CSV."""
    frame = pd.read_csv(path)
    error = 100 * (frame.predicted_ms / frame.measured_ms - 1)
    inside = (frame.low_ms <= frame.measured_ms) & (frame.measured_ms <= frame.high_ms)
    figure = Figure(figsize=(11, 3.6), dpi=90, layout="constrained")
    first, second, third = figure.subplots(1, 3)

    ends = np.array([frame.measured_ms.min() * 0.95, frame.measured_ms.max() * 1.05])
    first.fill_between(ends, 0.95 * ends, 1.05 * ends, color=GREY, alpha=0.35, label="± 5 %")
    first.plot(ends, ends, color=GREY)
    first.scatter(frame.measured_ms, frame.predicted_ms, s=9, color=BLUE)
    first.set(xlabel="measured, ms", ylabel="predicted, ms", title="Predicted against measured")
    first.legend(frameon=False)

    second.axhline(0, color=GREY)
    floor = 100 * frame.noise_floor.iloc[0]
    second.axhspan(-floor, floor, color=GREY, alpha=0.35, label=f"noise floor {floor:.1f} %")
    second.scatter(frame.macs / 1e6, error, s=9, color=BLUE)
    second.set(xlabel="million multiply-accumulates", ylabel="error, %", title="Error by size")
    second.legend(frameon=False)

    groups = pd.qcut(frame.macs, GROUPS, labels=False)
    covered = 100 * inside.groupby(groups).mean()
    middles = (frame.macs / 1e6).groupby(groups).median()
    third.bar([f"{value:.0f}M" for value in middles], covered, color=BLUE)
    third.axhline(90, color=RED, label="stated: 90 %")
    third.set(
        xlabel="size, fifths", ylabel="inside, %", title="Coverage of the interval", ylim=(0, 105)
    )
    third.legend(frameon=False, loc="lower right")

    figure.suptitle(f"{frame.space[0]}, {frame.setting[0]}: {len(frame)} networks not profiled")
    made = path.with_suffix(".png")
    FigureCanvasAgg(figure).print_png(made)
    return made
