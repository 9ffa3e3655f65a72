"""Fine-tuning an exported network: a new export beside the old, on the same images or others."""

import os
import signal
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import yaml
from PIL import Image

import nassearch as package
from nassearch.data.dataset import Data
from nassearch.export.export_config import read_export
from nassearch.export.int8 import calibration_images
from nassearch.export.onnx_file import open_graph
from nassearch.files import owned
from nassearch.networks import Subnet
from nassearch.pipeline.finetune import QUANTIZED_DEFAULTS, finetune_export
from nassearch.pipeline.quantized_training import (
    QuantizedTraining,
    export_precisions,
    simulated_accuracy,
)
from nassearch.training.evaluation import measure_accuracy
from nassearch.training.finetuning import STATE, finetune
from nassearch.training.training_recipe import TrainingRecipe
from tests.pipeline.conftest import CommandLine
from tests.pipeline.test_bad_input import refused


@pytest.fixture
def export(run: Path, nassearch: CommandLine, tmp_path: Path) -> Path:
    """The knee of the run's front, alone in a directory."""
    answer = nassearch("export", "--pick", "knee", "--out", tmp_path / "exports", "--json")
    assert answer.code == 0, answer.err
    return Path(answer.json()["exports"][0])


def facts(export: Path) -> Any:
    return yaml.safe_load((export / "config.yaml").read_text())


@pytest.fixture
def stripes(tmp_path: Path) -> str:
    """Three classes of grey images of 8 pixels that differ in the direction of their stripes."""
    rng = np.random.default_rng(0)
    rows, columns = np.mgrid[:8, :8]
    patterns = {
        "across": rows % 4 < 2,
        "down": columns % 4 < 2,
        "slanted": (rows + columns) % 4 < 2,
    }
    for split, count in (("train", 60), ("test", 20)):
        for name, pattern in patterns.items():
            folder = tmp_path / "stripes" / split / name
            folder.mkdir(parents=True)
            for number in range(count):
                pixels = 160 * pattern + rng.integers(0, 90, (8, 8))
                Image.fromarray(pixels.astype(np.uint8)).save(folder / f"{number}.png")
    return f"imagefolder:{tmp_path / 'stripes'}"


def test_it_gets_better_on_its_own_images_with_its_supernet_as_teacher(
    run: Path, export: Path, nassearch: CommandLine
) -> None:
    before = {path.name: path.read_bytes() for path in export.iterdir()}
    command = ("finetune", export, "--epochs", 4, "--teacher", run, "--lr", 0.05, "--json")
    answer = nassearch(*command)
    assert answer.code == 0, answer.err
    found = answer.json()
    assert found["val_accuracy"] > found["val_accuracy_before"]
    new = Path(found["export"])
    assert new == export.parent / f"{export.name}-finetuned"
    assert {path.name: path.read_bytes() for path in export.iterdir()} == before
    said = facts(new)
    assert said["finetuned"]["parent"] == facts(export)["id"]
    assert said["finetuned"]["teacher"] == f"largest network of {run.name}"
    assert said["accuracy"]["value"] == found["val_accuracy"]
    assert said["latency"] == facts(export)["latency"]
    assert not (new / STATE).exists()
    assert package.load(new).specs == package.load(export).specs
    assert nassearch("verify", new).code == 0


def test_it_learns_other_images_of_other_classes(
    run: Path, export: Path, stripes: str, nassearch: CommandLine
) -> None:
    command = ("finetune", export, "--epochs", 8, "--data", stripes, "--lr", 0.05, "--json")
    answer = nassearch(*command, "--set", "batch_size=16", "--format", "config,weights,onnx")
    assert answer.code == 0, answer.err
    found = answer.json()
    assert found["val_accuracy_before"] is None
    assert found["val_accuracy"] > 0.9
    new = Path(found["export"])
    assert package.load(new)(torch.zeros(2, 1, 8, 8)).shape == (2, 3)
    said = facts(new)
    assert said["data"]["class_names"] == ["across", "down", "slanted"]
    for item in said["latency"]:
        assert "measured_ms" not in item  # nobody measured it with this classifier
        assert item["source"] in ("interpolated", "estimated")
    verified = nassearch("verify", new, "--json")
    assert verified.code == 0, verified.err
    assert verified.json()["test_accuracy"]["onnx"]["value"] > 0.9


class Stop:
    """A watcher that presses Ctrl-C after some steps."""

    def __init__(self, steps: int) -> None:
        self.left, self.fractions = steps, []

    def __call__(self, stage: str, fraction: float, note: str = "") -> None:
        if stage != "fine-tuning":
            return
        self.fractions.append(fraction)
        self.left -= 1
        if self.left == 0:
            signal.raise_signal(signal.SIGINT)


def test_an_interrupted_one_goes_on_to_the_same_weights(run: Path, export: Path) -> None:
    straight = finetune_export(export, epochs=2, out=export.parent / "straight")
    broken = export.parent / "broken"
    with pytest.raises(KeyboardInterrupt):
        finetune_export(export, epochs=2, out=broken, progress=Stop(5))
    assert [path.name for path in broken.iterdir()] == [STATE]
    watch = Stop(0)
    resumed = finetune_export(export, epochs=2, out=broken, resume=True, progress=watch)
    steps = len(watch.fractions) + 5
    np.testing.assert_allclose(watch.fractions, np.arange(6, steps + 1) / steps)
    assert resumed.after == straight.after
    expected = package.load(straight.directory).state_dict()
    for name, tensor in package.load(broken).state_dict().items():
        assert torch.equal(tensor, expected[name]), name


def test_a_finished_one_is_resumed_to_what_it_is(
    run: Path, export: Path, nassearch: CommandLine
) -> None:
    command = ("finetune", export, "--epochs", 1, "--format", "weights", "--json")
    first = nassearch(*command)
    new = Path(first.json()["export"])
    before = {path: path.stat().st_mtime_ns for path in new.iterdir()}
    again = nassearch(*command, "--resume")
    assert (again.code, again.json()) == (0, first.json())
    assert again.err == "fine-tuning  it was finished already\n"
    assert {path: path.stat().st_mtime_ns for path in new.iterdir()} == before
    more = nassearch("finetune", export, "--epochs", 1, "--format", "weights,onnx", "--resume")
    assert more.code == 0
    assert set(facts(new)["formats"]) == {"weights", "onnx"}
    line = refused(nassearch, *command, "--resume", "--lr", "0.5")
    assert "already holds another export" in line


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        (("--data", "cifar11"), "cifar11"),
        (("--set", "epoch=3"), "unknown key 'epoch'"),
        (("--lr", "fast"), "a valid "),
        (("--teacher", "nowhere"), "no checkpoint of a supernet"),
        (("--format", "int9"), "int9"),
    ],
)
def test_what_cannot_be_is_refused_before_anything_is_written(
    export: Path, nassearch: CommandLine, arguments: tuple[str, ...], says: str
) -> None:
    answer = nassearch("finetune", export, "--epochs", 1, *arguments)
    assert answer.code == 2
    assert says in answer.err
    assert list(export.parent.iterdir()) == [export]


def test_a_place_that_another_writes_to_is_refused(export: Path, nassearch: CommandLine) -> None:
    place = export.parent / "new"
    before = (export / "config.yaml").read_bytes()
    for doing, command in (
        ("a fine-tuning", ("finetune", export, "--epochs", 1, "--out", place)),
        ("an export", ("export", "--pick", "knee", "--force", "--out", export.parent)),
    ):
        with owned(place if "finetune" in command else export, doing=doing.split()[1]):
            line = refused(nassearch, *command)
        assert f"{doing} runs here (process {os.getpid()} on " in line
    assert (export / "config.yaml").read_bytes() == before
    assert not place.exists()


def test_it_never_replaces_an_export_unasked(
    run: Path, export: Path, stripes: str, nassearch: CommandLine
) -> None:
    command = ("finetune", export, "--epochs", 1)
    assert "is the export itself" in refused(nassearch, *command, "--out", export, "--force")
    assert nassearch(*command).code == 0
    assert "already holds another export" in refused(nassearch, *command)
    assert nassearch(*command, "--force").code == 0


def test_a_teacher_of_other_classes_and_images_of_other_channels_are_refused(
    run: Path, export: Path, stripes: str, nassearch: CommandLine, tmp_path: Path
) -> None:
    command = ("finetune", export, "--epochs", 1, "--data")
    assert "knows other images" in refused(nassearch, *command, stripes, "--teacher", run)
    for path in (tmp_path / "stripes").rglob("*.png"):
        Image.open(path).convert("RGB").save(path)
    assert "images of 3 channels" in refused(nassearch, *command, stripes)


def test_a_loss_that_diverges_is_one_line(export: Path, nassearch: CommandLine) -> None:
    line = refused(nassearch, "finetune", export, "--epochs", 1, "--lr", 1e30)
    assert "smaller --lr" in line


def test_a_device_that_is_none_is_refused(export: Path, nassearch: CommandLine) -> None:
    command = ("finetune", export, "--epochs", 1, "--set")
    assert "is not a torch device" in refused(nassearch, *command, "device=toaster")


def test_it_learns_as_its_int8_graph_computes(
    run: Path, export: Path, nassearch: CommandLine
) -> None:
    command = ("finetune", export, "--epochs", 4, "--lr", 0.003, "--quantized", "--json")
    answer = nassearch(*command)
    assert answer.code == 0, answer.err
    found = answer.json()
    assert 0 < found["quantized_val_accuracy_before"] <= 1
    assert found["quantized_val_accuracy"] >= found["quantized_val_accuracy_before"]
    new, said = Path(found["export"]), facts(Path(found["export"]))
    assert set(said["formats"]) == {*facts(export)["formats"], "int8"}
    network = package.load(new)
    assert said["finetuned"]["precisions"] == ["int8"] * len(network.blocks)
    # the file is what was simulated
    data, pixels = package.load_data("digits"), network.input_shape[1]
    run_file = open_graph((new / "model-int8.onnx").read_bytes())
    accuracy = measure_accuracy(run_file, data.val, data, split="val", resolution=pixels)
    assert abs(accuracy.value - found["quantized_val_accuracy"]) < 1.5 / len(data.val)
    assert nassearch("verify", new).code == 0


def quantized_training(network: Subnet, data: Data) -> QuantizedTraining:
    images = calibration_images(data, network.input_shape[1])
    return QuantizedTraining(network, ["int8"] * len(network.blocks), images)


def test_what_is_written_back_is_what_was_trained(export: Path) -> None:
    """The plain network computes what the simulated one's float weights say."""
    data, network = package.load_data("digits"), package.load(export)
    before = {name: tensor.clone() for name, tensor in network.state_dict().items()}
    training = quantized_training(network, data)
    weights = training.simulated.named_weights()
    trained = [name for name, weight in weights.items() if weight.value.requires_grad]
    assert len(trained) > 0.9 * len(weights)
    generator = torch.Generator().manual_seed(0)
    with torch.no_grad():
        for name in trained:
            value = weights[name].value
            value.mul_(1 + 0.1 * torch.rand(value.shape, generator=generator))
    training.write_back()
    assert network.state_dict().keys() == before.keys()
    again = quantized_training(network, data).simulated.named_weights()
    for name in trained:
        expected = weights[name].value
        torch.testing.assert_close(again[name].value, expected, atol=1e-6, rtol=1e-5)


def test_a_quantized_one_that_was_interrupted_goes_on_to_the_same_weights(export: Path) -> None:
    options = {"epochs": 1, "quantized": True, "formats": ["weights"]}
    straight = finetune_export(export, out=export.parent / "straight", **options)
    broken = export.parent / "broken"
    with pytest.raises(KeyboardInterrupt):
        finetune_export(export, out=broken, progress=Stop(5), **options)
    resumed = finetune_export(export, out=broken, resume=True, **options)
    assert resumed.quantized_after == straight.quantized_after
    # what is finished is read under the ranges that it was trained under
    again = finetune_export(export, out=broken, resume=True, **options)
    assert again.quantized_after == resumed.quantized_after
    expected = package.load(straight.directory).state_dict()
    for name, tensor in package.load(broken).state_dict().items():
        assert torch.equal(tensor, expected[name]), name


@pytest.mark.parametrize(
    ("architecture", "expected"),
    [
        ({}, ("int8", "int8", "int8")),
        ({"precisions": ["int8", "fp32", "int8"]}, ("int8", "fp32", "int8")),
    ],
)
def test_a_policy_is_the_export_s_own_or_int8(
    export: Path, architecture: dict[str, Any], expected: tuple[str, ...]
) -> None:
    config = read_export(export)
    config = config.model_copy(update={"architecture": {**config.architecture, **architecture}})
    assert export_precisions(config, 3) == expected


def test_what_int8_loses_is_learned_again(export: Path, tmp_path: Path) -> None:
    """One channel of each block is a hundred times as large as the others: int8 sees only that."""
    data, network = package.load_data("digits"), package.load(export)
    with torch.no_grad():
        for block in network.blocks:
            norm = getattr(getattr(block, "expand", None), "norm", None)
            if norm is not None and hasattr(block, "depthwise"):
                norm.weight[0] *= 300
                norm.bias[0] *= 300
                block.depthwise.conv.weight[0] /= 300
    precisions = ["int8"] * len(network.blocks)
    before = simulated_accuracy(network, precisions, data)
    training = quantized_training(network, data)
    recipe = TrainingRecipe(epochs=4, **{**QUANTIZED_DEFAULTS, "lr": 0.003})
    finetune(training.simulated, data, recipe=recipe, out=tmp_path / "tuned", place_of=network)
    training.write_back()
    assert training.accuracy(data).value > before.value + 0.2
