"""Any folder of class folders, decoded once: PATH/train/<class>/*, and PATH/test or PATH/val."""

import warnings
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import numpy as np
import numpy.typing as npt
import torch
from PIL import Image

from nassearch.errors import DataError
from nassearch.training.image_set import ImageSet

_SUFFIXES = frozenset({".jpg", ".jpeg", ".png", ".bmp", ".webp", ".gif", ".ppm", ".pgm", ".tiff"})
_MAX_DAMAGED = 0.01
_MAX_BYTES = 8 * 2**30


@dataclass(frozen=True, slots=True)
class Form:
    """What every image is decoded to."""

    mode: str
    width: int
    height: int

    @property
    def num_bytes(self) -> int:
        return self.width * self.height * (1 if self.mode == "L" else 3)


def read(
    folder: Path, pixels: int | None
) -> tuple[tuple[str, ...], ImageSet, Callable[[], ImageSet]]:
    """Class names, the decoded images of `train`, and how to read the test split.

    Images are resized to `pixels` square, or to the size of the first; they are grey where the
    first one is. Damaged files are skipped with a warning, and refused above 1 %. Raises DataError.
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
    paths = _paths(train, class_names)
    form = _form(paths, pixels)

    def test() -> ImageSet:
        assert held_out is not None
        unknown = sorted(set(_class_names(held_out)) - set(class_names))
        if unknown:
            raise DataError(
                f"holds the class '{unknown[0]}', which train/ lacks",
                where=held_out,
                fix=f"known: {', '.join(class_names)}",
            )
        return _decode(held_out, _paths(held_out, class_names), form)

    return class_names, _decode(train, paths, form), test


def _class_names(split: Path) -> tuple[str, ...]:
    return tuple(sorted(path.name for path in split.iterdir() if path.is_dir()))


def _paths(split: Path, class_names: tuple[str, ...]) -> list[tuple[Path, int]]:
    """Every image file with its label."""
    found = [
        (path, label)
        for label, name in enumerate(class_names)
        for path in sorted((split / name).glob("*"))
        if path.suffix.lower() in _SUFFIXES
    ]
    present = {label for _, label in found}
    if not found:
        raise DataError("holds no images in class folders", where=split)
    for label, name in enumerate(class_names):
        if label not in present:
            raise DataError("this class folder holds no images", where=split / name)
    return found


def _form(paths: list[tuple[Path, int]], pixels: int | None) -> Form:
    """The form of the first image that opens, at `pixels` where given."""
    for path, _ in paths:
        try:
            with Image.open(path) as image:
                mode = "L" if image.mode in ("1", "L") else "RGB"
                width, height = (pixels, pixels) if pixels is not None else image.size
                form = Form(mode, width, height)
        except (OSError, SyntaxError):
            continue
        if form.num_bytes * len(paths) > _MAX_BYTES:
            raise DataError(
                f"{len(paths)} images of {width}x{height} do not fit in memory",
                where=path.parent.parent,
                fix="give a smaller size, as in imagefolder:PATH@64",
            )
        return form
    raise DataError("no image opens", where=paths[0][0].parent.parent)


def _decode(split: Path, paths: list[tuple[Path, int]], form: Form) -> ImageSet:
    with ThreadPoolExecutor() as pool:
        decoded = list(pool.map(partial(_pixels, form), [path for path, _ in paths]))
    damaged = [path for (path, _), pixels in zip(paths, decoded, strict=True) if pixels is None]
    if len(damaged) > _MAX_DAMAGED * len(paths):
        raise DataError(
            f"{len(damaged)} of {len(paths)} images are damaged, the first {damaged[0]}",
            where=split,
            fix=f"at most {_MAX_DAMAGED:.0%} are skipped",
        )
    if damaged:
        listed = ", ".join(map(str, damaged[:5])) + (", ..." if len(damaged) > 5 else "")
        warnings.warn(f"{split}: skipped {len(damaged)} damaged images: {listed}", stacklevel=2)
    images = np.stack([pixels for pixels in decoded if pixels is not None])
    labels = [
        label for (_, label), pixels in zip(paths, decoded, strict=True) if pixels is not None
    ]
    return ImageSet(torch.from_numpy(images), torch.tensor(labels, dtype=torch.int64))


def _pixels(form: Form, path: Path) -> npt.NDArray[np.uint8] | None:
    """One image as (c, h, w); None where the file is damaged."""
    try:
        with Image.open(path) as image:
            converted = image.convert(form.mode)
            if converted.size != (form.width, form.height):
                converted = converted.resize((form.width, form.height), Image.Resampling.BILINEAR)
    except (OSError, SyntaxError, ValueError, Image.DecompressionBombError):
        return None  # Pillow's ways of saying that a file is damaged
    pixels = np.asarray(converted)
    return pixels[None] if pixels.ndim == 2 else np.ascontiguousarray(pixels.transpose(2, 0, 1))
