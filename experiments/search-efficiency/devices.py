"""One search for three settings against a search for each: accuracy evaluations needed."""

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

SETTINGS = (("zen4", "onnxruntime"), ("zen4", "openvino"), ("a100", None))
SHARE = 0.97
TRIALS = 300

Drive = Callable[[Problem, str, int], Iterator[list[Architecture]]]


def three(space: str, seed: int, drive: Drive) -> dict[str, Any]:
    """Evaluations until the front of every setting holds 97 % of the best hypervolume known."""
    landscape = Landscape(space, seed=seed, images=None)
    latencies = _latencies(space)
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
def _latencies(space: str) -> tuple[Objective, ...]:
    """The latency in each setting, from the tables that ship."""
    found = []
    for name, runtime in SETTINGS:
        device = load_device(name)
        setting = device.setting(runtime=runtime, precision=None, batch=None, threads=None)
        loaded = Landscape(space, seed=0, images=None).space
        one = load_target(loaded, device, setting, places=table_places(None))
        (latency,) = build("latency", Context(loaded, (one,)))
        found.append(replace(latency, device=str(setting)))
    return tuple(found)
