"""ImageFiles: images left on disk and decoded when asked for, in worker processes."""

import os
import warnings
import zlib
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field, replace
from enum import IntEnum
from pathlib import Path

import numpy as np
import numpy.typing as npt
import torch
from PIL import Image, ImageOps
from torch import Tensor
from torch.utils.data import DataLoader, Dataset

from nassearch.data.image_set import ImageSet
from nassearch.data.preprocessing import SQUASH, Resize, View, fit_photo
from nassearch.errors import DataError
from nassearch.free_memory import free_bytes

_MAX_DAMAGED = 0.01
_ANSWER_SECONDS = 600.0  # that a process may take for a batch; one that takes longer hangs
_CHUNK, _CHUNK_BYTES = 256, 8 * 2**20  # decoded at a time where no batch size is given
_GREY = frozenset({"1", "L", "LA"})
_DEEP = ("I", "F")  # more than 8 bits a channel; Pillow would cut the values off at 255
ROTATED = frozenset({5, 6, 7, 8})
"""EXIF orientations that swap width and height."""
_ORIENTATION_TAG = 0x0112


class State(IntEnum):
    """What became of a file."""

    DECODED = 0
    DAMAGED = 1
    COLOUR = 2  # in a grey set
    DEEP = 3


@dataclass(frozen=True, slots=True)
class Form:
    """What every image is decoded to: Pillow's mode L or RGB, a size in pixels, and how it gets it.

    What is cropped is square.
    """

    mode: str
    width: int
    height: int
    view: View = SQUASH

    @property
    def shape(self) -> tuple[int, int, int]:
        return 1 if self.mode == "L" else 3, self.height, self.width

    @property
    def num_bytes(self) -> int:
        return int(np.prod(self.shape))

    @property
    def is_squashed(self) -> bool:
        return isinstance(self.view, Resize) and not self.view.is_crop


@dataclass
class Damage:
    """The damaged files met so far among `num_images` of a split: told once each, few let pass."""

    place: Path
    num_images: int
    _known: set[Path] = field(default_factory=set)

    def add(self, paths: Iterable[Path]) -> None:
        """Warn of those not met before; DataError where all met are more than 1 %."""
        new = sorted(set(paths) - self._known)
        if not new:
            return
        self._known.update(new)
        if len(self._known) > _MAX_DAMAGED * self.num_images:
            raise DataError(
                f"{len(self._known)} of {self.num_images} images are damaged, "
                f"the first {min(self._known)}",
                where=self.place,
                fix=f"at most {_MAX_DAMAGED:.0%} are left out: replace or remove the others",
            )
        listed = ", ".join(map(str, new[:5])) + (", ..." if len(new) > 5 else "")
        warnings.warn(f"{self.place}: skipped {len(new)} damaged images: {listed}", stacklevel=2)


@dataclass(frozen=True, eq=False)
class ImageFiles:
    """Image files below `root` with their labels, int64 (n,), and the form they are decoded to.

    `names` are paths relative to `root`, as one array of bytes: a list of strings would be copied
    into every worker process while it is read, by its reference counts.
    """

    root: Path
    names: npt.NDArray[np.bytes_]
    labels: Tensor
    form: Form
    damage: Damage
    num_processes: int = field(default_factory=lambda: _num_cores())

    def __len__(self) -> int:
        return len(self.labels)

    @property
    def shape(self) -> tuple[int, int, int]:
        """(c, h, w) of every image, decoded."""
        return self.form.shape

    @property
    def num_bytes(self) -> int:
        """What all images would take in memory."""
        return self.form.num_bytes * len(self)

    def at(self, pixels: int, view: View) -> "ImageFiles":
        """The same images, decoded to `pixels` square in another way."""
        return replace(self, form=replace(self.form, width=pixels, height=pixels, view=view))

    def among(self, chosen: Tensor) -> "ImageFiles":
        """The files at a mask, bool (n,), or at indices, int64 (m,)."""
        return replace(self, names=self.names[chosen.numpy()], labels=self.labels[chosen])

    def where(self, chosen: Tensor) -> ImageSet:
        """The images at a mask or at indices, decoded into memory without the damaged ones.

        Raises DataError above 1 % of damaged files, at images of other channels, and where they
        need more memory than is free.
        """
        indices = torch.arange(len(self))[chosen]
        self._check_memory(len(indices))
        images = torch.empty((len(indices), *self.shape), dtype=torch.uint8)
        opened: list[Tensor] = []
        damaged: list[Path] = []
        count = 0
        chunks = indices.split(max(1, min(_CHUNK, _CHUNK_BYTES // self.form.num_bytes)))
        for part, (pixels, good) in zip(chunks, self._decoded(chunks), strict=True):
            images[count : count + int(good.sum())] = pixels[good]
            count += int(good.sum())
            opened.append(part[good])
            damaged += map(self._path, part[~good].tolist())
        self.damage.add(damaged)
        files = self.among(torch.cat(opened))
        return ImageSet(images[:count], files.labels, files, self.form.view)

    def photos(self) -> Iterator[tuple[Tensor, int]]:
        """Each photo as a decoder gives it, uint8 (h, w, c), with its label; no damaged ones."""
        for number, label in enumerate(self.labels.tolist()):
            try:
                with Image.open(self._path(number)) as image:
                    pixels = np.array(_upright(image, self.form))
            except Exception:  # as of `decode`
                continue
            yield torch.from_numpy(pixels).reshape(*pixels.shape[:2], -1), label

    def batches(self, chosen: Sequence[Tensor]) -> Iterator[ImageSet]:
        """The images at each of `chosen`, int64 (m,), in turn, decoded ahead of their use.

        In the place of a damaged file stands the next one that opens: batches keep their size, and
        what one holds depends on nothing but `chosen`. Raises DataError as `where` does.
        """
        for indices, (pixels, good) in zip(chosen, self._decoded(chosen), strict=True):
            indices = indices.clone()
            for row in torch.nonzero(~good).flatten().tolist():
                while not good[row]:
                    self.damage.add([self._path(int(indices[row]))])
                    indices[row] = (indices[row] + 1) % len(self)
                    pixels[row : row + 1], good[row : row + 1] = self._one(int(indices[row]))
            yield ImageSet(pixels, self.labels[indices])

    # -- decoding ----------------------------------------------------------------------------------

    def _decoded(self, chosen: Sequence[Tensor]) -> Iterator[tuple[Tensor, Tensor]]:
        """For each of `chosen` its images, uint8 (m, c, h, w), and which were opened, bool (m,)."""
        num_workers = min(self.num_processes, len(chosen)) if len(chosen) > 1 else 0
        loader = DataLoader(
            _Decoding(self),
            batch_size=None,
            sampler=[indices.tolist() for indices in chosen],
            num_workers=num_workers,
            timeout=_ANSWER_SECONDS if num_workers else 0,
            pin_memory=torch.cuda.is_available(),
            generator=torch.Generator(),  # it draws a seed, not from the global one
        )
        try:
            for indices, (pixels, states) in zip(chosen, loader, strict=True):
                yield pixels, self._checked(indices, states)
        except RuntimeError as error:
            if "DataLoader timed out" in str(error):
                raise DataError(
                    f"a process that decodes images has not answered for {_ANSWER_SECONDS:g} s",
                    where=self.root,
                    fix="see whether the disk answers, then give the command again",
                ) from error
            if "DataLoader worker" not in str(error):
                raise
            raise DataError(
                "a process that decodes images was ended by the system",
                where=self.root,
                fix="give more memory, or shared memory (docker run --shm-size), or a smaller size",
            ) from error

    def _check_memory(self, count: int) -> None:
        needed, free = count * self.form.num_bytes, free_bytes()
        if free is not None and needed > free:
            _, height, width = self.shape
            raise DataError(
                f"{count:,} images of {width}x{height} pixels need {needed / 2**20:,.1f} MiB of"
                f" memory, {free / 2**20:,.1f} are free",
                where=self.root,
                fix=f"write a smaller size, imagefolder:{self.root.parent}@{max(1, width // 2)}",
            )

    def _one(self, index: int) -> tuple[Tensor, Tensor]:
        pixels, states = _Decoding(self)[[index]]
        return pixels, self._checked(torch.tensor([index]), states)

    def _checked(self, indices: Tensor, states: Tensor) -> Tensor:
        for state, kind in (
            (State.COLOUR, "is a colour image, where the first ones are grey"),
            (State.DEEP, "has more than 8 bits a channel"),
        ):
            others = indices[states == state]
            if len(others):
                raise DataError(
                    kind,
                    where=self._path(int(others[0])),
                    fix="convert it to what the others are, or remove it",
                )
        return states == State.DECODED

    def _path(self, index: int) -> Path:
        return self.root / os.fsdecode(bytes(self.names[index]))


def _num_cores() -> int:
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))  # those this process may use
    return os.cpu_count() or 1


class _Decoding(Dataset[tuple[Tensor, Tensor]]):
    """Lists of indices -> images, uint8 (m, c, h, w), and the State of each, uint8 (m,)."""

    def __init__(self, files: ImageFiles) -> None:
        self._files = files

    def __getitem__(self, indices: list[int]) -> tuple[Tensor, Tensor]:
        files = self._files
        images = np.zeros((len(indices), *files.shape), dtype=np.uint8)
        states = [decode(files._path(i), files.form, images[n]) for n, i in enumerate(indices)]
        return torch.from_numpy(images), torch.tensor(states, dtype=torch.uint8)


def decode(path: Path, form: Form, out: npt.NDArray[np.uint8]) -> State:
    """Decode one file into `out`, (c, h, w)."""
    try:
        with Image.open(path) as image:
            if is_deep(image):
                return State.DEEP
            if form.mode == "L" and not is_grey(image):
                return State.COLOUR
            converted = _fitted(image, path, form)
    except Exception:  # Pillow's readers raise whatever they stumble over in a damaged file
        return State.DAMAGED
    pixels = np.asarray(converted)
    out[:] = pixels if form.mode == "L" else pixels.transpose(2, 0, 1)
    return State.DECODED


def _fitted(image: Image.Image, path: Path, form: Form) -> Image.Image:
    """The image in the form's mode and pixels, turned as the camera was held."""
    turned = orientation(image)
    if form.is_squashed:
        stored = _stored_size(form, turned)
        converted = _converted(image, form, turned)
        if converted.size != stored:
            converted = converted.resize(stored, Image.Resampling.BILINEAR)
        return ImageOps.exif_transpose(converted) if turned != 1 else converted
    seed = zlib.crc32(os.fsencode(path.name))  # wherever the images lie, the same draw
    return fit_photo(_upright(image, form), form.width, form.view, seed=seed)


def _upright(image: Image.Image, form: Form) -> Image.Image:
    """The whole image in the form's mode, turned as the camera was held."""
    turned = orientation(image)
    converted = _converted(image, form, turned)
    return ImageOps.exif_transpose(converted) if turned != 1 else converted


def _converted(image: Image.Image, form: Form, turned: int) -> Image.Image:
    """The image in the form's mode; a large JPEG at a fraction of its size where it is squashed."""
    if form.is_squashed:  # what is cropped is to be exact
        image.draft(form.mode, _stored_size(form, turned))
    return image.convert(form.mode)


def _stored_size(form: Form, turned: int) -> tuple[int, int]:
    """(width, height) of what is not turned yet."""
    return (form.height, form.width) if turned in ROTATED else (form.width, form.height)


def orientation(image: Image.Image) -> int:
    """How a camera was held, EXIF's 1 (upright) to 8."""
    value = image.getexif().get(_ORIENTATION_TAG, 1)
    return value if value in range(1, 9) else 1


def is_grey(image: Image.Image) -> bool:
    return image.mode in _GREY


def is_deep(image: Image.Image) -> bool:
    return image.mode.startswith(_DEEP)
