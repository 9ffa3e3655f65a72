"""A whole run on digits, made once: two epochs of training, a fake device, eight evaluations."""

import json
import shutil
import sys
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from nassearch import cli
from nassearch.pipeline.run_directory import link_latest

RECIPE = """
name: tiny
space: digits_tiny
data: digits
device: box
threads: 1
training: {strategy: delayed-shrinking, epochs: 2, batch_size: 64, ramp_epochs: 1}
profile: {seconds: 1}
search: {budgets: ["20%", "60%"], algorithm: random, trials: 8}
"""


@dataclass(frozen=True)
class Answer:
    """What one call of the command line gave."""

    code: int
    out: str
    err: str

    def json(self) -> Any:
        return json.loads(self.out)


CommandLine = Callable[..., Answer]


@pytest.fixture
def nassearch(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> CommandLine:
    """The command line in this process, in whatever directory the test stands in."""

    def call(*arguments: object) -> Answer:
        capsys.readouterr()
        monkeypatch.setattr(sys, "argv", ["nassearch", *map(str, arguments)])
        try:
            cli.main()
            code = 0
        except SystemExit as stop:
            code = int(stop.code or 0)
        captured = capsys.readouterr()
        return Answer(code, captured.out, captured.err)

    return call


def succeed(command: str, patch: pytest.MonkeyPatch) -> None:
    """Give the command line a command, which must exit with 0."""
    patch.setattr(sys, "argv", ["nassearch", *command.split()])
    with pytest.raises(SystemExit) as stop:
        cli.main()
    assert not stop.value.code


@pytest.fixture(scope="session")
def workplace(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """A directory with a finished run, `runs/tiny`, and the table of a fake device, `box`."""
    place = tmp_path_factory.mktemp("workplace")
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(place)
        (place / "recipe.yaml").write_text(RECIPE)
        for command in (
            "profile --device box --runtime fake --space digits_tiny --seconds 1",
            "run recipe.yaml --out runs/tiny --json",
        ):
            succeed(command, patch)
    yield place


@pytest.fixture
def run(workplace: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The finished run, with the test standing in its workplace."""
    monkeypatch.chdir(workplace)
    link_latest(workplace / "runs" / "tiny")
    return workplace / "runs" / "tiny"


@pytest.fixture
def place(trained: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A copy of what a module's fixture `trained` made, to be changed, in which the test stands."""
    copy = Path(shutil.copytree(trained, tmp_path / "place", symlinks=True))
    monkeypatch.chdir(copy)
    return copy
