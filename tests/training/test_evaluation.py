"""Recalibration is exact, and an accuracy says what it was measured on."""

import warnings
from dataclasses import replace

import pytest
import torch
from torch import Tensor, nn

from nassearch.data.dataset import Data
from nassearch.data.image_set import ImageSet
from nassearch.networks import Supernet
from nassearch.space import SearchSpace
from nassearch.training.evaluation import (
    Accuracy,
    Evaluator,
    measure_accuracy,
    recalibrate,
    resolvable_difference,
    warn_of_coarse_validation,
)
from tests.conftest import calibrated


def test_statistics_are_the_averages_over_batches() -> None:
    torch.manual_seed(0)
    network = nn.Sequential(nn.Conv2d(1, 4, 3), nn.BatchNorm2d(4), nn.Dropout(0.9))
    batches = [3 + 2 * torch.randn(16, 1, 8, 8) for _ in range(3)]
    recalibrate(network, batches)
    with torch.no_grad():
        outputs = [network[0](batch) for batch in batches]
    mean = torch.stack([out.mean((0, 2, 3)) for out in outputs]).mean(0)
    var = torch.stack([out.var((0, 2, 3)) for out in outputs]).mean(0)
    torch.testing.assert_close(network[1].running_mean, mean)
    torch.testing.assert_close(network[1].running_var, var)
    assert network[1].momentum == 0.1
    assert not any(module.training for module in network.modules())


def test_each_layer_is_calibrated_on_normalised_inputs() -> None:
    """As in training: a later norm sees what batch statistics, not stale ones, make of a batch."""
    torch.manual_seed(0)
    network = nn.Sequential(nn.BatchNorm2d(1), nn.ReLU(), nn.BatchNorm2d(1))
    batch = 50 + 7 * torch.randn(64, 1, 4, 4)
    recalibrate(network, [batch])
    whitened = (batch - batch.mean()) / (batch.var(correction=0) + 1e-5).sqrt()
    torch.testing.assert_close(network[2].running_mean[0], whitened.relu().mean())


@pytest.fixture
def evaluator(space: SearchSpace, digits: Data) -> Evaluator:
    torch.manual_seed(0)
    return Evaluator(Supernet(space), calibrated(digits))


def test_evaluating_leaves_the_supernet_as_it_was(space: SearchSpace, digits: Data) -> None:
    supernet = Supernet(space)
    before = {name: value.clone() for name, value in supernet.state_dict().items()}
    Evaluator(supernet, calibrated(digits)).accuracy(space.largest)
    assert all(torch.equal(value, before[name]) for name, value in supernet.state_dict().items())


def test_validation_accuracy_is_that_of_the_recalibrated_subnet(
    evaluator: Evaluator, space: SearchSpace, digits: Data
) -> None:
    accuracy = evaluator.accuracy(space.smallest)
    subnet = evaluator.subnet(space.smallest)
    assert not subnet.training
    again = measure_accuracy(subnet, digits.val, digits, split="val", resolution=8)
    assert (accuracy.value, accuracy.interval) == (again.value, again.interval)
    assert accuracy.loss == pytest.approx(again.loss, rel=1e-6)
    assert (accuracy.split, accuracy.num_images) == ("val", len(digits.val))


def test_images_reach_a_network_at_its_resolution(digits: Data) -> None:
    seen = set()

    def network(images: Tensor) -> Tensor:
        seen.add(tuple(images.shape[1:]))
        return torch.eye(10)[torch.zeros(len(images), dtype=torch.int64)]

    zeros = ImageSet(digits.val.images[:250], torch.zeros(250, dtype=torch.int64))
    accuracy = measure_accuracy(network, zeros, digits, split="val", resolution=12)
    assert seen == {(1, 12, 12)}
    assert accuracy.value == 1.0


def test_the_loss_beside_an_accuracy_is_the_cross_entropy_of_all_images(
    space: SearchSpace, digits: Data
) -> None:
    torch.manual_seed(0)
    evaluator = Evaluator(Supernet(space), calibrated(digits))
    accuracy = evaluator.accuracy(space.smallest)
    subnet = evaluator.subnet(space.smallest)
    with torch.inference_mode():
        logits = subnet(digits.normalise(digits.val.images))
    losses = torch.nn.functional.cross_entropy(logits, digits.val.labels, reduction="none")
    assert accuracy.loss == pytest.approx(losses.mean().item(), rel=1e-5)
    error = losses.std(correction=0).item() / len(digits.val) ** 0.5
    assert accuracy.loss_error == pytest.approx(error, rel=1e-4)


def test_wilsons_interval() -> None:
    """81 of 263: the worked example of Newcombe, Statistics in Medicine 17 (1998), table I."""
    accuracy = Accuracy.of(81, 263, split="test")
    assert accuracy.interval == pytest.approx((0.2553, 0.3662), abs=5e-5)
    assert Accuracy.of(20, 20, split="test").interval[1] == 1.0


def test_a_hopeless_evaluation_ends_early_and_a_hopeful_one_does_not(
    space: SearchSpace, digits: Data
) -> None:
    torch.manual_seed(0)
    few = Evaluator(Supernet(space), calibrated(digits), batch_size=20)
    whole = few.accuracy(space.smallest)
    hopeless = few.accuracy(space.smallest, at_least=0.99)
    assert whole.value < 0.6 < 0.99  # untrained
    assert hopeless.num_images < len(digits.val) == whole.num_images
    assert hopeless.interval[1] - hopeless.interval[0] > whole.interval[1] - whole.interval[0]
    assert few.accuracy(space.smallest, at_least=whole.value) == whole


@pytest.mark.parametrize(
    ("num_images", "accuracy", "difference"),
    [(200, 0.9, 0.0588), (10_000, 0.9, 0.00832), (10_000, 0.5, 0.01386), (287, 0.9, 0.04908)],
)
def test_the_difference_that_a_split_resolves(
    num_images: int, accuracy: float, difference: float
) -> None:
    found = resolvable_difference(num_images, accuracy=accuracy)
    assert found == pytest.approx(difference, abs=1e-5)


def test_a_split_too_small_to_tell_networks_apart_is_told_once(digits: Data) -> None:
    small = replace(digits, val=ImageSet(digits.val.images[:100], digits.val.labels[:100]))
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("default")
        for _ in range(2):  # a command trains, then searches
            warn_of_coarse_validation(small)
        warn_of_coarse_validation(digits)
    (warning,) = caught
    said = str(warning.message)
    assert "digits: 100 validation images cannot tell networks apart" in said
    assert "differ by less than 8.3 points (at an accuracy of 90%, with 95 %" in said
