"""Image sets: a training, a validation and an untouched test split, as uint8 tensors."""

from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from nassearch.errors import DataError
from nassearch.training import image_folder, known_data
from nassearch.training.image_set import ImageSet
from nassearch.training.randomness import Stream, numpy_generator

FORMS = "digits, cifar10[:PATH], cifar100[:PATH], fashion-mnist[:PATH] or imagefolder:PATH[@PIXELS]"


@dataclass(frozen=True, eq=False)
class Data:
    """A data set as training sees it. The test split is not read before `test` is called.

    `mean` and `std` are of the training split, one for each channel, for pixels scaled to 0..1.
    `mirrors`: whether an image flipped left to right still shows its class.
    """

    name: str
    class_names: tuple[str, ...]
    train: ImageSet
    val: ImageSet
    load_test: Callable[[], ImageSet]
    mirrors: bool

    @property
    def in_channels(self) -> int:
        return int(self.train.images.shape[1])

    @property
    def num_classes(self) -> int:
        return len(self.class_names)

    @cached_property
    def mean(self) -> tuple[float, ...]:
        return tuple(self._statistics[0])

    @cached_property
    def std(self) -> tuple[float, ...]:
        return tuple(self._statistics[1])

    def test(self) -> ImageSet:
        """The test split, read now. Only `verify` and recorded experiments may ask for it."""
        return self.load_test()

    def normalise(self, images: Tensor) -> Tensor:
        """uint8 images, (n, c, h, w), as float32 with mean 0 and standard deviation 1."""
        mean = torch.tensor(self.mean, device=images.device).view(1, -1, 1, 1)
        std = torch.tensor(self.std, device=images.device).view(1, -1, 1, 1)
        return images.float().sub_(255 * mean).div_(255 * std)

    @cached_property
    def _statistics(self) -> tuple[list[float], list[float]]:
        """Mean and standard deviation of each channel, from exact counts of the 256 values."""
        values = torch.arange(256, dtype=torch.float64) / 255
        means, stds = [], []
        for channel in self.train.images.unbind(1):
            share = torch.bincount(channel.reshape(-1).int(), minlength=256) / channel.numel()
            mean = float((share * values).sum())
            variance = float((share * (values - mean) ** 2).sum())
            means.append(mean)
            stds.append(max(variance**0.5, 1 / 255))  # a constant channel stays finite
        return means, stds


def load_data(spec: str, *, seed: int = 0) -> Data:
    """The data set that `spec` names: one of FORMS. `seed` draws the validation split.

    Raises DataError where images are missing, empty, damaged or of one class only.
    """
    kind, _, place = spec.partition(":")
    if kind == "digits" and not place:
        class_names, everything, load_test = known_data.digits()
    elif kind in known_data.TORCHVISION:
        root = Path(place).expanduser() if place else None
        class_names, everything, load_test = known_data.torchvision_data(kind, root)
    elif kind == "imagefolder" and place:
        path, pixels = _folder(place)
        class_names, everything, load_test = image_folder.read(path, pixels)
    else:
        raise DataError(f"unknown data '{spec}'", fix=f"write it as {FORMS}")
    if len(class_names) < 2:
        raise DataError("holds one class only", where=spec, fix="classification needs at least two")
    train, val = split(everything, seed=seed)
    return Data(spec, class_names, train, val, load_test, mirrors=kind != "digits")


def split(images: ImageSet, *, seed: int) -> tuple[ImageSet, ImageSet]:
    """Training and validation images, every class in the same proportion in both.

    A tenth validates; of small sets up to a fifth, since fewer than 300 images rank nothing.
    """
    count = len(images)
    share = min(max(count // 10, 300), count // 5, 10_000) / count
    rng = numpy_generator(seed, Stream.SPLIT)
    labels = images.labels.numpy()
    held_out = np.zeros(count, dtype=bool)
    for label in np.unique(labels):
        members = rng.permutation(np.flatnonzero(labels == label))
        held_out[members[: round(share * len(members))]] = True
    if not held_out.any():
        raise DataError(f"{count} images are too few to hold out a validation split")
    mask = torch.from_numpy(held_out)
    return images.where(~mask), images.where(mask)


def _folder(place: str) -> tuple[Path, int | None]:
    path, at, pixels = place.rpartition("@")
    if not at or Path(place).is_dir():
        return Path(place).expanduser(), None
    if not pixels.isdigit() or int(pixels) == 0:
        raise DataError(f"'@{pixels}' is not a size in pixels", where=place, fix="write it as @32")
    return Path(path).expanduser(), int(pixels)
