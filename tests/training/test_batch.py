"""What a step sees: every image augmented on its own, the same whoever asks, whenever."""

from pathlib import Path

import pytest
import torch

from nassearch.space import SearchSpace
from nassearch.training.augmentation import crop_and_flip, draw_crops
from nassearch.training.batch import epoch_batches
from nassearch.training.data import Data
from nassearch.training.recipe import TrainingRecipe
from nassearch.training.run import Run, start

RECIPE = TrainingRecipe(epochs=2, batch_size=100, flip=True, seed=3)


@pytest.fixture
def run(space: SearchSpace, digits: Data, tmp_path: Path) -> Run:
    return start(space, digits, recipe=RECIPE, out=tmp_path, resume=False)


def test_a_crop_is_a_window_of_the_image_padded_by_reflection() -> None:
    images = torch.arange(2 * 3 * 6 * 6).reshape(2, 3, 6, 6)
    padded = torch.nn.functional.pad(images.float(), (2, 2, 2, 2), mode="reflect").long()
    windows = padded.unfold(2, 6, 1).unfold(3, 6, 1)  # (n, c, dy, dx, h, w)
    found = set()
    for seed in range(40):
        generator = torch.Generator().manual_seed(seed)
        drawn = draw_crops(2, padding=2, flip=True, generator=generator)
        for number, image in enumerate(crop_and_flip(images, *drawn)):
            matches = [
                (dy, dx, mirrored)
                for dy in range(5)
                for dx in range(5)
                for mirrored in (False, True)
                if torch.equal(
                    image,
                    windows[number, :, dy, dx].flip(-1) if mirrored else windows[number, :, dy, dx],
                )
            ]
            assert matches
            found.add(matches[0])
    assert {dy for dy, _, _ in found} == set(range(5))
    assert {mirrored for _, _, mirrored in found} == {False, True}


def test_without_padding_and_flip_images_stay_as_they_are() -> None:
    images = torch.randint(0, 256, (3, 3, 5, 7), dtype=torch.uint8)
    drawn = draw_crops(3, padding=0, flip=False, generator=torch.Generator())
    assert torch.equal(crop_and_flip(images, *drawn), images)


def test_an_epoch_taken_up_in_its_middle_goes_on_with_the_same_batches(run: Run) -> None:
    whole = list(epoch_batches(run))
    run.step = 9
    rest = list(epoch_batches(run))
    assert len(whole) == run.steps_per_epoch
    assert len(rest) == run.steps_per_epoch - 9
    for (images, targets), (again, same) in zip(whole[9:], rest, strict=True):
        assert torch.equal(images, again)
        assert torch.equal(targets, same)


def test_every_epoch_has_another_order_and_other_crops(run: Run) -> None:
    first = next(epoch_batches(run))
    run.step = run.steps_per_epoch
    assert not torch.equal(first[1], next(epoch_batches(run))[1])


@pytest.mark.parametrize("num_workers", [2, 3])
def test_workers_together_see_the_batch_that_one_would_see(run: Run, num_workers: int) -> None:
    alone = epoch_batches(run)
    shares = [epoch_batches(run, share=(rank, num_workers)) for rank in range(num_workers)]
    for (images, targets), *parts in zip(alone, *shares, strict=True):
        for rank, (part, its_targets) in enumerate(parts):
            assert torch.equal(part, images[rank::num_workers])
            assert torch.equal(its_targets, targets[rank::num_workers])
