"""What is done to the images of a batch, each by draws of its own, on the training device."""

from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property
from typing import Annotated, Literal

import numpy as np
import torch
import torch.nn.functional as F
from pydantic import Field
from torch import Tensor

from nassearch.config import StrictModel
from nassearch.data.seeding import Stream, torch_generator

Transform = Callable[[Tensor], Tensor]
NonNegative = Annotated[float, Field(ge=0)]
Fraction = Annotated[float, Field(ge=0, le=1)]


class AugmentationOptions(StrictModel):
    """What a recipe says about the images of a training."""

    crop_padding: Annotated[int, Field(ge=0)] | None = None
    """Largest shift of the random crop in pixels; unset: an eighth of the width, or none where
    random_resized_crop is set."""
    flip: bool | Literal["alternating"] | None = None
    """Random left-right flips; unset: where the data set allows (digits do not). alternating: an
    image is mirrored in every other epoch (airbench)."""
    random_resized_crop: Annotated[float, Field(gt=0, le=1)] | None = None
    """For larger photos: train on a random part of each image, of at least this share of its area,
    resized to the image's size (0.08 to 0.35 are usual). Unset: none."""
    auto_augment: Literal["none", "randaugment", "trivialaugment"] = "none"
    """Random distortions of colour and shape: two of middling strength in each image (RandAugment,
    Cubuk et al., 2020), or one of any strength (TrivialAugment, Mueller and Hutter, 2021)."""
    random_erasing: Fraction = 0.0
    """The chance that a random rectangle of an image is blanked (Zhong et al., 2020)."""
    mixup: NonNegative = 0.0
    """α > 0 averages each image and its label with another's by a share from Beta(α, α)."""
    cutmix: NonNegative = 0.0
    """α > 0 pastes a box of another image into each, its area from Beta(α, α), labels alike; with
    mixup too, each of the two serves half of the images."""


@dataclass(frozen=True)
class Augmentation:
    """The augmentation that options name, for images of `shape` (c, h, w).

    `mirrors`: whether an image flipped left to right still shows its class.
    """

    options: AugmentationOptions
    shape: tuple[int, int, int]
    mirrors: bool

    @property
    def padding(self) -> int:
        """The largest shift, in pixels."""
        if self.options.crop_padding is not None:
            return self.options.crop_padding
        if self.options.random_resized_crop is not None:
            return 0
        return min(self.shape[2] // 8, min(self.shape[1:]) - 1)  # a flat image has few rows

    @property
    def flip(self) -> bool:
        """Whether each image is mirrored or not by chance."""
        return self.mirrors if self.options.flip is None else self.options.flip is True

    @property
    def mixes(self) -> bool:
        return self.options.mixup > 0 or self.options.cutmix > 0

    @cached_property
    def transforms(self) -> Transform | None:
        """What happens to one image, uint8, after shift and flip; None: nothing."""
        from torchvision.transforms import v2

        options, found = self.options, []
        if options.random_resized_crop is not None:
            area = (options.random_resized_crop, 1.0)
            found.append(v2.RandomResizedCrop(self.shape[1:], scale=area, antialias=True))
        if options.auto_augment == "randaugment":
            found.append(v2.RandAugment())
        if options.auto_augment == "trivialaugment":
            found.append(v2.TrivialAugmentWide())
        return v2.Compose(found) if found else None

    @cached_property
    def erasing(self) -> Transform | None:
        """What happens to one normalised image: a rectangle becomes the mean colour."""
        from torchvision.transforms import v2

        chance = self.options.random_erasing
        return v2.RandomErasing(p=chance) if chance > 0 else None


def transform_each(images: Tensor, transform: Transform | None, seeds: Tensor) -> Tensor:
    """Every image, (n, c, h, w), transformed by draws from its own seed, int64 (n,).

    torchvision draws from torch's global generator, which is put back afterwards.
    """
    if transform is None:
        return images
    done = []
    with torch.random.fork_rng(devices=[]):
        for image, seed in zip(images, seeds.tolist(), strict=True):
            torch.default_generator.manual_seed(seed)
            done.append(transform(image))
    return torch.stack(done)


def alternating_flips(seed: int, num_images: int, *, epoch: int) -> Tensor:
    """Whether each image is mirrored in `epoch`, bool (num_images,): in every other epoch.

    In the first epoch a random half is (Jordan, "94% on CIFAR-10 in 3.29 Seconds", 2024, 3.6).
    """
    first = torch.randint(2, (num_images,), generator=torch_generator(seed, Stream.FLIPS))
    return (first + epoch) % 2 == 1


@dataclass(frozen=True, slots=True)
class Mix:
    """How each image of a batch is mixed: all tensors float32 (n,).

    `kept` is the image's own share; where `cut` is 1 the other image's is a box around (`row`,
    `column`), in shares of height and width, otherwise the two are averaged by `kept`.
    """

    kept: Tensor
    cut: Tensor
    row: Tensor
    column: Tensor

    @classmethod
    def draw(cls, count: int, *, mixup: float, cutmix: float, rng: np.random.Generator) -> "Mix":
        """Shares from Beta(α, α) with the α of the way drawn; of two ways each serves a half."""
        cut = rng.random(count) < (0.5 if mixup and cutmix else float(cutmix > 0))
        alpha = np.where(cut, cutmix, mixup)
        drawn = (rng.beta(alpha, alpha), cut, rng.random(count), rng.random(count))
        return cls(*(torch.from_numpy(values.astype(np.float32)) for values in drawn))

    def at(self, positions: slice) -> "Mix":
        return Mix(*(part[positions] for part in (self.kept, self.cut, self.row, self.column)))


def mix(images: Tensor, labels: Tensor, drawn: Mix, *, num_classes: int) -> tuple[Tensor, Tensor]:
    """Each image mixed with the one before it, and the classes' shares, float (n, num_classes).

    Mixup: Zhang et al., ICLR 2018. CutMix: Yun et al., ICCV 2019; its share is that of the pixels.
    """
    own = _own_weight(drawn, *images.shape[2:]).to(images.device)
    mixed = torch.lerp(images.roll(1, 0), images, own)
    share = own.mean((2, 3))
    classes = F.one_hot(labels, num_classes).float()
    return mixed, torch.lerp(classes.roll(1, 0), classes, share)


def _own_weight(drawn: Mix, height: int, width: int) -> Tensor:
    """What each pixel keeps of its own image, float (n, 1, height, width)."""
    side = (1 - drawn.kept).sqrt()

    def inside(centre: Tensor, size: int) -> Tensor:
        pixel = (torch.arange(size) + 0.5) / size
        return (pixel - centre.unsqueeze(1)).abs() < side.unsqueeze(1) / 2

    box = inside(drawn.row, height).unsqueeze(2) & inside(drawn.column, width).unsqueeze(1)
    averaged = drawn.kept.view(-1, 1, 1).expand(box.shape)
    return torch.where(drawn.cut.view(-1, 1, 1) > 0, (~box).float(), averaged).unsqueeze(1)


def draw_crops(
    count: int, *, padding: int, flip: bool, generator: torch.Generator
) -> tuple[Tensor, Tensor]:
    """A shift in pixels, int64 (count, 2), and whether it is mirrored, bool (count,), per image.

    Shifts are uniform, up to `padding` pixels in both directions. The generator is a CPU generator.
    """
    shift = torch.randint(-padding, padding + 1, (2, count), generator=generator)
    mirrored = torch.rand(count, generator=generator) < (0.5 if flip else 0.0)
    return shift.T, mirrored


def crop_and_flip(images: Tensor, shift: Tensor, mirrored: Tensor) -> Tensor:
    """Images, (n, c, h, w), each shifted and mirrored as `draw_crops` drew it.

    What enters at an edge is the reflection of the image, as after padding by reflection.
    """
    count, _, height, width = images.shape
    rows = _reflect(torch.arange(height) + shift[:, :1], height)
    columns = _reflect(torch.arange(width) + shift[:, 1:], width)
    columns = torch.where(mirrored.unsqueeze(1), columns.flip(1), columns)
    image = torch.arange(count).view(-1, 1, 1)
    device = images.device
    picked = images.permute(0, 2, 3, 1)[
        image.to(device), rows.unsqueeze(2).to(device), columns.unsqueeze(1).to(device)
    ]
    return picked.permute(0, 3, 1, 2)


def _reflect(index: Tensor, size: int) -> Tensor:
    """Indices outside 0..size-1 mirrored at the edge pixels: -1 -> 1, size -> size - 2."""
    index = index.abs()
    return torch.where(index >= size, 2 * (size - 1) - index, index)
