"""One search for several settings against a search for each: accuracy evaluations needed."""

from collections.abc import Callable, Iterator
from dataclasses import replace
from functools import lru_cache
from typing import Any

import numpy as np
from landscape import Landscape, best_front

from nassearch.latency.device import load_device
from nassearch.latency.target import load_target
from nassearch.objectives.objective import Context, build
from nassearch.pipeline.profile import table_places
from nassearch.search.pareto import hypervolume
from nassearch.search.problem import Floats, Objective, Problem
from nassearch.space import Architecture

GPUS = ("a100", "h100", "v100", "t4", "jetson_orin")
CPU = ("fp32", "int8")
Choice = tuple[str, str | None, str | None, int | None]
"""A device, its runtime, precision and batch; None is the device's own."""
THREE: tuple[Choice, ...] = (
    ("zen4", "onnxruntime", None, None),
    ("zen4", "openvino", None, None),
    ("a100", None, None, None),
)
TWENTY: tuple[Choice, ...] = (
    *(("zen4", runtime, each, 1) for runtime in ("onnxruntime", "openvino") for each in CPU),
    *((f"raspberry_pi_{number}", "onnxruntime", each, 1) for number in (4, 5) for each in CPU),
    *((name, "tensorrt", each, 1) for name in GPUS for each in ("fp16", "int8")),
    *((name, "tensorrt", "fp16", 64) for name in GPUS[:2]),
)
SHARE = 0.97
TRIALS = 300

Drive = Callable[[Problem, str, int], Iterator[list[Architecture]]]


def several(space: str, seed: int, drive: Drive, *, settings: tuple[Choice, ...]) -> dict[str, Any]:
    """Evaluations until the front of every setting holds 97 % of the best hypervolume known."""
    landscape = Landscape(space, seed=seed, images=None)
    latencies = _latencies(space, settings)
    accuracy = landscape.problem(seed).objectives[0]
    wholes = []
    for latency in latencies:
        view = landscape.with_cost(latency)
        wholes.append((view, view.reference(), hypervolume(best_front(view), view.reference())))

    def needed(chosen: list[int]) -> int | None:
        axes = tuple(latencies[index] for index in chosen)
        problem = Problem(landscape.space, (accuracy, *axes), seed=seed)
        asked: list[Architecture] = []
        for batch in drive(problem, "guided", TRIALS):
            asked += batch
            genes = np.vstack([landscape.genes(each) for each in asked])
            shares = [_share(genes, *wholes[index]) for index in chosen]
            if min(shares) >= SHARE:
                return len(asked)
        return None

    alone = [needed([index]) for index in range(len(latencies))]
    return {"alone": alone, "together": needed(list(range(len(latencies))))}


def _share(genes: Any, view: Landscape, reference: Floats, whole: float) -> float:
    return hypervolume(view.losses_of_genes(genes), reference) / whole


@lru_cache
def _latencies(space: str, settings: tuple[Choice, ...]) -> tuple[Objective, ...]:
    """The latency in each setting, from the tables that ship and from estimates."""
    found = []
    for name, runtime, precision, batch in settings:
        device = load_device(name)
        setting = device.setting(runtime=runtime, precision=precision, batch=batch, threads=None)
        loaded = Landscape(space, seed=0, images=None).space
        one = load_target(loaded, device, setting, places=table_places(None))
        (latency,) = build("latency", Context(loaded, (one,)))
        found.append(replace(latency, device=str(setting)))
    return tuple(found)
