"""Any folder of class folders: PATH/train/<class>/**, and PATH/test or PATH/val."""

import hashlib
import os
import warnings
from collections import Counter
from collections.abc import Iterator
from functools import partial
from pathlib import Path

import numpy as np
import numpy.typing as npt
import torch
from PIL import Image
from torch import Tensor

from nassearch.data.image_files import (
    ROTATED,
    Damage,
    Form,
    ImageFiles,
    is_deep,
    is_grey,
    orientation,
)
from nassearch.data.preprocessing import Preprocessing
from nassearch.data.source import Source
from nassearch.errors import DataError

SUFFIXES = (
    ".jpg", ".jpeg", ".jfif", ".png", ".bmp", ".webp", ".gif", ".ppm", ".pgm", ".tif", ".tiff",
)  # fmt: skip
_UNREAD = frozenset(
    (".heic", ".heif", ".avif", ".jxl", ".jp2", ".j2k", ".tga", ".psd", ".svg", ".ico", ".dds")
    + (".raw", ".dng", ".cr2", ".cr3", ".nef", ".arw", ".orf", ".rw2", ".exr", ".hdr", ".dcm")
)
"""Images of formats that are not read; other files beside images are none of ours."""
_NO_CLASS = "__MACOSX"  # what macOS adds to archives
_LOOKED_AT = 200  # headers read to learn the form of a set
_SQUASHED = 1.1  # a change of width over height that is worth a word


def read(folder: Path, pixels: int | None, *, name: str, preprocessing: Preprocessing) -> Source:
    """The images of `train`, and how to read those of `test` (or `val`).

    Images are resized to `pixels` square, or to the size of the first (where they are cropped, to
    its short side); they are grey where all are, unless the preprocessing is for three channels.
    Hidden files and folders are no images. Of the test split names alone are read here, so that
    what is wrong with them is said before anything is trained. Raises DataError.
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
    if len(class_names) == 1:
        raise DataError(
            "holds one class only", where=train, fix="classification needs at least two"
        )
    files, labels = _list_images(train, class_names)
    _refuse_empty_class(train, class_names, labels)
    test_files, test_labels = _list_test_images(held_out, class_names)
    form = _form(train, files, pixels, preprocessing)
    return Source(
        name,
        class_names,
        _image_files(train, files, labels, form),
        partial(_image_files, held_out, test_files, test_labels, form),
        partial(file_fingerprint, train, files),
        test_fingerprint=partial(file_fingerprint, held_out, test_files),
    )


def file_fingerprint(split: Path, files: npt.NDArray[np.bytes_]) -> str:
    """Sixteen hexadecimal digits of the files' names and sizes."""
    digest = hashlib.blake2b(digest_size=8)
    for file in files:
        relative = bytes(file)
        size = (split / os.fsdecode(relative)).stat().st_size
        digest.update(b"%b\0%d\0" % (relative, size))
    return digest.hexdigest()


def _image_files(
    split: Path, files: npt.NDArray[np.bytes_], labels: Tensor, form: Form
) -> ImageFiles:
    return ImageFiles(split, files, labels, form, Damage(split, len(labels)))


def _class_names(split: Path) -> tuple[str, ...]:
    return tuple(
        sorted(
            path.name
            for path in split.iterdir()
            if path.is_dir() and not path.name.startswith(".") and path.name != _NO_CLASS
        )
    )


def _list_images(
    split: Path, class_names: tuple[str, ...]
) -> tuple[npt.NDArray[np.bytes_], Tensor]:
    """Every image file, relative to `split`, with its label; sorted within its class."""
    files: list[bytes] = []
    counts: list[int] = []
    unread: Counter[str] = Counter()
    for class_name in class_names:
        of_class = []
        for file in _files_below(split, class_name):
            suffix = "." + file.rpartition(".")[2].lower()
            if suffix in SUFFIXES:
                of_class.append(file)
            elif suffix in _UNREAD:
                unread[suffix] += 1
        files += map(os.fsencode, sorted(of_class))
        counts.append(len(of_class))
    if unread:
        kinds = ", ".join(sorted(unread))
        warnings.warn(
            f"{split}: left out {unread.total()} images of formats that are not read ({kinds}):"
            " convert them to JPEG or PNG",
            stacklevel=2,
        )
    if not files:
        raise DataError(
            "holds no images in class folders",
            where=split,
            fix="put the images of each class into a folder named after it, as JPEG or PNG",
        )
    labels = torch.arange(len(counts)).repeat_interleave(torch.tensor(counts))
    return np.array(files, dtype=np.bytes_), labels


def _refuse_empty_class(split: Path, class_names: tuple[str, ...], labels: Tensor) -> None:
    counts = torch.bincount(labels, minlength=len(class_names)).tolist()
    if 0 in counts:
        raise DataError(
            "this class folder holds no images",
            where=split / class_names[counts.index(0)],
            fix=f"known endings: {', '.join(SUFFIXES)}",
        )


def _list_test_images(
    split: Path, class_names: tuple[str, ...]
) -> tuple[npt.NDArray[np.bytes_], Tensor]:
    """The test split's images; it may lack a class, but hold no other."""
    unknown = sorted(set(_class_names(split)) - set(class_names))
    if unknown:
        raise DataError(
            f"holds the class '{unknown[0]}', which train/ lacks",
            where=split,
            fix=f"known: {', '.join(class_names)}",
        )
    return _list_images(split, class_names)


def _files_below(split: Path, class_name: str) -> Iterator[str]:
    """Files relative to `split`, without hidden ones; each real folder is entered once."""
    above = Path(os.path.realpath(split))
    entered = {str(above), *map(str, above.parents)}  # a link to one of them is a loop
    for place, folders, files in os.walk(split / class_name, followlinks=True):
        real = os.path.realpath(place)
        if real in entered:
            folders.clear()
            continue
        entered.add(real)
        folders[:] = sorted(f for f in folders if not f.startswith(".") and f != _NO_CLASS)
        relative = os.path.relpath(place, split)
        yield from (f"{relative}/{name}" for name in files if not name.startswith("."))


def _form(
    split: Path, files: npt.NDArray[np.bytes_], pixels: int | None, preprocessing: Preprocessing
) -> Form:
    """Grey where all images looked at are; at `pixels`, or as large as the first that opens."""
    grey, sizes = [], []
    for number in np.unique(np.linspace(0, len(files) - 1, _LOOKED_AT).astype(int)):
        path = split / os.fsdecode(bytes(files[number]))
        header = _header(path)
        if header is None:
            continue
        if header[0] is None:
            raise DataError(
                "has more than 8 bits a channel", where=path, fix="convert it to 8-bit grey or RGB"
            )
        grey.append(header[0])
        sizes.append(header[1])
    if not sizes:
        raise DataError(
            "no image opens", where=split, fix="give images that an image viewer shows, JPEG or PNG"
        )
    in_colour = preprocessing.mean is not None and len(preprocessing.mean) == 3
    mode, resize = "L" if all(grey) and not in_colour else "RGB", preprocessing.resize
    if resize.is_crop:
        side = min(sizes[0]) if pixels is None else pixels
        return Form(mode, side, side, resize)
    width, height = sizes[0] if pixels is None else (pixels, pixels)
    _warn_of_resizing(split, sizes, (width, height), asked=pixels is not None)
    return Form(mode, width, height, resize)


def _header(path: Path) -> tuple[bool | None, tuple[int, int]] | None:
    """Whether it is grey (None: of more than 8 bits) and its size as seen; None: does not open."""
    try:
        with Image.open(path) as image:
            width, height = image.size
            size = (height, width) if orientation(image) in ROTATED else (width, height)
            return (None if is_deep(image) else is_grey(image)), size
    except Exception:  # Pillow's readers raise whatever they stumble over
        return None


def _warn_of_resizing(
    split: Path, sizes: list[tuple[int, int]], target: tuple[int, int], *, asked: bool
) -> None:
    width, height = target
    changes = [(w / h) / (width / height) for w, h in sizes]
    squashed = sum(not 1 / _SQUASHED < change < _SQUASHED for change in changes)
    words = (
        f"; {squashed} of {len(sizes)} looked at are squashed or stretched to it"
        " (preprocessing.resize: crop keeps their shape)"
    )
    if not asked and len(set(sizes)) > 1:
        warnings.warn(
            f"{split}: images differ in size; all are resized to {width}x{height}, the size of "
            f"the first (choose another with imagefolder:PATH@PIXELS){words if squashed else ''}",
            stacklevel=2,
        )
    elif squashed:
        warnings.warn(f"{split}: images are resized to {width}x{height}{words}", stacklevel=2)
