"""Measure the networks of a bundle on this device: `python run.py`.

Needs Python 3.9, numpy and onnxruntime, nothing else. It writes `results.json`, which goes back to
the machine with nassearch; the last line that it prints is the command that imports it there.
Interrupted, it goes on where it stopped.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import os
import platform
import re
import shlex
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import onnxruntime

SCHEMA = 3
CPU = "CPUExecutionProvider"
BURST = 3
MIN_ROUNDS = 5
MAX_ROUNDS = 200
BLOCK = re.compile(r"/blocks\.(\d+)/")


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
            match = BLOCK.search(name)
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


def load(path: Path, manifest: dict[str, Any], trace: str = "") -> Any:
    """A session on the bundle's provider, with its profiler writing to files that begin with
    `trace`; exits where another provider would run.
    """
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = manifest["setting"]["threads"] or 0
    options.inter_op_num_threads = 1
    options.log_severity_level = 3
    options.add_session_config_entry("session.intra_op.allow_spinning", "0")
    if trace:
        options.enable_profiling = True
        options.profile_file_prefix = trace
    provider = manifest["provider"]
    if provider not in onnxruntime.get_available_providers():
        sys.exit(f"this build of onnxruntime has no {provider}; install one that has")
    if provider != CPU:
        # a provider that takes no node of the graph is still listed as the session's first
        options.add_session_config_entry("session.disable_cpu_ep_fallback", "1")
    providers = [(provider, manifest["provider_options"])]
    try:
        session = onnxruntime.InferenceSession(str(path), options, providers=providers)
    except Exception as error:  # onnxruntime's errors have no class in common
        problem = " ".join(str(error).split())[:300]
        sys.exit(f"{path.name} does not run on {provider} ({problem})")
    if session.get_providers()[0] != provider:
        sys.exit(f"onnxruntime fell back from {provider} to {session.get_providers()[0]}")
    return session


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


def cpuinfo() -> dict[str, str]:
    """What tells this processor from others, in the words of /proc/cpuinfo."""
    names = [
        "vendor_id",
        "cpu family",
        "model",
        "model name",
        "flags",
        "CPU implementer",
        "CPU part",
        "Features",
    ]
    fields: dict[str, str] = {}
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
    except OSError:
        return fields
    for line in lines:
        name, _, value = line.partition(":")
        if name.strip() in names:
            fields.setdefault(name.strip(), value.strip())
    return fields


def gpu() -> str:
    """The GPU's model, as NVIDIA's driver or the board says it."""
    for path in sorted(Path("/proc/driver/nvidia/gpus").glob("*/information")):
        for line in path.read_text().splitlines():
            name, _, value = line.partition(":")
            if name.strip() == "Model":
                return value.strip()
    try:
        return Path("/proc/device-tree/model").read_text().strip("\0 \n")
    except OSError:
        return "unknown GPU"


def host(provider: str) -> dict[str, Any]:
    """What the operating system tells about the processor, clocks, cores and temperature."""
    info = cpuinfo()
    name = info.get("model name") or platform.processor() or platform.machine()
    facts: dict[str, Any] = {
        "host": f"{name}, {platform.platform()}",
        "machine": platform.machine(),
        "cpuinfo": info,
        "gpu": "" if provider == CPU else gpu(),
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
    lines = []
    if facts.get("governor", "performance") != "performance":
        lines.append(f"the clock governor is '{facts['governor']}', 'performance' is steadier")
    if facts["cores"] and threads > facts["cores"]:
        lines.append(f"{threads} threads on {facts['cores']} cores")
    if int(facts.get("temperature_mc", 0)) > 75000:
        lines.append("over 75 degrees: it may throttle, cool it")
    return lines


def digest(results: dict[str, Any]) -> str:
    """The hash of everything that results say but the hash itself."""
    content = {name: value for name, value in results.items() if name != "digest"}
    return hashlib.sha256(json.dumps(content, sort_keys=True).encode()).hexdigest()


def write(path: Path, value: dict[str, Any]) -> None:
    """Replace `path`; exits where it cannot be written."""
    temporary = path.with_suffix(".tmp")
    try:
        temporary.write_text(json.dumps({**value, "digest": digest(value)}))
        temporary.replace(path)
    except OSError as error:
        sys.exit(f"cannot write {path} ({error.strerror}); name another place with --out")


def read(path: Path, bundle: str) -> dict[str, Any]:
    """Results begun before, if they are of this bundle; exits where they were changed since."""
    try:
        results = json.loads(path.read_text())
    except (OSError, ValueError):
        return {}
    if not isinstance(results, dict) or results.get("bundle") != bundle:
        return {}
    if results.get("digest") != digest(results):
        sys.exit(f"{path} was changed since it was written; remove it to begin again")
    return results


def import_command(setting: dict[str, Any], results: str) -> str:
    """The command that imports the results where nassearch is."""
    words = ["nassearch", "profile"]
    for name in ("device", "runtime", "precision", "batch", "threads"):
        if setting[name] is not None:
            words += [f"--{name}", str(setting[name])]
    return " ".join(shlex.quote(word) for word in [*words, "--import", results])


def trace(
    folder: Path, manifest: dict[str, Any], references: list[Callable[[], float]], seconds: float
) -> dict[str, Any]:
    """Every network with the profiler on: the times of its blocks in each counted run."""
    done: dict[str, Any] = {"rounds": []}
    with tempfile.TemporaryDirectory() as place:
        sessions = [
            load(folder / network["file"], manifest, str(Path(place) / str(index)))
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
    facts = host(manifest["provider"])
    for warning in warnings(facts, threads):
        sys.stderr.write(f"note: {warning}\n")
    results = read(arguments.out, manifest["id"]) or {
        "schema": SCHEMA,
        "bundle": manifest["id"],
        "manifest": manifest,
        "whole": {"rounds": []},
    }
    results.update(version=f"onnxruntime {onnxruntime.__version__}", facts=facts)
    write(arguments.out, results)  # before an hour of measuring: can it be written at all?
    sessions = [load(folder / network["file"], manifest) for network in manifest["networks"]]
    results["provider"] = sessions[0].get_providers()[0]
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
    sys.stderr.write(f"  {import_command(manifest['setting'], arguments.out.name)}\n")


if __name__ == "__main__":
    try:
        main()
    except KeyboardInterrupt:
        sys.stderr.write("\ninterrupted; run it again to go on\n")
        sys.exit(130)
