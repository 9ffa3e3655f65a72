"""TargetSet: images with targets of any kind, from a user's own data set and collate."""

from collections.abc import Callable, Iterator, Sequence
from functools import cached_property
from typing import Any, Protocol

import torch
from torch import Tensor
from torch.utils._pytree import tree_map_only

from nassearch.data.image_set import Images, ImageSet
from nassearch.data.preprocessing import View
from nassearch.data.seeding import seeded
from nassearch.errors import DataError

Collate = Callable[[list[Any]], tuple[Tensor, Any]]
"""Items of a data set to images, float32 (n, c, h, h), as a network takes them, and targets of any
kind: the `collate_fn` of a torch DataLoader."""
Targets = Any  # boxes, masks, dicts and lists of them: what the user's loss takes
TargetBatch = tuple[Tensor, Targets]

_PART = 64


class Items(Protocol):
    """What is asked of a user's data set."""

    def __len__(self) -> int: ...

    def __getitem__(self, index: int) -> Any: ...


class TargetSet:
    """Images with targets; items are read, and augmented by their own data set, batch by batch.

    Its `labels` are all 0: there are no classes.
    """

    def __init__(
        self, dataset: Items, collate: Collate, *, where: str, chosen: Tensor | None = None
    ) -> None:
        self._dataset, self._collate, self._where = dataset, collate, where
        if not hasattr(dataset, "__len__"):
            raise DataError(
                "has no length",
                where=where,
                fix="give a map-style data set: __len__ and __getitem__",
            )
        self._chosen = torch.arange(len(dataset)) if chosen is None else chosen
        if len(self) == 0:
            raise DataError("holds no images", where=where, fix="give a data set of several items")

    def __len__(self) -> int:
        return len(self._chosen)

    @property
    def labels(self) -> Tensor:
        return torch.zeros(len(self), dtype=torch.int64)

    @cached_property
    def shape(self) -> tuple[int, int, int]:
        """(c, h, w) of the images; those of two items must make a batch."""
        images, _ = self.batch(torch.arange(min(2, len(self))), seed=0)
        channels, height, width = images.shape[1:]
        if height != width:
            raise DataError(
                f"gives images of {width} x {height} pixels",
                where=self._where,
                fix="bring images, with their targets, to a square in the data set",
            )
        return channels, height, width

    def batch(self, chosen: Tensor, *, seed: int) -> TargetBatch:
        """The images at indices, and their targets.

        All that the data set and its collate draw at random from torch, numpy or random comes from
        `seed`. Raises DataError where they give no batch.
        """
        numbers = self._chosen[chosen].tolist()
        try:
            with seeded(seed):
                given = self._collate([self._dataset[number] for number in numbers])
        except Exception as error:  # whatever a user's code raises
            reason = " ".join(str(error).split())[:160]
            raise DataError(
                f"items {', '.join(map(str, numbers[:2]))}, ... make no batch"
                f" ({type(error).__name__}: {reason})",
                where=self._where,
                fix="give a collate that takes a list of items and returns (images, targets)",
            ) from error
        return self._checked(given, len(numbers))

    def _checked(self, given: object, count: int) -> TargetBatch:
        if not isinstance(given, tuple | list) or len(given) != 2:
            raise DataError(
                f"its collate returned a {type(given).__name__}, not images and targets",
                where=self._where,
                fix="return a pair: images, float32 (n, c, h, h), and targets of any kind",
            )
        images, targets = given
        is_batch = isinstance(images, Tensor) and images.dim() == 4 and len(images) == count
        if not is_batch or images.dtype != torch.float32:
            found = (
                f"{images.dtype} {tuple(images.shape)}".removeprefix("torch.")
                if isinstance(images, Tensor)
                else f"a {type(images).__name__}"
            )
            raise DataError(
                f"its collate gives {found} as the images of {count} items",
                where=self._where,
                fix="give float32 (n, c, h, h), as the network takes them",
            )
        return images, targets

    def where(self, chosen: Tensor) -> ImageSet:
        """The images at a mask or at indices, in memory, without their targets."""
        own = self.among(chosen)
        parts = torch.arange(len(own)).split(_PART)
        images = torch.cat([own.batch(part, seed=0)[0] for part in parts])
        return ImageSet(images, own.labels)

    def among(self, chosen: Tensor) -> "TargetSet":
        return TargetSet(
            self._dataset, self._collate, where=self._where, chosen=self._chosen[chosen]
        )

    def at(self, pixels: int, view: View) -> Images:
        """Nothing crops images whose targets it does not know."""
        raise DataError(
            "has targets of its own, so its images cannot be cropped",
            where=self._where,
            fix="crop images and targets in the data set",
        )

    def photos(self) -> Iterator[tuple[Tensor, int]]:
        raise DataError(
            "gives images as a network takes them, and no photos",
            where=self._where,
            fix="leave --preprocess-in-graph out",
        )

    def batches(self, chosen: Sequence[Tensor]) -> Iterator[ImageSet]:
        return (self.where(part) for part in chosen)


def to_device(targets: Targets, device: torch.device) -> Targets:
    """The targets with every tensor in them on a device."""
    return tree_map_only(Tensor, lambda tensor: tensor.to(device), targets)
