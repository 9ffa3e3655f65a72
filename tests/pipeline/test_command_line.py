"""The command line as a program: how it is started, and what it writes down of that."""

import json
import subprocess
import sys
from pathlib import Path

import pytest

from nassearch import __version__, cli
from nassearch.pipeline.run_directory import command_line


def test_it_starts_as_a_module_too() -> None:
    answer = subprocess.run(
        [sys.executable, "-m", "nassearch", "list", "strategies", "--json"],
        capture_output=True,
        text=True,
        check=True,
    )
    assert "delayed-shrinking" in [row["name"] for row in json.loads(answer.stdout)]


def test_it_says_its_version(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as stop, pytest.MonkeyPatch.context() as patch:
        patch.setattr(sys, "argv", ["nassearch", "--version"])
        cli.main()
    assert not stop.value.code
    assert capsys.readouterr().out == f"nassearch {__version__}\n"


@pytest.mark.parametrize("program", ["/bin/nassearch", "/x/nassearch/__main__.py"])
def test_the_command_that_a_run_keeps_can_be_given_again(
    program: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sys, "argv", [program, "search", "--budget", "40 %"])
    assert command_line() == "nassearch search --budget '40 %'"


def test_the_command_line_has_no_other_way_in_than_the_front_door() -> None:
    allowed = ("nassearch.cli", "nassearch.errors", "nassearch.config")
    shown = ("nassearch.export.format", "nassearch.report", "nassearch.pipeline.run_directory")
    folder = Path(sys.modules["nassearch"].__file__ or "").parent / "cli"
    for path in folder.glob("*.py"):
        if path.name in ("terminal.py", "describe_table.py", "output.py"):
            continue  # they show values, and name their types
        for line in path.read_text(encoding="utf-8").splitlines():
            words = line.split()
            if words[:1] in (["from"], ["import"]) and words[1].startswith("nassearch."):
                assert words[1].startswith((*allowed, *shown)), f"{path}: {line}"
