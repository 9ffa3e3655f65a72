"""What short trainings are made of: the start, the images, the parts of a batch, the precision."""

from pathlib import Path

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from test_options import begin

from nassearch.data.augmentation import alternating_flips
from nassearch.data.dataset import Data
from nassearch.data.seeding import Stream, numpy_generator
from nassearch.errors import ConfigError
from nassearch.networks import Supernet
from nassearch.networks.cost import macs
from nassearch.networks.weight_transfer import scale_outer_channels, zero_gamma
from nassearch.space import Architecture, SearchSpace, lower
from nassearch.training import checkpoint, trainer
from nassearch.training.metrics import step_macs
from nassearch.training.schedule import StepPosition, decay
from nassearch.training.strategy import make_strategy
from nassearch.training.training_recipe import TrainingRecipe

WIDE = {
    "name": "wide",
    "resolution": 8,
    "in_channels": 1,
    "num_classes": 10,
    "stem": {"op": "conv", "width": 20, "kernel_size": 3, "activation": "relu"},
    "stages": [{"op": "basic", "width": [16, 32], "depth": [1, 2], "stride": 2, "kernel_size": 3}],
}


def test_a_whitened_stem_gives_uncorrelated_responses_and_stays(
    digits: Data, tmp_path: Path
) -> None:
    state = begin(SearchSpace.from_dict(WIDE), digits, tmp_path, whitening=True, batch_size=64)
    weight = next(p for p in state.supernet.stem.parameters() if p.dim() == 4)
    patches = F.unfold(digits.normalise(digits.sample(2000).images), 3).transpose(1, 2)
    responses = patches.flatten(0, 1) @ weight[:9].flatten(1).T
    torch.testing.assert_close(
        responses.T @ responses / len(responses), torch.eye(9), atol=0.02, rtol=0
    )
    assert torch.equal(weight[9:18], -weight[:9])
    before = weight.clone()
    images, targets = next(iter(trainer.epoch_batches(state)))
    passes = (
        make_strategy(state.space, state.recipe)
        .step(state.position, np.random.default_rng(0))
        .passes
    )
    trainer.train_step(state, passes, images, targets)
    assert torch.equal(weight, before)


def test_whitening_without_a_stem_is_refused(digits: Data, tmp_path: Path) -> None:
    space = SearchSpace.from_dict({k: v for k, v in WIDE.items() if k != "stem"})
    with pytest.raises(ConfigError, match="no stem"):
        begin(space, digits, tmp_path, whitening=True)


def test_alternating_flips_show_each_side_every_other_epoch() -> None:
    first, second, third = (alternating_flips(3, 1000, epoch=epoch) for epoch in range(3))
    assert 400 < first.sum() < 600
    assert torch.equal(second, ~first)
    assert torch.equal(third, first)
    assert not torch.equal(alternating_flips(4, 1000, epoch=0), first)


def test_a_triangular_rate_rises_for_a_fifth_and_falls_to_zero() -> None:
    shares = (0.0, 0.1, 0.2, 0.6, 1.0)
    assert [decay("triangular", share) for share in shares] == pytest.approx([0, 0.5, 1, 0.5, 0])


def test_apart_each_network_has_its_part_of_the_batch(
    space: SearchSpace, digits: Data, tmp_path: Path
) -> None:
    recipe = TrainingRecipe(strategy="sandwich", sandwich_rule="apart", batch_size=64)
    step = make_strategy(space, recipe).step(
        StepPosition(0, 10), numpy_generator(0, Stream.SUBNETS, 0)
    )
    assert [each.part for each in step.passes] == [(0, 4), (1, 4), (2, 4), (3, 4)]
    assert all(each.target == "labels" for each in step.passes)
    assert sum(each.weight for each in step.passes) == 1
    costs = [macs(lower(space, each.architecture)) for each in step.passes]
    assert step_macs(space, step.passes) == pytest.approx(3 * sum(costs) / 4)
    state = begin(space, digits, tmp_path, batch_size=64, label_smoothing=0.0)
    images, targets = next(iter(trainer.epoch_batches(state)))
    trainer.accumulate(state, step.passes, images, targets)
    parameters = list(state.supernet.parameters())
    losses = [
        F.cross_entropy(state.supernet(images[i::4], each.architecture), targets[i::4])
        for i, each in enumerate(step.passes)
    ]
    expected = torch.autograd.grad(sum(losses) / 4, parameters, allow_unused=True)
    for parameter, gradient in zip(parameters, expected, strict=True):
        if gradient is not None:
            torch.testing.assert_close(parameter.grad, gradient)


def test_networks_of_every_width_start_nearly_alike() -> None:
    space = SearchSpace.from_dict(WIDE)
    torch.manual_seed(0)
    supernet = Supernet(space).train()
    zero_gamma(supernet)
    images = torch.randn(64, 1, 8, 8)

    def agreement() -> float:
        logits = [supernet(images, each).flatten() for each in (space.largest, space.smallest)]
        return float(F.cosine_similarity(*logits, dim=0).detach())

    apart = agreement()
    scale_outer_channels(supernet, 0.0)
    assert apart < 0.95
    assert agreement() == pytest.approx(1, abs=1e-5)


def test_the_faster_precision_is_measured_once_and_kept(
    space: SearchSpace, digits: Data, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    seconds = {"float32": 2.0, "bf16": 1.0}
    measure = "nassearch.training.state.step_seconds"
    monkeypatch.setattr(measure, lambda _, precision, *, batch_size: seconds[precision])
    recipe = TrainingRecipe(
        strategy="delayed-shrinking", epochs=1, ramp_epochs=0.0, precision="auto"
    )
    trainer.train(space, digits, recipe=recipe, out=tmp_path)
    assert checkpoint.load(tmp_path).recipe["precision"] == "bf16"
    seconds["bf16"] = 3.0
    trainer.train(space, digits, recipe=recipe, out=tmp_path, resume=True)
    assert checkpoint.load(tmp_path).recipe["precision"] == "bf16"


def test_growing_allows_ever_more_of_every_dimension() -> None:
    space = SearchSpace.load("cifar_dense")
    recipe = TrainingRecipe(strategy="growing", epochs=10, grow_from=0.0, grow_until=0.5)
    strategy = make_strategy(space, recipe)

    def networks(step: int) -> list[Architecture]:
        plan = strategy.step(StepPosition(step, 10), np.random.default_rng(step))
        assert all(taken.target == "labels" for taken in plan.passes)
        assert [taken.part for taken in plan.passes] == [(index, 4) for index in range(4)]
        assert sum(taken.weight for taken in plan.passes) == 1
        return [taken.architecture for taken in plan.passes]

    assert set(networks(0)) == {space.smallest}
    costs = [macs(lower(space, networks(step)[0])) for step in range(0, 60, 5)]
    assert costs == sorted(costs)
    assert networks(50)[0] == space.largest
    assert networks(49)[1] == space.smallest
    for step in (0, 20, 40):
        genes = [space.encode(network) for network in networks(step)]
        assert all(
            gene <= top for each in genes[1:] for gene, top in zip(each, genes[0], strict=True)
        )


def test_a_training_that_goes_on_from_anothers_weights_allows_everything_at_once() -> None:
    space = SearchSpace.load("cifar_dense")
    recipe = TrainingRecipe(strategy="growing", epochs=10, start_from="runs/before")
    first = make_strategy(space, recipe).step(StepPosition(0, 10), np.random.default_rng(0))
    assert first.passes[0].architecture == space.largest
