"""Images as their authors meant them: resizing, cropping, normalising, and the order of classes."""

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image
from torch import Tensor
from torchvision.datasets import ImageFolder
from torchvision.transforms import v2

from nassearch import config
from nassearch.data.dataset import Data
from nassearch.data.identity import DataIdentity
from nassearch.data.image_set import ImageSet, in_memory
from nassearch.data.loading import load_data
from nassearch.data.preprocessing import (
    DEFAULT,
    IMAGENET,
    STATISTICS,
    Preprocessing,
    RandomCrop,
    Recalibration,
    Resize,
)
from nassearch.errors import ConfigError, DataError
from nassearch.recipe import Recipe

MEAN, STD = STATISTICS["imagenet"]
GREY_LEVEL = 1 / (255 * min(STD)) + 1e-6  # and float rounding


def photo(rng: np.random.Generator, width: int, height: int) -> Image.Image:
    """A photo of waves of a few pixels, whose edges resizing changes visibly."""
    waves = rng.uniform(0.05, 1.0, (3, 2)) @ np.stack(np.mgrid[:height, :width]).reshape(2, -1)
    values = 127.5 * (1 + np.sin(waves)) * rng.uniform(0.5, 1.0, (3, 1))
    return Image.fromarray(values.reshape(3, height, width).transpose(1, 2, 0).astype(np.uint8))


@pytest.fixture(scope="module")
def photos(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A hundred photos of odd sizes, every fifth a JPEG, in two classes; four to test on."""
    folder, rng = tmp_path_factory.mktemp("photos"), np.random.default_rng(0)
    for split, count in (("train", 100), ("test", 4)):
        for number in range(count):
            place = folder / split / "ab"[number % 2]
            place.mkdir(parents=True, exist_ok=True)
            width, height = rng.integers(20, 180, 2).tolist()
            name = f"{number:03d}." + ("jpg" if number % 5 == 0 else "png")
            photo(rng, width, height).save(place / name)
    return folder


def torchvision_s(pixels: int, share: float) -> v2.Compose:
    """What torchvision's networks are evaluated with."""
    return v2.Compose(
        [
            v2.Resize(int(np.ceil(pixels / share)), antialias=True),
            v2.CenterCrop(pixels),
            v2.PILToTensor(),
            v2.ToDtype(torch.float32, scale=True),
            v2.Normalize(MEAN, STD),
        ]
    )


def inputs(data: Data, images: Any, pixels: int) -> Tensor:
    return data.inputs(in_memory(data.fitted(images, pixels)).images, pixels)


@pytest.mark.parametrize("pixels", [64, 45])
def test_photos_are_resized_cropped_and_normalised_as_by_torchvision(
    photos: Path, pixels: int
) -> None:
    """The images are kept at 64 pixels; at 45 they come from the files again."""
    data = load_data(f"imagefolder:{photos}", preprocessing=IMAGENET, pixels=64)
    assert data.train.shape == (3, 64, 64)
    theirs = torchvision_s(pixels, 0.875)
    found: list[Tensor] = []
    expected: list[Tensor] = []
    for split in (data.train, data.val):
        assert isinstance(split, ImageSet)
        found += inputs(data, split, pixels).unbind()
        files: Any = split.origin
        paths = [files.root / bytes(name).decode() for name in files.names]
        expected += [theirs(Image.open(path).convert("RGB")) for path in paths]
    assert len(found) == 100
    assert float((torch.stack(found) - torch.stack(expected)).abs().max()) <= GREY_LEVEL


@pytest.mark.parametrize("share", [1.0, 0.875, 0.6])
def test_images_in_memory_are_cropped_as_photos_are(share: float) -> None:
    rng = np.random.default_rng(1)
    pictures = [photo(rng, 53, 37) for _ in range(12)]
    said = Preprocessing(resize=Resize(mode="crop", share=share), mean=MEAN, std=STD)
    items: Any = [(picture, number % 2) for number, picture in enumerate(pictures)]
    data = load_data((items, items), preprocessing=said)
    found = inputs(data, data.test(), 30)
    expected = torch.stack([torchvision_s(30, share)(picture) for picture in pictures])
    assert float((found - expected).abs().max()) <= GREY_LEVEL
    assert data.train.shape == (3, 37, 37)


@pytest.mark.filterwarnings("ignore:.*squashed or stretched")
def test_squashed_images_are_what_they_were(photos: Path) -> None:
    """The default: to the size of the folder, normalised by their own statistics, then scaled."""
    data = load_data(f"imagefolder:{photos}@40")
    images = data.val.images
    normalised = data.normalise(images)
    expected = torch.nn.functional.interpolate(
        normalised, (32, 32), mode="bilinear", antialias=True, align_corners=False
    )
    assert torch.equal(inputs(data, data.val, 32), expected)
    assert torch.equal(inputs(data, data.val, 40), normalised)
    assert data.preprocessing == DEFAULT
    assert DEFAULT.fingerprint == ""
    assert "preprocessing" not in data.identity.to_dict()


def test_the_order_of_classes_is_torchvision_s(tmp_path: Path) -> None:
    names = ["10", "9", "1", "02", "ä", "Zebra", "apple", "été", "日本", "e\u0301", "_x", "ß"]
    for split in ("train", "test"):
        for number, name in enumerate(names):
            (tmp_path / split / name).mkdir(parents=True)
            for copy in range(10):
                Image.new("L", (4, 4), number).save(tmp_path / split / name / f"{copy}.png")
    theirs = ImageFolder(tmp_path / "train")
    data = load_data(f"imagefolder:{tmp_path}")
    assert data.class_names == tuple(theirs.classes)
    labels = {
        int(i[0, 0, 0]): int(n) for i, n in zip(data.val.images, data.val.labels, strict=True)
    }
    assert labels == {n: theirs.class_to_idx[name] for n, name in enumerate(names)}


def test_a_grey_folder_is_read_in_colour_for_three_channels(tmp_path: Path) -> None:
    for split in ("train", "test"):
        for name in "ab":
            (tmp_path / split / name).mkdir(parents=True)
            for copy in range(10):
                Image.new("L", (8, 8), copy).save(tmp_path / split / name / f"{copy}.png")
    assert load_data(f"imagefolder:{tmp_path}").in_channels == 1
    assert load_data(f"imagefolder:{tmp_path}", preprocessing="imagenet").in_channels == 3


def test_statistics_of_other_channels_are_refused() -> None:
    with pytest.raises(DataError, match=r"have 1 channel\(s\), the preprocessing .* of 3; give"):
        load_data("digits", preprocessing="imagenet")


def test_recalibration_sees_so_many_augmented_images_always_the_same(photos: Path) -> None:
    said = IMAGENET.model_copy(
        update={"recalibration": Recalibration(images=30, random_resized_crop=0.3, flip=True)}
    )
    one, two = (load_data(f"imagefolder:{photos}", preprocessing=said, pixels=64) for _ in range(2))
    images = one.recalibration(48)
    assert images.shape == (30, 3, 48, 48)
    assert torch.equal(images, two.recalibration(48))
    plain = one.sample(30).at(48, RandomCrop(0.3))
    mirrored = (images != in_memory(plain).images).flatten(1).any(1)
    assert 5 <= int(mirrored.sum()) <= 25
    assert torch.equal(images.flip(3)[mirrored], in_memory(plain).images[mirrored])
    evaluated = in_memory(one.fitted(one.sample(30), 48)).images
    assert not torch.equal(in_memory(plain).images, evaluated)


def test_a_random_crop_of_a_photo_is_torchvision_s(photos: Path) -> None:
    data = load_data(f"imagefolder:{photos}", preprocessing=IMAGENET, pixels=64)
    files: Any = data.sample(1).origin
    (name,) = files.names
    from zlib import crc32

    path = files.root / bytes(name).decode()
    with torch.random.fork_rng():
        torch.manual_seed(crc32(path.name.encode()))
        crop = v2.RandomResizedCrop((32, 32), scale=(0.08, 1.0))
        expected = v2.functional.pil_to_tensor(crop(Image.open(path).convert("RGB")))
    assert torch.equal(in_memory(files.at(32, RandomCrop(0.08))).images[0], expected)


def test_recalibration_of_the_default_is_the_sample_as_it_was(digits: Data) -> None:
    assert torch.equal(digits.recalibration(8), digits.sample(2000).images)


def test_a_name_stands_for_all_of_it_or_for_its_statistics() -> None:
    assert recipe("imagenet").preprocessing == IMAGENET
    said = recipe({"resize": {"mode": "crop"}, "mean": "imagenet", "std": "imagenet"}).preprocessing
    assert said == IMAGENET.model_copy(update={"recalibration": Recalibration()})
    assert said.resize == Resize(mode="crop", share=0.875)
    assert recipe(IMAGENET.to_dict()).preprocessing == IMAGENET
    assert recipe({}).preprocessing == DEFAULT


def recipe(said: object) -> Recipe:
    content = {"name": "x", "space": "digits_tiny", "data": "digits", "preprocessing": said}
    return config.parse(Recipe, config.parse_yaml(config.dump_yaml(content), where=""), where="r")


@pytest.mark.parametrize(
    ("said", "problem"),
    [
        ("imagenett", "is no name of a preprocessing"),
        ({"mean": "imagenett", "std": [1.0]}, "is no name of a mean or deviation"),
        ({"mean": [0.5]}, "mean and std belong together"),
        ({"mean": [0.5], "std": [0.5, 0.5]}, "of different channels"),
        ({"mean": [0.5], "std": [0.0]}, "std holds what is no deviation"),
        ({"resize": {"mode": "crop", "share": 0}}, "preprocessing.resize.share"),
        ({"resize": {"share": 0.9}}, "share is a key of the mode crop"),
        ({"resize": {"mode": "fill"}}, "preprocessing.resize.mode"),
        ({"recalibration": {"images": 0}}, "preprocessing.recalibration.images"),
    ],
)
def test_what_is_no_preprocessing_is_one_line(said: object, problem: str) -> None:
    with pytest.raises(ConfigError) as refused:
        recipe(said)
    assert problem in str(refused.value)
    assert "\n" not in str(refused.value)


@pytest.mark.filterwarnings("ignore:.*squashed or stretched")
def test_two_of_them_are_told_apart_and_kept(photos: Path) -> None:
    squash = load_data(f"imagefolder:{photos}@64")
    crop = load_data(f"imagefolder:{photos}@64", preprocessing=IMAGENET)
    assert crop.mean == MEAN
    kept = DataIdentity.from_dict(crop.identity.to_dict())
    assert kept == crop.identity
    assert kept.preprocessing == IMAGENET
    assert IMAGENET.fingerprint != Preprocessing(resize=Resize(mode="crop")).fingerprint != ""
    with pytest.raises(DataError, match="resized or normalised otherwise than the supernet"):
        kept.check_preprocessing(squash.preprocessing, where="photos")
    with pytest.raises(DataError, match="were loaded with another preprocessing; load them with"):
        load_data(squash, preprocessing=IMAGENET)


def test_another_number_of_classes_says_what_to_do(digits: Data) -> None:
    known = replace(digits.identity, class_names=tuple(map(str, range(1000))))
    with pytest.raises(DataError) as refused:
        known.check_classes(digits.class_names, where="digits")
    said = str(refused.value)
    assert "holds 10 classes, the network tells 1000 apart ('10' is gone)" in said
    assert "train-supernet --from RUN --data IMAGES, or finetune an export on them" in said


def test_a_turned_photo_is_cropped_upright(tmp_path: Path) -> None:
    picture, exif = photo(np.random.default_rng(3), 60, 40), Image.Exif()
    exif[0x0112] = 6
    for split in ("train", "test"):
        for name in "ab":
            (tmp_path / split / name).mkdir(parents=True)
            for number in range(10):
                picture.save(tmp_path / split / name / f"{number}.png", exif=exif)
    data = load_data(f"imagefolder:{tmp_path}", preprocessing=IMAGENET, pixels=32)
    upright = picture.transpose(Image.Transpose.ROTATE_270)
    torch.testing.assert_close(inputs(data, data.val, 32)[0], torchvision_s(32, 0.875)(upright))
