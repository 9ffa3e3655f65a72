"""Accuracy of subnets, never without recalibrated batch norm."""

import math
import warnings
from collections.abc import Callable, Collection, Iterable, Iterator, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from nassearch.data.dataset import Data
from nassearch.data.image_set import Images, in_memory
from nassearch.data.target_set import TargetBatch, TargetSet, to_device
from nassearch.errors import DataError
from nassearch.networks import Subnet, Supernet
from nassearch.networks.supernet import resize
from nassearch.provenance import Estimate
from nassearch.space import Architecture
from nassearch.training.task import Loss, Metric

Z_95 = 1.959964  # the normal quantile of a two-sided 95 % interval
_Z_SURE = 3.290527  # of one of 99.9 %: evaluations are only stopped where they are sure
_LOOKS = (0.125, 0.25, 0.5)  # the shares of the images after which one may be stopped
_BATCH_SIZE = 200
_TARGET_BATCH = 32  # images of detection and segmentation are larger
_TOP = 5
MAX_BYTES = 4 * 2**30
"""Of prepared images that an evaluator keeps."""
_USUAL = 0.9  # the accuracy at which a split's size is judged
_COARSE = 0.05  # a difference that networks of one space seldom have


@dataclass(frozen=True, slots=True)
class Accuracy:
    """The share of images classified rightly, 0..1, with Wilson's 95 % interval.

    `loss` is the mean cross entropy on the same images, in nats, and `loss_error` its standard
    error; `top5` is the share of images whose class is among the five likeliest, where there are
    more than five.
    """

    value: float
    split: str
    num_images: int
    interval: tuple[float, float]
    loss: float | None = None
    loss_error: float | None = None
    top5: float | None = None

    @classmethod
    def of(
        cls,
        num_right: int,
        num_images: int,
        *,
        split: str,
        losses: Tensor | None = None,
        num_in_top5: int | None = None,
    ) -> "Accuracy":
        """The share of images that were classified rightly; `losses` are of each image, (n,)."""
        interval = _wilson(num_right, num_images, Z_95)
        loss = error = None
        if losses is not None:
            loss = float(losses.double().mean())
            error = float(losses.double().std(correction=0)) / math.sqrt(num_images)
        top5 = None if num_in_top5 is None else num_in_top5 / num_images
        return cls(num_right / num_images, split, num_images, interval, loss, error, top5)


def _wilson(num_right: int, num_images: int, z: float) -> tuple[float, float]:
    """Wilson's interval (JASA 22, 1927) stays within 0..1 and holds near 1."""
    share, z2 = num_right / num_images, z**2
    centre = (share + z2 / (2 * num_images)) / (1 + z2 / num_images)
    spread = share * (1 - share) / num_images + z2 / (4 * num_images**2)
    half = z * math.sqrt(spread) / (1 + z2 / num_images)
    return max(0.0, centre - half), min(1.0, centre + half)


def resolvable_difference(num_images: int, *, accuracy: float = _USUAL) -> float:
    """The least difference of two accuracies near `accuracy` that so many images show, at 95 %.

    1.96 sqrt(2 p (1 - p) / n), for two shares p of n images each (Fleiss et al., "Statistical
    Methods for Rates and Proportions", 3rd ed., 2003, 3.1). Networks that are wrong on the same
    images can be told apart somewhat sooner.
    """
    return Z_95 * math.sqrt(2 * accuracy * (1 - accuracy) / num_images)


def warn_of_coarse_validation(data: Data) -> None:
    """Warn where so few images validate that networks of one space cannot be told apart.

    The warning is given from here, so that a command that trains and searches gives it once.
    """
    difference = resolvable_difference(len(data.val))
    if difference > _COARSE:
        warnings.warn(
            f"{data.name}: {len(data.val)} validation images cannot tell networks apart whose"
            f" accuracies differ by less than {100 * difference:.1f} points (at an"
            f" accuracy of {_USUAL:.0%}, with 95 % confidence): give more images, or hold"
            " more of them out",
            stacklevel=1,
        )


def recalibrate(subnet: nn.Module, images: Iterable[Tensor]) -> None:
    """Set the running statistics of every batch norm to those of `images`, in place.

    `images` are batches of normalised images, (n, c, r, r), shuffled over classes. Means and
    (unbiased) variances are averaged over batches, every batch alike. The subnet ends in evaluation
    mode. A supernet's own statistics fit none of its subnets (Yu et al., "BigNAS", ECCV 2020, 3.4).
    """
    norms = [module for module in subnet.modules() if isinstance(module, nn.BatchNorm2d)]
    momenta = [norm.momentum for norm in norms]
    subnet.eval()
    for norm in norms:
        norm.reset_running_stats()
        norm.momentum = None  # a cumulative average
        norm.train()
    with torch.no_grad():
        for batch in images:
            subnet(batch)
    for norm, momentum in zip(norms, momenta, strict=True):
        norm.momentum = momentum
        norm.eval()


class Evaluator:
    """Recalibrates subnets of one supernet on training images and measures them on validation.

    The supernet may be trained further in between. Images are brought to each resolution once and
    kept, those of the resolutions asked for last where all do not fit in MAX_BYTES; the validation
    images come in a random order that never changes. `deploy` turns a recalibrated subnet into what
    is measured, where that is not the subnet itself: one whose policy quantizes blocks.
    """

    def __init__(
        self,
        supernet: Supernet,
        data: Data,
        *,
        batch_size: int = _BATCH_SIZE,
        deploy: Callable[[Subnet], Callable[[Tensor], Tensor]] | None = None,
    ) -> None:
        self._supernet = supernet
        self._data = data
        self._deploy = deploy
        self._batch_size = batch_size
        order = torch.randperm(len(data.val), generator=torch.Generator().manual_seed(0))
        self._val = data.val.among(order) if data.has_targets else data.val.where(order)
        self._kept: dict[tuple[str, int], Sequence[Tensor]] = {}
        self._target_batches: dict[int, list[TargetBatch]] = {}

    def subnet(self, architecture: Architecture) -> Subnet:
        """The subnet as a plain network with recalibrated batch norm, in evaluation mode."""
        subnet = self._supernet.extract(architecture).to(self._device)
        # statistics are those of whole images, also where it runs patch by patch
        recalibrate(subnet.whole(), self._batches("calibration", architecture.resolution))
        subnet.eval()
        return subnet

    @property
    def num_images(self) -> int:
        """How many validation images there are."""
        return len(self._val)

    def accuracy(self, architecture: Architecture, *, at_least: float = 0.0) -> Accuracy:
        """The recalibrated subnet's accuracy on the validation split.

        On an eighth, a quarter or half of its images where that shows already, at 99.9 %, that the
        accuracy is below `at_least` (successive halving, Jamieson & Talwalkar, AISTATS 2016).
        """
        self.require_classes()
        subnet = self.subnet(architecture).whole()  # computes the same, sooner
        network = subnet if self._deploy is None else self._deploy(subnet)
        batches = self._batches("val", architecture.resolution)
        labels = _evenly(self._val.labels, self._batch_size)
        looks = [math.ceil(share * len(labels)) for share in _LOOKS]
        return _accuracy(
            network, zip(batches, labels, strict=True), split="val", at_least=at_least, looks=looks
        )

    def require_classes(self) -> None:
        """DataError where the images have targets of the user's own instead."""
        if self._data.has_targets:
            raise DataError(
                "has targets of its own and no classes, so networks have no accuracy",
                where=self._data.name,
                fix="say what is measured, --evaluate my_package.module:function",
            )

    def loss(self, architecture: Architecture, loss: Loss) -> float:
        """The recalibrated subnet's loss on the validation split, the mean over its images."""
        subnet = self.subnet(architecture)
        total = 0.0
        with torch.inference_mode():
            for images, targets in self.target_batches(architecture.resolution):
                total += len(images) * float(loss(subnet(images), targets))
        return total / len(self._val)

    def metric(self, architecture: Architecture, metric: Metric) -> Estimate:
        """What a user's metric says of the recalibrated subnet on the validation split."""
        subnet = self.subnet(architecture)
        batches = self.target_batches(architecture.resolution)
        return metric(subnet, batches, split="val", num_images=len(self._val))

    def target_batches(self, resolution: int) -> Sequence[TargetBatch]:
        """The validation images and their targets, at a network's resolution, always the same."""
        if resolution not in self._target_batches:
            self._target_batches.clear()
            assert isinstance(self._val, TargetSet)
            batches = list(target_batches(self._val, resolution))
            self._target_batches[resolution] = [
                (images.to(self._device), to_device(targets, self._device))
                for images, targets in batches
            ]
        return self._target_batches[resolution]

    @property
    def _device(self) -> torch.device:
        return next(self._supernet.parameters()).device

    def _batches(self, split: str, resolution: int) -> Iterator[Tensor]:
        """The split's batches as a network takes them."""
        key = (split, resolution)
        kept = self._kept.pop(key, None)
        if kept is None:
            kept = self._prepared(split, resolution)
        self._kept[key] = kept  # the last one asked for
        while len(self._kept) > 1 and sum(map(_num_bytes, self._kept.values())) > MAX_BYTES:
            del self._kept[next(iter(self._kept))]
        return (
            self._data.inputs(batch.to(self._device), resolution)
            if batch.dtype == torch.uint8
            else batch
            for batch in kept
        )

    def _prepared(self, split: str, resolution: int) -> Sequence[Tensor]:
        """Batches as they are kept: ready for a network, or as pixels where that is small work."""
        if split == "calibration":
            images = self._data.recalibration(resolution)
            if self._data.has_targets:
                parts = _evenly(resize(images, resolution), _TARGET_BATCH)
                return [part.to(self._device) for part in parts]
        else:
            images = in_memory(self._data.fitted(self._val, resolution)).images
        parts = _evenly(images, self._batch_size)
        num_floats = len(images) * images.shape[1] * resolution**2
        is_ready = images.shape[2:] == (resolution, resolution)
        if (is_ready and self._data.preprocessing.resize.is_crop) or 8 * num_floats > MAX_BYTES:
            return parts
        return [self._data.inputs(batch.to(self._device), resolution) for batch in parts]


def measure_accuracy(
    network: Callable[[Tensor], Tensor],
    images: Images,
    data: Data,
    *,
    split: str,
    resolution: int,
) -> Accuracy:
    """The accuracy of any network: normalised images (n, c, r, r) -> logits (n, classes).

    A network that holds batch norm must be in evaluation mode. `data` normalises the images;
    `split` names where they come from.
    """
    images = data.fitted(images, resolution)
    parts = map(images.where, _evenly(torch.arange(len(images)), _BATCH_SIZE))
    batches = ((data.inputs(part.images, resolution), part.labels) for part in parts)
    return _accuracy(network, batches, split=split)


def target_batches(images: TargetSet, resolution: int) -> Iterator[TargetBatch]:
    """A whole split, images at a network's resolution, with their targets."""
    for part in torch.arange(len(images)).split(_TARGET_BATCH):
        batch, targets = images.batch(part, seed=0)
        yield resize(batch, resolution), targets


def measure_photo_accuracy(
    network: Callable[[Tensor], Tensor], images: Images, *, split: str
) -> Accuracy:
    """The accuracy of a network that takes photos, uint8 (1, h, w, c), as they were at first."""
    photos = ((photo.unsqueeze(0), torch.tensor([label])) for photo, label in images.photos())
    return _accuracy(network, photos, split=split)


def _accuracy(
    network: Callable[[Tensor], Tensor],
    batches: Iterable[tuple[Tensor, Tensor]],
    *,
    split: str,
    at_least: float = 0.0,
    looks: Collection[int] = (),
) -> Accuracy:
    num_right = num_images = num_in_top5 = 0
    losses = []
    has_top5 = False
    with torch.inference_mode():
        for number, (images, labels) in enumerate(batches, start=1):
            logits = network(images).float().cpu()
            losses.append(nn.functional.cross_entropy(logits, labels, reduction="none"))
            num_right += int((logits.argmax(1) == labels).sum())
            has_top5 = logits.shape[1] > _TOP
            if has_top5:
                likeliest = logits.topk(_TOP, dim=1).indices
                num_in_top5 += int((likeliest == labels.unsqueeze(1)).sum())
            num_images += len(labels)
            if number in looks and _wilson(num_right, num_images, _Z_SURE)[1] < at_least:
                break
    return Accuracy.of(
        num_right,
        num_images,
        split=split,
        losses=torch.cat(losses),
        num_in_top5=num_in_top5 if has_top5 else None,
    )


def _num_bytes(tensors: Iterable[Tensor]) -> int:
    return sum(tensor.numel() * tensor.element_size() for tensor in tensors)


def _evenly(values: Tensor, most: int) -> tuple[Tensor, ...]:
    """Batches of at most `most` each, sizes as equal as can be: all batches count alike."""
    return values.tensor_split(max(1, -(-len(values) // most)))
