"""Where images come from, how they are split, and what is said about bad ones."""

import warnings
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from nassearch.data import builtin, image_folder
from nassearch.data.dataset import Data
from nassearch.data.image_set import Images, ImageSet
from nassearch.data.loading import load_data
from nassearch.errors import DataError

Folder = Callable[..., Path]


def pixels(images: Images) -> torch.Tensor:
    return images.where(torch.arange(len(images))).images


def rows(images: Images) -> list[bytes]:
    return [image.numpy().tobytes() for image in pixels(images)]


@pytest.fixture
def folder(tmp_path: Path) -> Folder:
    """Builds an image folder whose pixel values number the images."""

    def build(*, count: int = 12, size: tuple[int, int] = (6, 6), mode: str = "RGB") -> Path:
        for split in ("train", "test"):
            for label, name in enumerate(("cat", "dog")):
                place = tmp_path / split / name
                place.mkdir(parents=True)
                for number in range(count):
                    value = 2 * number + label + (100 if split == "test" else 0)
                    Image.new(mode, size, value if mode == "L" else (value,) * 3).save(
                        place / f"{number:03d}.png"
                    )
        return tmp_path

    return build


def test_digits_are_grey_images_of_ten_classes(digits: Data) -> None:
    assert digits.train.images.dtype == torch.uint8
    assert digits.train.images.shape[1:] == (1, 8, 8)
    assert (digits.in_channels, digits.num_classes, digits.mirrors) == (1, 10, False)
    assert len(digits.train) + len(digits.val) + len(digits.test()) == 1797
    assert digits.train.images.max() == 255


def test_the_seed_moves_the_validation_split_and_never_the_test_split() -> None:
    first, second = load_data("digits", seed=0), load_data("digits", seed=1)
    assert rows(first.val) != rows(second.val)
    assert rows(first.test()) == rows(second.test())
    assert rows(load_data("digits", seed=0).val) == rows(first.val)


def test_validation_is_stratified_and_disjoint_from_training(digits: Data) -> None:
    everything = builtin.digits().images
    together = rows(digits.train) + rows(digits.val)
    assert sorted(together) == sorted(rows(everything))
    share = len(digits.val) / len(everything)
    for label in range(10):
        held_out = int((digits.val.labels == label).sum())
        assert abs(held_out - share * int((everything.labels == label).sum())) <= 1


def test_normalised_training_images_have_mean_zero_and_deviation_one(digits: Data) -> None:
    images = digits.normalise(digits.train.images)
    assert images.dtype == torch.float32
    assert float(images.mean()) == pytest.approx(0, abs=1e-5)
    assert float(images.std()) == pytest.approx(1, abs=1e-4)


def test_the_test_split_of_a_folder_is_not_read_before_it_is_asked_for(folder: Folder) -> None:
    path = folder()
    for image in (path / "test").rglob("*.png"):
        image.write_bytes(b"would be damaged if it were read")
    data = load_data(f"imagefolder:{path}")
    with pytest.raises(DataError, match="24 of 24 images are damaged"):
        data.test()


def test_a_folder_of_class_folders_is_read(folder: Folder) -> None:
    data = load_data(f"imagefolder:{folder()}")
    assert data.class_names == ("cat", "dog")
    assert len(data.train) + len(data.val) == 24
    assert data.train.shape == (3, 6, 6)
    values = data.train.images[:, 0, 0, 0].long()
    assert torch.equal(values % 2, data.train.labels)
    test = data.test()
    assert sorted(test.images[:, 0, 0, 0].tolist()) == list(range(100, 124))


def test_a_val_folder_serves_where_there_is_no_test_folder(folder: Folder) -> None:
    path = folder()
    (path / "test").rename(path / "val")
    assert len(load_data(f"imagefolder:{path}").test()) == 24


def test_images_of_other_sizes_are_resized_as_the_spec_or_the_first_says(folder: Folder) -> None:
    path = folder(size=(6, 4), mode="L")
    Image.new("L", (20, 20)).save(path / "train" / "dog" / "large.png")
    with pytest.warns(UserWarning, match="differ in size; all are resized to 6x4.*PATH@PIXELS"):
        assert load_data(f"imagefolder:{path}").train.shape == (1, 4, 6)
    with pytest.warns(UserWarning, match="to 16x16; 24 of 25 looked at are squashed"):
        assert load_data(f"imagefolder:{path}@16").train.shape == (1, 16, 16)


@pytest.mark.parametrize("mode", ["RGB", "RGBA", "P", "CMYK"])
def test_grey_images_among_colour_ones_become_colour(folder: Folder, mode: str) -> None:
    path = folder(mode="L")
    place = path / "train" / "dog" / ("x.png" if mode != "CMYK" else "x.jpg")
    Image.new(mode, (6, 6)).save(place)
    data = load_data(f"imagefolder:{path}")
    assert data.train.shape == (3, 6, 6)
    assert data.test().shape == (3, 6, 6)


def test_a_colour_image_met_late_in_a_grey_set_is_refused(
    folder: Folder, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(image_folder, "_LOOKED_AT", 2)
    path = folder(mode="L")
    strange = path / "train" / "cat" / "005.png"
    Image.new("RGB", (6, 6)).save(strange)
    with pytest.raises(DataError, match=rf"{strange}: is a colour image.*convert it"):
        load_data(f"imagefolder:{path}")


@pytest.mark.parametrize("looked_at", [2, 200])
def test_images_of_more_than_8_bits_are_refused(
    folder: Folder, looked_at: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(image_folder, "_LOOKED_AT", looked_at)
    path = folder(mode="L")
    deep = path / "train" / "cat" / "005.png"
    Image.fromarray(np.full((6, 6), 40_000, dtype=np.uint16)).save(deep)
    with pytest.raises(DataError, match=rf"{deep}: .*more than 8 bits a channel.*convert"):
        load_data(f"imagefolder:{path}")


def test_a_test_split_of_other_channels_is_refused(folder: Folder) -> None:
    path = folder(mode="L")
    Image.new("RGB", (6, 6)).save(path / "test" / "cat" / "005.png")
    with pytest.raises(DataError, match=r"test/cat/005\.png: is a colour image"):
        load_data(f"imagefolder:{path}").test()


@pytest.mark.parametrize(
    ("images", "labels", "message"),
    [
        ((4, 1, 5, 5), [0, 1, 2, 1], "val: a label is 2, where there are 2 classes.*from 0 to 1"),
        ((4, 1, 5, 5), [0, 1, -1, 1], "val: a label is -1"),
        ((4, 3, 5, 5), [0, 1, 0, 1], "val: images have 3 channels, those to train on 1"),
        ((0, 1, 5, 5), [], "val: holds no images"),
    ],
)
def test_images_that_do_not_match_those_to_train_on_are_refused(
    images: tuple[int, ...], labels: list[int], message: str
) -> None:
    def of(shape: tuple[int, ...], labels: list[int]) -> ImageSet:
        return ImageSet(
            torch.zeros(shape, dtype=torch.uint8), torch.tensor(labels, dtype=torch.int64)
        )

    train = of((2, 1, 5, 5), [0, 1])
    with pytest.raises(DataError, match=message):
        Data("mine", ("a", "b"), train, of(images, labels), lambda: train, mirrors=True)
    with pytest.raises(DataError, match=message.replace("val", "test", 1)):
        Data("mine", ("a", "b"), train, train, lambda: of(images, labels), mirrors=True).test()


def test_pictures_in_folders_of_a_class_are_found_and_hidden_folders_are_no_class(
    folder: Folder,
) -> None:
    path = folder()
    inner = path / "train" / "cat" / "more"
    inner.mkdir()
    Image.new("RGB", (6, 6)).save(inner / "x.JPEG")
    (path / "train" / ".thumbnails").mkdir()
    data = load_data(f"imagefolder:{path}")
    assert data.class_names == ("cat", "dog")
    assert len(data.train) + len(data.val) == 25


def test_a_few_damaged_images_are_skipped_with_their_paths(folder: Folder) -> None:
    path = folder(count=60)
    damaged = path / "train" / "cat" / "007.png"
    damaged.write_bytes(damaged.read_bytes()[:30])
    with pytest.warns(UserWarning, match=f"skipped 1 damaged images: {damaged}"):
        data = load_data(f"imagefolder:{path}")
    assert len(data.train) + len(data.val) == 119


def test_a_damaged_tiff_is_skipped_like_any_other(folder: Folder) -> None:
    path = folder(count=60)
    image = path / "train" / "dog" / "007.png"
    damaged = image.with_suffix(".tiff")
    Image.open(image).save(damaged, compression="tiff_lzw")
    image.unlink()
    content = bytearray(damaged.read_bytes())
    content[8 : len(content) // 2] = bytes(len(content) // 2 - 8)
    damaged.write_bytes(content)
    with pytest.warns(UserWarning, match=f"skipped 1 damaged images: {damaged}"):
        data = load_data(f"imagefolder:{path}")
    assert len(data.train) + len(data.val) == 119


def test_more_than_one_percent_damaged_is_refused(folder: Folder) -> None:
    path = folder(count=60)
    for number in (7, 8):
        (path / "train" / "cat" / f"{number:03d}.png").write_bytes(b"\x89PNG")
    with pytest.raises(DataError, match=r"2 of 120 images are damaged, the first .*007\.png"):
        load_data(f"imagefolder:{path}")


def remove(path: Path) -> None:
    for item in sorted(path.rglob("*"), reverse=True):
        item.rmdir() if item.is_dir() else item.unlink()
    path.rmdir()


@pytest.mark.parametrize(
    ("removed", "message"),
    [
        ("train", "there is no train/ in this folder"),
        ("test", "there is no test/ or val/ in this folder"),
        ("train/dog", "holds one class only"),
        (".", "no such folder"),
    ],
)
def test_a_folder_that_lacks_something_is_refused(
    folder: Folder, removed: str, message: str
) -> None:
    path = folder()
    remove(path / removed)
    with pytest.raises(DataError, match=message):
        load_data(f"imagefolder:{path}")


def test_empty_class_folders_are_refused(folder: Folder) -> None:
    path = folder()
    remove(path / "train" / "dog")
    (path / "train" / "dog").mkdir()
    with pytest.raises(DataError, match="dog: this class folder holds no images"):
        load_data(f"imagefolder:{path}")


def test_a_test_split_of_other_classes_is_refused(folder: Folder) -> None:
    path = folder()
    (path / "test" / "dog").rename(path / "test" / "fox")
    with pytest.raises(DataError, match="holds the class 'fox', which train/ lacks"):
        load_data(f"imagefolder:{path}").test()


@pytest.mark.parametrize("spec", ["mnist", "imagefolder", "imagefolder:", "digits:/somewhere", ""])
def test_an_unknown_spec_is_refused_with_the_accepted_forms(spec: str) -> None:
    with pytest.raises(
        DataError, match=r"digits, cifar10\[:PATH\], .* imagefolder:PATH\[@PIXELS\]"
    ):
        load_data(spec)


def test_a_size_that_is_no_number_is_refused(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="'@big' is not a size"):
        load_data(f"imagefolder:{tmp_path}/x@big")


@pytest.mark.parametrize("name", builtin.TORCHVISION)
def test_a_data_set_that_is_not_at_its_path_is_refused(name: str, tmp_path: Path) -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        with pytest.raises(DataError, match=f"{name} is not there.*imagefolder:PATH"):
            load_data(f"{name}:{tmp_path}")


def test_a_grey_torchvision_set_is_read(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Fashion-MNIST's arrays have no channel dimension, CIFAR's have it last."""
    import torchvision.datasets

    class FakeSet:
        classes = ("a", "b")

        def __init__(self, root: Path, *, train: bool, download: bool) -> None:
            assert (root, download) == (tmp_path, False)
            shape = (40, 5, 5) if root == tmp_path and self.grey else (40, 5, 5, 3)
            self.data = np.arange(np.prod(shape), dtype=np.uint8).reshape(shape)
            self.targets = [0, 1] * 20

        grey = True

    monkeypatch.setattr(torchvision.datasets, "FashionMNIST", FakeSet)
    monkeypatch.setattr(
        torchvision.datasets, "CIFAR10", type("Colour", (FakeSet,), {"grey": False})
    )
    assert load_data(f"fashion-mnist:{tmp_path}").train.images.shape[1:] == (1, 5, 5)
    colour = load_data(f"cifar10:{tmp_path}")
    assert colour.train.images.shape[1:] == (3, 5, 5)
    assert torch.equal(colour.test().images[0, :, 0, 0], torch.tensor([0, 1, 2], dtype=torch.uint8))
