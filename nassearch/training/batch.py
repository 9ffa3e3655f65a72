"""Batches: which images a step sees, and what is done to them, from the seed and the step alone."""

from collections.abc import Iterator

import torch
from torch import Tensor

from nassearch.training.augmentation import crop_and_flip, draw_crops
from nassearch.training.randomness import Stream, torch_generator
from nassearch.training.run import Run

Batch = tuple[Tensor, Tensor]
"""Normalised images, float (n, c, h, w), and their targets, int64 labels (n,)."""


def epoch_batches(run: Run, *, share: tuple[int, int] = (0, 1)) -> Iterator[Batch]:
    """The batches of the epoch under way that are still to come, augmented and normalised.

    Order and augmentation derive from the seed, the epoch and the step. With `share` (r, w), of
    every batch only the images at positions r, r + w, ...: w workers together see the batch that
    one would see. The few images that fill no batch sit this epoch out.
    """
    recipe, moment = run.recipe, run.moment
    rank, num_workers = share
    train = run.data.train
    order = torch.randperm(
        len(train), generator=torch_generator(recipe.seed, Stream.ORDER, moment.epoch)
    )
    layout = torch.channels_last if recipe.channels_last else torch.contiguous_format
    numbers = range(moment.step_in_epoch, run.steps_per_epoch)
    chosen = [order[n * recipe.batch_size : (n + 1) * recipe.batch_size] for n in numbers]
    batches = train.batches([whole[rank::num_workers] for whole in chosen])
    for number, whole, batch in zip(numbers, chosen, batches, strict=True):
        padding = recipe.crop_padding
        shift, mirrored = draw_crops(
            len(whole),
            padding=padding if padding is not None else batch.images.shape[-1] // 8,
            flip=recipe.flip if recipe.flip is not None else run.data.mirrors,
            generator=torch_generator(recipe.seed, Stream.AUGMENTATION, moment.epoch, number),
        )
        images = crop_and_flip(
            batch.images.to(run.device), shift[rank::num_workers], mirrored[rank::num_workers]
        )
        yield (
            run.data.normalise(images).contiguous(memory_format=layout),
            batch.labels.to(run.device),
        )
