"""Profiling a device, and what its latencies say of one network."""

import os
import warnings
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np

from nassearch import config, interruption
from nassearch.errors import ConfigError, Interrupted, RuntimeUnavailableError, TableError
from nassearch.export.export_config import CONFIG, read_export
from nassearch.files import owned
from nassearch.latency.border_profiler import NUM_NETWORKS, profile_borders
from nassearch.latency.coverage import MAX_NETWORKS
from nassearch.latency.device import Device, host_device, table_directories
from nassearch.latency.host_identity import this_machine
from nassearch.latency.importing.bundle import write_bundle
from nassearch.latency.mixed_predictor import MIN_NETWORKS, MixedPredictor
from nassearch.latency.profiler import TARGET_ERROR, profile
from nassearch.latency.table import LatencyTable, find_table
from nassearch.latency.target import Target, load_target
from nassearch.networks.activation_memory import peak_memory_bytes
from nassearch.networks.cost import network_cost
from nassearch.ops import check_space
from nassearch.pipeline.run_directory import load_space, torch_threads
from nassearch.progress import Progress, silent
from nassearch.runtimes.runtime import Runtime, deployed_space, make_runtime
from nassearch.setting import Setting
from nassearch.space import (
    Architecture,
    SearchSpace,
    block_specs,
    is_published_network,
    load_published_network,
    lower,
)


def profile_device(
    space: SearchSpace,
    setting: Setting,
    directory: Path,
    *,
    device: Device | None = None,
    seconds: float,
    target_error: float = TARGET_ERROR,
    time_budget: float | None = None,
    max_networks: int = MAX_NETWORKS,
    seed: int = 0,
    resume: bool = False,
    progress: Progress = silent,
) -> LatencyTable:
    """Measure the blocks of `space` in `setting` and merge them into the table in `directory`.

    What is measured is saved as it comes, `device` (device.yaml) with it; Ctrl-C saves what the
    rounds so far tell.

    Args:
        space: Whose blocks are measured.
        setting: Where and how.
        directory: Of the tables; the table is `<directory>/<device>/<setting>.csv`.
        device: What is known of the device; None writes no device.yaml.
        seconds: Of timing; loading networks comes on top.
        target_error: Relative standard error of a network's median at which timing stops.
        time_budget: Seconds that bound loading as well.
        max_networks: At most so many are measured; what they do not hold is interpolated.
        seed: Of the choice of networks.
        resume: Whether blocks measured before are not measured again.
        progress: Told how far it is.

    Returns:
        The table as it is on disk.

    Of a mixed setting the tables of its precisions are measured too, where they lack the space.

    Raises:
        TableError: The table there was measured on another machine, or the device is another.
        OutputError: Another process measures this device, or writes to its tables.
        RuntimeUnavailableError: The runtime or its precision is not here.
        KeyboardInterrupt: After saving; its message says what was saved.
    """
    runtime = _checked_runtime(setting, device)
    rng, space = np.random.default_rng(seed), deployed_space(space, setting)
    if space.precisions:
        _profile_parts(
            space,
            setting,
            directory,
            device=device,
            seconds=seconds,
            max_networks=max_networks,
            progress=progress,
        )
    with owned(directory / setting.device, doing="profile"):
        present = find_table(setting, [directory])
        identity = this_machine(gpu=runtime.on_gpu)
        if present is not None:
            present.check_mergeable(setting, identity)
        saved: list[LatencyTable] = []

        def save(table: LatencyTable) -> LatencyTable:
            merged = table if present is None else present.merged(table)
            merged.save(directory)
            if device is not None:
                device.of_machine(identity).with_default(setting).save(directory)
            saved.append(merged)
            return merged

        with torch_threads(1), interruption.deferred() as interrupted:
            try:
                if space.precisions:
                    table = profile_borders(
                        space,
                        setting,
                        runtime=runtime,
                        rng=rng,
                        seconds=seconds,
                        target_error=target_error,
                        num_networks=max(MIN_NETWORKS, min(max_networks, NUM_NETWORKS)),
                        known=present,
                        interrupted=lambda: interrupted.requested,
                        progress=progress,
                    )
                else:
                    table = profile(
                        space,
                        setting,
                        runtime=runtime,
                        rng=rng,
                        seconds=seconds,
                        target_error=target_error,
                        time_budget=time_budget,
                        max_networks=max_networks,
                        known=present if resume else None,
                        keep=save,
                        interrupted=lambda: interrupted.requested,
                        progress=progress,
                    )
            except KeyboardInterrupt as error:
                raise Interrupted(_saved_text(space, saved, directory)) from error
        merged = save(table)
    if space.precisions:
        _warn_of_slow_precisions(
            load_target(space, device or host_device(), setting, places=[directory])
        )
    return merged


def _warn_of_slow_precisions(target: Target) -> None:
    """Say which lower precision takes longer than the highest, as int8 does without VNNI."""
    assert isinstance(target.predictor, MixedPredictor)
    largest = target.space.plain.largest
    *lower_ones, highest = (
        (name, float(target.predictor.predict([target.space.uniform(largest, name)])[0]))
        for name in target.space.precisions
    )
    for name, milliseconds in lower_ones:
        if milliseconds > highest[1]:
            warnings.warn(
                f"{target.setting}: the largest network takes {milliseconds / highest[1]:.2f} times"
                f" as long in {name} as in {highest[0]}, so a search will seldom choose {name}",
                stacklevel=3,
            )


def _profile_parts(
    space: SearchSpace,
    setting: Setting,
    directory: Path,
    *,
    device: Device | None,
    seconds: float,
    max_networks: int,
    progress: Progress,
) -> None:
    """Profile the precisions that a mixed setting mixes, where their tables lack the space."""
    for precision in space.precisions:
        part = replace(setting, precision=precision)
        present = find_table(part, [directory])
        if present is None or any(spec.key not in present.blocks for spec in block_specs(space)):
            profile_device(
                space.plain,
                part,
                directory,
                device=device,
                seconds=seconds,
                max_networks=max_networks,
                progress=progress,
            )


def _checked_runtime(setting: Setting, device: Device | None) -> Runtime:
    """The runtime of a profile, before anything is written."""
    if device is not None and device.cpu is not None and not device.present:
        raise TableError(
            f"cannot be profiled here: it is {device.cpu}, this machine {this_machine().cpu}",
            where=device.name,
            fix="give this machine a name of its own with --device",
        )
    runtime = make_runtime(setting)
    if not runtime.profiles_blocks:
        raise RuntimeUnavailableError(
            f"the runtime {setting.runtime} cannot time blocks",
            where=setting,
            fix="use --runtime onnxruntime",
        )
    return runtime


def _saved_text(space: SearchSpace, saved: Sequence[LatencyTable], directory: Path) -> str:
    """What an interrupted profile kept."""
    if not saved:
        return "nothing was measured yet, so nothing is saved"
    specs = block_specs(space)
    measured = sum(spec.key in saved[-1].blocks for spec in specs)
    return (
        f"{measured} of {len(specs)} blocks are saved in {saved[-1].path(directory)},"
        " --resume measures the others"
    )


def oversubscribed(setting: Setting) -> str | None:
    """A warning where more threads are asked for than this process may run at once."""
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count()
    if setting.threads is None or cores is None or setting.threads <= cores:
        return None
    return (
        f"oversubscribed: {setting.threads} threads on {cores} cores that this process may use,"
        " they wait for one another"
    )


def bundle_for(space: SearchSpace, setting: Setting, path: Path, *, seconds: float) -> Path:
    """Write the bundle that measures `space` on a device that cannot install torch."""
    if path.suffix.lower() != ".zip":
        raise ConfigError(
            "the bundle's name must end in .zip",
            where=path,
            fix=f"write --bundle {path.with_suffix('.zip')}",
        )
    return write_bundle(path, space, setting, rng=np.random.default_rng(0), seconds=seconds)


def table_places(run: Path | None) -> list[Path]:
    """Where tables are looked for: the run's own, then those of `table_directories`."""
    own = [] if run is None else [run / "latency_tables"]
    return [*own, *table_directories()]


def read_network(path: Path, space_name: str | None, run: Path) -> tuple[SearchSpace, Architecture]:
    """The space and the architecture of an export, a published network or an architecture file."""
    if is_published_network(str(path)):
        reference = load_published_network(str(path))
        return check_space(reference.space), reference.architecture
    if (path / CONFIG).is_file():
        export = read_export(path)
        return export.search_space(), export.to_architecture()
    architecture = Architecture.from_dict(config.read_yaml(path), where=path)
    space = load_space(space_name, run)
    return space, space.check(architecture, where=path)


def describe_network(architecture: Architecture, target: Target) -> dict[str, Any]:
    """Latency with its interval, and costs, each with where it comes from."""
    specs = lower(target.space, architecture)
    latency = target.predictor.estimate(architecture)
    facts: dict[str, Any] = {
        "id": architecture.id,
        "setting": str(target.setting),
        "latency_ms": latency.value,
        "provenance": target.predictor.provenance,
    }
    if latency.low is not None:
        facts |= {"low_ms": latency.low, "high_ms": latency.high}
    energy = None if target.table is None else target.table.energy(specs)
    if energy is not None:
        facts["energy_mj"] = energy
    cost = network_cost(specs)
    memory = peak_memory_bytes(specs, batch=target.setting.batch)
    return facts | {"macs": cost.macs, "params": cost.params, "peak_memory_bytes": memory}
