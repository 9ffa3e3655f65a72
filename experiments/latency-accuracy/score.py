"""How predictions are scored, and where figures go."""

import sys
from collections.abc import Sequence

import numpy as np
import pandas as pd

from nassearch.latency.predictor import LatencyPredictor, Pair
from nassearch.runtimes.runtime import Floats


def say(text: str) -> None:
    sys.stdout.write(f"{text}\n")
    sys.stdout.flush()


def scores(predicted: Floats, measured: Floats) -> str:
    error = np.abs(predicted / measured - 1)
    ranks = pd.Series(predicted).corr(pd.Series(measured), method="spearman")
    return (
        f"error {error.mean():.2%}, within 10 % {np.mean(error <= 0.10):.1%},"
        f" within 5 % {np.mean(error <= 0.05):.1%}, rank correlation {ranks:.3f}"
    )


def coverage(predictor: LatencyPredictor, pairs: Sequence[Pair]) -> float:
    low, high = predictor.interval([architecture for _, architecture, _ in pairs])
    measured = np.array([ms for _, _, ms in pairs])
    return float(np.mean((low <= measured) & (measured <= high)))


def evaluate(predictor: LatencyPredictor, pairs: Sequence[Pair]) -> tuple[float, float]:
    """(mean absolute relative error, share of measurements inside the interval)."""
    measured = np.array([ms for _, _, ms in pairs])
    predicted = predictor.predict([architecture for _, architecture, _ in pairs])
    return float(np.mean(np.abs(predicted / measured - 1))), coverage(predictor, pairs)
