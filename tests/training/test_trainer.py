"""A run can be killed, resumed, interrupted and refused."""

import json
import signal
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
import torch

from nassearch.data.dataset import Data
from nassearch.errors import CheckpointError, ConfigError, Interrupted, OutputError
from nassearch.networks import Supernet
from nassearch.space import SearchSpace
from nassearch.training import checkpoint, trainer
from nassearch.training.evaluation import Evaluator
from nassearch.training.schedule import learning_rate
from nassearch.training.state import freeze_teacher, make_optimizer, start
from nassearch.training.strategy import SubnetPass
from nassearch.training.training_recipe import TrainingRecipe

RECIPE = TrainingRecipe(
    strategy="delayed-shrinking",
    epochs=4,
    batch_size=128,
    lr=0.05,
    ramp_epochs=1.0,
    eval_every=2,
    seed=5,
)
STEPS_PER_EPOCH = 8

KILLED = """
import os, signal, sys, torch
from pathlib import Path
from nassearch.space import SearchSpace
from nassearch.data.loading import load_data
from nassearch.training.training_recipe import TrainingRecipe
from nassearch.training.trainer import train
import json

torch.set_num_threads(1)
space, recipe, out, after = json.loads(sys.argv[1])

fractions = set()

def kill_after(stage, fraction, note=""):
    fractions.add(fraction)
    if len(fractions - {0.0}) == after:
        os.kill(os.getpid(), signal.SIGKILL)

train(SearchSpace.from_dict(space), load_data("digits"),
      recipe=TrainingRecipe(**recipe), out=Path(out), progress=kill_after)
"""


class At:
    """A watcher that does something after some steps."""

    def __init__(self, step: int, action: Callable[[], None]) -> None:
        self.step, self.action = step, action
        self.fractions: list[float] = []
        self.notes: list[str] = []

    def __call__(self, stage: str, fraction: float, note: str = "") -> None:
        assert stage == "training"
        self.notes.append(note)
        if fraction and fraction not in self.fractions:
            self.fractions.append(fraction)
            if len(self.fractions) == self.step:
                self.action()


@pytest.fixture(scope="module")
def undisturbed(
    space: SearchSpace, digits: Data, tmp_path_factory: pytest.TempPathFactory
) -> tuple[Supernet, Path]:
    out = tmp_path_factory.mktemp("undisturbed")
    return trainer.train(space, digits, recipe=RECIPE, out=out), out


def assert_same_weights(one: torch.nn.Module, other: torch.nn.Module) -> None:
    expected, found = one.state_dict(), other.state_dict()
    assert expected.keys() == found.keys()
    for name, tensor in expected.items():
        assert torch.equal(tensor, found[name]), name


def metrics(out: Path) -> list[dict[str, object]]:
    lines = [json.loads(line) for line in (out / "metrics.jsonl").read_text().splitlines()]
    return [{k: v for k, v in line.items() if k != "seconds"} for line in lines]


def test_a_killed_run_resumes_to_the_same_weights(
    space: SearchSpace, digits: Data, undisturbed: tuple[Supernet, Path], tmp_path: Path
) -> None:
    arguments = [space.to_dict(), RECIPE.model_dump(), str(tmp_path), 2 * STEPS_PER_EPOCH + 3]
    killed = subprocess.run([sys.executable, "-c", KILLED, json.dumps(arguments)], check=False)
    assert killed.returncode == -signal.SIGKILL
    assert len(checkpoint.paths(tmp_path)) == 2
    resumed = trainer.train(space, digits, recipe=RECIPE, out=tmp_path, resume=True)
    assert_same_weights(undisturbed[0], resumed)
    assert metrics(tmp_path) == metrics(undisturbed[1])


@pytest.mark.parametrize("step", [STEPS_PER_EPOCH + 3, 2 * STEPS_PER_EPOCH])
def test_ctrl_c_saves_the_step_and_resumes_to_the_same_weights(
    step: int, space: SearchSpace, digits: Data, undisturbed: tuple[Supernet, Path], tmp_path: Path
) -> None:
    watch = At(step, lambda: signal.raise_signal(signal.SIGINT))
    with pytest.raises(KeyboardInterrupt):
        trainer.train(space, digits, recipe=RECIPE, out=tmp_path, progress=watch)
    assert checkpoint.load(tmp_path).step == step
    resumed = trainer.train(space, digits, recipe=RECIPE, out=tmp_path, resume=True)
    assert_same_weights(undisturbed[0], resumed)
    assert metrics(tmp_path) == metrics(undisturbed[1])


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGHUP])
def test_a_request_to_end_saves_the_step_under_way(
    number: signal.Signals, space: SearchSpace, digits: Data, tmp_path: Path
) -> None:
    watch = At(3, lambda: signal.raise_signal(number))
    before = signal.getsignal(number)
    with pytest.raises(Interrupted, match=r"epoch-0000-step-000003\.pt is saved, go on with"):
        trainer.train(space, digits, recipe=RECIPE, out=tmp_path, progress=watch)
    assert checkpoint.load(tmp_path).step == 3
    assert signal.getsignal(number) is before


def test_an_interruption_before_anything_is_saved_does_not_say_it_was(
    space: SearchSpace, digits: Data, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(trainer, "train_step", lambda *_: float("nan"))
    watch = At(3, lambda: signal.raise_signal(signal.SIGINT))
    with pytest.raises(KeyboardInterrupt) as stop:
        trainer.train(space, digits, recipe=RECIPE, out=tmp_path, progress=watch)
    assert not isinstance(stop.value, Interrupted)
    assert checkpoint.paths(tmp_path) == []


def test_a_run_keeps_its_last_two_checkpoints_and_a_line_for_each_epoch(
    undisturbed: tuple[Supernet, Path],
) -> None:
    supernet, out = undisturbed
    assert [path.stem for path in checkpoint.paths(out)] == ["epoch-0003", "epoch-0004"]
    lines = metrics(out)
    assert [line["epoch"] for line in lines] == [1, 2, 3, 4]
    assert ["val_accuracy_min" in line for line in lines] == [False, True, False, True]
    assert_same_weights(supernet, checkpoint.load_supernet(out))


def test_training_leaves_the_global_generator_alone(
    space: SearchSpace, digits: Data, tmp_path: Path
) -> None:
    torch.manual_seed(0)
    expected = torch.rand(3)
    torch.manual_seed(0)
    recipe = RECIPE.model_copy(update={"epochs": 1})
    trainer.train(space, digits, recipe=recipe, out=tmp_path)
    assert torch.equal(torch.rand(3), expected)


def test_a_directory_that_holds_a_training_is_not_overwritten(
    space: SearchSpace, digits: Data, undisturbed: tuple[Supernet, Path]
) -> None:
    with pytest.raises(OutputError, match=r"already holds a training.*--resume"):
        trainer.train(space, digits, recipe=RECIPE, out=undisturbed[1])


def test_resuming_with_another_recipe_names_what_differs(
    space: SearchSpace, digits: Data, undisturbed: tuple[Supernet, Path]
) -> None:
    recipe = RECIPE.model_copy(update={"lr": 0.2})
    with pytest.raises(CheckpointError, match=r"lr 0\.05, not 0\.2"):
        trainer.train(space, digits, recipe=recipe, out=undisturbed[1], resume=True)


def test_resuming_with_another_space_is_refused(
    digits: Data, undisturbed: tuple[Supernet, Path]
) -> None:
    with pytest.raises(CheckpointError, match="was trained on the space two_stages"):
        trainer.train(
            SearchSpace.load("digits_tiny"),
            digits,
            recipe=RECIPE,
            out=undisturbed[1],
            resume=True,
        )


def test_a_loss_that_stays_non_finite_stops_the_run_and_names_the_fix(
    space: SearchSpace, digits: Data, tmp_path: Path
) -> None:
    with pytest.raises(ConfigError, match=r"not finite for 10 steps in a row.*smaller lr"):
        recipe = RECIPE.model_copy(update={"lr": 1e30})
        trainer.train(space, digits, recipe=recipe, out=tmp_path)


def test_a_non_finite_step_changes_no_weight(
    space: SearchSpace, digits: Data, tmp_path: Path
) -> None:
    state = start(space, digits, recipe=RECIPE, out=tmp_path, resume=False)
    before = {name: value.clone() for name, value in state.supernet.named_parameters()}
    passes = (SubnetPass(state.space.largest), SubnetPass(state.space.smallest, 1.0, "in-place"))
    images = torch.full((4, 1, 8, 8), float("inf"))
    loss = trainer.train_step(state, passes, images, torch.zeros(4, dtype=torch.int64))
    assert not torch.isfinite(torch.tensor(loss))
    for name, value in state.supernet.named_parameters():
        assert torch.equal(value, before[name])


def test_a_loss_of_the_user_s_own_is_what_labels_teach(
    space: SearchSpace, digits: Data, tmp_path: Path
) -> None:
    """Cross entropy written by hand gives the weights of the one built in; another does not."""
    recipe = RECIPE.model_copy(update={"epochs": 1})
    seen = []

    def smoothed(logits: torch.Tensor, targets: torch.Tensor) -> torch.Tensor:
        seen.append((logits.shape, logits.dtype, targets.shape, targets.dtype))
        return torch.nn.functional.cross_entropy(logits, targets, label_smoothing=0.1)

    def margin(logits: torch.Tensor, targets: torch.Tensor) -> torch.Tensor:
        return torch.nn.functional.multi_margin_loss(logits, targets)

    usual, own, other = (
        trainer.train(space, digits, recipe=recipe, out=tmp_path / str(number), loss=loss)
        for number, loss in enumerate([None, smoothed, margin])
    )
    assert_same_weights(usual, own)
    images, labels = torch.Size([128, 10]), torch.Size([128])
    assert set(seen) == {(images, torch.float32, labels, torch.int64)}
    assert len(seen) == STEPS_PER_EPOCH  # in turn, each step teaches one network on labels
    pairs = zip(usual.parameters(), other.parameters(), strict=True)
    assert not all(torch.equal(one, another) for one, another in pairs)


def test_a_loss_of_the_user_s_own_that_is_no_number_skips_its_step(
    space: SearchSpace, digits: Data, tmp_path: Path
) -> None:
    calls = []

    def once_broken(logits: torch.Tensor, targets: torch.Tensor) -> torch.Tensor:
        calls.append(len(logits))
        loss = torch.nn.functional.cross_entropy(logits, targets)
        return loss * float("nan") if len(calls) == 3 else loss

    recipe = RECIPE.model_copy(update={"epochs": 1})
    with pytest.warns(UserWarning, match="1 of 8 steps were skipped"):
        trainer.train(space, digits, recipe=recipe, out=tmp_path, loss=once_broken)
    assert metrics(tmp_path)[-1]["skipped_steps"] == 1


@pytest.mark.parametrize("keys", [{}, {"ema_decay": 0.9}])
def test_a_skipped_step_does_not_poison_a_frozen_teacher(
    space: SearchSpace, digits: Data, tmp_path: Path, keys: dict[str, float]
) -> None:
    recipe = RECIPE.model_copy(update=keys)
    state = start(space, digits, recipe=recipe, out=tmp_path, resume=False)
    passes = (SubnetPass(state.space.largest),)
    images = digits.normalise(digits.train.images[:64])
    labels = digits.train.labels[:64]
    broken = images.clone()
    broken[0, 0, 0, 0] = float("inf")
    trainer.train_step(state, passes, images, labels)
    assert trainer.train_step(state, passes, broken, labels) != 0.0
    assert all(torch.isfinite(buffer).all() for buffer in state.supernet.buffers())
    freeze_teacher(state)
    assert state.teacher is not None
    expected = Evaluator(state.evaluated, digits).subnet(state.space.largest)
    torch.testing.assert_close(state.teacher(images), expected(images))
    assert torch.isfinite(state.teacher(images)).all()


def test_a_crop_as_large_as_the_images_is_refused(
    space: SearchSpace, digits: Data, tmp_path: Path
) -> None:
    recipe = RECIPE.model_copy(update={"crop_padding": 8})
    with pytest.raises(ConfigError, match="crop_padding 8 is as large as the images"):
        trainer.train(space, digits, recipe=recipe, out=tmp_path / "run")
    assert not (tmp_path / "run").exists()


def test_norms_and_biases_do_not_decay(space: SearchSpace) -> None:
    supernet = Supernet(space)
    decays, exempt = make_optimizer(supernet, RECIPE).param_groups
    assert decays["weight_decay"] == RECIPE.weight_decay
    assert exempt["weight_decay"] == 0.0
    names = {id(value): name for name, value in supernet.named_parameters()}
    assert all(names[id(p)].endswith(("norm.weight", "bias")) for p in exempt["params"])
    assert not any("norm" in names[id(p)] for p in decays["params"])


def test_the_learning_rate_is_a_cosine_with_warmup_and_floor() -> None:
    recipe = TrainingRecipe(epochs=10, lr=1.0, min_lr=0.1, lr_warmup_epochs=2.0)
    assert learning_rate(recipe, 0.0) == 0.1
    assert learning_rate(recipe, 1.0) == pytest.approx(0.5 * 0.975528, rel=1e-5)
    assert learning_rate(recipe, 5.0) == pytest.approx(0.5)
    assert learning_rate(recipe, 10.0) == 0.1
