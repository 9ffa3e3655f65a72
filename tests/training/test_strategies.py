"""The contract of every strategy in the table, and DεpS against its formula."""

import copy
import math
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import torch.nn.functional as F

from nassearch.data.dataset import Data
from nassearch.errors import ConfigError
from nassearch.space import SearchSpace
from nassearch.training import trainer
from nassearch.training.distillation import soft_target_loss
from nassearch.training.schedule import StepPosition, learning_rate
from nassearch.training.state import start
from nassearch.training.strategies import STRATEGIES, strategy_options
from nassearch.training.strategies.delayed_shrinking import DelayedShrinking
from nassearch.training.strategies.sandwich import SandwichOptions
from nassearch.training.strategy import StepPlan, make_strategy
from nassearch.training.training_recipe import TrainingRecipe

STEPS = 7
DELAYED = "delayed-shrinking"
PAPER: dict[str, Any] = {  # DεpS as published
    "strategy": DELAYED,
    "fm_warmup": 0.5,
    "sandwich_rule": "together",
}


def steps_of(name: str, space: SearchSpace, *, seed: int) -> list[StepPlan]:
    ramp = {"ramp_epochs": 2.0} if name == DELAYED else {}
    recipe = TrainingRecipe(strategy=name, epochs=6, **ramp)
    strategy = make_strategy(space, recipe)
    return [
        strategy.step(StepPosition(step, STEPS), np.random.default_rng((seed, step)))
        for step in range(6 * STEPS)
    ]


@pytest.mark.parametrize("name", STRATEGIES)
def test_every_subnet_of_a_strategy_is_in_the_space(name: str, space: SearchSpace) -> None:
    for step in steps_of(name, space, seed=0):
        assert step.passes[0].target == "labels"
        assert 0 <= step.learning_rate <= TrainingRecipe().lr
        for each in step.passes:
            space.check(each.architecture)
            assert 0 < each.weight <= 1


@pytest.mark.parametrize("name", STRATEGIES)
def test_a_strategy_depends_on_its_generator_alone(name: str, space: SearchSpace) -> None:
    first, again = (steps_of(name, space, seed=1) for _ in range(2))
    assert first == again
    assert first != steps_of(name, space, seed=2)


@pytest.mark.parametrize("name", STRATEGIES)
def test_the_loss_falls_on_digits(
    name: str,
    space: SearchSpace,
    digits: Data,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    wanted = {"ramp_epochs": 1.0, "num_random": 0}
    own = {key: wanted[key] for key in wanted if key in strategy_options(name).model_fields}
    recipe = TrainingRecipe(strategy=name, epochs=6, batch_size=32, lr=0.1, **own)
    records: list[float] = []
    real = trainer.train_step

    def record(*arguments: Any, **options: Any) -> float:
        records.append(real(*arguments, **options))
        return records[-1]

    monkeypatch.setattr(trainer, "train_step", record)

    trainer.train(space, digits, recipe=recipe, out=tmp_path)
    assert len(records) == 6 * (len(digits.train) // 32)
    assert np.mean(records[-10:]) < 0.8 * np.mean(records[:5])


def test_an_unknown_strategy_is_refused_with_the_known_ones(space: SearchSpace) -> None:
    with pytest.raises(ConfigError, match=r"did you mean sandwich.*delayed-shrinking"):
        make_strategy(space, TrainingRecipe(strategy="sandwhich"))


def test_beta_is_that_of_the_paper_at_every_step(space: SearchSpace) -> None:
    """The β of training.md 1.1, with whole epochs as the published code has them."""
    epochs, full, ramp, steps = 20, 10, 3, 5
    recipe = TrainingRecipe(**PAPER, epochs=epochs, ramp_epochs=3.0, lr=0.3)
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
            beta = strategy.beta(StepPosition(epoch * steps + i, steps), space.smallest)
            assert beta == pytest.approx(expected, rel=1e-12)


def test_without_warmup_delayed_shrinking_is_the_sandwich(space: SearchSpace) -> None:
    recipe = TrainingRecipe(strategy=DELAYED, fm_warmup=0.0, sandwich_rule="together")
    delayed = DelayedShrinking(space, recipe)
    sandwich = make_strategy(space, TrainingRecipe(strategy="sandwich"))
    position = StepPosition(0, STEPS)
    expected = sandwich.step(position, np.random.default_rng(0))
    assert delayed.step(position, np.random.default_rng(0)) == expected
    assert len(expected.passes) == 4


@pytest.mark.parametrize(
    ("step", "place"), [(0, "before"), (6 * 4 + 2, "inside"), (11 * 4, "after")]
)
def test_the_gradient_of_delayed_shrinking_is_the_formula(
    step: int, place: str, space: SearchSpace, digits: Data, tmp_path: Path
) -> None:
    """g = ∇CE_ls(f_max) + β Σ ∇ τ² mean_b Σ_c -p_c log q_c, p from the largest, detached."""
    tau = 2.0
    recipe = TrainingRecipe(
        **PAPER, epochs=16, ramp_epochs=2.0, distillation_temperature=tau, momentum=0.0
    )
    state = start(space, digits, recipe=recipe, out=tmp_path, resume=False)
    for parameter in state.supernet.parameters():  # away from the initial zeros and ones
        parameter.data += 0.1 * torch.randn(parameter.shape, generator=_generator())
    reference = copy.deepcopy(state.supernet)
    images, labels = digits.normalise(digits.train.images[:16]), digits.train.labels[:16]
    position = StepPosition(step, 4)
    passes = DelayedShrinking(state.space, recipe).step(position, np.random.default_rng(0)).passes
    trainer.train_step(state, passes, images, labels)

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
    trained = dict(state.supernet.named_parameters())
    assert subnets == [] or sum(g is not None for g in expected) == len(expected)
    for name, gradient in zip(parameters, expected, strict=True):
        found = trained[name].grad
        if gradient is None:
            assert found is None or not found.any()
        else:
            torch.testing.assert_close(found, gradient, rtol=1e-4, atol=1e-6)


def test_progressive_shrinking_frees_one_dimension_after_another(space: SearchSpace) -> None:
    """Teacher, kernel, depth, expand, in the proportions of the published 605 epochs."""
    recipe = TrainingRecipe(strategy="progressive-shrinking", epochs=580, lr=2.6)
    strategy = make_strategy(space, recipe)
    steps = [strategy.step(StepPosition(t, 1), np.random.default_rng(t)) for t in range(580)]
    # "depth 1" withholds nothing of two depths, nor "expand 1" of two widths: 180 + 3 x 125 epochs
    ends = [round(580 * sum((180, 125, 125, 125)[:n]) / 555) for n in range(5)]
    varied = []
    for first, last in pairwise(ends):
        found = [space.encode(p.architecture) for s in steps[first:last] for p in s.passes]
        changes = np.array(found) != np.array(space.encode(space.largest))
        names = [gene.name.rpartition(".")[2] for gene in space.genes]
        varied.append({name for name, each in zip(names, changes.T, strict=True) if each.any()})
    assert varied[0] == set()
    assert varied[1] == {"kernel_size"}
    assert varied[2] >= {"kernel_size", "depth"}
    assert varied[3] == {"kernel_size", "depth", "expand_ratio", "width"}
    assert [len(steps[first].passes) for first in ends[:-1]] == [1, 1, 2, 4]
    assert [t for t, s in enumerate(steps) if s.freeze_teacher] == [ends[1]]
    assert [t for t, s in enumerate(steps) if s.sort_channels] == [ends[3]]
    peaks = [max(s.learning_rate for s in steps[first:last]) for first, last in pairwise(ends)]
    np.testing.assert_allclose(peaks, [2.6, 0.96, 0.24, 0.24], rtol=0.01)
    assert {p.target for s in steps for p in s.passes} == {"labels"}


def test_progressive_shrinking_begins_with_few_choices_where_there_are_more() -> None:
    space = SearchSpace.load("mobilenet_v3")
    strategy = make_strategy(space, TrainingRecipe(strategy="progressive-shrinking", epochs=605))
    steps = [strategy.step(StepPosition(t, 1), np.random.default_rng(t)) for t in range(605)]

    def depths(first: int, last: int) -> set[int]:
        passes = [p for s in steps[first:last] for p in s.passes]
        return {len(stage.blocks) for p in passes for stage in p.architecture.stages[1:]}

    assert depths(0, 305) == {4}
    assert depths(305, 330) == {3, 4}
    assert depths(330, 605) == {2, 3, 4}
    assert [t for t, s in enumerate(steps) if s.sort_channels] == [455]


@pytest.mark.parametrize("name", ["growing", "progressive-shrinking"])
def test_a_block_that_is_left_out_is_no_part_of_the_largest_wherever_it_is_listed(
    name: str,
) -> None:
    ops = [{"op": "conv", "kernel_size": [3, 5]}, {"op": "skip"}]
    stages = [{"op": ops, "width": 8, "depth": [1, 2]}]
    space = SearchSpace.from_dict({"name": "skipping", "resolution": 8, "stages": stages})
    strategy = make_strategy(space, TrainingRecipe(strategy=name, epochs=8))
    steps = [strategy.step(StepPosition(t, 1), np.random.default_rng(t)) for t in range(8)]
    whole = steps[-1] if name == "growing" else steps[0]
    first = whole.passes[0].architecture
    assert {block.op for block in first.stages[0].blocks} == {"conv"}
    assert first == space.largest
    if name == "growing":
        assert {block.op for block in space.smallest.stages[0].blocks} == {"skip"}
        assert steps[0].passes[1].architecture == space.smallest


def test_delayed_shrinking_sorts_once_when_subnets_begin(space: SearchSpace) -> None:
    recipe = TrainingRecipe(**PAPER, epochs=20, ramp_epochs=3.0)
    steps = [
        make_strategy(space, recipe).step(StepPosition(t, STEPS), np.random.default_rng(t))
        for t in range(20 * STEPS)
    ]
    assert [t for t, s in enumerate(steps) if s.sort_channels] == [7 * STEPS]
    assert [len(s.passes) for s in steps] == [1] * 7 * STEPS + [4] * 13 * STEPS


def test_in_turn_a_step_trains_one_network_after_a_short_warm_up(space: SearchSpace) -> None:
    recipe = TrainingRecipe(
        strategy=DELAYED, epochs=60
    )  # 3 of warm-up: 1.5 before a ramp that would take 5
    steps = [
        make_strategy(space, recipe).step(StepPosition(t, STEPS), np.random.default_rng(t))
        for t in range(60 * STEPS)
    ]
    assert {len(step.passes) for step in steps} == {1}
    assert {step.passes[0].target for step in steps} == {"labels"}
    trained = [step.passes[0].architecture for step in steps]
    sorts = [t for t, step in enumerate(steps) if step.sort_channels]
    assert sorts == [3 * STEPS - round(1.5 * STEPS)]
    assert set(trained[: sorts[0]]) == {space.largest}
    turns = trained[sorts[0] :]
    # largest, smallest and six random ones take turns
    largest, smallest = (turns.count(network) for network in (space.largest, space.smallest))
    assert len(turns) // 8 <= min(largest, smallest)
    assert max(largest, smallest) < len(turns) // 4
    assert len(set(turns)) > 4


@pytest.mark.parametrize(
    ("keys", "random"),
    [
        ({"strategy": DELAYED}, 6),
        ({"strategy": DELAYED, "sandwich_rule": "together"}, 2),
        ({"strategy": "sandwich"}, 2),
        ({"strategy": "sandwich", "sandwich_rule": "in-turn"}, 6),
        ({"strategy": DELAYED, "num_random": 3}, 3),
    ],
)
def test_there_are_more_random_networks_where_each_has_its_step(
    keys: dict[str, Any], random: int
) -> None:
    options = TrainingRecipe(**keys).options
    assert isinstance(options, SandwichOptions)
    assert options.num_random == random


def test_small_networks_ramp_up_more_slowly_where_asked(space: SearchSpace) -> None:
    recipe = TrainingRecipe(**PAPER, epochs=20, ramp_epochs=3.0, ramp_by_size=1.0)
    strategy = DelayedShrinking(space, recipe)
    for epoch in (7, 9, 10):
        position = StepPosition(epoch * STEPS, STEPS)
        assert strategy.beta(position, space.smallest) < strategy.beta(position, space.largest)
    assert strategy.beta(StepPosition(19 * STEPS, STEPS), space.smallest) == 1.0


def test_a_warm_up_on_small_images_ends_at_full_size(space: SearchSpace) -> None:
    recipe = TrainingRecipe(
        strategy=DELAYED, epochs=10, fm_warmup=1.0, ramp_epochs=0.0, warmup_resolution=0.5
    )
    strategy = DelayedShrinking(space, recipe)
    found = [
        strategy.step(StepPosition(t, STEPS), np.random.default_rng(0)).passes[0].resolution
        for t in range(10 * STEPS)
    ]
    assert found[0] == 4
    assert found[-1] is None  # the space's own 8 pixels
    assert found.index(None) == found.count(4)


@pytest.mark.parametrize(
    ("strategy", "own"),
    [
        ("sandwich", {}),
        ("single-path", {}),
        (DELAYED, {"fm_warmup": 0.0, "sandwich_rule": "together"}),
    ],
)
def test_coupled_sampling_ties_expansion_to_depth(strategy: str, own: dict[str, Any]) -> None:
    space = SearchSpace.load("mobilenet_v3")
    recipe = TrainingRecipe(**own, strategy=strategy, sampling="coupled")
    kernels = set()
    for seed in range(20):
        step = make_strategy(space, recipe).step(
            StepPosition(0, STEPS), np.random.default_rng(seed)
        )
        for each in step.passes:
            for stage in each.architecture.stages[1:]:
                chosen = [dict(block.choices) for block in stage.blocks]
                expected = {2: 3, 3: 4, 4: 6}[len(stage.blocks)]
                assert {choices["expand_ratio"] for choices in chosen} == {expected}
                kernels |= {choices["kernel_size"] for choices in chosen}
    assert kernels == {3, 5, 7}


def test_no_gradient_reaches_the_teacher() -> None:
    student, teacher = (torch.randn(4, 3, requires_grad=True) for _ in range(2))
    soft_target_loss(student, teacher, temperature=2.0).backward()
    assert teacher.grad is None
    assert student.grad is not None


def _generator() -> torch.Generator:
    return torch.Generator().manual_seed(3)


def test_a_ramp_may_begin_where_the_rate_is_still_zero(space: SearchSpace) -> None:
    recipe = TrainingRecipe(
        strategy=DELAYED, epochs=6, fm_warmup=0.5, ramp_epochs=3.0, lr_warmup_epochs=2.0
    )
    strategy = make_strategy(space, recipe)
    assert isinstance(strategy, DelayedShrinking)
    assert learning_rate(recipe, 0.0) == 0.0
    assert strategy.beta(StepPosition(0, STEPS), space.smallest) == 1.0
