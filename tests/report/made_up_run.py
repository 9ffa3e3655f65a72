"""A run as its commands leave it, without training or measuring: accuracies follow a formula."""

import json
from collections.abc import Callable, Sequence
from dataclasses import fields
from pathlib import Path
from typing import Any

import numpy as np
import yaml

from nassearch import files
from nassearch.latency.device import Device, load_device
from nassearch.latency.predictor import LatencyPredictor
from nassearch.latency.roofline import roofline
from nassearch.latency.snapshot import LatencySnapshot, write_snapshots
from nassearch.latency.target import Target
from nassearch.networks.cost import network_cost
from nassearch.objectives.objective import Context, build
from nassearch.provenance import Estimate, Provenance
from nassearch.runtimes.fake import fake_block_ms
from nassearch.search.candidate_evaluation import serial
from nassearch.search.pareto import ParetoFront, candidate_table
from nassearch.search.problem import Objective, Problem
from nassearch.setting import Setting
from nassearch.space import Architecture, SearchSpace, block_specs, lower
from nassearch.training import checkpoint

ESTIMATED = "a100"
NUM_MEASURED = 24


def make_run(
    run: Path,
    *,
    space: str = "digits_tiny",
    candidates: int = 60,
    devices: Sequence[str] = ("box",),
    seed: int = 0,
    budget: str = "40%",
    data: str = "digits",
    preprocessing: str | None = None,
) -> Path:
    """A finished run in `run`; the device a100 is estimated, any other is measured."""
    owner = SearchSpace.load(space)
    start_run(run, owner, data=data, seed=seed, preprocessing=preprocessing)
    rng = np.random.default_rng(seed)
    predictors = [_predictor(owner, device, rng) for device in devices]
    targets = [
        Target(
            load_device(name) if name == ESTIMATED else Device(name=name),
            predictor.setting,
            predictor,
        )
        for predictor, name in zip(predictors, devices, strict=True)
    ]
    latencies = build("latency", Context(owner, tuple(targets)))
    accuracy = Objective("accuracy", "max", "", _accuracy(owner, rng), source="made up")
    problem = Problem(owner, (accuracy, *latencies), seed=seed)
    architectures = list(dict.fromkeys(owner.sample_many(rng, candidates * 2)))[:candidates]
    evaluated = list(serial(problem)(architectures, to_beat=lambda _: {}))
    search = files.make_directory(run / "search" / "feedbeef-1")
    settings = {
        "schema": 1,
        "algorithm": "guided",
        **problem.identity(),
        "axes": [axis.to_dict() for axis in problem.axes],
    }
    files.write_json(search / "search.json", settings)
    lines = [json.dumps(candidate.to_record(owner)) + "\n" for candidate in evaluated]
    (search / "candidates.jsonl").write_text("".join(lines))
    front = ParetoFront(problem.axes, evaluated)
    candidate_table(evaluated, space=owner).to_csv(search / "candidates.csv", index=False)
    front.to_pandas(space=owner).to_csv(search / "front.csv", index=False)
    (run / "search" / "latest").write_text(search.name + "\n")
    write_snapshots(
        search,
        [LatencySnapshot.of(item.predictor, None, item.device) for item in targets],
    )
    picks = _picks(front, predictors, budget, rng)
    for directory in (search, search.parent):
        files.write_json(directory / "picks.json", {"run": ".", **picks})
    return run


def start_run(
    run: Path,
    space: SearchSpace,
    *,
    data: str = "digits",
    seed: int = 0,
    preprocessing: str | None = None,
) -> None:
    """A run whose training has ended: recipe, environment, metrics, checkpoint."""
    files.make_directory(run)
    recipe = {"name": "made-up", "space": space.name, "data": data, "seed": seed}
    recipe |= {} if preprocessing is None else {"preprocessing": preprocessing}
    (run / "recipe.yaml").write_text(yaml.safe_dump(recipe))
    files.write_json(run / "environment.json", {"python": "3", "command": "nassearch run made-up"})
    for epoch in range(1, 11):
        record: dict[str, object] = {"epoch": epoch, "loss": 2 / epoch, "seconds": 3.0 * epoch}
        if epoch % 2 == 0:
            for name, share in (("max", 1.0), ("random", 0.98), ("min", 0.94)):
                record[f"val_accuracy_{name}"] = share * (1 - 0.5 / epoch)
        files.append_json_line(run / "metrics.jsonl", record)
    # nothing but the space is read from it
    empty: dict[str, Any] = {field.name: {} for field in fields(checkpoint.Checkpoint)}
    state = checkpoint.Checkpoint(**empty | {"space": space, "step": 10, "steps_per_epoch": 1})
    checkpoint.save(run, state)


def _predictor(space: SearchSpace, name: str, rng: np.random.Generator) -> LatencyPredictor:
    if name == ESTIMATED:
        device = load_device(name)
        setting = device.setting()
        return LatencyPredictor.estimated(space, setting, roofline(device, setting), ratio=0.6)
    known = {spec: fake_block_ms(spec) for spec in block_specs(space)}
    predictor = LatencyPredictor(space, Setting(name, "fake"), "measured", known)
    networks = space.sample_many(rng, NUM_MEASURED)
    noise = rng.normal(1.0, 0.03, len(networks))
    measured = predictor.predict(networks) * noise
    return predictor.calibrate(
        [(space, network, float(ms)) for network, ms in zip(networks, measured, strict=True)]
    )


def _accuracy(space: SearchSpace, rng: np.random.Generator) -> Callable[[Architecture], Estimate]:
    largest = network_cost(lower(space, space.largest)).params

    def evaluate(architecture: Architecture) -> Estimate:
        share = network_cost(lower(space, architecture)).params / largest
        number = min(0.995, 0.9 + 0.09 * share**0.3 + rng.normal(0, 0.006))
        images = Provenance("evaluated", split="val", num_images=1000)
        return Estimate(number, images, number - 0.01, min(1.0, number + 0.008))

    return evaluate


def _picks(
    front: ParetoFront,
    predictors: Sequence[LatencyPredictor],
    budget: str,
    rng: np.random.Generator,
) -> dict[str, object]:
    pick = front.knee()
    latency, measured = [], []
    for predictor in predictors:
        setting = predictor.setting
        predicted = float(predictor.predict([pick.architecture])[0])
        low, high = (float(bound[0]) for bound in predictor.interval([pick.architecture]))
        item = {
            **{name: value for name, value in setting.to_dict().items() if value is not None},
            "source": predictor.source,
            "predicted_ms": predicted,
            "low_ms": low,
            "high_ms": high,
            "budget_ms": 1.2 * predicted,
        }
        if predictor.source != "estimated":
            for candidate in front:
                ms = float(predictor.predict([candidate.architecture])[0] * rng.normal(1.0, 0.02))
                name = candidate.architecture.id
                measured.append(
                    {"device": setting.device, "id": name, "ms": ms, "noise_floor": 0.01}
                )
            item["measured_ms"] = predicted
        latency.append(item)
    chosen = {"budget": budget, "architecture": pick.architecture.to_dict(), "latency": latency}
    command = "nassearch search --device box --budget 40%"
    return {"command": command, "picks": [chosen], "measured": measured}
