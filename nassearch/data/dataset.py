"""Data sets: a training, a validation and an untouched test split, as uint8 tensors."""

from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from nassearch.errors import DataError
from nassearch.data import image_folder
from nassearch.data import builtin
from nassearch.data.image_files import ImageFiles
from nassearch.data.image_set import Images, ImageSet
from nassearch.data.seeding import Stream, numpy_generator, torch_generator

FORMS = "digits, cifar10[:PATH], cifar100[:PATH], fashion-mnist[:PATH] or imagefolder:PATH[@PIXELS]"
MAX_BYTES = 8 * 2**30
"""Decoded images of a folder that take more stay on disk and are decoded on the fly."""
_SAMPLE = 2000
_MAX_VALIDATION = 10_000


@dataclass(frozen=True, eq=False)
class Data:
    """A data set as training sees it. The test split is not read before `test` is called.

    `train` is in memory or, where it is large, on disk. `mean` and `std` are of the training split,
    one for each channel, for pixels scaled to 0..1; of images on disk, of a sample of 2,000.
    `mirrors`: whether an image flipped left to right still shows its class. Raises DataError where
    there is one class only, or a label that is no class.
    """

    name: str
    class_names: tuple[str, ...]
    train: Images
    val: ImageSet
    load_test: Callable[[], Images]
    mirrors: bool

    def __post_init__(self) -> None:
        if self.num_classes < 2:
            raise DataError(
                "holds one class only", where=self.name, fix="classification needs at least two"
            )
        for split, images in (("train", self.train), ("val", self.val)):
            self._check(split, images)

    @property
    def in_channels(self) -> int:
        return self.train.shape[0]

    @property
    def num_classes(self) -> int:
        return len(self.class_names)

    @cached_property
    def mean(self) -> tuple[float, ...]:
        return tuple(self._statistics[0])

    @cached_property
    def std(self) -> tuple[float, ...]:
        return tuple(self._statistics[1])

    def sample(self, count: int) -> ImageSet:
        """`count` training images (or all), in memory, shuffled over classes, always the same."""
        images = self._sample if count <= _SAMPLE else self.train.where(self._shuffled[:count])
        return ImageSet(images.images[:count], images.labels[:count])

    def test(self) -> Images:
        """The test split, read now. Only `verify` and recorded experiments may ask for it."""
        images = self.load_test()
        self._check("test", images)
        return images

    def normalise(self, images: Tensor) -> Tensor:
        """uint8 images, (n, c, h, w), as float32 with mean 0 and standard deviation 1."""
        mean = torch.tensor(self.mean, device=images.device).view(1, -1, 1, 1)
        std = torch.tensor(self.std, device=images.device).view(1, -1, 1, 1)
        return images.float().sub_(255 * mean).div_(255 * std)

    def _check(self, split: str, images: Images) -> None:
        where = f"{self.name}, {split}"
        if len(images) == 0:
            raise DataError("holds no images", where=where)
        strange = images.labels[(images.labels < 0) | (images.labels >= self.num_classes)]
        if len(strange):
            raise DataError(
                f"a label is {int(strange[0])}, where there are {self.num_classes} classes",
                where=where,
                fix=f"labels go from 0 to {self.num_classes - 1}",
            )
        if images.shape[0] != self.in_channels:
            raise DataError(
                f"images have {images.shape[0]} channels, those to train on {self.in_channels}",
                where=where,
                fix="every split needs images of one kind",
            )

    @property
    def _shuffled(self) -> Tensor:
        return torch.randperm(len(self.train), generator=torch_generator(0, Stream.CALIBRATION))

    @cached_property
    def _sample(self) -> ImageSet:
        return self.train.where(self._shuffled[:_SAMPLE])

    @cached_property
    def _statistics(self) -> tuple[list[float], list[float]]:
        """Mean and standard deviation of each channel, from exact counts of the 256 values."""
        values = torch.arange(256, dtype=torch.float64) / 255
        means, stds = [], []
        images = self.train if isinstance(self.train, ImageSet) else self._sample
        for channel in images.images.unbind(1):
            share = torch.bincount(channel.reshape(-1).int(), minlength=256) / channel.numel()
            mean = float((share * values).sum())
            variance = float((share * (values - mean) ** 2).sum())
            means.append(mean)
            stds.append(max(variance**0.5, 1 / 255))  # a constant channel stays finite
        return means, stds


def load_data(spec: str, *, seed: int = 0) -> Data:
    """The data set that `spec` names: one of FORMS. `seed` draws the validation split.

    Raises DataError where images are missing, empty, damaged, of mixed kinds or of one class only.
    """
    kind, _, place = spec.partition(":")
    images: Images
    load_test: Callable[[], Images]
    if kind == "digits" and not place:
        class_names, images, load_test = builtin.digits()
    elif kind in builtin.TORCHVISION:
        root = Path(place).expanduser() if place else None
        class_names, images, load_test = builtin.torchvision_data(kind, root)
    elif kind == "imagefolder" and place:
        path, pixels = _folder(place)
        class_names, images, find_test = image_folder.read(path, pixels)

        def load_test() -> Images:
            return _in_memory(find_test())
    else:
        raise DataError(f"unknown data '{spec}'", fix=f"write it as {FORMS}")
    train, val = split(images, seed=seed)
    return Data(spec, class_names, train, val, load_test, mirrors=kind != "digits")


def split(images: Images, *, seed: int) -> tuple[Images, ImageSet]:
    """Training and validation images, every class in the same proportion in both.

    A tenth validates, at most 10,000; of small sets up to a fifth, since fewer than 300 images rank
    nothing. Files are decoded here, but for training images that do not fit in memory.
    """
    count = len(images)
    share = min(max(count // 10, 300), count // 5, _MAX_VALIDATION) / count
    rng = numpy_generator(seed, Stream.SPLIT)
    labels = images.labels.numpy()
    held_out = np.zeros(count, dtype=bool)
    for label in np.unique(labels):
        members = rng.permutation(np.flatnonzero(labels == label))
        held_out[members[: round(share * len(members))]] = True
    if not held_out.any():
        raise DataError(f"{count} images are too few to hold out a validation split")
    mask = torch.from_numpy(held_out)
    if isinstance(images, ImageFiles) and images.num_bytes > MAX_BYTES:
        return images.among(~mask), images.where(mask)
    return images.where(~mask), images.where(mask)


def _in_memory(files: ImageFiles) -> Images:
    """All images decoded, where they fit in memory."""
    return files if files.num_bytes > MAX_BYTES else files.where(torch.arange(len(files)))


def _folder(place: str) -> tuple[Path, int | None]:
    path, at, pixels = place.rpartition("@")
    if not at or Path(place).is_dir():
        return Path(place).expanduser(), None
    if not pixels.isdigit() or int(pixels) == 0:
        raise DataError(f"'@{pixels}' is not a size in pixels", where=place, fix="write it as @32")
    return Path(path).expanduser(), int(pixels)
