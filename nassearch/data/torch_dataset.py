"""A user's own `torch.utils.data.Dataset` as images in memory."""

from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np
import torch
from PIL import Image
from torch import Tensor
from torch.utils.data import Dataset

from nassearch.data.image_set import ImageSet
from nassearch.data.source import Source, pixel_fingerprint
from nassearch.data.split import draw_validation
from nassearch.errors import DataError

UserDataset = Dataset[Any]
PREFIX = "dataset:"
TEST_SEED = 20_200  # fixed for ever, as that of the digits
_TEST_SHARE = 0.2


def read(
    dataset: UserDataset | tuple[UserDataset, UserDataset], classes: Sequence[str] | None
) -> Source:
    """The images of a data set, or of a (train, test) pair, read into memory.

    Of one alone a fifth of every class, the same whatever the seed, is the test split. Classes are
    called as `classes` says, as the data set's own `classes` does, or by their numbers. Raises
    DataError where an item is no image with an integer label.
    """
    train_set, test_set = dataset if isinstance(dataset, tuple) else (dataset, None)
    name = PREFIX + type(train_set).__name__
    train = _image_set(train_set, name)
    if test_set is None:
        test_indices = draw_validation(train.labels.numpy(), seed=TEST_SEED, share=_TEST_SHARE)
        chosen = torch.zeros(len(train), dtype=torch.bool)
        chosen[torch.from_numpy(test_indices)] = True
        train, test = train.where(~chosen), train.where(chosen)
    else:
        test = _image_set(test_set, f"{name}, test")
    names = classes if classes is not None else getattr(train_set, "classes", None)
    if names is None:
        names = [str(label) for label in range(int(train.labels.max()) + 1)]
    return Source(
        name,
        tuple(map(str, names)),
        train,
        lambda: test,
        lambda: pixel_fingerprint(train),
    )


def _image_set(dataset: UserDataset, where: str) -> ImageSet:
    images, labels = [], []
    for number, item in enumerate(_items(dataset, where)):
        try:
            image, label = item
            labels.append(_label(label))
            images.append(_pixels(image))
        except (TypeError, ValueError) as error:
            raise DataError(
                f"item {number} is no image with a label ({error})",
                where=where,
                fix="give a PIL image, a uint8 tensor (c, h, w) or a float one of 0..1, and an int",
            ) from error
        if images[-1].shape != images[0].shape:
            here, first = tuple(images[-1].shape), tuple(images[0].shape)
            raise DataError(
                f"item {number} has the shape {here}, item 0 {first}",
                where=where,
                fix="resize the images to one size in the data set's transform",
            )
    if not images:
        raise DataError("holds no images", where=where, fix="give a data set of length 1 or more")
    return ImageSet(torch.stack(images), torch.tensor(labels, dtype=torch.int64))


def _items(dataset: UserDataset, where: str) -> Iterator[Any]:
    if not hasattr(dataset, "__len__"):
        raise DataError(
            "has no length",
            where=where,
            fix="give a map-style data set: __len__ and __getitem__",
        )
    return (dataset[index] for index in range(len(dataset)))


def _label(label: Any) -> int:
    if isinstance(label, Tensor | np.ndarray | np.generic):
        label = label.item()
    if isinstance(label, bool) or not isinstance(label, int):
        raise TypeError(f"its label is {label!r}")
    return label


def _pixels(image: Any) -> Tensor:
    """uint8 (c, h, w)."""
    if isinstance(image, Image.Image):
        array = np.asarray(image if image.mode in ("L", "RGB") else image.convert("RGB"))
        image = torch.from_numpy(array.copy())
        return image.unsqueeze(0) if image.dim() == 2 else image.permute(2, 0, 1)
    if isinstance(image, np.ndarray):  # which has its channels last, as Pillow's do
        image = (
            torch.from_numpy(image).permute(2, 0, 1) if image.ndim == 3 else torch.from_numpy(image)
        )
    if not isinstance(image, Tensor):
        raise TypeError(f"its image is a {type(image).__name__}")
    if image.dim() == 2:
        image = image.unsqueeze(0)
    if image.dim() != 3 or image.shape[0] not in (1, 3):
        raise ValueError(f"its image has the shape {tuple(image.shape)}, not (1 or 3, h, w)")
    if image.dtype == torch.uint8:
        return image
    if not image.is_floating_point():
        raise ValueError(f"its image is of {image.dtype}")
    if not bool(((image >= 0) & (image <= 1)).all()):
        raise ValueError("its values are not within 0..1: leave normalisation to nassearch")
    return (image * 255).round().to(torch.uint8)
