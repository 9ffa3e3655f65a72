"""Networks that a supernet learns from: an exported subnet, or one of torchvision's."""

from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import TypeVar

import torch
from torch import Tensor, nn

from nassearch.data.dataset import Data
from nassearch.errors import CheckpointError, ConfigError
from nassearch.export.export_config import read_export
from nassearch.export.weights import load
from nassearch.files import SCRAMBLED
from nassearch.networks.supernet import resize

_TORCHVISION = "torchvision:"
Content = TypeVar("Content")


class Teacher(nn.Module):
    """`network` for images as a training normalises them: (n, c, h, w) -> logits (n, classes)."""

    scale: Tensor
    shift: Tensor

    def __init__(
        self, network: nn.Module, *, scale: Tensor, shift: Tensor, resolution: int | None
    ) -> None:
        super().__init__()
        self.network = network.eval().requires_grad_(False)
        self.register_buffer("scale", scale.view(1, -1, 1, 1))
        self.register_buffer("shift", shift.view(1, -1, 1, 1))
        self.resolution = resolution

    def forward(self, images: Tensor) -> Tensor:
        if self.resolution is not None:
            images = resize(images, self.resolution)
        logits: Tensor = self.network(images * self.scale + self.shift)
        return logits

    def train(self, mode: bool = True) -> "Teacher":
        """A teacher stays in evaluation mode."""
        return super().train(False)


def load_teacher(name: str, data: Data) -> Teacher:
    """The teacher called `name`: an export's directory, or torchvision:MODEL[:WEIGHTS_FILE].

    Without a file torchvision downloads its own weights; those of a file are for images normalised
    as here. Raises ConfigError where there is no such model or it has other classes or channels.
    """
    normalised = torch.tensor(data.mean), torch.tensor(data.std)
    if name.startswith(_TORCHVISION):
        teacher = _from_torchvision(name, data.num_classes, normalised)
    else:
        described = read_export(Path(name)).data
        mean, std = torch.tensor(described.mean), torch.tensor(described.std)
        teacher = _adapted(load(name), normalised, (mean, std), resolution=None)
        teacher.resolution = read_export(Path(name)).to_architecture().resolution
    _check(teacher, name, data)
    return teacher


def _from_torchvision(name: str, num_classes: int, normalised: tuple[Tensor, Tensor]) -> Teacher:
    from torchvision import models

    model, _, weights = name.removeprefix(_TORCHVISION).partition(":")
    if model not in models.list_models():
        raise ConfigError(
            f"torchvision has no model '{model}'", where=f"teacher {name}", fix="try resnet50"
        )
    if not weights:
        published = models.get_model_weights(model).DEFAULT
        network = _or_refuse(name, partial(models.get_model, model, weights=published))
        transform = published.transforms()
        theirs = torch.tensor(transform.mean), torch.tensor(transform.std)
        return _adapted(network, normalised, theirs, resolution=transform.crop_size[0])
    network = models.get_model(model, weights=None, num_classes=num_classes)
    state = _or_refuse(name, partial(torch.load, weights, map_location="cpu", weights_only=True))
    _or_refuse(name, partial(network.load_state_dict, state))
    return _adapted(network, normalised, normalised, resolution=None)


def _or_refuse(name: str, reader: Callable[[], Content]) -> Content:
    try:
        return reader()
    except SCRAMBLED as error:
        reason = (str(error).strip().splitlines() or [type(error).__name__])[0]
        raise CheckpointError(
            f"its weights cannot be loaded ({reason})",
            where=f"teacher {name}",
            fix="give a file of a state dict of this model with the classes of the data set",
        ) from error


def _adapted(
    network: nn.Module,
    ours: tuple[Tensor, Tensor],
    theirs: tuple[Tensor, Tensor],
    *,
    resolution: int | None,
) -> Teacher:
    """The network with its images taken from our mean and deviation to its own."""
    scale = ours[1] / theirs[1]
    return Teacher(
        network, scale=scale, shift=(ours[0] - theirs[0]) / theirs[1], resolution=resolution
    )


def _check(teacher: Teacher, name: str, data: Data) -> None:
    """ConfigError where the teacher is for other images or classes."""
    try:
        with torch.no_grad():
            classes = teacher(torch.zeros(1, *data.train.shape)).shape[1]
    except RuntimeError as error:
        raise ConfigError(
            f"does not take images of {data.in_channels} channels",
            where=f"teacher {name}",
            fix="choose a teacher that was trained on such images",
        ) from error
    if classes != data.num_classes:
        raise ConfigError(
            f"knows {classes} classes, {data.name} has {data.num_classes}",
            where=f"teacher {name}",
            fix="choose a teacher that was trained on the same classes",
        )
