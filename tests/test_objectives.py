"""Named quantities: those over genes are those of each network."""

import numpy as np
import pytest
import torch

from nassearch.data.dataset import Data
from nassearch.errors import ConfigError
from nassearch.networks import Supernet
from nassearch.networks.activation_memory import peak_activation_bytes, peak_memory_bytes
from nassearch.objectives import OBJECTIVES
from nassearch.objectives.objective import Context, build
from nassearch.space import SearchSpace, lower
from nassearch.training.evaluation import Evaluator
from nassearch.training.sensitivity import BlockSensitivity, PartSensitivity
from nassearch.training.sensitivity_record import SensitivityRecord
from tests.conftest import calibrated

COUNTED = [name for name in OBJECTIVES if name not in ("accuracy", "loss", "latency")]


@pytest.fixture(scope="module")
def curvature() -> SensitivityRecord:
    """Some sensitivities of the blocks of the largest network of digits_tiny."""
    space = SearchSpace.load("digits_tiny")
    parts = [PartSensitivity(0.1 * number, 0.0, 0.2) for number in range(20)]
    blocks = [
        BlockSensitivity(number, spec.key, parts[number], parts[0], parts[0])
        for number, spec in enumerate(lower(space, space.largest))
    ]
    return SensitivityRecord.of(blocks, supernet="here", loss=0.5)


@pytest.mark.parametrize("precisions", [(), ("int8", "fp32")])
@pytest.mark.parametrize("name", COUNTED)
def test_over_genes_it_is_what_each_network_has(
    name: str, precisions: tuple[str, ...], rng: np.random.Generator, curvature: SensitivityRecord
) -> None:
    known = SearchSpace.load("digits_tiny").mixed(precisions)
    context = Context(known, sensitivity=lambda: curvature)
    if name == "sensitivity" and not precisions:
        with pytest.raises(ConfigError, match=r"that of policies with int8.*--precision mixed"):
            build(name, context)
        return
    (objective,) = build(name, context)
    assert objective.is_cheap
    genes = known.sample_genes(rng, 30)
    alone = [objective.evaluate(architecture).value for architecture in known.decode_many(genes)]
    np.testing.assert_allclose(objective.numbers(genes), alone, rtol=1e-9)


def test_what_int8_adds_is_added_where_a_policy_has_it(curvature: SensitivityRecord) -> None:
    space = SearchSpace.load("digits_tiny").mixed(("int8", "fp32"))
    (objective,) = build("sensitivity", Context(space, sensitivity=lambda: curvature))
    assert objective.evaluate(space.largest).value == pytest.approx(0.5)
    every = space.uniform(space.plain.largest, "int8")
    added = sum(block.loss_increase for block in curvature.blocks)
    assert objective.evaluate(every).value == pytest.approx(0.5 + added)


def test_in_int8_a_network_takes_a_quarter_of_the_memory() -> None:
    space = SearchSpace.load("digits_tiny").mixed(("int8", "fp32"))
    for name in ("peak_activation_bytes", "peak_memory_bytes"):
        (objective,) = build(name, Context(space))
        whole = objective.evaluate(space.largest).value
        low = objective.evaluate(space.uniform(space.plain.largest, "int8")).value
        assert low == pytest.approx(whole / 4)


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
