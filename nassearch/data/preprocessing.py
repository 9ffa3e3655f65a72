"""Preprocessing: how an image becomes what a network takes, one value that a run and exports keep.

What is done to images decides accuracies as much as weights do: it travels with the supernet, and
accuracies under two of them do not compare.
"""

import hashlib
import json
import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Annotated, Any, Literal

import numpy as np
import torch
import torch.nn.functional as F
from PIL import Image
from pydantic import BeforeValidator, Field, model_validator
from torch import Tensor

from nassearch.config import StrictModel

STATISTICS = {
    "imagenet": ((0.485, 0.456, 0.406), (0.229, 0.224, 0.225)),
    "inception": ((0.5, 0.5, 0.5), (0.5, 0.5, 0.5)),
}
"""Means and deviations of red, green and blue, 0..1, that have a name."""
_CROP_SHARE = 0.875  # 224 of 256, as torchvision's and once-for-all's networks are evaluated


def _statistic(place: int, value: object) -> object:
    """A mean (`place` 0) or deviation (1) by its name; numbers as they are."""
    if isinstance(value, str):
        if value not in STATISTICS:
            known = ", ".join(STATISTICS)
            raise ValueError(f"is no name of a mean or deviation; known: {known}, or numbers")
        return STATISTICS[value][place]
    return tuple(value) if isinstance(value, list) else value


Channels = Annotated[tuple[float, ...], Field(min_length=1)]
Means = Annotated[Channels | None, BeforeValidator(lambda value: _statistic(0, value))]
Deviations = Annotated[Channels | None, BeforeValidator(lambda value: _statistic(1, value))]


class Resize(StrictModel):
    """How an image is brought to the pixels of a network, r by r, bilinear with antialiasing.

    `squash`: to r by r, whatever its shape. `crop`: its short side to ceil(r / share), its shape
    kept, and of that the central r by r (torchvision's Resize and CenterCrop).
    """

    mode: Literal["squash", "crop"] = "squash"
    share: Annotated[float, Field(gt=0, le=1)] | None = None
    """Of crop, 0.875 where it is not said."""

    @model_validator(mode="before")
    @classmethod
    def _usual_share(cls, value: Any) -> Any:
        keys = {"mode": value} if isinstance(value, str) else value
        if not isinstance(keys, Mapping):
            return keys
        cropped = keys.get("mode") == "crop"
        if not cropped and keys.get("share") is not None:
            raise ValueError("share is a key of the mode crop; write mode: crop beside it")
        usual = {"share": _CROP_SHARE} if cropped and keys.get("share") is None else {}
        return {**keys, **usual}

    @property
    def is_crop(self) -> bool:
        return self.mode == "crop"

    def short_side(self, pixels: int) -> int:
        """What the short side becomes before the central `pixels` are cut out."""
        return pixels if self.share is None else math.ceil(pixels / self.share)

    def __str__(self) -> str:
        if self.share is None:
            return "resized to r by r pixels"
        return f"short side resized to ceil(r / {self.share:g}), then the central r by r pixels"


SQUASH = Resize()


@dataclass(frozen=True, slots=True)
class RandomCrop:
    """A random part of an image, of at least `area` of it, brought to the pixels of a network.

    torchvision's RandomResizedCrop, drawn for each image by a seed of its own.
    """

    area: float


View = Resize | RandomCrop
"""How an image is brought to its pixels."""


class Recalibration(StrictModel):
    """The training images that set the statistics of a subnet's batch norm."""

    images: Annotated[int, Field(gt=0)] = 2000
    random_resized_crop: Annotated[float, Field(gt=0, le=1)] | None = None
    """A random part of each, of at least this share of its area. Unset: as they are evaluated."""
    flip: bool = False
    """Mirror half of them."""


class Preprocessing(StrictModel):
    """Resizing, normalisation and recalibration. `imagenet` stands for IMAGENET.

    `mean` and `std` are of each channel, for pixels scaled to 0..1: numbers, or a name of
    STATISTICS; unset, those of the training images.
    """

    resize: Resize = SQUASH
    mean: Means = None
    std: Deviations = None
    recalibration: Recalibration = Field(default_factory=Recalibration)

    @model_validator(mode="before")
    @classmethod
    def _by_name(cls, value: Any) -> Any:
        if not isinstance(value, str):
            return value
        if value not in PRESETS:
            raise ValueError(f"is no name of a preprocessing; known: {', '.join(PRESETS)}")
        return {name: getattr(PRESETS[value], name) for name in cls.model_fields}

    @model_validator(mode="after")
    def _both_or_none(self) -> "Preprocessing":
        if (self.mean is None) != (self.std is None):
            raise ValueError("mean and std belong together; give both or none")
        if self.mean is not None and self.std is not None:
            if len(self.mean) != len(self.std):
                raise ValueError("mean and std are of different channels; give one for each")
            if not all(0 < value < math.inf for value in self.std):
                raise ValueError("std holds what is no deviation; write numbers above 0")
            if not all(map(math.isfinite, self.mean)):
                raise ValueError("mean holds what is no number; write numbers of 0..1")
        return self

    @property
    def is_default(self) -> bool:
        return self == DEFAULT

    @property
    def fingerprint(self) -> str:
        """Eight hexadecimal digits that tell it from others; none of the default, as before it."""
        if self.is_default:
            return ""
        content = json.dumps(self.to_dict(), sort_keys=True)
        return hashlib.sha256(content.encode()).hexdigest()[:8]

    def to_dict(self) -> dict[str, Any]:
        """A form that checkpoints, JSON and YAML hold."""
        return self.model_dump(mode="json", exclude_none=True)

    def normalised_by(self, mean: tuple[float, ...], std: tuple[float, ...]) -> "Preprocessing":
        """This one with numbers for mean and deviation, whatever the images."""
        return self.model_copy(update={"mean": mean, "std": std})


DEFAULT = Preprocessing()
IMAGENET = Preprocessing(
    resize=Resize(mode="crop"),
    mean=STATISTICS["imagenet"][0],
    std=STATISTICS["imagenet"][1],
    recalibration=Recalibration(random_resized_crop=0.08, flip=True),
)
"""As torchvision's and once-for-all's networks were trained and evaluated on ImageNet."""
PRESETS = {"imagenet": IMAGENET}


def scaled(images: Tensor, height: int, width: int) -> Tensor:
    """Float images (n, c, h, w) of other pixels, bilinear with antialiasing."""
    if images.shape[-2:] == (height, width):
        return images
    size = (height, width)
    return F.interpolate(images, size, mode="bilinear", antialias=True, align_corners=False)


def fit_photo(photo: Image.Image, pixels: int, view: View, *, seed: int) -> Image.Image:
    """An upright photo brought to `pixels` square by `view`; `seed` is of what it draws."""
    if isinstance(view, RandomCrop):
        return _random_crop(photo, pixels, view, seed=seed)
    size, (left, top) = (pixels, pixels), (0, 0)
    if view.is_crop:
        size, (left, top) = _crop_place(photo.width, photo.height, pixels, view)
    if photo.size != size:
        photo = photo.resize(size, Image.Resampling.BILINEAR)
    return photo.crop((left, top, left + pixels, top + pixels))


def fit_tensor(images: Tensor, pixels: int, view: View) -> Tensor:
    """Images, uint8 (n, c, h, w), as uint8 (n, c, pixels, pixels), each as a photo is."""
    found = np.empty((*images.shape[:2], pixels, pixels), dtype=np.uint8)
    for number, image in enumerate(images.permute(0, 2, 3, 1).numpy()):
        photo = Image.fromarray(image.squeeze(2) if image.shape[2] == 1 else image)
        fitted = np.asarray(fit_photo(photo, pixels, view, seed=number))
        found[number] = fitted if fitted.ndim == 2 else fitted.transpose(2, 0, 1)
    return torch.from_numpy(found)


def _random_crop(photo: Image.Image, pixels: int, view: RandomCrop, *, seed: int) -> Image.Image:
    from torchvision.transforms import v2

    transform = v2.RandomResizedCrop((pixels, pixels), scale=(view.area, 1.0), antialias=True)
    with torch.random.fork_rng(devices=[]):  # torchvision draws from torch's global generator
        torch.default_generator.manual_seed(seed)
        cropped: Image.Image = transform(photo)
    return cropped


def _crop_place(
    width: int, height: int, pixels: int, resize: Resize
) -> tuple[tuple[int, int], tuple[int, int]]:
    """(width, height) that an image is resized to, and (left, top) of the crop in it.

    Roundings are torchvision's: the long side is cut off, the place rounded to the even.
    """
    short = resize.short_side(pixels)
    long = int(short * max(width, height) / min(width, height))
    size = (short, long) if width <= height else (long, short)
    return size, (round((size[0] - pixels) / 2), round((size[1] - pixels) / 2))
