"""ImageSet: images in memory with their labels; Images: what training asks of any set of them."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Protocol

import torch
from torch import Tensor

from nassearch.data.preprocessing import View, fit_tensor


@dataclass(frozen=True, eq=False, slots=True)
class ImageSet:
    """Images, uint8 (n, c, h, w), and labels, int64 (n,).

    Those that were brought to their size know what they were (`origin`) and how it was done
    (`view`), so that they can be had at another size as good as new.
    """

    images: Tensor
    labels: Tensor
    origin: "Images | None" = None
    view: View | None = None

    def __len__(self) -> int:
        return len(self.labels)

    @property
    def shape(self) -> tuple[int, int, int]:
        """(c, h, w) of every image."""
        channels, height, width = self.images.shape[1:]
        return channels, height, width

    def where(self, chosen: Tensor) -> "ImageSet":
        """The images at a mask, bool (n,), or at indices, int64 (m,)."""
        origin = None if self.origin is None else self.origin.among(chosen)
        return ImageSet(self.images[chosen], self.labels[chosen], origin, self.view)

    def among(self, chosen: Tensor) -> "ImageSet":
        """As `where`: these images are in memory already."""
        return self.where(chosen)

    def at(self, pixels: int, view: View) -> "Images":
        """The same images brought to `pixels` square by `view`, from what they were."""
        if self.view == view and self.shape[1:] == (pixels, pixels):
            return self
        if self.origin is not None:
            return self.origin.at(pixels, view)
        return ImageSet(fit_tensor(self.images, pixels, view), self.labels, self, view)

    def photos(self) -> Iterator[tuple[Tensor, int]]:
        """Each image as it was before anything, uint8 (h, w, c), with its label."""
        if self.origin is not None:
            yield from self.origin.photos()
        else:
            yield from zip(self.images.permute(0, 2, 3, 1), self.labels.tolist(), strict=True)

    def batches(self, chosen: Sequence[Tensor]) -> Iterator["ImageSet"]:
        """The images at each of `chosen`, int64 (m,), in turn; nothing but these is kept."""
        return (ImageSet(self.images[part], self.labels[part]) for part in chosen)


def in_memory(images: "Images") -> ImageSet:
    """All of them, decoded."""
    return images if isinstance(images, ImageSet) else images.where(torch.arange(len(images)))


class Images(Protocol):
    """Images with labels, in memory (ImageSet) or on disk (ImageFiles)."""

    @property
    def labels(self) -> Tensor: ...

    @property
    def shape(self) -> tuple[int, int, int]: ...

    def __len__(self) -> int: ...

    def where(self, chosen: Tensor) -> ImageSet: ...

    def among(self, chosen: Tensor) -> "Images": ...

    def at(self, pixels: int, view: View) -> "Images": ...

    def photos(self) -> Iterator[tuple[Tensor, int]]: ...

    def batches(self, chosen: Sequence[Tensor]) -> Iterator[ImageSet]: ...
