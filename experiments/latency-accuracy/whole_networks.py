"""Whole networks measured elsewhere: what they tell of others, what each part brings to that, and
what another device's networks add. What whole_networks.jsonl holds is not computed again.

Settings of the method were chosen on V100 batch 64 alone (how the choice between transfer and
scratch is made and how networks are chosen, on the transfers from V100 and, from ten, of FBNet).
"""

from collections.abc import Callable, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from unittest import mock

import numpy as np
import pandas as pd
from score import evaluate, say

from nassearch import files
from nassearch.latency import block_process, calibration
from nassearch.latency.design import most_telling
from nassearch.latency.importing.networks_csv import load_networks
from nassearch.latency.predictor import LatencyPredictor, Pair
from nassearch.runtimes.runtime import Floats
from nassearch.setting import Setting
from nassearch.space import Architecture, SearchSpace, lower
from nassearch.space.architecture import Block, Stage, canonical_choices

HERE = Path(__file__).parent
RESULTS = HERE / "whole_networks.jsonl"
SOURCE_NETWORKS = 600
HOW = ("transfer alone", "scratch", "taken", "taken, chosen")
Score = tuple[float, float]
"""The mean error of held-out networks, and the share of them inside the interval."""


@dataclass(frozen=True)
class Table:
    """Networks measured in several settings: `ms` by the column's name."""

    space: SearchSpace
    networks: Sequence[Architecture]
    ms: dict[str, Floats]
    held_out: int

    def pairs(self, column: str, rows: Sequence[int]) -> list[Pair]:
        times = self.ms[column]
        return [(self.space, self.networks[row], float(times[row])) for row in rows]


def once_for_all(data: Path) -> Table:
    path, space = data / "ofa_mobilenet_v3" / "subnets.csv", SearchSpace.load("mobilenet_v3")
    names = [f"{gpu}_{batch}_ms" for gpu in ("v100", "2080ti") for batch in (64, 32, 1)]
    every = {name: load_networks(path, space, column=name) for name in names}
    first = every[names[0]]
    ms = {name[:-3]: np.array([pair[2] for pair in pairs]) for name, pairs in every.items()}
    return Table(first[0][0], [network for _, network, _ in first], ms, 1000)


def fbnet(data: Path) -> Table:
    """FBNet's networks: op numbers 0 to 8, as the folder's README lists them."""
    space = SearchSpace.load(str(HERE / "fbnet.yaml"))
    grouped = (1, 5)
    sizes = [(3, 1), (3, 1), (3, 3), (3, 6), (5, 1), (5, 1), (5, 3), (5, 6)]
    blocks = [
        Block(
            f"fbnet_ops:{'Grouped' if number in grouped else ''}FBNetBlock",
            canonical_choices({"kernel_size": k, "expand_ratio": e, "activation": "relu"}),
        )
        for number, (k, e) in enumerate(sizes)
    ]
    blocks.append(Block("fbnet_ops:FBNetSkip", ()))
    frame = pd.read_csv(data / "fbnet" / "subnets.csv")
    networks = []
    for text in frame.pop("blocks"):
        chosen = iter(blocks[int(number)] for number in text.split("-"))
        stages = tuple(
            Stage(stage.width.choices[0], tuple(next(chosen) for _ in stage.positions))
            for stage in space.layout.stages
        )
        networks.append(Architecture(32, stages))
    return Table(space, networks, {name: frame[name].to_numpy(float) for name in frame}, 300)


def scratch(table: Table, column: str, *, count: int, splits: int) -> None:
    """Errors of held-out networks from `count` others, and cover, over so many splits."""
    cell = {"kind": "scratch", "column": column, "count": count}
    if not _is_done(cell):
        _keep(cell, [_score(table, column, count, seed) for seed in range(splits)])


def transfer(table: Table, source: str, target: str, *, count: int, draws: int) -> None:
    """Ten or so networks of another device: transfer, scratch, and what is taken; chosen ones."""
    cell = {"kind": "transfer", "column": target, "source": source, "count": count}
    if _is_done({**cell, "how": HOW[-1]}):
        return
    order = np.random.default_rng(9).permutation(len(table.networks))
    held_out = table.pairs(target, order[: table.held_out])
    pool = order[table.held_out :]
    known = LatencyPredictor.from_networks(
        table.space, Setting(source, "any"), table.pairs(source, pool[:SOURCE_NETWORKS])
    )
    block_ms = {spec: known.calibration.block_ms(spec, ms) for spec, ms in known.block_ms.items()}
    to = Setting(target, "any")
    found: dict[str, list[Score]] = {name: [] for name in HOW}
    shares = []
    for seed in range(draws):
        rng = np.random.default_rng(seed)
        candidates = rng.choice(pool, 200, replace=False)
        specs = [lower(table.space, table.networks[row]) for row in candidates]
        chosen = candidates[most_telling(specs, count, rng, block_ms=block_ms)]
        drawn = table.pairs(target, candidates[:count])
        moved = known.transfer(to, drawn)
        shares.append(moved.calibration.share)
        with mock.patch.object(calibration.Calibration, "mixed", lambda own, other, share: own):
            found["transfer alone"].append(evaluate(known.transfer(to, drawn), held_out))
        alone = LatencyPredictor.from_networks(table.space, to, drawn)
        found["scratch"].append(evaluate(alone, held_out))
        found["taken"].append(evaluate(moved, held_out))
        better = known.transfer(to, table.pairs(target, chosen))
        found["taken, chosen"].append(evaluate(better, held_out))
    for name, scores in found.items():
        _keep({**cell, "how": name}, scores, shares=[round(share, 3) for share in shares])


def ablation(table: Table, column: str, *, count: int, splits: int) -> None:
    """What each part of the method brings: the error without it."""
    every = block_process.covariances

    def without(part: int) -> Callable[..., Any]:
        return lambda *given: [k for number, k in enumerate(every(*given)) if number != part]

    changes: dict[str, Any] = {
        "all parts": (),
        "without launches by kind": ("features", None),
        "without much alike": ("covariances", without(1)),
        "without same resolution": ("covariances", without(2)),
        "without same block": ("covariances", without(3)),
        "without reweighting": ("weights", None),
        "without the process": ("process", None),
    }
    for name, change in changes.items():
        cell = {"kind": "ablation", "column": column, "count": count, "how": name}
        if not _is_done(cell):
            with _changed(change):
                _keep(cell, [_score(table, column, count, seed) for seed in range(splits)])


def _score(table: Table, column: str, count: int, seed: int) -> Score:
    """The error of held-out networks, and cover, from `count` networks drawn by this seed."""
    order = np.random.default_rng(seed).permutation(len(table.networks))
    chosen = table.pairs(column, order[:count])
    predictor = LatencyPredictor.from_networks(table.space, Setting(column, "any"), chosen)
    return evaluate(predictor, table.pairs(column, order[-table.held_out :]))


def _is_done(cell: Mapping[str, Any]) -> bool:
    return any(cell.items() <= line.items() for line in files.read_json_lines(RESULTS))


def _keep(cell: Mapping[str, Any], scores: Sequence[Score], **others: Any) -> None:
    errors, covers = np.array(scores).T
    line = {**cell, "errors": errors.round(5).tolist(), "covers": covers.round(4).tolist()}
    files.append_json_line(RESULTS, {**line, **others})
    say(f"{' '.join(map(str, cell.values()))}: {errors.mean():.2%}, covers {covers.mean():.1%}")


@contextmanager
def _changed(change: tuple[Any, ...]) -> Any:
    """The method without one of its parts."""
    kind, value = change or (None, None)
    if kind == "features":
        whole = calibration.features

        def fewer(spec: Any) -> tuple[float, ...]:
            found = whole(spec)
            return (*found[:10], *[0.0] * 6, found[-1])

        with mock.patch.object(calibration, "features", fewer):
            yield
    elif kind == "covariances":
        with mock.patch.object(calibration, "covariances", value):
            yield
    elif kind == "weights":
        with mock.patch.object(block_process, "_weights", np.ones_like):
            yield
    elif kind == "process":
        with mock.patch.object(calibration, "MIN_DEVIATIONS", 10**9):
            yield
    else:
        yield
