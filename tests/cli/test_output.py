"""What a command says when its work is done, on a stdout of whatever kind."""

import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import typer

from nassearch.cli.output import exit_if_broken, spelled

SCRIPT = """
import sys
from nassearch.cli import app, main, output
@app.command("speak")
def speak(as_json: bool = False):
    output.print_result(as_json, {"ms": 1}, lambda: "12 \\u00b5s \\u00b1 1 \\u4e16")
sys.argv = ["nassearch", "speak"]
main()
"""


def speak(encoding: str, redirection: str) -> tuple[int, str, str]:
    command = f'"{sys.executable}" -c "$0" {redirection}'
    done = subprocess.run(
        ["sh", "-c", command, SCRIPT],
        env={"PYTHONPATH": ":".join(sys.path), "PYTHONIOENCODING": encoding},
        capture_output=True,
        text=True,
        check=False,
    )
    return done.returncode, done.stdout, done.stderr


@pytest.mark.parametrize(
    ("encoding", "says"), [("ascii", "12 us +- 1 ?"), ("utf-8", "12 µs ± 1 世")]
)
def test_a_terminal_is_told_what_it_can_say(encoding: str, says: str) -> None:
    code, out, err = speak(encoding, "")
    assert code == 0, err
    assert out.startswith(says)


def test_characters_have_a_likeness() -> None:
    assert spelled("12 µs ± 1 世", "ascii") == "12 us +- 1 ?"
    assert spelled("12 µs", "latin-1") == "12 µs"


@pytest.mark.parametrize("redirection", [">/dev/full", ">&-", "| true"])
def test_a_full_or_closed_stdout_is_one_line(redirection: str) -> None:
    if redirection == ">/dev/full" and not Path("/dev/full").exists():
        pytest.skip("this system has no /dev/full")
    code, out, err = speak("utf-8", redirection)
    assert out == ""
    assert "Traceback" not in err
    if redirection != "| true":  # there the shell's code is that of true, and all may have fit
        assert code == 2
        (line,) = err.strip().splitlines()
        assert line.startswith("nassearch: standard output: cannot write (")


def test_a_broken_promise_of_several_picks_is_told_once(
    capsys: pytest.CaptureFixture[str],
) -> None:
    network: Any = SimpleNamespace(name="1b2c3d4e", broken=("too slow",))
    with pytest.raises(typer.Exit) as stop:
        exit_if_broken([network, network])
    assert stop.value.exit_code == 3
    assert capsys.readouterr().err.splitlines() == ["nassearch: promise broken: 1b2c3d4e: too slow"]
