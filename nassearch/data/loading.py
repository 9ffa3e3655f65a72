"""Reading a data set: its images, the validation split held out of them, what a run was given."""

import math
import re
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import torch

from nassearch import config
from nassearch.data import builtin, image_folder, torch_dataset
from nassearch.data.dataset import Data
from nassearch.data.identity import DataIdentity
from nassearch.data.image_set import Images, ImageSet, in_memory
from nassearch.data.preprocessing import DEFAULT, Preprocessing
from nassearch.data.source import Source
from nassearch.data.split import draw_validation, draw_validation_0_1
from nassearch.data.target_set import Collate, TargetSet
from nassearch.data.torch_dataset import UserDataset
from nassearch.errors import ConfigError, DataError
from nassearch.free_memory import free_bytes

FORMS = (
    "digits, cifar10[:PATH], cifar100[:PATH], fashion-mnist[:PATH], imagefolder:PATH[@PIXELS] or"
    " my_package.module:make_data"
)
MAX_BYTES = 8 * 2**30
"""Decoded images of a folder that take more stay on disk and are decoded on the fly."""

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
