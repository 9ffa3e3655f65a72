"""Tables and predictors: from a device's name to latencies."""

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from nassearch import config
from nassearch.errors import ConfigError, MissingKeyError, TableError
from nassearch.export.export_config import CONFIG, read_export
from nassearch.files import make_directory
from nassearch.latency.device import HOST, Device, host_cpu_name, table_directories
from nassearch.latency.importing.bundle import write_bundle
from nassearch.latency.predictor import LatencyPredictor
from nassearch.latency.profiler import MAX_NETWORKS, TARGET_ERROR, profile
from nassearch.latency.roofline import relative_error, roofline
from nassearch.latency.table import LatencyTable, find_table
from nassearch.networks.activation_memory import peak_memory_bytes
from nassearch.networks.cost import network_cost
from nassearch.ops import check_space
from nassearch.pipeline.run_directory import LATEST, load_space, torch_threads
from nassearch.runtimes import RUNTIMES
from nassearch.runtimes.runtime import Runtime
from nassearch.setting import Setting
from nassearch.space import (
    Architecture,
    SearchSpace,
    is_published_network,
    load_published_network,
    lower,
)

Progress = Callable[[str, float], None]


def silent(stage: str, fraction: float) -> None:
    """A watcher that says nothing."""


def make_runtime(setting: Setting) -> Runtime:
    """The runtime of a setting, or RuntimeUnavailableError."""
    kind: type[Runtime] = config.resolve(RUNTIMES, setting.runtime, kind="runtime")
    return kind(setting)


def profile_device(
    space: SearchSpace,
    setting: Setting,
    directory: Path,
    *,
    seconds: float,
    target_error: float = TARGET_ERROR,
    time_budget: float | None = None,
    max_networks: int = MAX_NETWORKS,
    seed: int = 0,
    resume: bool = False,
    progress: Progress = silent,
) -> Path:
    """Measure the blocks of `space` in `setting` and merge them into the table in `directory`.

    What is measured is saved as it comes; with `resume` blocks measured before are not measured
    again. `time_budget` in seconds bounds loading as well; blocks that neither it nor
    `max_networks` let be reached are interpolated.
    """
    make_directory(directory)
    present = find_table(setting, [directory])

    def save(table: LatencyTable) -> Path:
        return (present.merged(table) if present is not None else table).save(directory)

    with torch_threads(1):
        table = profile(
            space,
            setting,
            runtime=make_runtime(setting),
            rng=np.random.default_rng(seed),
            seconds=seconds,
            target_error=target_error,
            time_budget=time_budget,
            max_networks=max_networks,
            known=present if resume else None,
            keep=save,
            progress=progress,
        )
    return save(table)


def bundle_for(space: SearchSpace, setting: Setting, path: Path, *, seconds: float) -> Path:
    """Write the bundle that measures `space` on a device that cannot install torch."""
    if path.suffix != ".zip":
        raise ConfigError("the bundle's name must end in .zip", where=path)
    make_directory(path.parent)
    return write_bundle(path, space, setting, rng=np.random.default_rng(0), seconds=seconds)


def table_places(run: Path | None) -> list[Path]:
    """Where tables are looked for: the run's own, then those of `table_directories`."""
    own = [] if run is None else [run / "latency_tables"]
    return [*own, *table_directories()]


def predictor(
    space: SearchSpace, device: Device, setting: Setting, places: Sequence[Path]
) -> tuple[LatencyPredictor, LatencyTable | None]:
    """The predictor of a device: from its table, else estimated from its datasheet.

    Raises MissingKeyError, naming the command that measures, where neither is there.
    """
    table = find_table(setting, places)
    if table is not None:
        check_host(device, table)
        return LatencyPredictor.from_table(table, space), table
    if device.rates is None:
        raise MissingKeyError(
            "has no latency table",
            where=setting,
            fix=f"measure it: nassearch profile --device {device.name} --space {space.source}",
        )
    block_ms = roofline(device, setting)
    ratio = relative_error(device, setting)
    return LatencyPredictor.estimated(space, setting, block_ms, ratio=ratio), None


def check_host(device: Device, table: LatencyTable) -> None:
    """Refuse a table of 'host' that was measured on another machine's CPU."""
    measured_on = str(table.facts.get("host", ""))
    if device.name == HOST and not measured_on.startswith(host_cpu_name()):
        raise TableError(
            f"was measured on another machine ({measured_on})",
            where=table.setting,
            fix="measure this one: nassearch profile --device host",
        )


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
    return space, space.check(architecture)


def describe_network(
    space: SearchSpace, architecture: Architecture, device: Device, setting: Setting
) -> dict[str, Any]:
    """Latency with its interval, and costs, each with where it comes from."""
    one, table = predictor(space, device, setting, table_places(LATEST))
    counted = network_cost(lower(space, architecture))
    facts: dict[str, Any] = {
        "id": architecture.id,
        "setting": str(setting),
        "latency_ms": float(one.predict([architecture])[0]),
        "provenance": one.provenance,
    }
    if one.calibration.ratio is not None:
        low, high = one.interval([architecture])
        facts |= {"low_ms": float(low[0]), "high_ms": float(high[0])}
    memory = peak_memory_bytes(lower(space, architecture), batch=setting.batch)
    energy = None if table is None else table.energy(lower(space, architecture))
    if energy is not None:
        facts["energy_mj"] = energy
    costs = {"macs": counted.macs, "params": counted.params, "peak_memory_bytes": memory}
    return facts | costs
