"""What is written is whole, whatever ended the process before."""

import shutil
from pathlib import Path

import pytest

from nassearch.errors import OutputError
from nassearch.files import append_json_line, atomic_write, read_json_lines


def test_a_line_that_a_kill_cut_off_costs_no_other(tmp_path: Path) -> None:
    path = tmp_path / "evaluations.jsonl"
    append_json_line(path, {"network": 1})
    with path.open("a") as file:
        file.write('{"network": ')
    append_json_line(path, {"network": 3})
    append_json_line(path, {"network": 4})
    assert read_json_lines(path) == [{"network": 1}, {"network": 3}, {"network": 4}]


def test_a_writer_that_a_full_disk_stops_says_so(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Writers in Rust and C++ raise errors of their own, which are no OSError."""
    path = tmp_path / "model.safetensors"
    path.write_text("before")
    says = "the disk is full; free some space"
    with pytest.raises(RuntimeError, match="no tensor"), atomic_write(path):
        raise RuntimeError("no tensor")
    # what was half written may have gone again
    with pytest.raises(OutputError, match=says), atomic_write(path):
        raise RuntimeError("I/O error: No space left on device (os error 28)")
    usage = shutil.disk_usage(tmp_path)._replace(free=0)
    monkeypatch.setattr(shutil, "disk_usage", lambda _: usage)
    with pytest.raises(OutputError, match=says), atomic_write(path):
        raise RuntimeError("cannot write")
    assert path.read_text() == "before"
    assert list(tmp_path.iterdir()) == [path]
