"""`--time-budget`: the epochs are planned once, said in one line, and kept with the run."""

import signal
from pathlib import Path
from typing import Any

import pytest
import torch

import nassearch as package
from nassearch.errors import Interrupted
from nassearch.pipeline.run_directory import run_recipe
from nassearch.space import SearchSpace
from nassearch.training import checkpoint, time_plan
from nassearch.training.time_plan import Pace
from tests.pipeline.conftest import CommandLine
from tests.pipeline.test_bad_input import refused

OPTIONS = {"batch_size": 128, "eval_every": 10}
FLAGS = ("--set", "training.batch_size=128", "--set", "training.eval_every=10")
START = ("train-supernet", "--space", "digits_tiny", "--data", "digits", *FLAGS)


@pytest.fixture
def slow(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """A step of 200 s on a machine where the work is done: eight of them, an epoch, take 27 min."""
    monkeypatch.chdir(tmp_path)
    pace = Pace(step=200.0, mac=0.0)
    monkeypatch.setattr(time_plan, "measure_pace", lambda *_, **__: pace)


@pytest.mark.usefixtures("slow")
def test_a_time_budget_plans_epochs_that_a_resumed_run_keeps(
    nassearch: CommandLine, monkeypatch: pytest.MonkeyPatch, space: SearchSpace
) -> None:
    options: dict[str, Any] = {"options": OPTIONS, "time_budget": "1h"}
    said = []

    def watch(stage: str, fraction: float, note: str = "") -> None:
        if stage == "planning":
            said.append(note)
        if stage == "training" and fraction == 0.75:  # of two epochs of eight steps
            signal.raise_signal(signal.SIGTERM)

    with pytest.raises(Interrupted):
        package.train_supernet(space, "digits", **options, out="run", progress=watch)
    assert said == ["1h: 2 epochs of about 26.7min"]
    assert run_recipe(Path("run")).training.epochs == 2
    assert checkpoint.load(Path("run")).step == 12
    monkeypatch.setattr(time_plan, "measure_pace", None)  # a plan is made once
    assert nassearch("train-supernet", "--resume", "--out", "run").code == 0
    finished = nassearch("train-supernet", "--resume", "--out", "run")
    assert (finished.code, finished.err) == (0, "training  it was finished already\n")
    planned = package.train_supernet(space, "digits", **options, out="run", resume=True)
    given = package.train_supernet(space, "digits", epochs=2, options=OPTIONS, out="given")
    weights = given.supernet.state_dict()
    for name, tensor in planned.supernet.state_dict().items():
        assert torch.equal(tensor, weights[name]), name


@pytest.mark.usefixtures("slow")
def test_the_command_says_the_plan_in_one_line(nassearch: CommandLine) -> None:
    answer = nassearch(*START, "--time-budget", "0.5h", "--out", "run", "--json")
    assert answer.json() == {"run": "run"}
    assert answer.err == "planning  0.5h: 1 epoch of about 26.7min\n"


@pytest.mark.usefixtures("slow")
@pytest.mark.parametrize(
    ("flags", "says"),
    [
        (("--time-budget", "10min"), r"too short for one epoch, which takes 26.7min"),
        (("--time-budget", "1h", "--epochs", "3"), "--time-budget: excludes --epochs; give one"),
        (("--time-budget", "an hour"), "training.time_budget: write it as 1.5h, 20min or 90s"),
        (("--time-budget", "1h", "--workers", "2"), "give --epochs with --workers"),
    ],
)
def test_what_cannot_be_planned_is_refused(
    nassearch: CommandLine, flags: tuple[str, ...], says: str, tmp_path: Path
) -> None:
    assert says in refused(nassearch, *START, *flags, "--out", "run")
    assert not (tmp_path / "run").exists()
