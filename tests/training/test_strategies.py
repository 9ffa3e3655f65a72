"""The contract of every strategy in the table, and DεpS against its formula."""

import copy
import math
from pathlib import Path

import numpy as np
import pytest
import torch
import torch.nn.functional as F

from nassearch.errors import ConfigError
from nassearch.space import SearchSpace
from nassearch.training import STRATEGIES, trainer
from nassearch.training.data import Data
from nassearch.training.delayed_shrinking import DelayedShrinking
from nassearch.training.distillation import soft_target_loss
from nassearch.training.recipe import TrainingRecipe
from nassearch.training.run import start
from nassearch.training.schedule import Moment, learning_rate
from nassearch.training.strategy import Pass, make_strategy

STEPS = 7


def passes_of(name: str, space: SearchSpace, *, seed: int) -> list[tuple[Pass, ...]]:
    recipe = TrainingRecipe(strategy=name, epochs=6, ramp_epochs=2.0)
    strategy = make_strategy(space, recipe)
    return [
        strategy.step(Moment(step, STEPS), np.random.default_rng((seed, step)))
        for step in range(6 * STEPS)
    ]


@pytest.mark.parametrize("name", STRATEGIES)
def test_every_subnet_of_a_strategy_is_in_the_space(name: str, space: SearchSpace) -> None:
    for passes in passes_of(name, space, seed=0):
        assert passes[0].target == "labels"
        for each in passes:
            space.check(each.architecture)
            assert 0 < each.weight <= 1


@pytest.mark.parametrize("name", STRATEGIES)
def test_a_strategy_depends_on_its_generator_alone(name: str, space: SearchSpace) -> None:
    first, again = (passes_of(name, space, seed=1) for _ in range(2))
    assert first == again
    assert first != passes_of(name, space, seed=2)


@pytest.mark.parametrize("name", STRATEGIES)
def test_the_loss_falls_on_digits(
    name: str, space: SearchSpace, digits: Data, tmp_path: Path
) -> None:
    recipe = TrainingRecipe(
        strategy=name, epochs=4, batch_size=32, lr=0.1, ramp_epochs=1.0, num_random=0
    )
    records: list[float] = []

    class Watch:
        def start(self, total: int, *, done: int) -> None:
            assert (total, done) == (4 * (len(digits.train) // 32), 0)

        def advance(self, *, loss: float) -> None:
            records.append(loss)

        def report(self, record: object) -> None: ...

    trainer.train(space, digits, recipe=recipe, out=tmp_path, progress=Watch())
    assert np.mean(records[-10:]) < 0.8 * np.mean(records[:5])


def test_an_unknown_strategy_is_refused_with_the_known_ones(space: SearchSpace) -> None:
    with pytest.raises(ConfigError, match=r"did you mean sandwich.*delayed-shrinking"):
        make_strategy(space, TrainingRecipe(strategy="sandwhich"))


def test_beta_is_that_of_the_paper_at_every_step(space: SearchSpace) -> None:
    """The β of training.md 1.1, with whole epochs as the published code has them."""
    epochs, full, ramp, steps = 20, 10, 3, 5
    recipe = TrainingRecipe(epochs=epochs, fm_warmup=0.5, ramp_epochs=3.0, lr=0.3)
    strategy = DelayedShrinking(space, recipe)

    def eta(t: float) -> float:
        return 0.5 * 0.3 * (1 + math.cos(math.pi * t / epochs))

    for epoch in range(epochs):
        for i in range(steps):
            if epoch < full - ramp:
                expected = 0.0
            elif epoch < full:
                k = (epoch - (full - ramp)) * steps + i + 1
                expected = k / (ramp * steps) * eta(full) / eta(epoch + i / steps)
            else:
                expected = 1.0
            beta = strategy.beta(Moment(epoch * steps + i, steps))
            assert beta == pytest.approx(expected, rel=1e-12)


def test_without_warmup_delayed_shrinking_is_the_sandwich(space: SearchSpace) -> None:
    recipe = TrainingRecipe(fm_warmup=0.0)
    delayed = DelayedShrinking(space, recipe)
    sandwich = make_strategy(space, recipe.model_copy(update={"strategy": "sandwich"}))
    moment = Moment(0, STEPS)
    expected = sandwich.step(moment, np.random.default_rng(0))
    assert delayed.step(moment, np.random.default_rng(0)) == expected
    assert len(expected) == 4


@pytest.mark.parametrize(
    ("step", "place"), [(0, "before"), (6 * 4 + 2, "inside"), (11 * 4, "after")]
)
def test_the_gradient_of_delayed_shrinking_is_the_formula(
    step: int, place: str, space: SearchSpace, digits: Data, tmp_path: Path
) -> None:
    """g = ∇CE_ls(f_max) + β Σ ∇ τ² mean_b Σ_c -p_c log q_c, p from the largest, detached."""
    tau = 2.0
    recipe = TrainingRecipe(
        epochs=16, fm_warmup=0.5, ramp_epochs=2.0, distillation_temperature=tau, momentum=0.0
    )
    run = start(space, digits, recipe=recipe, out=tmp_path, resume=False)
    for parameter in run.supernet.parameters():  # away from the initial zeros and ones
        parameter.data += 0.1 * torch.randn(parameter.shape, generator=_generator())
    reference = copy.deepcopy(run.supernet)
    images, labels = digits.normalise(digits.train.images[:16]), digits.train.labels[:16]
    moment = Moment(step, 4)
    passes = DelayedShrinking(run.space, recipe).step(moment, np.random.default_rng(0))
    trainer.train_step(run, passes, images, labels)

    teacher = reference(images, space.largest)
    total = F.cross_entropy(teacher, labels, label_smoothing=recipe.label_smoothing)
    p = (teacher / tau).softmax(1).detach()
    k = step - 6 * 4 + 1
    eta_ratio = learning_rate(recipe, 8.0) / learning_rate(recipe, step / 4)
    beta = {"before": 0.0, "inside": k / 8 * eta_ratio, "after": 1.0}[place]
    subnets = [each.architecture for each in passes[1:]]
    assert len(subnets) == (0 if place == "before" else 3)
    for subnet in subnets:
        log_q = (reference(images, subnet) / tau).log_softmax(1)
        total = total + beta * tau**2 * (-p * log_q).sum(1).mean()
    parameters = dict(reference.named_parameters())
    expected = torch.autograd.grad(total, list(parameters.values()), allow_unused=True)
    trained = dict(run.supernet.named_parameters())
    assert subnets == [] or sum(g is not None for g in expected) == len(expected)
    for name, gradient in zip(parameters, expected, strict=True):
        found = trained[name].grad
        if gradient is None:
            assert found is None or not found.any()
        else:
            torch.testing.assert_close(found, gradient, rtol=1e-4, atol=1e-6)


def test_no_gradient_reaches_the_teacher() -> None:
    student, teacher = (torch.randn(4, 3, requires_grad=True) for _ in range(2))
    soft_target_loss(student, teacher, temperature=2.0).backward()
    assert teacher.grad is None
    assert student.grad is not None


def _generator() -> torch.Generator:
    return torch.Generator().manual_seed(3)
