"""Measurements that were made elsewhere, read into a device's table."""

from pathlib import Path

from nassearch.errors import TableError
from nassearch.files import owned
from nassearch.latency.device import Device
from nassearch.latency.importing.bundle import import_results
from nassearch.latency.importing.networks_csv import as_table, latency_columns, load_networks
from nassearch.latency.importing.ofa import import_ofa_tables
from nassearch.latency.plausibility import UNITS
from nassearch.latency.table import UNIT, LatencyTable, find_table
from nassearch.setting import Setting
from nassearch.space import SearchSpace

_PATIENCE = 10.0  # seconds: of several imports at once, each is done in its turn


def import_measurements(
    path: Path,
    setting: Setting,
    directory: Path,
    *,
    device: Device | None = None,
    space: SearchSpace | None = None,
    bundle: Path | None = None,
    column: str | None = None,
    architecture: str | None = None,
    unit: str | None = None,
) -> LatencyTable:
    """Merge a file of measurements into the table of `setting` in `directory`.

    Nothing is written unless all of it can be read again.

    Args:
        path: Its suffix says what it is: .json are the results of a bundle's runner; .yaml, or a
            folder of them, tables of once-for-all or ProxylessNAS; .csv whole networks of `space`.
        setting: What was measured.
        directory: Of the tables.
        device: What is known of the device; None writes no device.yaml.
        space: Whose networks a .csv holds.
        bundle: The bundle whose results they must be.
        column: Of a .csv's latencies; None where there is but one.
        architecture: Of a .csv's networks; None where its columns tell.
        unit: Of the latencies of a .yaml or .csv, 'ms', 'us' or 's'; None for milliseconds.

    Returns:
        The table as it is on disk.

    Raises:
        TableError: The file cannot be read, or its figures cannot be.
        OutputError: A profile writes to the device's tables.
    """
    if unit is not None:
        unit = unit.strip().replace("\u00b5", "u").replace("\u03bc", "u")
        if unit not in UNITS:
            raise TableError(
                f"'{unit}' is no unit of latencies",
                where="unit",
                fix=f"name one of {', '.join(UNITS)}",
            )
    suffix = path.suffix.lower()
    if path.is_dir() or suffix in (".yaml", ".yml"):
        paths = sorted(path.glob("*.y*ml")) if path.is_dir() else [path]
        table = import_ofa_tables(paths, setting, source=path.name, unit=unit)
    elif suffix == ".json":
        table = import_results(path, setting, bundle=bundle)
    elif suffix == ".csv":
        table = _networks(path, setting, space, column, architecture, unit)
    else:
        raise TableError(
            "is no measurement that can be read",
            where=path,
            fix="a bundle's results.json, once-for-all's .yaml tables, or networks in a .csv",
        )
    table.check(where=path)
    with owned(directory / setting.device, doing="import", wait_seconds=_PATIENCE):
        present = find_table(setting, [directory])
        merged = table if present is None else present.merged(table)
        merged.save(directory)
        if device is not None:
            known = device if table.identity is None else device.of_machine(table.identity)
            known.with_default(setting).save(directory)
    return merged


def _networks(
    path: Path,
    setting: Setting,
    space: SearchSpace | None,
    column: str | None,
    architecture: str | None,
    unit: str | None,
) -> LatencyTable:
    if space is None:
        raise TableError(
            "holds networks of a space that is not named", where=path, fix="add --space NAME"
        )
    if column is None:
        others = latency_columns(path, space, architecture=architecture)
        if len(others) != 1:
            raise TableError(
                "has several columns of numbers besides the network's"
                if others
                else "has no latencies",
                where=path,
                fix=f"say which holds the milliseconds: --column {' or '.join(others)}"
                if others
                else "add a column of milliseconds",
            )
        column = others[0]
    pairs = load_networks(
        path, space, column=column, architecture=architecture, setting=setting, unit=unit
    )
    facts = {} if unit is None else {UNIT: unit}
    return as_table(pairs, space, setting, origin=f"{path.name}, column {column}", **facts)
