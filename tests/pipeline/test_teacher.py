"""Teachers of a training: torchvision's models and exports, and what is refused."""

from pathlib import Path

import pytest
import torch
from torchvision import models

from nassearch.data.dataset import Data
from nassearch.data.image_set import ImageSet
from nassearch.data.loading import load_data
from nassearch.errors import CheckpointError, ConfigError
from nassearch.pipeline.teacher import load_teacher


@pytest.fixture(scope="module")
def photos() -> Data:
    """Thirty small colour images of three classes."""
    generator = torch.Generator().manual_seed(0)
    images = torch.randint(0, 256, (30, 3, 32, 32), dtype=torch.uint8, generator=generator)
    kept = ImageSet(images, torch.arange(30) % 3)
    return Data("photos", ("a", "b", "c"), kept, kept, lambda: kept, mirrors=True)


def weights_of(model: str, num_classes: int, path: Path) -> Path:
    torch.manual_seed(0)
    torch.save(models.get_model(model, weights=None, num_classes=num_classes).state_dict(), path)
    return path


def test_a_model_of_torchvision_teaches_with_the_weights_of_a_file(
    photos: Data, tmp_path: Path
) -> None:
    path = weights_of("resnet18", 3, tmp_path / "weights.pth")
    teacher = load_teacher(f"torchvision:resnet18:{path}", photos).train()
    torch.manual_seed(0)
    model = models.resnet18(weights=None, num_classes=3).eval()
    images = photos.normalise(photos.train.images[:4])
    torch.testing.assert_close(teacher(images), model(images))
    assert not any(parameter.requires_grad for parameter in teacher.parameters())


def test_weights_for_other_classes_are_refused(photos: Data, tmp_path: Path) -> None:
    path = weights_of("resnet18", 5, tmp_path / "weights.pth")
    with pytest.raises(CheckpointError, match=r"cannot be loaded.*classes of the data set"):
        load_teacher(f"torchvision:resnet18:{path}", photos)


def test_a_file_that_is_no_weights_is_refused(photos: Data, tmp_path: Path) -> None:
    path = tmp_path / "weights.pth"
    path.write_text("not weights")
    with pytest.raises(CheckpointError, match="cannot be loaded"):
        load_teacher(f"torchvision:resnet18:{path}", photos)
    with pytest.raises(CheckpointError, match="cannot be loaded"):
        load_teacher(f"torchvision:resnet18:{tmp_path / 'missing.pth'}", photos)


def test_an_unknown_model_is_refused(photos: Data) -> None:
    with pytest.raises(ConfigError, match="torchvision has no model 'resnet19'"):
        load_teacher("torchvision:resnet19", photos)


def test_a_teacher_of_other_channels_is_refused(tmp_path: Path) -> None:
    path = weights_of("resnet18", 10, tmp_path / "weights.pth")
    with pytest.raises(ConfigError, match="does not take images of 1 channels"):
        load_teacher(f"torchvision:resnet18:{path}", load_data("digits"))
