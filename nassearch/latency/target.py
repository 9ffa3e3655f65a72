"""Target: a device in a setting, with what predicts its latencies and what was measured on it."""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path

from nassearch.errors import MissingKeyError, TableError
from nassearch.latency.device import (
    HOST,
    Device,
    host_device,
    list_devices,
    load_device,
    table_directories,
)
from nassearch.latency.host_identity import HostIdentity, host_text, this_machine
from nassearch.latency.mixed_predictor import MixedPredictor, how_to_measure_borders
from nassearch.latency.predictor import LatencyPredictor
from nassearch.latency.roofline import relative_error, roofline
from nassearch.latency.table import LatencyTable, find_table, how_to_measure
from nassearch.runtimes.runtime import (
    check_setting,
    deployed_space,
    make_runtime,
    why_unavailable,
)
from nassearch.setting import MIXED, Setting
from nassearch.space import SearchSpace


@dataclass(frozen=True)
class Target:
    """What a network is searched for: its latencies on `device` in `setting`.

    `table` is what was measured on the device; None where its latencies are estimated from a
    datasheet.
    """

    device: Device
    setting: Setting
    predictor: LatencyPredictor | MixedPredictor
    table: LatencyTable | None = None

    @property
    def space(self) -> SearchSpace:
        """The space whose networks it predicts."""
        return self.predictor.space

    @property
    def is_here(self) -> bool:
        """Whether networks can be measured on this machine in this setting."""
        return self.reason_unmeasured is None

    @cached_property
    def reason_unmeasured(self) -> str | None:
        """Why no network can be measured here in this setting, one sentence; None where it can."""
        if self.table is None:
            return "its latencies are estimated from a datasheet, not measured"
        return why_not_here(self.device, self.setting, self.table.identity)

    @property
    def notes(self) -> list[str]:
        """What differs between this machine now and when its table was measured, where networks
        can be measured at all: another name of the same processor, another runtime version.
        """
        if self.table is None or not self.is_here:
            return []
        version = self.table.facts.get("version")
        return differences(self.setting, self.table.identity, version)


def why_not_here(
    device: Device, setting: Setting, identity: HostIdentity | None = None
) -> str | None:
    """Why this machine cannot measure `device` in `setting`, one sentence; None where it can.

    Args:
        device: What is known of the device.
        setting: Where and how networks run on it.
        identity: The machine that the table, or the promise, was made on, where that is known.
    """
    if not device.present:
        return f"'{device.name}' is not this machine"
    here = this_machine(gpu=identity is not None and bool(identity.gpu))
    other = None if identity is None else here.difference(identity)
    if other is not None:
        return f"it was measured on another machine ({other})"
    return why_unavailable(setting)


def differences(
    setting: Setting, identity: HostIdentity | None, version: object = None
) -> list[str]:
    """What is worth a note beside a figure that was made on this machine before.

    Args:
        setting: Where and how networks run.
        identity: The machine it was made on, where that is known.
        version: The runtime's version it was made with, where that is known.
    """
    notes = []
    here = this_machine()
    if identity is not None and identity.name != here.name:
        notes.append(f"the processor called itself {identity.name}, now {here.name}")
    now = make_runtime(replace(setting, threads=None)).version
    if version is not None and version != now:
        notes.append(f"measured with {version}, here runs {now}")
    return notes


def load_target(
    space: SearchSpace,
    device: Device,
    setting: Setting,
    *,
    places: Sequence[Path],
    tables: Sequence[LatencyTable] = (),
) -> Target:
    """The target of a device: from its table, else estimated from its datasheet.

    Args:
        space: Whose networks are to be predicted.
        device: What is known of the device.
        setting: Where and how networks run on it.
        places: Directories of tables, the first that has one of `setting` counts.
        tables: Tables at hand; one of `setting` goes before those of `places`.

    Raises:
        MissingKeyError: Neither a table nor a datasheet is there, or the table lacks blocks of the
            space; the message names the command that measures them.
        TableError: The table is damaged, of another machine, or the datasheet says nothing of the
            setting.
    """
    table = next((table for table in tables if table.setting == setting), None)
    table = table or find_table(setting, places)
    if setting.precision == MIXED:
        return _mixed_target(space, device, setting, table, places=places, tables=tables)
    if table is not None:
        return target_from_table(table, space, device=device)
    if device.rates is None:
        check_setting(setting)
        raise MissingKeyError(
            "has no latency table",
            where=setting,
            fix=how_to_measure(setting, space.source),
        )
    predictor = LatencyPredictor.estimated(
        space, setting, roofline(device, setting), ratio=relative_error(device, setting)
    )
    return Target(device, setting, predictor)


def _mixed_target(
    space: SearchSpace,
    device: Device,
    setting: Setting,
    table: LatencyTable | None,
    *,
    places: Sequence[Path],
    tables: Sequence[LatencyTable],
) -> Target:
    """The target of a mixed setting: from the tables of its precisions and one of borders."""
    mixed = deployed_space(space, setting)
    if table is None:
        raise MissingKeyError(
            "has no table of what a change of precision costs",
            where=setting,
            fix=how_to_measure_borders(setting, space),
        )
    check_host(device, table)
    parts = {
        precision: load_target(
            space.plain,
            device,
            replace(setting, precision=precision),
            places=places,
            tables=tables,
        ).predictor
        for precision in mixed.precisions
    }
    predictor = MixedPredictor.from_table(table, mixed, parts)  # type: ignore[arg-type]
    return Target(device, setting, predictor, table)


def target_from_table(
    table: LatencyTable, space: SearchSpace, *, device: Device | None = None
) -> Target:
    """The target of a table; its device is looked up by the table's name for it where not given.

    Raises:
        MissingKeyError: The table lacks blocks of the space.
        TableError: It was measured on another machine than the device it is called after.
    """
    device = device or _device_of(table)
    if table.setting.precision == MIXED:
        return _mixed_target(
            space, device, table.setting, table, places=table_directories(), tables=()
        )
    check_host(device, table)
    predictor = LatencyPredictor.from_table(table, space)
    return Target(device, table.setting, predictor, table)


def check_host(device: Device, table: LatencyTable) -> None:
    """Refuse a table of 'host' that was measured on another machine.

    One of version 0.1, which has no identity, is compared by the name of its processor.
    """
    if device.name != HOST:
        return
    identity, host = table.identity, table.facts.get("host")
    if identity is not None:
        difference = this_machine(gpu=bool(identity.gpu)).difference(identity)
    else:
        difference = None if host in (None, host_text()) else f"{host_text()} is not {host}"
    if difference is not None:
        raise TableError(
            f"was measured on another machine ({difference})",
            where=table.setting,
            fix="measure this one: nassearch profile --device host",
        )


def _device_of(table: LatencyTable) -> Device:
    name = table.setting.device
    if name == HOST:
        return host_device()
    known = (
        load_device(name) if name in list_devices() else Device(name=name, default=table.setting)
    )
    return known if table.identity is None else known.of_machine(table.identity)
