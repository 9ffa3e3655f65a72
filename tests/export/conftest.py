"""An export of an untrained network on digits, made in a moment."""

from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
import yaml

from nassearch.data.dataset import Data
from nassearch.data.loading import load_data
from nassearch.export.export_config import (
    AccuracyClaim,
    DataConfig,
    ExportConfig,
    LatencyClaim,
    sha256,
)
from nassearch.export.writer import write_export
from nassearch.networks import Subnet
from nassearch.setting import Setting
from nassearch.space import SearchSpace, lower
from nassearch.training.evaluation import Accuracy

HOST = Setting("host", "onnxruntime")
WriteExport = Callable[..., Path]


def claim(setting: Setting = HOST, **facts: Any) -> LatencyClaim:
    """A promise that anything keeps, unless `facts` say otherwise."""
    return LatencyClaim(
        **{
            "setting": setting,
            "source": "measured",
            "predicted_ms": 1.0,
            "low_ms": 1e-6,
            "high_ms": 1e6,
            "budget_ms": 1e6,
            **facts,
        }
    )


def change(export: Path, **facts: Any) -> None:
    """Put other values into the config of an export."""
    content = yaml.safe_load((export / "config.yaml").read_text())
    (export / "config.yaml").write_text(yaml.safe_dump({**content, **facts}))


def vouch_for(export: Path, name: str) -> None:
    """Let the config hold the hash of a file that was changed, as a stranger's program would."""
    content = yaml.safe_load((export / "config.yaml").read_text())
    change(export, files={**content["files"], name: sha256(export / name)})


@pytest.fixture(scope="session")
def digits() -> Data:
    """A hundred digits to be tested on: enough to measure, soon measured."""
    data = load_data("digits")
    few = data.test().where(torch.arange(100))
    return replace(data, load_test=lambda: few)


@pytest.fixture
def write(tmp_path: Path, digits: Data, generator: torch.Generator) -> WriteExport:
    """Writes the smallest network of digits_tiny, with the promises given, as an export."""
    space = SearchSpace.load("digits_tiny").for_data(
        in_channels=digits.in_channels, num_classes=digits.num_classes
    )
    torch.manual_seed(0)
    subnet = Subnet(lower(space, space.smallest)).eval()

    def write_with(
        claims: Sequence[LatencyClaim] = (), formats: Sequence[str] = ("onnx",), **options: Any
    ) -> Path:
        facts = ExportConfig.of(
            space,
            space.smallest,
            data=DataConfig.of(digits, seed=0),
            accuracy=AccuracyClaim.of(Accuracy.of(0, 100, split="val"), supernet="none"),
        ).model_copy(update={"latency": tuple(claims)})
        directory = tmp_path / "export"
        write_export(subnet, directory, facts=facts, data=digits, formats=formats, options=options)
        return directory

    return write_with
