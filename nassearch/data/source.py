"""Source: a data set as it was found, before some of its images are held out for validation."""

import hashlib
from collections.abc import Callable
from dataclasses import dataclass

from nassearch.data.image_set import Images, ImageSet


@dataclass(frozen=True, eq=False)
class Source:
    """Images to train and validate on, and how to read the test split.

    `fingerprint` tells two sets of images apart; it is worked out when it is first asked for. So
    is `test_fingerprint`, where the test split can change and be told without reading its images.
    `mirrors`: whether an image flipped left to right still shows its class.
    """

    name: str
    class_names: tuple[str, ...]
    images: Images
    load_test: Callable[[], Images]
    fingerprint: Callable[[], str]
    mirrors: bool = True
    test_fingerprint: Callable[[], str] | None = None


def pixel_fingerprint(images: ImageSet) -> str:
    """Sixteen hexadecimal digits of the images' pixels and labels."""
    digest = hashlib.blake2b(digest_size=8)
    digest.update(str(tuple(images.images.shape)).encode())
    digest.update(images.images.contiguous().numpy().data)
    digest.update(images.labels.contiguous().numpy().data)
    return digest.hexdigest()
