"""Measurements that were made elsewhere, read into a device's table."""

from pathlib import Path

from nassearch.errors import TableError
from nassearch.latency.importing.bundle import import_results
from nassearch.latency.importing.networks_csv import COLUMNS, as_table, column_names, load_networks
from nassearch.latency.importing.ofa import import_ofa_tables
from nassearch.latency.table import LatencyTable, find_table
from nassearch.setting import Setting
from nassearch.space import SearchSpace


def import_measurements(
    path: Path,
    setting: Setting,
    directory: Path,
    *,
    space: SearchSpace | None = None,
    bundle: Path | None = None,
    column: str | None = None,
) -> Path:
    """Merge a file of measurements into the table of `setting` in `directory`; its path.

    `path` says by its suffix what it is: .json are the results of a bundle's runner (of `bundle`,
    where that is given); .yaml, or a folder of them, are tables of once-for-all or ProxylessNAS;
    .csv are whole networks of `space` with their milliseconds in `column`.
    """
    if path.is_dir() or path.suffix in (".yaml", ".yml"):
        paths = sorted(path.glob("*.y*ml")) if path.is_dir() else [path]
        table = import_ofa_tables(paths, setting, source=str(path.name))
    elif path.suffix == ".json":
        table = import_results(path, setting, bundle=bundle)
    elif path.suffix == ".csv":
        table = _networks(path, setting, space, column)
    else:
        raise TableError(
            "is no measurement that can be read",
            where=path,
            fix="a bundle's results.json, once-for-all's .yaml tables, or networks in a .csv",
        )
    present = find_table(setting, [directory])
    return (present.merged(table) if present is not None else table).save(directory)


def _networks(
    path: Path, setting: Setting, space: SearchSpace | None, column: str | None
) -> LatencyTable:
    if space is None:
        raise TableError(
            "holds networks of a space that is not named", where=path, fix="add --space NAME"
        )
    if column is None:
        found = [name for name in column_names(path) if name not in COLUMNS]
        if len(found) != 1:
            raise TableError(
                "has several columns besides the network's",
                where=path,
                fix=f"say which holds the milliseconds: --column {' or '.join(found)}",
            )
        column = found[0]
    pairs = load_networks(path, space, column=column)
    return as_table(pairs, space, setting, origin=f"{path.name}, column {column}")
