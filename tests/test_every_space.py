"""Every shipped space goes the whole way: trained, profiled, searched, exported and loaded.

The numbers mean nothing, as the images are noise, the device is fake and the entropy of the
structure stands in for the accuracy; what must hold is that every room takes the space.
"""

from pathlib import Path

import numpy as np
import onnxruntime
import pytest
import torch

from nassearch.budget import Budget
from nassearch.data.dataset import Data
from nassearch.data.image_set import ImageSet
from nassearch.export.export_config import AccuracyClaim, DataConfig, ExportConfig
from nassearch.export.weights import load
from nassearch.export.writer import write_export
from nassearch.latency.device import Device
from nassearch.latency.predictor import LatencyPredictor
from nassearch.latency.profiler import profile
from nassearch.latency.target import Target
from nassearch.networks.onnx_graph import INPUT
from nassearch.objectives.objective import Context, build
from nassearch.runtimes.fake import FakeRuntime
from nassearch.search.problem import Problem
from nassearch.search.runner import SearchPlan, search
from nassearch.setting import Setting
from nassearch.space import SearchSpace
from nassearch.training.checkpoint import load_supernet
from nassearch.training.evaluation import Accuracy, Evaluator
from nassearch.training.trainer import train
from nassearch.training.training_recipe import TrainingRecipe
from tests.contracts.conftest import distinct_spaces, shipped_space

NUM_CLASSES = 3
SETTING = Setting("box", "fake")
# Two epochs of two steps: the largest network alone, then the ramp, then the sandwich. A small
# rate, and images enough for the statistics of the norms, because what has diverged on noise
# magnifies the rounding that export is judged by.
RECIPE = TrainingRecipe(
    strategy="delayed-shrinking",
    epochs=2,
    batch_size=16,
    lr=0.01,
    fm_warmup=0.75,
    ramp_epochs=0.5,
    num_random=1,
)


def smallest_images(name: str) -> SearchSpace:
    definition = shipped_space(name).to_dict()
    pixels = min(definition["resolution"])
    few = {"resolution": [pixels], "num_classes": NUM_CLASSES}
    return SearchSpace.from_dict({**definition, **few})


def noise(space: SearchSpace, *, generator: torch.Generator) -> Data:
    def images(count: int) -> ImageSet:
        shape = (count, space.in_channels, space.resolutions[0], space.resolutions[0])
        pixels = torch.randint(0, 256, shape, dtype=torch.uint8, generator=generator)
        return ImageSet(pixels, torch.arange(count) % NUM_CLASSES)

    names = tuple(f"class {number}" for number in range(NUM_CLASSES))
    return Data("noise", names, images(32), images(6), lambda: images(6), mirrors=True)


@pytest.mark.slow
@pytest.mark.parametrize("name", distinct_spaces())
def test_it_goes_the_whole_way(
    name: str, tmp_path: Path, rng: np.random.Generator, generator: torch.Generator
) -> None:
    space = smallest_images(name)
    data = noise(space, generator=generator)
    train(space, data, recipe=RECIPE, out=tmp_path / "run")
    supernet = load_supernet(tmp_path / "run")
    assert supernet.space == space

    runtime = FakeRuntime(SETTING)
    table = profile(space, SETTING, runtime=runtime, rng=rng, seconds=0.01, time_budget=2.0)
    predictor = LatencyPredictor.from_table(table, space)
    context = Context(space, (Target(Device(name="box"), SETTING, predictor, table),))
    (entropy,), (latency,) = build("zero_cost", context), build("latency", context)
    least = predictor.minimum()[1]
    limit = least + (float(predictor.predict([space.largest])[0]) - least) / 2
    problem = Problem(space, (entropy, latency), (Budget("latency", limit, "ms"),))
    front = search(problem, SearchPlan("random", trials=5), out=tmp_path / "run")
    assert all(found.number("latency") <= limit for found in front.candidates)

    chosen = front.sorted()[0].architecture
    subnet = Evaluator(supernet, data).subnet(chosen)
    facts = ExportConfig.of(
        space,
        chosen,
        data=DataConfig.of(data, seed=0),
        accuracy=AccuracyClaim.of(Accuracy.of(3, 6, split="val"), supernet="run"),
    )
    write_export(subnet, tmp_path / "export", facts=facts, data=data)
    network = load(tmp_path / "export")
    images = data.normalise(data.val.images[:1])
    with torch.no_grad():
        expected = subnet(images)
        assert torch.equal(network(images), expected)
    session = onnxruntime.InferenceSession(tmp_path / "export" / "model.onnx")
    logits = session.run(None, {INPUT: images.numpy()})[0]
    np.testing.assert_allclose(logits, expected.numpy(), atol=1e-4, rtol=1e-3)
