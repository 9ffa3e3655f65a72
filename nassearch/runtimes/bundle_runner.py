"""Measure the networks of a bundle on this device: `python run.py`.

Needs Python 3.9, numpy and onnxruntime, nothing else. It writes `results.json`, which goes back to
the machine with nassearch: `nassearch profile --device NAME --import results.json`. Interrupted, it
goes on where it stopped.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import re
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import onnxruntime

SCHEMA = 2
BURST = 3
MIN_ROUNDS = 5
MAX_ROUNDS = 200
_BLOCK = re.compile(r"/blocks\.(\d+)/")


def attribute(events: list[dict[str, Any]], blocks: int) -> tuple[Any, Any]:
    """What each block took in each run, (runs, blocks) ms, and how many nodes it had, (blocks,).

    From ONNX Runtime's trace. A node carries its block in its name. Nodes that ONNX Runtime adds
    between blocks (layout reorders) count for the block that asked for them: before it for inputs,
    after it for outputs.
    """
    runs = []
    times, counts = np.zeros(blocks), np.zeros(blocks, dtype=np.int64)
    current, pending = 0, 0.0
    for event in events:
        name = event["name"]
        if event.get("cat") == "Session" and name == "model_run":
            runs.append(times)
            times, current, pending = np.zeros(blocks), 0, 0.0
        elif event.get("cat") == "Node" and name.endswith("_kernel_time"):
            milliseconds = event["dur"] / 1e3
            match = _BLOCK.search(name)
            if match is not None:
                current = int(match.group(1))
            counts[current] += 1
            if match is not None:
                times[current] += milliseconds + pending
                pending = 0.0
            elif name.startswith("ReorderInput"):
                pending += milliseconds
            else:
                times[current] += milliseconds
    return np.array(runs).reshape(-1, blocks), counts // max(1, len(runs))


def load(path: Path, threads: int, trace: str = "") -> Any:
    """A session on the CPU, with its profiler writing to files that begin with `trace`."""
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = threads
    options.inter_op_num_threads = 1
    options.log_severity_level = 3
    options.add_session_config_entry("session.intra_op.allow_spinning", "0")
    if trace:
        options.enable_profiling = True
        options.profile_file_prefix = trace
    return onnxruntime.InferenceSession(str(path), options, providers=["CPUExecutionProvider"])


def timer(session: Any) -> Callable[[], float]:
    """A call that runs the network once and returns its milliseconds."""
    given = session.get_inputs()[0]
    images = {given.name: np.zeros(given.shape, dtype=np.float32)}
    images[given.name] += np.random.default_rng(0).standard_normal(given.shape, dtype=np.float32)

    def run() -> float:
        start = time.perf_counter_ns()
        session.run(None, images)
        return (time.perf_counter_ns() - start) / 1e6

    return run


def interleave(
    subjects: list[Callable[[], float]],
    seconds: float,
    done: dict[str, Any],
    keep: Callable[[], None],
    label: str,
) -> None:
    """Rounds of bursts of every subject, the references first, added to `done`."""
    for run in (*subjects, *subjects):
        run()
    start, order = time.monotonic(), np.random.default_rng(0)
    while len(done["rounds"]) < MAX_ROUNDS:
        elapsed = time.monotonic() - start
        if len(done["rounds"]) >= MIN_ROUNDS and elapsed >= seconds:
            break
        share = min(1.0, max(elapsed / max(seconds, 1e-9), len(done["rounds"]) / MAX_ROUNDS))
        sys.stderr.write(f"\r{label}: {share:4.0%}")
        sys.stderr.flush()
        row: dict[int, list[float]] = {}
        # in another order each round, so that no network always follows the same one
        for index in order.permutation(len(subjects)):
            subjects[index]()
            row[index] = [subjects[index]() for _ in range(BURST)]
        done["rounds"].append([row[index] for index in range(len(subjects))])
        keep()
    sys.stderr.write(f"\r{label}: done\n")


def host() -> dict[str, Any]:
    """What the operating system tells about clocks, cores and temperature."""
    facts: dict[str, Any] = {
        "host": f"{platform.processor() or platform.machine()}, {platform.platform()}",
        "cores": len(os.sched_getaffinity(0))
        if hasattr(os, "sched_getaffinity")
        else os.cpu_count(),
    }
    places = {
        "governor": "/sys/devices/system/cpu/cpu0/cpufreq/scaling_governor",
        "clock_khz": "/sys/devices/system/cpu/cpu0/cpufreq/scaling_cur_freq",
        "temperature_mc": "/sys/class/thermal/thermal_zone0/temp",
    }
    for name, place in places.items():
        try:
            facts[name] = Path(place).read_text().strip()
        except OSError:
            continue
    return facts


def warnings(facts: dict[str, Any], threads: int) -> list[str]:
    """What makes the figures less certain than they could be."""
    found = []
    if facts.get("governor", "performance") != "performance":
        found.append(f"the clock governor is '{facts['governor']}', 'performance' is steadier")
    if facts["cores"] and threads > facts["cores"]:
        found.append(f"{threads} threads on {facts['cores']} cores")
    if int(facts.get("temperature_mc", 0)) > 75000:
        found.append("over 75 degrees: it may throttle, cool it")
    return found


def write(path: Path, value: dict[str, Any]) -> None:
    temporary = path.with_suffix(".tmp")
    temporary.write_text(json.dumps(value))
    temporary.replace(path)


def read(path: Path, bundle: str) -> dict[str, Any]:
    """Results begun before, if they are of this bundle."""
    try:
        found = json.loads(path.read_text())
    except (OSError, ValueError):
        return {}
    return dict(found) if found.get("bundle") == bundle else {}


def trace(
    folder: Path, manifest: dict[str, Any], references: list[Callable[[], float]], seconds: float
) -> dict[str, Any]:
    """Every network with the profiler on: the times of its blocks in each counted run."""
    threads = manifest["setting"]["threads"] or 0
    done: dict[str, Any] = {"rounds": []}
    with tempfile.TemporaryDirectory() as place:
        sessions = [
            load(folder / network["file"], threads, str(Path(place) / str(index)))
            for index, network in enumerate(manifest["networks"])
        ]
        subjects = [*references, *(timer(session) for session in sessions)]
        interleave(subjects, seconds, done, lambda: None, "blocks")
        blocks, events = [], []
        for session, network in zip(sessions, manifest["networks"]):  # noqa: B905 (Python 3.9)
            recorded = json.loads(Path(session.end_profiling()).read_text())
            times, counts = attribute(recorded, len(network["keys"]))
            blocks.append(times.tolist())
            events.append(counts.tolist())
    return {"rounds": done["rounds"], "block_ms": blocks, "events": events}


def main() -> None:
    folder = Path(__file__).resolve().parent
    manifest = json.loads((folder / "bundle.json").read_text())
    parser = argparse.ArgumentParser(description="Measure the networks of this bundle.")
    parser.add_argument("--seconds", type=float, default=manifest["seconds"])
    parser.add_argument("--out", type=Path, default=folder / "results.json")
    arguments = parser.parse_args()
    threads = manifest["setting"]["threads"] or 0
    facts = host()
    for warning in warnings(facts, threads):
        sys.stderr.write(f"note: {warning}\n")
    results = read(arguments.out, manifest["id"]) or {
        "schema": SCHEMA,
        "bundle": manifest["id"],
        "manifest": manifest,
        "whole": {"rounds": []},
    }
    results.update(version=f"onnxruntime {onnxruntime.__version__}", facts=facts)
    sessions = [load(folder / network["file"], threads) for network in manifest["networks"]]
    half = arguments.seconds / 2
    subjects = [timer(session) for session in sessions]

    def keep() -> None:
        write(arguments.out, results)

    interleave(subjects, half, results["whole"], keep, "networks")
    references = subjects[: manifest["references"]]
    del sessions, subjects
    results["trace"] = trace(folder, manifest, references, half)
    write(arguments.out, results)
    sys.stderr.write(f"wrote {arguments.out}; take it to the machine with nassearch:\n")
    sys.stderr.write(
        f"  nassearch profile --device {manifest['setting']['device']} --import results.json\n"
    )


if __name__ == "__main__":
    try:
        main()
    except KeyboardInterrupt:
        sys.stderr.write("\ninterrupted; run it again to go on\n")
        sys.exit(130)
