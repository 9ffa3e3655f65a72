"""Targets: a device in a setting, and why networks cannot be measured on it here."""

from dataclasses import replace
from pathlib import Path

import pytest

from nassearch.errors import MissingKeyError, TableError
from nassearch.latency.device import Device, host_device, load_device
from nassearch.latency.table import LatencyTable
from nassearch.latency.target import load_target, target_from_table
from nassearch.setting import Setting
from nassearch.space import SearchSpace


def test_a_table_at_hand_makes_a_target(
    space: SearchSpace, table: LatencyTable, tmp_path: Path
) -> None:
    here = host_device().called("dummy")
    target = load_target(space, here, table.setting, places=[tmp_path], tables=[table])
    assert target.table is table
    assert target.space is space
    assert target.is_here, target.reason_unmeasured


def test_a_saved_table_makes_a_target(
    space: SearchSpace, table: LatencyTable, tmp_path: Path
) -> None:
    table.save(tmp_path)
    target = load_target(space, Device(name="dummy"), table.setting, places=[tmp_path])
    assert target.table is not None
    assert not target.is_here
    assert target.reason_unmeasured == "'dummy' is not this machine"


def test_a_datasheet_is_no_reason_to_measure(space: SearchSpace, tmp_path: Path) -> None:
    device = load_device("a100")
    target = load_target(space, device, device.setting(), places=[tmp_path])
    assert target.table is None
    assert target.predictor.source == "estimated"
    assert "estimated" in str(target.reason_unmeasured)


def test_a_runtime_that_is_not_here_is_the_reason(space: SearchSpace, table: LatencyTable) -> None:
    here = host_device().called("dummy")
    cuda = replace(table, setting=Setting("dummy", "cuda"))
    reason = target_from_table(cuda, space, device=here).reason_unmeasured
    assert reason is not None
    assert "onnxruntime" in reason
    unknown = replace(table, setting=Setting("dummy", "tflite"))
    assert "unknown runtime" in str(
        target_from_table(unknown, space, device=here).reason_unmeasured
    )


def test_a_device_without_a_table_names_the_command(space: SearchSpace, tmp_path: Path) -> None:
    with pytest.raises(MissingKeyError, match="nassearch profile --device new"):
        load_target(space, Device(name="new"), Setting("new", "fake"), places=[tmp_path])


def _of(table: LatencyTable, **changes: object) -> LatencyTable:
    """The table as if it had been measured on a machine that differs in these."""
    identity = {**table.facts["identity"], **changes}
    return replace(table, facts={**table.facts, "identity": identity})


@pytest.mark.parametrize("part", ["vendor", "family", "model", "isa", "gpu"])
def test_a_table_of_the_host_is_of_this_very_machine(
    space: SearchSpace, table: LatencyTable, part: str
) -> None:
    own = replace(table, setting=Setting("host", "fake"))
    assert target_from_table(own, space).is_here
    other = _of(own, **{part: ["neon"] if part == "isa" else "other"})
    with pytest.raises(TableError, match="another machine"):
        target_from_table(other, space)


def test_a_table_without_identity_is_compared_by_its_processor_s_whole_name(
    space: SearchSpace, table: LatencyTable
) -> None:
    facts = {name: fact for name, fact in table.facts.items() if name != "identity"}
    own = replace(table, setting=Setting("host", "fake"), facts=facts)
    assert target_from_table(own, space).is_here
    longer = str(own.facts["host"]).replace(",", " 9654,", 1)
    with pytest.raises(TableError, match="another machine"):
        target_from_table(replace(own, facts={**facts, "host": longer}), space)


def test_another_name_or_version_is_a_note_beside_the_figure(
    space: SearchSpace, table: LatencyTable
) -> None:
    own = replace(table, setting=Setting("host", "fake"))
    assert target_from_table(own, space).notes == []
    older = _of(replace(own, facts={**own.facts, "version": "fake 0"}), name="EPYC 9654")
    target = target_from_table(older, space)
    assert target.is_here
    assert "EPYC 9654" in target.notes[0]
    assert "fake 0" in target.notes[1]


def test_what_another_machine_measured_is_no_reference_here(
    space: SearchSpace, table: LatencyTable
) -> None:
    here = host_device().called("dummy")
    target = target_from_table(_of(table, model="1"), space, device=here)
    assert "another machine" in str(target.reason_unmeasured)


def test_tables_of_two_machines_do_not_merge(table: LatencyTable) -> None:
    with pytest.raises(TableError, match="another machine"):
        table.merged(_of(table, isa=[]))


def test_a_table_given_from_python_finds_its_own_device(
    space: SearchSpace, table: LatencyTable
) -> None:
    target = target_from_table(table, space)
    assert target.device.name == "dummy"
    assert target.is_here, "its header says that it was measured on this machine"
