"""What is written is whole, whatever ended the process before."""

from pathlib import Path

from nassearch.files import append_json_line, read_json_lines


def test_a_line_that_a_kill_cut_off_costs_no_other(tmp_path: Path) -> None:
    path = tmp_path / "evaluations.jsonl"
    append_json_line(path, {"network": 1})
    with path.open("a") as file:
        file.write('{"network": ')
    append_json_line(path, {"network": 3})
    append_json_line(path, {"network": 4})
    assert read_json_lines(path) == [{"network": 1}, {"network": 3}, {"network": 4}]
