"""Which published supernet a file's tensors are, and the supernet with them in it."""

import math
from collections.abc import Mapping
from dataclasses import dataclass
from functools import lru_cache

import torch
from torch import Tensor

from nassearch import config
from nassearch.errors import CheckpointError, SpaceError
from nassearch.networks.published import PUBLISHED
from nassearch.networks.published.supernet_format import PublishedSupernet
from nassearch.networks.published.tensor_file import TensorFile
from nassearch.networks.supernet import Supernet
from nassearch.ops import check_space
from nassearch.space import SearchSpace

_CLASSIFIER = "head.head.classifier.weight"
_COUNTER = ".num_batches_tracked"  # files of before PyTorch 0.4.1 lack it, and nothing reads it
_SHOWN = 3  # tensors that differ


@dataclass(frozen=True)
class Recognised:
    """A published supernet's tensors by our names, and what of its file is none of them."""

    name: str
    published: PublishedSupernet
    tensors: Mapping[str, Tensor]
    left_out: tuple[str, ...]
    num_classes: int


@dataclass(frozen=True)
class _Attempt:
    """How well a file fits a format."""

    name: str
    published: PublishedSupernet
    tensors: Mapping[str, Tensor]
    expected: Mapping[str, torch.Size]

    @property
    def differences(self) -> list[str]:
        """The tensors that do not fit, a text each, those of other shapes before the missing."""
        shaped = [
            f"{name} is {_size(self.tensors[name].shape)}, not {_size(shape)}"
            for name, shape in self.expected.items()
            if name in self.tensors and not _fits(self.tensors[name].shape, shape)
        ]
        missing = [
            f"{name} is missing"
            for name in self.expected
            if name not in self.tensors and not name.endswith(_COUNTER)
        ]
        return shaped + missing


def recognise(file: TensorFile) -> Recognised:
    """The published supernet that a file holds.

    Raises CheckpointError, naming the nearest format and what differs, where it is none.
    """
    attempts = []
    for name, tensors in _most_alike(file):
        published = _published(name)
        classifier = tensors.get(_CLASSIFIER)
        num_classes = 1000 if classifier is None else max(2, len(classifier))
        attempt = _Attempt(name, published, tensors, _shapes(name, num_classes))
        if not attempt.differences:
            left_out = [
                key for key in file.tensors if published.rename(key) not in attempt.expected
            ]
            kept = {ours: tensors[ours] for ours in attempt.expected if ours in tensors}
            return Recognised(name, published, kept, (*left_out, *file.beside), num_classes)
        attempts.append(attempt)
    raise _unknown(file, min(attempts, key=lambda attempt: len(attempt.differences)))


@lru_cache(maxsize=8)
def _shapes(name: str, num_classes: int) -> Mapping[str, torch.Size]:
    return _published(name).shapes(num_classes=num_classes)


def _published(name: str) -> PublishedSupernet:
    found = config.resolve(PUBLISHED, name, kind="published supernet")
    assert isinstance(found, PublishedSupernet)
    return found


def _most_alike(file: TensorFile) -> list[tuple[str, dict[str, Tensor]]]:
    """The formats that know the most of the file's names, and its tensors by our names.

    Building a network to compare shapes takes longer than all names of all formats.
    """
    renamed = []
    for name in PUBLISHED:
        ours = [(_published(name).rename(key), tensor) for key, tensor in file.tensors.items()]
        renamed.append((name, {key: tensor for key, tensor in ours if key is not None}))
    most = max(len(tensors) for _, tensors in renamed)
    return [(name, tensors) for name, tensors in renamed if len(tensors) == most]


def load_into_space(found: Recognised, space: SearchSpace, *, where: object) -> Supernet:
    """The supernet of `space` with the recognised tensors.

    Raises SpaceError where the space has other networks than the file.
    """
    space = check_space(space)
    if not found.published.holds(space):
        raise SpaceError(
            f"has other networks than the file, which is {found.published.title}",
            where=f"--space {space.name}",
            fix=f"leave it out, or name {' or '.join(found.published.spaces)}, or a space that"
            " differs from it in its resolutions alone",
        )
    fitted = space.for_data(in_channels=space.in_channels, num_classes=found.num_classes)
    supernet = Supernet.within_memory(fitted, where=where)
    with torch.no_grad():
        for name, own in supernet.state_dict().items():
            if name in found.tensors:
                own.copy_(found.tensors[name].reshape(own.shape))
            else:
                assert name.endswith(_COUNTER), name
    return supernet.eval()


def _fits(found: torch.Size, expected: torch.Size) -> bool:
    """Whether a tensor has the shape, or has it but for ones at its end (a 1x1 convolution)."""
    return found == expected or (
        found[: len(expected)] == expected and math.prod(found[len(expected) :]) == 1
    )


def _size(shape: torch.Size) -> str:
    return "x".join(map(str, shape)) or "a number"


def _unknown(file: TensorFile, nearest: _Attempt) -> CheckpointError:
    published = nearest.published
    shapes = {name: tensor.shape for name, tensor in nearest.tensors.items()}
    multiplier = published.width_multiplier(shapes)
    if multiplier is not None and len(nearest.tensors) >= len(nearest.expected):
        known = ", ".join(_published(name).title for name in PUBLISHED)
        return CheckpointError(
            f"is a supernet like {published.title} at the width multiplier {multiplier:g}, of which"
            f" there is no space ({nearest.differences[0]})",
            where=file.path,
            fix=f"write its space, and a line for it in networks/published; known: {known}",
        )
    shown = "; ".join(nearest.differences[:_SHOWN])
    more = len(nearest.differences) - _SHOWN
    return CheckpointError(
        "is no supernet that is known; the nearest is"
        f" {published.title}, where {shown}{f' and {more} more' if more > 0 else ''}",
        where=file.path,
        fix="docs/pretrained.md lists what can be imported; a plain network is a teacher or"
        " transfer_weights's source",
    )
