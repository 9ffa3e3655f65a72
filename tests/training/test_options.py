"""The options of a recipe do what they say, alone and together, and survive a kill."""

import json
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from test_trainer import KILLED, At, assert_same_weights, metrics

from nassearch.data.dataset import Data
from nassearch.errors import ConfigError, OutputError
from nassearch.networks import Supernet
from nassearch.networks.weight_transfer import zero_gamma
from nassearch.space import SearchSpace
from nassearch.training import checkpoint, trainer
from nassearch.training.evaluation import Evaluator
from nassearch.training.state import TrainingState, start
from nassearch.training.strategy import SubnetPass
from nassearch.training.training_recipe import TrainingRecipe

EVERYTHING: dict[str, Any] = {
    "strategy": "delayed-shrinking",
    "epochs": 4,
    "batch_size": 128,
    "lr": 0.01,
    "ramp_epochs": 1.0,
    "eval_every": 2,
    "optimizer": "adamw",
    "schedule": "constant-ending",
    "ema_decay": 0.9,
    "dropout": 0.2,
    "drop_path": 0.2,
    "distillation": "alpha",
    "clip_value": 1.0,
    "gradient_projection": True,
    "zero_gamma": True,
    "warmup_resolution": 0.5,
    "precision": "bf16",
}
FAST: dict[str, Any] = {
    "strategy": "delayed-shrinking",
    "epochs": 4,
    "batch_size": 128,
    "optimizer": "muon",
    "schedule": "triangular",
    "flip": "alternating",
    "whitening": True,
    "zero_gamma": True,
    "outer_gamma": 0.3,
    "sandwich_rule": "apart",
    "ramp_epochs": 1.0,
    "eval_every": 2,
}
DELAYED = ("ramp_epochs", "warmup_resolution")
TOGETHER = [
    EVERYTHING,
    {
        **{name: value for name, value in EVERYTHING.items() if name not in DELAYED},
        "strategy": "progressive-shrinking",
        "optimizer": "sgd",
        "precision": "float32",
    },
    {"strategy": "delayed-shrinking", "epochs": 4, "ramp_epochs": 1.0, "eval_every": 2},
    FAST,
    {"epochs": 4, "eval_every": 2},
]


@pytest.mark.parametrize("number", range(len(TOGETHER)))
def test_a_run_killed_anywhere_resumes_to_the_same_weights(
    number: int, space: SearchSpace, digits: Data, tmp_path: Path
) -> None:
    """Killed at a moment that differs for each recipe: in the warm-up, the ramp, the end."""
    recipe = TrainingRecipe(**TOGETHER[number])
    undisturbed = trainer.train(space, digits, recipe=recipe, out=tmp_path / "undisturbed")
    after = (5, 13, 27, 17, 22)[number]
    out = tmp_path / "killed"
    arguments = [space.to_dict(), recipe.model_dump(), str(out), after]
    killed = subprocess.run([sys.executable, "-c", KILLED, json.dumps(arguments)], check=False)
    assert killed.returncode == -signal.SIGKILL
    resumed = trainer.train(space, digits, recipe=recipe, out=out, resume=True)
    assert_same_weights(undisturbed, resumed)
    assert metrics(out) == metrics(tmp_path / "undisturbed")


def begin(space: SearchSpace, digits: Data, out: Path, **settings: Any) -> TrainingState:
    return start(space, digits, recipe=TrainingRecipe(**settings), out=out, resume=False)


def test_the_average_is_what_is_evaluated_and_loaded(
    space: SearchSpace, digits: Data, tmp_path: Path
) -> None:
    recipe = TrainingRecipe(strategy="delayed-shrinking", epochs=1, ema_decay=0.5, ramp_epochs=0.0)
    trained = trainer.train(space, digits, recipe=recipe, out=tmp_path)
    assert_same_weights(trained, checkpoint.load_supernet(tmp_path))
    raw = checkpoint.load(tmp_path).model
    assert any(not torch.equal(raw[k], v) for k, v in trained.state_dict().items())


def test_the_average_follows_its_formula(space: SearchSpace, digits: Data, tmp_path: Path) -> None:
    state = begin(space, digits, tmp_path, ema_decay=0.75)
    images, labels = digits.normalise(digits.train.images[:8]), digits.train.labels[:8]
    weights = []
    for _ in range(3):
        trainer.train_step(state, (SubnetPass(state.space.largest),), images, labels)
        weights.append([p.detach().clone() for p in state.supernet.parameters()])
    expected = weights[0]
    for later in weights[1:]:
        expected = [0.75 * e + 0.25 * p for e, p in zip(expected, later, strict=True)]
    for found, wanted in zip(state.evaluated.parameters(), expected, strict=True):
        torch.testing.assert_close(found, wanted)


def test_the_largest_network_alone_is_regularised(
    space: SearchSpace, digits: Data, tmp_path: Path
) -> None:
    state = begin(space, digits, tmp_path, dropout=0.5, drop_path=0.5)
    images = digits.normalise(digits.train.images[:32])

    def twice(each: SubnetPass) -> tuple[torch.Tensor, torch.Tensor]:
        return trainer.forward(state, each, images), trainer.forward(state, each, images)

    assert not torch.equal(*twice(SubnetPass(state.space.largest)))
    assert torch.equal(*twice(SubnetPass(state.space.smallest, 1.0, "in-place")))
    state.supernet.eval()
    assert torch.equal(*twice(SubnetPass(state.space.largest)))


def test_a_dropped_path_leaves_the_shortcut_and_the_others_are_scaled_up() -> None:
    torch.manual_seed(0)
    supernet = Supernet(SearchSpace.load("cifar_small"))
    *_, (elastic, spec) = [
        (op, spec)
        for op, spec in supernet.walk(supernet.space.largest)
        if spec.op == "mbconv" and spec.stride == 1 and spec.in_channels == spec.out_channels
    ]
    images = torch.randn(64, spec.in_channels, 4, 4)
    with torch.no_grad():
        branch = elastic(images, spec) - images
        left = elastic(images, spec, drop_path=0.75) - images
    dropped = left.flatten(1).abs().amax(1) == 0
    assert 36 <= int(dropped.sum()) <= 60  # of 64, three quarters within four deviations
    torch.testing.assert_close(left[~dropped], 4 * branch[~dropped], rtol=1e-4, atol=1e-5)


def test_residual_branches_start_at_nothing_with_zero_gamma() -> None:
    torch.manual_seed(0)
    definition = SearchSpace.load("cifar_small").to_dict()
    supernet = Supernet(SearchSpace.from_dict({**definition, "resolution": [16]})).eval()
    zero_gamma(supernet)
    residual = 0
    out = torch.randn(2, 3, 16, 16)
    for elastic, spec in supernet.walk(supernet.space.largest):
        before, out = out, elastic(out, spec)
        if spec.op == "mbconv" and spec.stride == 1 and spec.in_channels == spec.out_channels:
            residual += 1
            assert torch.equal(out, before)
    assert residual == 6


def test_repeated_non_finite_losses_go_back_to_the_checkpoint_at_a_lower_rate(
    space: SearchSpace, digits: Data, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    recipe = TrainingRecipe(
        strategy="delayed-shrinking", epochs=4, batch_size=128, ramp_epochs=1.0, eval_every=4
    )
    real, rates = trainer.train_step, []

    def ill(state: TrainingState, *arguments: Any) -> float:
        rates.append(state.optimizer.param_groups[0]["lr"])
        if state.totals.rate_scale == 1.0 and state.step >= 11:
            return float("nan")
        return real(state, *arguments)

    monkeypatch.setattr(trainer, "train_step", ill)
    with pytest.warns(
        UserWarning, match=r"not finite for 10 steps.*back to epoch 1\.00, with 0\.5"
    ):
        trainer.train(space, digits, recipe=recipe, out=tmp_path)
    steps = len(digits.train) // 128
    assert len(rates) == 4 * steps + 3 + 10  # three good and ten bad steps were done again
    assert rates[steps + 3 + 10] == pytest.approx(0.5 * rates[steps])
    lines = metrics(tmp_path)
    assert [line["epoch"] for line in lines] == [1, 2, 3, 4]
    assert [line["rollbacks"] for line in lines] == [0, 1, 1, 1]


def test_a_loss_that_never_recovers_is_given_up(
    space: SearchSpace, digits: Data, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    recipe = TrainingRecipe(strategy="delayed-shrinking", epochs=4, batch_size=128, ramp_epochs=1.0)
    real = trainer.train_step

    def ill(state: TrainingState, *arguments: Any) -> float:
        return float("nan") if state.step >= 9 else real(state, *arguments)

    monkeypatch.setattr(trainer, "train_step", ill)
    with (
        pytest.warns(UserWarning, match="back to epoch"),
        pytest.raises(ConfigError, match=r"not finite.*smaller lr"),
    ):
        trainer.train(space, digits, recipe=recipe, out=tmp_path)
    assert checkpoint.load(tmp_path).step == len(digits.train) // 128


def test_steps_that_were_skipped_are_told_and_the_last_epoch_is_saved(
    space: SearchSpace, digits: Data, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """An epoch without a finite loss has none, not 0."""
    steps = len(digits.train) // 256
    recipe = TrainingRecipe(strategy="delayed-shrinking", epochs=2, batch_size=256, ramp_epochs=0.0)
    real = trainer.train_step

    def ill(state: TrainingState, *arguments: Any) -> float:
        return float("nan") if state.step >= steps else real(state, *arguments)

    monkeypatch.setattr(trainer, "train_step", ill)
    with pytest.warns(UserWarning, match=f"{steps} of {2 * steps} steps were skipped"):
        trainer.train(space, digits, recipe=recipe, out=tmp_path)
    assert checkpoint.load(tmp_path).step == 2 * steps
    assert isinstance(metrics(tmp_path)[0]["loss"], float)
    assert metrics(tmp_path)[1]["loss"] is None


def test_checkpoints_within_an_epoch_come_by_the_clock(
    space: SearchSpace, digits: Data, tmp_path: Path
) -> None:
    steps = []

    def watch(stage: str, fraction: float, note: str = "") -> None:
        if checkpoint.paths(tmp_path):
            steps.append(checkpoint.load(tmp_path).step)

    recipe = TrainingRecipe(
        strategy="delayed-shrinking",
        epochs=1,
        batch_size=128,
        checkpoint_minutes=1e-9,
        ramp_epochs=0.0,
    )
    trainer.train(space, digits, recipe=recipe, out=tmp_path, progress=watch)
    assert sorted(set(steps)) == list(range(1, len(digits.train) // 128 + 1))
    assert len(checkpoint.paths(tmp_path)) == 2


def test_a_full_disk_stops_the_run_and_leaves_the_checkpoint_before(
    space: SearchSpace, digits: Data, tmp_path: Path
) -> None:
    import resource

    recipe = TrainingRecipe(strategy="delayed-shrinking", epochs=2, batch_size=128, ramp_epochs=0.0)
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)

    def fill_disk() -> None:
        resource.setrlimit(resource.RLIMIT_FSIZE, (4096, hard))  # as a disk that is full

    watch = At(len(digits.train) // 128 + 1, fill_disk)
    try:
        with pytest.raises(OutputError, match="cannot write"):
            trainer.train(space, digits, recipe=recipe, out=tmp_path, progress=watch)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
    assert [path.stem for path in checkpoint.paths(tmp_path)] == ["epoch-0001"]
    assert checkpoint.load(tmp_path).step == len(digits.train) // 128
    assert not list((tmp_path / "checkpoints").glob("*.tmp"))


def test_metrics_go_to_tensorboard_where_asked(
    space: SearchSpace, digits: Data, tmp_path: Path
) -> None:
    recipe = TrainingRecipe(
        strategy="delayed-shrinking", epochs=1, tensorboard=True, ramp_epochs=0.0
    )
    trainer.train(space, digits, recipe=recipe, out=tmp_path)
    (events,) = (tmp_path / "tensorboard").glob("events.*")
    assert b"val_accuracy_max" in events.read_bytes()


def test_a_teacher_is_learned_from_by_what_learns_from_labels(
    space: SearchSpace, digits: Data, tmp_path: Path
) -> None:
    images, labels = digits.normalise(digits.train.images[:16]), digits.train.labels[:16]
    passes = (SubnetPass(space.largest), SubnetPass(space.smallest, 1.0, "in-place"))
    gradients = []
    for weight in (0.0, 2.0):
        recipe = TrainingRecipe(teacher="given", teacher_weight=weight, momentum=0.0)
        torch.manual_seed(1)
        teacher = torch.nn.Sequential(torch.nn.Flatten(), torch.nn.Linear(64, 10))
        state = start(
            space, digits, recipe=recipe, out=tmp_path / str(weight), resume=False, teacher=teacher
        )
        trainer.train_step(state, passes[: 1 if weight else 2], images, labels)
        gradients.append({n: p.grad for n, p in state.supernet.named_parameters()})
        assert state.teacher_macs == 640
        assert all(p.grad is None for p in teacher.parameters())
    name = "head.head.classifier.bias"
    assert not torch.allclose(gradients[0][name], gradients[1][name])


def test_a_frozen_teacher_is_the_largest_network_of_that_moment(
    space: SearchSpace, digits: Data, tmp_path: Path
) -> None:
    settings = {"strategy": "progressive-shrinking", "epochs": 4, "batch_size": 128}
    state = begin(space, digits, tmp_path, **settings)
    strategy = trainer.make_strategy(state.space, state.recipe)
    images = digits.normalise(digits.train.images[:16])
    while not strategy.step(state.position, np.random.default_rng(0)).freeze_teacher:
        state.step += 1
    largest = Evaluator(state.supernet, digits).subnet(state.space.largest)
    with torch.no_grad():
        expected = largest(images)
    trainer.prepare(state, strategy.step(state.position, np.random.default_rng(0)))
    passes = (SubnetPass(state.space.largest),)
    advice = trainer.teacher_logits(state, passes, images)
    assert advice is not None
    torch.testing.assert_close(advice, expected, rtol=1e-4, atol=1e-5)


@pytest.mark.slow
def test_compiled_blocks_train_alike(space: SearchSpace, digits: Data, tmp_path: Path) -> None:
    images, labels = digits.normalise(digits.train.images[:16]), digits.train.labels[:16]
    passes = (SubnetPass(space.largest), SubnetPass(space.smallest, 1.0, "in-place"))
    found = []
    for compiled in (False, True):
        state = begin(space, digits, tmp_path / str(compiled), compile=compiled)
        trainer.train_step(state, passes, images, labels)
        found.append(state.supernet.state_dict())
        assert state.supernet.extract(space.largest).eval()(images).shape == (16, 10)
    for name, expected in found[0].items():
        torch.testing.assert_close(found[1][name], expected, rtol=1e-4, atol=1e-5)
