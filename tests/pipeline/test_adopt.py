"""A user's network goes the whole way, and after its adoption nobody imports its module."""

import json
import sys
from pathlib import Path

import numpy as np
import onnxruntime
import pytest
import torch
from typer.testing import CliRunner

import nassearch as ns
from nassearch.cli import app
from nassearch.errors import ConfigError
from nassearch.networks.onnx_graph import INPUT
from nassearch.pipeline.run_directory import run_recipe
from nassearch.pipeline.train import train_supernet
from nassearch.space import SearchSpace

SOURCE = """
import torch
from torch import nn

class Block(nn.Module):
    def __init__(self, channels, stride):
        super().__init__()
        self.conv = nn.Conv2d(channels, channels, 5, 1, 2, bias=False)
        self.norm = nn.BatchNorm2d(channels)

    def forward(self, images):
        return torch.relu(images + self.norm(self.conv(images)))

def make():
    torch.manual_seed(0)
    return nn.Sequential(
        nn.Conv2d(1, 16, 3, padding=1), nn.ReLU(), Block(16, 1), Block(16, 1),
        nn.Conv2d(16, 32, 3, 2, 1), nn.ReLU(), nn.AdaptiveAvgPool2d(1), nn.Flatten(),
        nn.Linear(32, 10),
    )
"""


@pytest.fixture
def adopted(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A directory that `nassearch adopt` wrote; the user's module is gone again."""
    monkeypatch.chdir(tmp_path)
    source = tmp_path / "code"
    source.mkdir()
    (source / "my_network.py").write_text(SOURCE)
    monkeypatch.syspath_prepend(str(source))
    arguments = ["adopt", "my_network:make", "--input", "1x8x8", "--data", "digits"]
    result = CliRunner().invoke(app, [*arguments, "--out", "mine", "--json"])
    assert result.exit_code == 0, result.output
    facts = json.loads(result.stdout)
    assert facts["networks"] == SearchSpace.load("mine/space.yaml").size()
    assert facts["smallest_macs"] < facts["largest_macs"] / 2
    assert facts["change"] < 1e-5
    (source / "my_network.py").unlink()
    del sys.modules["my_network"]
    return tmp_path / "mine"


def test_it_goes_the_whole_way(adopted: Path) -> None:
    result = ns.search_subnets(adopted, devices=["a100"], budgets=["60%"], trials=4, seed=0)
    (exported,) = ns.export_subnets(result.picks, formats=["weights", "onnx"])
    network = ns.load(exported.directory)
    images = torch.randn(1, 1, 8, 8, generator=torch.Generator().manual_seed(0))
    with torch.no_grad():
        expected = network(images).numpy()
    session = onnxruntime.InferenceSession(exported.directory / "model.onnx")
    logits = session.run(None, {INPUT: images.numpy()})[0]
    np.testing.assert_allclose(logits, expected, atol=1e-4, rtol=1e-3)
    assert "my_network" not in sys.modules


def test_what_is_described_is_what_was_adopted(adopted: Path) -> None:
    for name in (adopted, adopted / "space.yaml"):
        facts = ns.describe(str(name))
        layers = {row["path"]: row for row in facts["layers"]}
        assert layers["2.conv"]["kernels"] == [3, 5]
        assert layers["8"]["fixed_because"] == "it tells the classes apart"
    saved = ns.load_supernet(adopted)
    assert saved.space == ns.load_space(str(adopted / "space.yaml"))
    assert saved.num_steps is None  # no training began, so none is unfinished


def test_a_training_cannot_go_on_where_none_began(adopted: Path) -> None:
    with pytest.raises(ConfigError, match="was adopted, no training began there"):
        train_supernet(run_recipe(adopted), adopted, resume=True)
