"""What a step sees: every image augmented on its own, the same whoever asks, whenever."""

import json
import math
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
import torch.nn.functional as F

from nassearch.data.augmentation import (
    Augmentation,
    AugmentationOptions,
    Mix,
    crop_and_flip,
    draw_crops,
    mix,
)
from nassearch.data.dataset import Data
from nassearch.space import SearchSpace
from nassearch.training.batch import epoch_batches
from nassearch.training.state import TrainingState, start
from nassearch.training.trainer import train
from nassearch.training.training_recipe import TrainingRecipe

RECIPE = TrainingRecipe(epochs=2, batch_size=100, flip=True, seed=3)


EVERYTHING = {
    "crop_padding": 1,
    "random_resized_crop": 0.5,
    "auto_augment": "randaugment",
    "random_erasing": 0.5,
}
"""Every option but mixing, whose partners depend on the worker."""
MIXING = {"mixup": 0.4, "cutmix": 1.0}


def begin(space: SearchSpace, digits: Data, out: Path, **options: object) -> TrainingState:
    recipe = TrainingRecipe.model_validate({**RECIPE.model_dump(), **options})
    return start(space, digits, recipe=recipe, out=out, resume=False)


@pytest.fixture
def state(space: SearchSpace, digits: Data, tmp_path: Path) -> TrainingState:
    return begin(space, digits, tmp_path)


@pytest.fixture
def augmented(space: SearchSpace, digits: Data, tmp_path: Path) -> TrainingState:
    return begin(space, digits, tmp_path, **EVERYTHING)


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


@pytest.mark.parametrize("shape", [(1, 16, 544), (3, 544, 16), (1, 1, 9), (1, 2, 200)])
def test_thin_images_are_shifted_within_their_own_rows(shape: tuple[int, int, int]) -> None:
    padding = Augmentation(AugmentationOptions(), shape, True).padding
    assert padding < min(shape[1:])
    images = torch.arange(4 * math.prod(shape)).reshape(4, *shape)
    for seed in range(5):
        generator = torch.Generator().manual_seed(seed)
        drawn = draw_crops(4, padding=padding, flip=True, generator=generator)
        shifted = crop_and_flip(images, *drawn)
        assert shifted.shape == images.shape
        for image, original in zip(shifted, images, strict=True):
            assert torch.isin(image, original).all()


def test_without_padding_and_flip_images_stay_as_they_are() -> None:
    images = torch.randint(0, 256, (3, 3, 5, 7), dtype=torch.uint8)
    drawn = draw_crops(3, padding=0, flip=False, generator=torch.Generator())
    assert torch.equal(crop_and_flip(images, *drawn), images)


@pytest.mark.parametrize("options", [{}, EVERYTHING | MIXING])
def test_an_epoch_taken_up_in_its_middle_goes_on_with_the_same_batches(
    space: SearchSpace, digits: Data, tmp_path: Path, options: dict[str, object]
) -> None:
    state = begin(space, digits, tmp_path, **options)
    whole = list(epoch_batches(state))
    state.step = 9
    rest = list(epoch_batches(state))
    assert len(whole) == state.steps_per_epoch
    assert len(rest) == state.steps_per_epoch - 9
    for (images, targets), (again, same) in zip(whole[9:], rest, strict=True):
        assert torch.equal(images, again)
        assert torch.equal(targets, same)


def test_every_epoch_has_another_order_and_other_crops(state: TrainingState) -> None:
    first = next(epoch_batches(state))
    state.step = state.steps_per_epoch
    assert not torch.equal(first[1], next(epoch_batches(state))[1])


@pytest.mark.parametrize("num_workers", [2, 3])
def test_workers_together_see_the_batch_that_one_would_see(
    augmented: TrainingState, num_workers: int
) -> None:
    alone = epoch_batches(augmented)
    shares = [epoch_batches(augmented, share=(rank, num_workers)) for rank in range(num_workers)]
    for (images, targets), *parts in zip(alone, *shares, strict=True):
        for rank, (part, its_targets) in enumerate(parts):
            assert torch.equal(part, images[rank::num_workers])
            assert torch.equal(its_targets, targets[rank::num_workers])


@pytest.mark.parametrize(
    "option",
    [
        {"random_resized_crop": 0.3},
        {"auto_augment": "randaugment"},
        {"auto_augment": "trivialaugment"},
        {"random_erasing": 1.0},
        {"mixup": 0.4},
        {"cutmix": 1.0},
    ],
    ids=lambda option: next(iter(option)),
)
def test_each_option_changes_images_each_by_its_own_draws(
    space: SearchSpace, digits: Data, tmp_path: Path, option: dict[str, object]
) -> None:
    """Of one image a hundred times, not every copy comes out the same."""
    copies = torch.full((len(digits.train),), 3)
    same = replace(digits, train=digits.train.where(copies), val=digits.val)
    if option.keys() & MIXING.keys():  # mixed with itself an image stays what it is
        same = digits
    plain = begin(space, same, tmp_path / "plain", crop_padding=0, flip=False)
    changed = begin(space, same, tmp_path / "run", crop_padding=0, flip=False, **option)
    before, after = next(epoch_batches(plain))[0], next(epoch_batches(changed))[0]
    assert after.shape == before.shape
    assert after.dtype == before.dtype
    moved = (after - before).flatten(1)
    assert int((moved != 0).any(1).sum()) > 10
    if same is not digits:
        assert len({row.numpy().tobytes() for row in after}) > 10


def test_augmentation_leaves_the_global_generator_alone(augmented: TrainingState) -> None:
    torch.manual_seed(0)
    expected = torch.rand(3)
    torch.manual_seed(0)
    list(epoch_batches(augmented))
    assert torch.equal(torch.rand(3), expected)


def test_an_erased_rectangle_has_the_mean_colour(
    space: SearchSpace, digits: Data, tmp_path: Path
) -> None:
    options = {"crop_padding": 0, "flip": False}
    plain, _ = next(epoch_batches(begin(space, digits, tmp_path / "a", **options)))
    erased, _ = next(
        epoch_batches(begin(space, digits, tmp_path / "b", **options, random_erasing=1.0))
    )
    assert torch.all((erased == 0) | (erased == plain))


# -- mixing ----------------------------------------------------------------------------------------


def drawn(**alphas: float) -> Mix:
    return Mix.draw(500, **{"mixup": 0.0, "cutmix": 0.0} | alphas, rng=np.random.default_rng(0))


def test_a_mixed_image_and_its_target_hold_the_same_share_of_each_class() -> None:
    """Images of class k are all k: what a mixed image holds on average is its expected class."""
    labels = torch.arange(500) % 5
    images = labels.float().view(-1, 1, 1, 1).expand(-1, 3, 12, 10).clone()
    for alphas in ({"mixup": 0.7}, {"cutmix": 0.7}, {"mixup": 0.7, "cutmix": 0.7}):
        mixed, targets = mix(images, labels, drawn(**alphas), num_classes=5)
        assert torch.allclose(targets.sum(1), torch.ones(500))
        expected = (targets * torch.arange(5)).sum(1)
        assert torch.allclose(mixed.mean((1, 2, 3)), expected, atol=1e-5)
        assert len(set(targets.max(1).values.tolist())) > 20  # not one draw for all


def test_cutmix_pastes_one_box_and_mixup_averages() -> None:
    images = torch.tensor([0.0, 1.0]).repeat(250).view(-1, 1, 1, 1).expand(-1, 1, 12, 10).clone()
    labels = torch.tensor([0, 1]).repeat(250)
    cut, _ = mix(images, labels, drawn(cutmix=1.0), num_classes=2)
    foreign = (cut != images).squeeze(1)
    box = foreign.any(2).unsqueeze(2) & foreign.any(1).unsqueeze(1)
    assert torch.equal(foreign, box)
    assert 0.2 < float(foreign.float().mean()) < 0.5  # 1/2, less what sticks out at the edges
    averaged, _ = mix(images, labels, drawn(mixup=1.0), num_classes=2)
    assert torch.equal(averaged, averaged[:, :, :1, :1].expand_as(averaged))


def test_mixed_targets_of_the_own_class_alone_are_its_labels() -> None:
    labels = torch.tensor([3, 1, 4])
    whole = Mix(torch.ones(3), torch.zeros(3), torch.zeros(3), torch.zeros(3))
    images = torch.rand(3, 1, 4, 4)
    mixed, targets = mix(images, labels, whole, num_classes=6)
    assert torch.equal(mixed, images)
    assert torch.equal(targets, F.one_hot(labels, 6).float())
    logits = torch.randn(3, 6)
    assert torch.allclose(
        F.cross_entropy(logits, targets, label_smoothing=0.1),
        F.cross_entropy(logits, labels, label_smoothing=0.1),
    )


def test_training_runs_with_every_option(space: SearchSpace, digits: Data, tmp_path: Path) -> None:
    recipe = TrainingRecipe.model_validate(
        {**RECIPE.model_dump(), "epochs": 1, "batch_size": 300} | EVERYTHING | MIXING
    )
    train(space, digits, recipe=recipe, out=tmp_path)
    lines = (tmp_path / "metrics.jsonl").read_text().splitlines()
    assert json.loads(lines[-1])["skipped_steps"] == 0
