"""Data sets: a training, a validation and an untouched test split, as uint8 tensors."""

import math
import warnings
from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property
from html import escape

import torch
from torch import Tensor

from nassearch.data.identity import DataIdentity
from nassearch.data.image_set import Images, ImageSet, in_memory
from nassearch.data.preprocessing import (
    DEFAULT,
    Preprocessing,
    RandomCrop,
    Recalibration,
    scaled,
)
from nassearch.data.seeding import Stream, torch_generator
from nassearch.data.target_set import TargetSet
from nassearch.errors import DataError

MAX_TARGET_BYTES = 2 * 2**30
"""Of images with targets of their own that recalibrate batch norm."""
_SAMPLE = 2000
_SHOWN_CLASSES = 12


@dataclass(frozen=True, eq=False)
class Data:
    """A data set as training sees it. The test split is not read before `test` is called.

    `train` is in memory or, where it is large, on disk. `mean` and `std` are those that the
    preprocessing says, or of the training split, one for each channel, for pixels scaled to 0..1;
    of images on disk, of a sample of 2,000. `mirrors`: whether an image flipped left to right still
    shows its class. `held_out` are the validation images, as indices into all `num_images` that
    there were before the split. Raises DataError where there is one class only, a label that is no
    class, or a preprocessing for other channels.

    Examples:
        >>> import nassearch as ns
        >>> data = ns.load_data("digits")
        >>> data.normalise(data.val.images[:4]).shape
        torch.Size([4, 1, 8, 8])
    """

    name: str
    class_names: tuple[str, ...]
    train: Images
    val: Images
    load_test: Callable[[], Images]
    mirrors: bool
    num_images: int = 0
    held_out: tuple[int, ...] = ()
    load_fingerprint: Callable[[], str] = str
    load_test_fingerprint: Callable[[], str] | None = None
    preprocessing: Preprocessing = DEFAULT

    def __post_init__(self) -> None:
        if self.has_targets:
            self._check_targets()
            return
        if self.num_classes < 2:
            raise DataError(
                "holds one class only", where=self.name, fix="classification needs at least two"
            )
        for split, images in (("train", self.train), ("val", self.val)):
            self._check(split, images)
        mean = self.preprocessing.mean
        if mean is not None and len(mean) != self.in_channels:
            raise DataError(
                f"its images have {self.in_channels} channel(s), the preprocessing has mean and"
                f" deviation of {len(mean)}",
                where=self.name,
                fix=f"give mean and std of {self.in_channels} number(s), or leave both out",
            )

    def _check_targets(self) -> None:
        """DataError unless the splits have images of one form, which are taken as they are."""
        said = self.preprocessing
        plain = Preprocessing(recalibration=Recalibration(images=said.recalibration.images))
        if said != plain:
            raise DataError(
                "has targets of its own, so its images are not preprocessed",
                where=self.name,
                fix="give images as the network takes them, and leave preprocessing out",
            )
        if self.val.shape != self.train.shape:
            raise DataError(
                f"validates on images of {self.val.shape}, and trains on {self.train.shape}",
                where=self.name,
                fix="every split needs images of one form",
            )

    @property
    def has_targets(self) -> bool:
        """Whether its images have targets of the user's own, boxes or masks, and no classes."""
        return isinstance(self.train, TargetSet)

    @property
    def target_splits(self) -> tuple[TargetSet, TargetSet]:
        """(training, validation) images with targets; only where it `has_targets`."""
        assert isinstance(self.train, TargetSet)
        assert isinstance(self.val, TargetSet)
        return self.train, self.val

    @property
    def in_channels(self) -> int:
        return self.train.shape[0]

    @property
    def num_classes(self) -> int:
        return len(self.class_names)

    @cached_property
    def mean(self) -> tuple[float, ...]:
        if self.has_targets:  # which come as the network takes them
            return (0.0,) * self.in_channels
        return self.preprocessing.mean or tuple(self._statistics[0])

    @cached_property
    def std(self) -> tuple[float, ...]:
        if self.has_targets:
            return (1.0,) * self.in_channels
        return self.preprocessing.std or tuple(self._statistics[1])

    @cached_property
    def fingerprint(self) -> str:
        """Tells these images from others: pixels and labels, or names and sizes of files."""
        return self.load_fingerprint()

    @cached_property
    def test_fingerprint(self) -> str | None:
        """Tells the test images from others by their names and sizes; None where they are no files.

        The images are not read.
        """
        return None if self.load_test_fingerprint is None else self.load_test_fingerprint()

    def warn_of_other_test_images(self, before: str | None, *, since: str) -> None:
        """Warn where the test images are not those whose fingerprint was `before`.

        They may change, but what was measured on them does not compare then. Where one of the two
        is not known (None, as in files of version 0.2), nothing is said.
        """
        if None not in (before, self.test_fingerprint) and before != self.test_fingerprint:
            warnings.warn(
                f"{self.name}: the test images are others than {since} (their names or sizes):"
                " accuracies on them do not compare with earlier ones",
                stacklevel=1,
            )

    @cached_property
    def identity(self) -> DataIdentity:
        """What a checkpoint records of the images, so that later ones can be compared."""
        return DataIdentity(
            self.name,
            self.class_names,
            self.in_channels,
            self.mean,
            self.std,
            shape=self.train.shape,
            num_images=self.num_images,
            fingerprint=self.fingerprint,
            held_out=self.held_out,
            test_fingerprint=self.test_fingerprint,
            preprocessing=self.preprocessing,
        )

    def sample(self, count: int) -> ImageSet:
        """`count` training images (or all), in memory, shuffled over classes, always the same."""
        images = self._sample if count <= _SAMPLE else self.train.where(self._shuffled[:count])
        return images.where(torch.arange(min(count, len(images))))

    def test(self) -> Images:
        """The test split, read now. Only `verify` and recorded experiments may ask for it."""
        images = self.load_test()
        if not self.has_targets:
            self._check("test", images)
        return images

    def fitted(self, images: Images, pixels: int) -> Images:
        """Images of any split as `inputs` takes them for networks of `pixels`.

        Where the preprocessing crops, that is from what they were on disk, or in memory; otherwise
        `inputs` alone brings them to their size.
        """
        resize = self.preprocessing.resize
        return images.at(pixels, resize) if resize.is_crop else images

    def inputs(self, images: Tensor, pixels: int) -> Tensor:
        """Fitted images, uint8 (n, c, h, w), as a network takes them, float32 (n, c, r, r)."""
        return scaled(self.normalise(images), pixels, pixels)

    def recalibration(self, pixels: int) -> Tensor:
        """The training images that set a subnet's batch norm, uint8 (n, c, h, w); `inputs` of them.

        As many as the preprocessing says, always the same; augmented where it says so.
        """
        said = self.preprocessing.recalibration
        if self.has_targets:
            most = max(1, MAX_TARGET_BYTES // (4 * math.prod(self.train.shape)))
            return self.train.where(self._shuffled[: min(said.images, most)]).images
        sample: Images = self.sample(said.images)
        if said.random_resized_crop is None:
            sample = self.fitted(sample, pixels)
        else:
            sample = sample.at(pixels, RandomCrop(said.random_resized_crop))
        images = in_memory(sample).images
        if said.flip:
            generator = torch_generator(0, Stream.CALIBRATION, 1)
            mirrored = torch.rand(len(images), generator=generator) < 0.5
            images = torch.where(mirrored.view(-1, 1, 1, 1), images.flip(3), images)
        return images

    def normalise(self, images: Tensor) -> Tensor:
        """uint8 images, (n, c, h, w), as float32 with mean 0 and standard deviation 1.

        Images with targets of their own are float32, and stay as they are.
        """
        if self.has_targets:
            return images
        mean = torch.tensor(self.mean, device=images.device).view(1, -1, 1, 1)
        std = torch.tensor(self.std, device=images.device).view(1, -1, 1, 1)
        return images.float().sub_(255 * mean).div_(255 * std)

    def __repr__(self) -> str:
        names = ", ".join(self.class_names[:3]) + (", ..." if self.num_classes > 3 else "")
        shape = "x".join(map(str, self.train.shape))
        kind = "targets of its own" if self.has_targets else f"{self.num_classes} classes: {names}"
        return (
            f"Data({self.name}: {len(self.train)} training and {len(self.val)} validation images"
            f" of {shape}, {kind})"
        )

    def _repr_html_(self) -> str:
        channels, height, width = self.train.shape
        facts = {
            "training images": f"{len(self.train):,}",
            "validation images": f"{len(self.val):,}",
            "image": f"{width} x {height} pixels, {channels} channel{'s' if channels > 1 else ''}",
            f"{self.num_classes} classes": ", ".join(self.class_names[:_SHOWN_CLASSES])
            + (", ..." if self.num_classes > _SHOWN_CLASSES else ""),
        }
        rows = "".join(
            f"<tr><th>{escape(name)}</th><td>{escape(value)}</td></tr>"
            for name, value in facts.items()
        )
        return f"<table><caption>{escape(self.name)}</caption>{rows}</table>"

    def _check(self, split: str, images: Images) -> None:
        where = f"{self.name}, {split}"
        if len(images) == 0:
            raise DataError("holds no images", where=where, fix="give at least one for each class")
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
