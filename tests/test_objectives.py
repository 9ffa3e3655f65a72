"""Named quantities: those over genes are those of each network."""

import numpy as np
import pytest
import torch

from nassearch.data.dataset import Data
from nassearch.errors import ConfigError
from nassearch.networks import Supernet
from nassearch.networks.activation_memory import peak_activation_bytes, peak_memory_bytes
from nassearch.objectives import OBJECTIVES, Context, build
from nassearch.space import SearchSpace, lower
from nassearch.training.evaluation import Evaluator
from tests.conftest import calibrated

COUNTED = [name for name in OBJECTIVES if name not in ("accuracy", "loss", "latency")]


@pytest.mark.parametrize("name", COUNTED)
def test_over_genes_it_is_what_each_network_has(name: str, rng: np.random.Generator) -> None:
    known = SearchSpace.load("digits_tiny")
    (objective,) = build(name, Context(known))
    assert objective.is_cheap
    genes = known.sample_genes(rng, 30)
    alone = [objective.evaluate(architecture).value for architecture in known.decode_many(genes)]
    np.testing.assert_allclose(objective.numbers(genes), alone, rtol=1e-9)


def test_memory_is_that_of_the_blocks() -> None:
    space = SearchSpace.load("digits_tiny")
    specs = lower(space, space.largest)
    for name, expected in (
        ("peak_activation_bytes", peak_activation_bytes(specs)),
        ("peak_memory_bytes", peak_memory_bytes(specs)),
    ):
        (objective,) = build(name, Context(space))
        assert objective.direction == "min"
        assert objective.evaluate(space.largest).value == expected


def test_the_loss_is_that_beside_the_accuracy(space: SearchSpace, digits: Data) -> None:
    torch.manual_seed(0)
    evaluator = Evaluator(Supernet(space), calibrated(digits))
    context = Context(space, evaluator=evaluator, supernet="weights")
    (accuracy,), (loss,) = build("accuracy", context), build("loss", context)
    value = loss.evaluate(space.smallest)
    assert (loss.direction, loss.source, loss.is_cheap) == ("min", "weights", False)
    assert value.value == accuracy.evaluate(space.smallest).loss
    assert value.low is not None and value.high is not None
    assert value.low < value.value < value.high


@pytest.mark.parametrize("name", ["accuracy", "loss"])
def test_what_is_measured_on_images_needs_a_supernet(name: str) -> None:
    with pytest.raises(ConfigError, match="need a trained supernet; run"):
        build(name, Context(SearchSpace.load("digits_tiny")))
