"""Latencies: a device is measured or a measurement imported, and a network predicted from them."""

import warnings
from pathlib import Path
from typing import Any

from nassearch.errors import ConfigError
from nassearch.export.onnx_classifier import read_classifier
from nassearch.latency.coverage import MAX_NETWORKS
from nassearch.latency.device import (
    Device,
    device_elsewhere,
    known_or_new_device,
    resolve_setting,
)
from nassearch.latency.table import LatencyTable, find_table
from nassearch.latency.target import Target
from nassearch.pipeline import import_measurements as importing
from nassearch.pipeline import profile as profiling
from nassearch.pipeline.export import ExportedNetwork
from nassearch.pipeline.front_door import Directory, path_or_none
from nassearch.pipeline.front_door.supernets import load_space
from nassearch.pipeline.onnx_model import is_onnx_file, model_facts, model_latency
from nassearch.pipeline.run_directory import LATEST
from nassearch.pipeline.search import make_target
from nassearch.progress import Progress, silent
from nassearch.setting import Setting
from nassearch.space import Architecture, SearchSpace

TABLES = "latency_tables"


def profile_device(
    space: SearchSpace | Directory | None = None,
    device: str = "host",
    *,
    runtime: str | None = None,
    precision: str | None = None,
    batch: int | None = None,
    threads: int | None = None,
    seconds: float = 60.0,
    target_error: float = 0.003,
    time_budget: float | None = None,
    max_networks: int = MAX_NETWORKS,
    seed: int = 0,
    out: Directory = TABLES,
    resume: bool = False,
    progress: Progress = silent,
) -> LatencyTable:
    """Measure every block of a space on this machine: its lookup table.

    Args:
        space: Whose blocks are measured; by default the latest run's.
        device: What this machine is called; 'host' is always this one.
        runtime: A name of `list_plugins("runtimes")`; so `precision`, `batch` (images at once) and
            `threads`. By default the device's own.
        seconds: Of timing; loading the networks comes on top.
        target_error: Relative standard error at which timing stops.
        time_budget: Seconds that bound loading as well.
        max_networks: Whole networks measured at most; what they do not hold is interpolated.
        seed: Of the choice of networks.
        out: The directory of tables; what it holds already is kept.
        resume: Do not measure again what the table there has.
        progress: Told the stage, the fraction that is done, 0..1, and a note.

    Returns:
        The table, also written to `out`.

    Raises:
        RuntimeUnavailableError: The runtime or its precision is not on this machine.

    Examples:
        >>> import nassearch as ns
        >>> table = ns.profile_device("digits_tiny", runtime="fake", seconds=1)
        >>> table.setting.stem
        'fake-fp32-b1-t1'
    """
    directory = Path(out)
    known = known_or_new_device(device, [directory])
    setting = known.setting(runtime=runtime, precision=precision, batch=batch, threads=threads)
    if (warning := profiling.oversubscribed(setting)) is not None:
        warnings.warn(warning, stacklevel=2)
    return profiling.profile_device(
        load_space(space),
        setting,
        directory,
        device=known,
        seconds=seconds,
        target_error=target_error,
        time_budget=time_budget,
        max_networks=max_networks,
        seed=seed,
        resume=resume,
        progress=progress,
    )


def write_bundle(
    space: SearchSpace | Directory | None,
    device: str,
    path: Directory,
    *,
    runtime: str | None = None,
    precision: str | None = None,
    batch: int | None = None,
    threads: int | None = None,
    seconds: float = 60.0,
) -> Path:
    """Write a .zip that measures a space on a device that cannot install torch.

    Unpacked there, its `run.py` writes what `import_measurements` reads.

    Args:
        space: Whose blocks are measured; by default the latest run's.
        device: What the device is called.
        path: The file; its name ends in .zip.
        runtime: A name of `list_plugins("runtimes")`; so `precision`, `batch` (images at once) and
            `threads`. By default the device's own.
        seconds: Of timing on the device.

    Returns:
        The file's path.

    Raises:
        RuntimeUnavailableError: A bundle cannot run this runtime or precision.

    Examples:
        >>> import nassearch as ns
        >>> ns.write_bundle("digits_tiny", "my_board", "bundle.zip", seconds=5).name
        'bundle.zip'
    """
    known = device_elsewhere(device, [Path(TABLES)], runtime=runtime)
    setting = known.setting(runtime=runtime, precision=precision, batch=batch, threads=threads)
    return profiling.bundle_for(load_space(space), setting, Path(path), seconds=seconds)


def import_measurements(
    path: Directory,
    device: str,
    *,
    runtime: str | None = None,
    precision: str | None = None,
    batch: int | None = None,
    threads: int | None = None,
    space: SearchSpace | Directory | None = None,
    bundle: Directory | None = None,
    column: str | None = None,
    architecture: str | None = None,
    unit: str | None = None,
    out: Directory = TABLES,
) -> LatencyTable:
    """Read what was measured elsewhere into a device's table.

    Args:
        path: A bundle's results (.json), tables of once-for-all or ProxylessNAS (.yaml, or a folder
            of them), or whole networks of `space` with their times (.csv).
        device: What the device is called.
        runtime: What the network ran in; so `precision`, `batch` (images at once) and `threads`.
            By default the device's own.
        space: Whose networks a .csv holds.
        bundle: The bundle that the results must be of.
        column: Of a .csv: which column holds the times; each is of one setting.
        architecture: Of a .csv: which column says what network a row is, where its columns do not
            tell (docs/devices.md lists the forms).
        unit: Of the times: ms (by default), us or s.
        out: The directory of tables; what it holds already is kept.

    Returns:
        The table, also written to `out`.

    Raises:
        TableError: The file is damaged, of another setting, or in another unit; nothing was
            written.

    Examples:
        Whole networks of a space, timed by others: kernel sizes, expand ratios and depths of each
        as once-for-all writes them, and milliseconds.

        >>> import nassearch as ns
        >>> from pathlib import Path
        >>> blocks, depths = "-".join(["3"] * 20), "-".join(["2"] * 5)
        >>> header = "resolution,ks20,expand20,depth5,ms"
        >>> row = f"160,{blocks},{blocks},{depths},4.2"
        >>> _ = Path("timed.csv").write_text(header + chr(10) + row)
        >>> table = ns.import_measurements(
        ...     "timed.csv", "phone", runtime="torch", space="mobilenet_v3", column="ms"
        ... )
        >>> len(table.networks)
        1
    """
    directory, file = Path(out), Path(path)
    known = device_elsewhere(device, [directory], runtime=runtime)
    setting = known.setting(runtime=runtime, precision=precision, batch=batch, threads=threads)
    return importing.import_measurements(
        file,
        setting,
        directory,
        device=known,
        space=load_space(space) if file.suffix.lower() == ".csv" else None,
        bundle=path_or_none(bundle),
        column=column,
        architecture=architecture,
        unit=unit,
    )


def load_table(table: LatencyTable | Directory, *, tables: Directory = TABLES) -> LatencyTable:
    """Open a latency table.

    Args:
        table: The CSV's path, or a setting: 'zen4/openvino-int8-b1-t1'.
        tables: A directory of tables that is looked in before those that ship.

    Returns:
        The table: milliseconds of blocks, and of whole networks, in one setting.

    Raises:
        ConfigError: There is no table of this setting.
        TableError: The table is damaged.

    Examples:
        >>> import nassearch as ns
        >>> ns.load_table("zen4/openvino-int8-b1-t1").setting.precision
        'int8'
    """
    if isinstance(table, LatencyTable):
        return table
    if Path(table).suffix.lower() == ".csv":
        return LatencyTable.load(Path(table))
    _, setting = resolve_setting(str(table), places=[Path(tables)])
    found = find_table(setting, [Path(tables), *profiling.table_places(None)])
    if found is None:
        raise ConfigError(
            f"there is no table of {setting}",
            where=tables,
            fix=f"measure it: nassearch profile {setting.options}",
        )
    return found


def predict_latency(
    network: ExportedNetwork | Architecture | Directory,
    device: str | LatencyTable | Target = "host",
    *,
    space: SearchSpace | Directory | None = None,
    runtime: str | None = None,
    precision: str | None = None,
    batch: int | None = None,
    threads: int | None = None,
) -> dict[str, Any]:
    """Predict one network's latency with its interval, and count its costs.

    Args:
        network: An architecture of `space` or its YAML file, an export, a published network
            ('mobilenet_v3:large'), or any classifier as an ONNX file, 'model.onnx', which is also
            measured where the device is this machine.
        device: A device's name, one of its settings, or a table.
        space: Of an architecture; by default the latest run's.
        runtime: The runtime of a device that is given by name alone; so `precision`, `batch`
            (images at once) and `threads`. By default the device's own.

    Returns:
        `latency_ms` with `low_ms` and `high_ms` where they are known, `macs`, `params`,
        `peak_memory_bytes`, and where the latency comes from. Of an ONNX file that is measured,
        also `estimated_ms`, what its operators would take.

    Raises:
        ConfigError: There is no such network, space or device.
        MissingKeyError: The device's table lacks blocks of the network, and nothing else tells.

    Examples:
        >>> import nassearch as ns
        >>> network = ns.load_space("digits_tiny").smallest
        >>> facts = ns.predict_latency(network, "raspberry_pi_4", space="digits_tiny")
        >>> facts["provenance"]
        'estimated'
    """
    if is_onnx_file(network):
        known, setting = device_setting(device, runtime, precision, batch, threads)
        model = read_classifier(Path(network))  # type: ignore[arg-type]
        asked = {"batch": batch, "precision": precision}
        latency = model_latency(model, known, setting, **asked)  # type: ignore[arg-type]
        return model_facts(model, latency)
    if isinstance(network, Architecture):
        owner = load_space(space)
        architecture = owner.check(network)
    else:
        path = network.directory if isinstance(network, ExportedNetwork) else Path(network)
        name = None if space is None else str(space)
        owner, architecture = profiling.read_network(path, name, LATEST)
    target = make_target(
        device,
        owner,
        places=profiling.table_places(LATEST),
        runtime=runtime,
        precision=precision,
        batch=batch,
        threads=threads,
    )
    return profiling.describe_network(architecture, target)


def device_setting(
    device: str | LatencyTable | Target,
    runtime: str | None,
    precision: str | None,
    batch: int | None,
    threads: int | None,
) -> tuple[Device, Setting]:
    """The device and the setting that a user means by a name, a table or a target."""
    text = device if isinstance(device, str) else str(device.setting)
    return resolve_setting(
        text,
        runtime=runtime,
        precision=precision,
        batch=batch,
        threads=threads,
        places=profiling.table_places(LATEST),
    )
