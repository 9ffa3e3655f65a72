"""Data sets: a training, a validation and an untouched test split, as uint8 tensors."""

import math
import re
import warnings
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from html import escape
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from nassearch import config
from nassearch.data import builtin, image_folder, torch_dataset
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
from nassearch.data.source import Source
from nassearch.data.split import draw_validation, draw_validation_0_1
from nassearch.data.target_set import Collate, TargetSet
from nassearch.data.torch_dataset import UserDataset
from nassearch.errors import ConfigError, DataError
from nassearch.memory import free_bytes

FORMS = (
    "digits, cifar10[:PATH], cifar100[:PATH], fashion-mnist[:PATH], imagefolder:PATH[@PIXELS] or"
    " my_package.module:make_data"
)
MAX_BYTES = 8 * 2**30
"""Decoded images of a folder that take more stay on disk and are decoded on the fly."""
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


AnyData = str | UserDataset | tuple[UserDataset, ...] | Data
"""What `load_data` takes."""


def load_data(
    source: AnyData,
    *,
    seed: int = 0,
    val_share: float | None = None,
    classes: Sequence[str] | None = None,
    preprocessing: Preprocessing | Mapping[str, Any] | str = DEFAULT,
    pixels: int | None = None,
    collate: Collate | None = None,
) -> Data:
    """Read a data set and hold some of its images out for validation.

    Args:
        source: One of FORMS; a `torch.utils.data.Dataset` of images (PIL, uint8 (c, h, w), or float
            (c, h, w) of 0..1) with integer labels, of which a fifth becomes the test split; a pair
            of them, (train, test); or `Data`, which is returned as it is.
        seed: Draws the validation split.
        val_share: The share of the images that validate, 0..1. By default a tenth, at most 10,000
            images; of small sets up to a fifth.
        classes: Names of the classes, where a data set of Python has none of its own.
        preprocessing: How the images become what a network takes: `resize`, `mean`, `std` and
            `recalibration`, or 'imagenet'. By default they are squashed to the network's pixels
            and normalised by their own mean and deviation.
        pixels: Width and height that a folder's images are kept at, where its text names none, and
            those of any data set whose images are cropped.
        collate: Of images with targets of your own, boxes or masks: makes items of your data set
            into (images, targets), as a DataLoader's `collate_fn`; images float32 (n, c, h, h) as
            the network takes them, augmented in the data set. `source` is then a data set, (train,
            test), or (train, validation, test). Text, 'my_package.module:make_data', may name a
            `Data`, or what makes one without arguments.

    Returns:
        The training and validation images, and how to read the test split.

    Raises:
        DataError: images are missing, empty, damaged, of mixed kinds or of one class only.

    Examples:
        >>> import nassearch as ns
        >>> data = ns.load_data("digits")
        >>> data.num_classes, data.train.shape
        (10, (1, 8, 8))
    """
    preprocessing = parse_preprocessing(preprocessing)
    if isinstance(source, Data):
        if not preprocessing.is_default and preprocessing != source.preprocessing:
            raise DataError(
                "were loaded with another preprocessing",
                where=source.name,
                fix=f"load them with preprocessing={preprocessing.to_dict()}",
            )
        return source
    if collate is not None:
        return _with_targets(source, collate, seed, val_share, preprocessing)
    if (made := _made(source)) is not None:
        return made
    found = _read(source, classes, preprocessing, pixels)  # type: ignore[arg-type]
    labels = found.images.labels.numpy()
    held_out = draw_validation(labels, seed=seed, share=val_share)
    return _split(found, held_out, preprocessing, pixels)


def restore_data(
    source: AnyData,
    identity: DataIdentity,
    *,
    seed: int,
) -> Data:
    """The data set that a supernet was trained on, with the validation split it was trained with.

    `source` says where its images lie now. Raises DataError where they are others: `identity` is
    what the checkpoint recorded, and `seed` drew the split where it records none (version 0.1).
    """
    source = _made(source) or source
    if isinstance(source, Data):
        identity.check_classes(source.class_names, where=source.name)
        identity.check_images(source.num_images, source.fingerprint, where=source.name)
        identity.check_split(source.held_out, where=source.name)
        identity.check_preprocessing(source.preprocessing, where=source.name)
        data = source
    else:
        classes = identity.class_names if not isinstance(source, str) else None
        preprocessing = identity.preprocessing
        pixels = identity.pixels if preprocessing.resize.is_crop else None
        found = _read(source, classes, preprocessing, pixels)  # type: ignore[arg-type]
        identity.check_classes(found.class_names, where=found.name)
        identity.check_images(len(found.images), found.fingerprint(), where=found.name)
        if identity.held_out is None:
            held_out = draw_validation_0_1(found.images.labels.numpy(), seed=seed)
        else:
            held_out = np.array(identity.held_out, dtype=np.int64)
        data = _split(found, held_out, preprocessing, pixels)
    identity.check_form(data.identity, where=data.name)
    return data


def _with_targets(
    source: AnyData,
    collate: Collate,
    seed: int,
    val_share: float | None,
    preprocessing: Preprocessing,
) -> Data:
    """Images with targets of the user's own; what is not given of three splits is drawn."""
    given = source if isinstance(source, tuple) else (source,)
    if len(given) > 3 or any(isinstance(one, str | Data) for one in given):
        raise DataError(
            "a collate needs data sets of yours",
            where="collate",
            fix="give a data set, (train, test) or (train, validation, test)",
        )
    name = torch_dataset.PREFIX + type(given[0]).__name__
    sets = [TargetSet(one, collate, where=name) for one in given]  # type: ignore[arg-type]
    train, *others = sets
    if not others:
        train, test = _drawn_apart(train, seed=torch_dataset.TEST_SEED, share=0.2)
        others = [test]
    num_images, held_out = len(train), np.array([], dtype=np.int64)
    if len(others) == 1:
        held_out = draw_validation(train.labels.numpy(), seed=seed, share=val_share)
        train, val = _apart(train, held_out)
        others.insert(0, val)
    sizes = "-".join(map(str, (len(train), len(others[0]))))
    return Data(
        name,
        (),
        train,
        others[0],
        lambda: others[1],
        mirrors=False,
        num_images=num_images,
        held_out=tuple(held_out.tolist()),
        load_fingerprint=lambda: sizes,  # an item may be another whenever it is read
        preprocessing=preprocessing,
    )


def _drawn_apart(images: TargetSet, *, seed: int, share: float) -> tuple[TargetSet, TargetSet]:
    return _apart(images, draw_validation(images.labels.numpy(), seed=seed, share=share))


def _apart(images: TargetSet, chosen: npt.NDArray[np.int64]) -> tuple[TargetSet, TargetSet]:
    """(the others, those at the indices `chosen`)."""
    mask = torch.zeros(len(images), dtype=torch.bool)
    mask[torch.from_numpy(chosen)] = True
    return images.among(~mask), images.among(mask)


def _made(source: AnyData) -> Data | None:
    """The data that 'my_package.module:make_data' names or makes; None for any other source."""
    if not isinstance(source, str) or not names_code(source):
        return None
    try:
        made = config.resolve({}, source, kind="data")
    except ConfigError as error:
        if f"No module named '{source.partition('.')[0].partition(':')[0]}'" in error.what:
            return None  # a misspelt form
        raise DataError(error.what, where=source, fix=error.fix) from error
    try:
        made = made if isinstance(made, Data) else made()
    except Exception as error:  # whatever a user's function raises
        raise DataError(
            f"cannot be called without arguments ({type(error).__name__}: {error})",
            where=source,
            fix="name Data, or a function that takes nothing and returns it",
        ) from error
    if not isinstance(made, Data):
        raise DataError(
            f"makes a {type(made).__name__}, not Data",
            where=source,
            fix="return nassearch.load_data(...)",
        )
    return replace(made, name=source)


def names_code(source: str) -> bool:
    """Whether text may name Python's data, 'my_package.module:make_data', and no form of ours."""
    kind = source.partition(":")[0]
    known = ("imagefolder", torch_dataset.PREFIX.removesuffix(":"), *builtin.TORCHVISION)
    return kind not in known and re.fullmatch(_ATTRIBUTE, source) is not None


_ATTRIBUTE = r"[A-Za-z_]\w*(\.\w+)*:[A-Za-z_]\w*"


def parse_preprocessing(said: Preprocessing | Mapping[str, Any] | str) -> Preprocessing:
    """A preprocessing by its name, or of its keys; ConfigError where it has none of these."""
    if isinstance(said, Preprocessing):
        return said
    wrapped = config.parse(_Said, {"preprocessing": said}, where="data")
    return wrapped.preprocessing


class _Said(config.StrictModel):
    """What errors name `preprocessing` in, as in a recipe."""

    preprocessing: Preprocessing


def _read(
    source: "str | UserDataset | tuple[UserDataset, UserDataset]",
    classes: Sequence[str] | None,
    preprocessing: Preprocessing,
    pixels: int | None,
) -> Source:
    if not isinstance(source, str):
        return torch_dataset.read(source, classes)
    kind, _, place = source.partition(":")
    if kind == "digits" and not place:
        return builtin.digits()
    if kind in builtin.TORCHVISION:
        return builtin.torchvision_data(kind, Path(place).expanduser() if place else None)
    if kind == "imagefolder" and place:
        path, named = _folder(place)
        return image_folder.read(path, named or pixels, name=source, preprocessing=preprocessing)
    if source.startswith(torch_dataset.PREFIX):
        raise DataError(
            f"the images of '{source}' were given in Python and must be given there again",
            where="data",
            fix="pass them as data=..., or name images with --data",
        )
    raise DataError(f"unknown data '{source}'", where="data", fix=f"write it as {FORMS}")


def _split(
    source: Source,
    held_out: npt.NDArray[np.int64],
    preprocessing: Preprocessing,
    pixels: int | None,
) -> Data:
    """Hold images out. Files are decoded here, but for training images that fill the memory."""
    images = source.images
    mask = torch.zeros(len(images), dtype=torch.bool)
    mask[torch.from_numpy(held_out)] = True
    train: Images = images.where(~mask) if _fits_memory(images) else images.among(~mask)
    val = images.where(mask)
    resize = preprocessing.resize
    if resize.is_crop and isinstance(images, ImageSet):  # files were decoded cropped
        side = pixels or min(images.shape[1:])
        train, val = (in_memory(split.at(side, resize)) for split in (train, val))

    def load_test() -> Images:
        return _decoded(source.load_test())

    return Data(
        source.name,
        source.class_names,
        train,
        val,
        load_test,
        source.mirrors,
        num_images=len(images),
        held_out=tuple(held_out.tolist()),
        load_fingerprint=source.fingerprint,
        load_test_fingerprint=source.test_fingerprint,
        preprocessing=preprocessing,
    )


def _decoded(images: Images) -> Images:
    """All images decoded, where they fit in memory."""
    return in_memory(images) if _fits_memory(images) else images


def _fits_memory(images: Images) -> bool:
    """Whether images take at most MAX_BYTES decoded, and half of the memory that is free."""
    free = None if isinstance(images, ImageSet) else free_bytes()
    most = MAX_BYTES if free is None else min(MAX_BYTES, free // 2)
    return len(images) * math.prod(images.shape) <= most


def _folder(place: str) -> tuple[Path, int | None]:
    path, at, pixels = place.rpartition("@")
    if not at or Path(place).is_dir():
        return Path(place).expanduser(), None
    if not pixels.isdigit() or int(pixels) == 0:
        raise DataError(f"'@{pixels}' is not a size in pixels", where=place, fix="write it as @32")
    return Path(path).expanduser(), int(pixels)
