"""Batches: which images a step sees, and what is done to them, from the seed and the step alone."""

from collections.abc import Iterator
from typing import Protocol

import torch
from torch import Tensor

from nassearch.data.augmentation import (
    Augmentation,
    Mix,
    alternating_flips,
    crop_and_flip,
    draw_crops,
    mix,
    transform_each,
)
from nassearch.data.dataset import Data
from nassearch.data.image_set import ImageSet
from nassearch.data.seeding import Stream, derive_seed, numpy_generator, torch_generator
from nassearch.data.target_set import Targets, to_device
from nassearch.training.schedule import StepPosition
from nassearch.training.training_recipe import TrainingRecipe

Batch = tuple[Tensor, Targets]
"""Normalised images, float (n, c, h, w), and their targets: labels, int64 (n,), or, where images
are mixed, the share of every class, float (n, classes), which `F.cross_entropy` takes; or what a
user's collate makes of them."""


class Learner(Protocol):
    """What batches depend on: of a supernet's training, or of a fine-tuning."""

    @property
    def recipe(self) -> TrainingRecipe: ...

    @property
    def data(self) -> Data: ...

    @property
    def position(self) -> StepPosition: ...

    @property
    def steps_per_epoch(self) -> int: ...

    @property
    def device(self) -> torch.device: ...


def epoch_batches(learner: Learner, *, share: tuple[int, int] = (0, 1)) -> Iterator[Batch]:
    """The batches of the epoch under way that are still to come, augmented and normalised.

    Order and augmentation derive from the seed, the epoch and the step. With `share` (r, w), of
    every batch only the images at positions r, r + w, ...: w workers together see the batch that
    one would see, but that mixup and cutmix find an image's partner within its worker's share. The
    few images that fill no batch sit this epoch out.
    """
    recipe, position, train = learner.recipe, learner.position, learner.data.train
    order = torch.randperm(
        len(train), generator=torch_generator(recipe.seed, Stream.ORDER, position.epoch)
    )
    numbers = range(position.step_in_epoch, learner.steps_per_epoch)
    chosen = [order[n * recipe.batch_size : (n + 1) * recipe.batch_size] for n in numbers]
    mine = slice(share[0], None, share[1])
    if learner.data.has_targets:
        whole_set, _ = learner.data.target_splits
        layout = _memory_format(recipe)
        for number, whole in zip(numbers, chosen, strict=True):
            seed = derive_seed(recipe.seed, Stream.AUGMENTATION, position.epoch, number, share[0])
            images, targets = whole_set.batch(whole[mine], seed=seed)
            images = images.to(learner.device).contiguous(memory_format=layout)
            yield images, to_device(targets, learner.device)
        return
    augmentation = Augmentation(recipe, train.shape, learner.data.mirrors)
    batches = train.batches([whole[mine] for whole in chosen])
    for number, whole, batch in zip(numbers, chosen, batches, strict=True):
        place = (position.epoch, number)
        yield _augmented(learner, batch, augmentation, place=place, chosen=whole, mine=mine)


def _augmented(
    learner: Learner,
    batch: ImageSet,
    augmentation: Augmentation,
    *,
    place: tuple[int, int],
    chosen: Tensor,
    mine: slice,
) -> Batch:
    """`batch` as a step sees it: the positions `mine` of the images at the indices `chosen`.

    It draws for all of them, so an image's draws are the same however many workers share the batch.
    """
    recipe, count = learner.recipe, len(chosen)
    generator = torch_generator(recipe.seed, Stream.AUGMENTATION, *place)
    shift, mirrored = draw_crops(
        count, padding=augmentation.padding, flip=augmentation.flip, generator=generator
    )
    if recipe.flip == "alternating":
        num_images = len(learner.data.train)
        mirrored = alternating_flips(recipe.seed, num_images, epoch=place[0])[chosen]
    seeds = torch.randint(2**62, (2, count), generator=generator)
    images = crop_and_flip(batch.images.to(learner.device), shift[mine], mirrored[mine])
    images = transform_each(images, augmentation.transforms, seeds[0, mine])
    images = learner.data.normalise(images)
    images = transform_each(images, augmentation.erasing, seeds[1, mine])
    targets = batch.labels.to(learner.device)
    if augmentation.mixes:
        rng = numpy_generator(recipe.seed, Stream.AUGMENTATION, *place)
        drawn = Mix.draw(count, mixup=recipe.mixup, cutmix=recipe.cutmix, rng=rng).at(mine)
        images, targets = mix(images, targets, drawn, num_classes=learner.data.num_classes)
    return images.contiguous(memory_format=_memory_format(recipe)), targets


def _memory_format(recipe: TrainingRecipe) -> torch.memory_format:
    return torch.channels_last if recipe.channels_last else torch.contiguous_format
