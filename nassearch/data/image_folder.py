"""Any folder of class folders: PATH/train/<class>/**, and PATH/test or PATH/val."""

import os
import warnings
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import numpy.typing as npt
import torch
from PIL import Image
from torch import Tensor

from nassearch.errors import DataError
from nassearch.data.image_files import Damage, Form, ImageFiles, is_deep, is_grey

_SUFFIXES = (".jpg", ".jpeg", ".png", ".bmp", ".webp", ".gif", ".ppm", ".pgm", ".tif", ".tiff")
_LOOKED_AT = 200  # headers read to learn the form of a set


def read(
    folder: Path, pixels: int | None
) -> tuple[tuple[str, ...], ImageFiles, Callable[[], ImageFiles]]:
    """Class names, the image files of `train`, and how to find those of the test split.

    Images are resized to `pixels` square, or to the size of the first; they are grey where all are.
    Raises DataError.
    """
    train = folder / "train"
    held_out = next((folder / name for name in ("test", "val") if (folder / name).is_dir()), None)
    if not train.is_dir() or held_out is None:
        missing = "train/" if not train.is_dir() else "test/ or val/"
        raise DataError(
            f"there is no {missing} in this folder" if folder.is_dir() else "no such folder",
            where=folder,
            fix="an image folder holds train/<class>/* and test/<class>/* (or val/)",
        )
    class_names = _class_names(train)
    names, labels = _names(train, class_names)
    form = _form(train, names, pixels)

    def test() -> ImageFiles:
        assert held_out is not None
        unknown = sorted(set(_class_names(held_out)) - set(class_names))
        if unknown:
            raise DataError(
                f"holds the class '{unknown[0]}', which train/ lacks",
                where=held_out,
                fix=f"known: {', '.join(class_names)}",
            )
        return _files(held_out, *_names(held_out, class_names), form)

    return class_names, _files(train, names, labels, form), test


def _files(split: Path, names: npt.NDArray[np.bytes_], labels: Tensor, form: Form) -> ImageFiles:
    return ImageFiles(split, names, labels, form, Damage(split, len(labels)))


def _class_names(split: Path) -> tuple[str, ...]:
    folders = (path.name for path in split.iterdir() if path.is_dir())
    return tuple(sorted(name for name in folders if not name.startswith(".")))


def _names(split: Path, class_names: tuple[str, ...]) -> tuple[npt.NDArray[np.bytes_], Tensor]:
    """Every image file, relative to `split`, with its label; sorted within its class."""
    found: list[bytes] = []
    counts: list[int] = []
    for name in class_names:
        of_class = sorted(_images_below(split, name))
        found += map(os.fsencode, of_class)
        counts.append(len(of_class))
    if not found:
        raise DataError("holds no images in class folders", where=split)
    if 0 in counts:
        raise DataError(
            "this class folder holds no images",
            where=split / class_names[counts.index(0)],
            fix=f"known endings: {', '.join(_SUFFIXES)}",
        )
    labels = torch.arange(len(counts)).repeat_interleave(torch.tensor(counts))
    return np.array(found, dtype=np.bytes_), labels


def _images_below(split: Path, class_name: str) -> Iterator[str]:
    for place, _, files in os.walk(split / class_name, followlinks=True):
        relative = os.path.relpath(place, split)
        yield from (f"{relative}/{name}" for name in files if name.lower().endswith(_SUFFIXES))


def _form(split: Path, names: npt.NDArray[np.bytes_], pixels: int | None) -> Form:
    """Grey where all images looked at are; at `pixels`, or as large as the first that opens."""
    grey, sizes = [], []
    for number in np.unique(np.linspace(0, len(names) - 1, _LOOKED_AT).astype(int)):
        path = split / os.fsdecode(bytes(names[number]))
        try:
            with Image.open(path) as image:
                if is_deep(image):
                    raise DataError(
                        f"has more than 8 bits a channel (mode {image.mode})",
                        where=path,
                        fix="convert the images to 8-bit grey or RGB",
                    )
                grey.append(is_grey(image))
                sizes.append(image.size)
        except (OSError, SyntaxError):
            continue
    if not sizes:
        raise DataError("no image opens", where=split)
    if pixels is None and len(set(sizes)) > 1:
        width, height = sizes[0]
        warnings.warn(
            f"{split}: images differ in size; all are resized to {width}x{height}, the size of "
            "the first (choose another with imagefolder:PATH@PIXELS)",
            stacklevel=2,
        )
    return Form("L" if all(grey) else "RGB", *(sizes[0] if pixels is None else (pixels, pixels)))
