"""ImageSet: images with their labels."""

from dataclasses import dataclass

from torch import Tensor


@dataclass(frozen=True, eq=False, slots=True)
class ImageSet:
    """Images, uint8 (n, c, h, w), and labels, int64 (n,)."""

    images: Tensor
    labels: Tensor

    def __len__(self) -> int:
        return len(self.labels)

    def where(self, chosen: Tensor) -> "ImageSet":
        """The images at a mask, bool (n,), or at indices, int64 (m,)."""
        return ImageSet(self.images[chosen], self.labels[chosen])
