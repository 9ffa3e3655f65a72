"""Which images validate: the same share of every class, drawn by the seed."""

import warnings

import numpy as np
import numpy.typing as npt

from nassearch.data.seeding import Stream, numpy_generator
from nassearch.errors import DataError

_MAX_VALIDATION = 10_000
_FEWEST = 300  # images below which a validation split ranks nothing
_EXTRA = 0.1  # how many more, as a share of the split, so that no class is left out


def draw_validation(
    labels: npt.NDArray[np.int64], *, seed: int, share: float | None = None
) -> npt.NDArray[np.int64]:
    """The images that are held out, as ascending indices.

    A tenth, at most 10,000; of small sets up to a fifth, since fewer than 300 images rank nothing;
    or `share`. Every class gives its share. Classes so small that this is less than one image give
    one or none by lot, as many as are wanted in all, and never their only one.

    Args:
        labels: Of all images, (n,).
        seed: Draws the images.
        share: 0 < share < 1, of all images.

    Raises:
        DataError: there are too few images.
    """
    if share is not None and not 0 < share < 1:
        raise DataError(
            f"{share} is no share", where="val_share", fix="give one of 0..1, 0.1 for a tenth"
        )
    count = len(labels)
    usual = min(max(count // 10, _FEWEST), count // 5, _MAX_VALIDATION)
    target = usual if share is None else round(share * count)
    members = _shuffled_classes(labels, seed)
    taken = _class_counts([len(one) for one in members], target / max(count, 1))
    _give_small_classes_one(taken, members, target, seed)
    if not sum(taken):
        raise DataError(
            f"{count} images are too few to hold out a validation split",
            where="training images",
            fix="give at least 10, and two of a class",
        )
    left_out = sum(not number for number in taken)
    if left_out:
        warnings.warn(
            f"{left_out} of {len(members)} classes have no validation image: they are too small",
            stacklevel=2,
        )
    return np.sort(np.concatenate([m[:k] for m, k in zip(members, taken, strict=True)]))


def draw_validation_0_1(labels: npt.NDArray[np.int64], *, seed: int) -> npt.NDArray[np.int64]:
    """The split of version 0.1, which its checkpoints do not hold: small classes give none."""
    count = len(labels)
    target = min(max(count // 10, _FEWEST), count // 5, _MAX_VALIDATION)
    members = _shuffled_classes(labels, seed)
    taken = _class_counts([len(one) for one in members], target / max(count, 1))
    return np.sort(np.concatenate([m[:k] for m, k in zip(members, taken, strict=True)]))


def _shuffled_classes(labels: npt.NDArray[np.int64], seed: int) -> list[npt.NDArray[np.int64]]:
    """The images of each class that has any, in random order."""
    rng = numpy_generator(seed, Stream.SPLIT)
    return [rng.permutation(np.flatnonzero(labels == label)) for label in np.unique(labels)]


def _class_counts(sizes: list[int], share: float) -> list[int]:
    return [round(share * size) for size in sizes]


def _give_small_classes_one(
    taken: list[int], members: list[npt.NDArray[np.int64]], target: int, seed: int
) -> None:
    """Let classes of two images or more that give none give one, as far as the target goes."""
    small = [n for n, (k, m) in enumerate(zip(taken, members, strict=True)) if not k and len(m) > 1]
    wanted = max(target - sum(taken), round(_EXTRA * target))
    rng = numpy_generator(seed, Stream.SPLIT, 1)
    for number in rng.permutation(small)[:wanted] if small else ():
        taken[number] = 1
