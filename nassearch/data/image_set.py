"""ImageSet: images in memory with their labels; Images: what training asks of any set of them."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Protocol

from torch import Tensor


@dataclass(frozen=True, eq=False, slots=True)
class ImageSet:
    """Images, uint8 (n, c, h, w), and labels, int64 (n,)."""

    images: Tensor
    labels: Tensor

    def __len__(self) -> int:
        return len(self.labels)

    @property
    def shape(self) -> tuple[int, int, int]:
        """(c, h, w) of every image."""
        channels, height, width = self.images.shape[1:]
        return channels, height, width

    def where(self, chosen: Tensor) -> "ImageSet":
        """The images at a mask, bool (n,), or at indices, int64 (m,)."""
        return ImageSet(self.images[chosen], self.labels[chosen])

    def among(self, chosen: Tensor) -> "ImageSet":
        """As `where`: these images are in memory already."""
        return self.where(chosen)

    def batches(self, chosen: Sequence[Tensor]) -> Iterator["ImageSet"]:
        """The images at each of `chosen`, int64 (m,), in turn."""
        return map(self.where, chosen)


class Images(Protocol):
    """Images with labels, in memory (ImageSet) or on disk (ImageFiles)."""

    @property
    def labels(self) -> Tensor: ...

    @property
    def shape(self) -> tuple[int, int, int]: ...

    def __len__(self) -> int: ...

    def where(self, chosen: Tensor) -> ImageSet: ...

    def among(self, chosen: Tensor) -> "Images": ...

    def batches(self, chosen: Sequence[Tensor]) -> Iterator[ImageSet]: ...
