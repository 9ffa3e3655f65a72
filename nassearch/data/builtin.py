"""Data sets known by name: the digits of scikit-learn, and torchvision's."""

import os
from pathlib import Path
from typing import Any

import numpy as np
import torch

from nassearch.data.image_set import ImageSet
from nassearch.data.source import Source, pixel_fingerprint
from nassearch.errors import DataError

TORCHVISION = {"cifar10": "CIFAR10", "cifar100": "CIFAR100", "fashion-mnist": "FashionMNIST"}

_DIGITS_TEST_SEED = 20_200  # fixed for ever: the same test images in every run


def digits() -> Source:
    """The 1,797 handwritten digits of 8x8 pixels in scikit-learn (UCI, Alpaydin and Kaynak).

    A fifth of them, the same in every run, is the test split.
    """
    from sklearn.datasets import load_digits
    from sklearn.model_selection import train_test_split

    source = load_digits()
    train, test = train_test_split(
        np.arange(len(source.target)),
        test_size=0.2,
        stratify=source.target,
        random_state=_DIGITS_TEST_SEED,
    )

    def images(chosen: Any) -> ImageSet:
        pixels = np.rint(source.images[chosen] * (255 / 16)).astype(np.uint8)  # 0..16 -> 0..255
        labels = source.target[chosen].astype(np.int64)
        return ImageSet(torch.from_numpy(pixels).unsqueeze(1), torch.from_numpy(labels))

    training = images(train)
    return Source(
        "digits",
        tuple(map(str, source.target_names)),
        training,
        lambda: images(test),
        lambda: pixel_fingerprint(training),
        mirrors=False,
    )


def torchvision_data(name: str, root: Path | None) -> Source:
    """CIFAR or Fashion-MNIST at `root` as torchvision keeps it; None: its cache, downloaded."""
    train = _torchvision_split(name, root, train=True)
    images = _image_set(train)
    return Source(
        name if root is None else f"{name}:{root}",
        tuple(train.classes),
        images,
        lambda: _image_set(_torchvision_split(name, root, train=False)),
        lambda: pixel_fingerprint(images),
    )


def _torchvision_split(name: str, root: Path | None, *, train: bool) -> Any:
    import torchvision.datasets

    dataset = getattr(torchvision.datasets, TORCHVISION[name])
    place = root if root is not None else _cache()
    try:
        return dataset(place, train=train, download=root is None)
    except (RuntimeError, OSError) as error:
        reason = "is not there" if root is not None else "is not there and cannot be downloaded"
        raise DataError(
            f"{name} {reason}",
            where=place,
            fix=f"give its folder as {name}:PATH, or images as imagefolder:PATH",
        ) from error


def _image_set(dataset: Any) -> ImageSet:
    pixels = torch.as_tensor(dataset.data)  # (n, h, w, 3), or (n, h, w) where there is no colour
    images = pixels.permute(0, 3, 1, 2).contiguous() if pixels.dim() == 4 else pixels.unsqueeze(1)
    return ImageSet(images, torch.as_tensor(dataset.targets, dtype=torch.int64))


def _cache() -> Path:
    return Path(os.environ.get("XDG_CACHE_HOME", Path.home() / ".cache")) / "nassearch"
