"""Folders as people have them: of a Mac, of a notebook, of a phone, with small classes."""

from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from nassearch.data.dataset import Data
from nassearch.data.loading import load_data
from nassearch.data.split import draw_validation
from nassearch.errors import DataError

Folder = Callable[..., Path]
MAC = b"\x00\x05\x16\x07\x00\x02\x00\x00Mac OS X        " + bytes(50)


@pytest.fixture
def folder(tmp_path: Path) -> Folder:
    """Builds an image folder of as many grey images of each class as asked for."""

    def build(counts: Sequence[int] = (20, 20), *, test: Sequence[int] | None = None) -> Path:
        splits = {"train": counts, "test": [2] * len(counts) if test is None else test}
        for split, numbers in splits.items():
            for label, number in enumerate(numbers):
                place = tmp_path / split / f"{label:03d}"
                place.mkdir(parents=True)
                for index in range(number):
                    Image.new("L", (4, 4), index).save(place / f"{index:04d}.png")
        return tmp_path

    return build


def read(path: Path) -> Data:
    return load_data(f"imagefolder:{path}")


def num_read(data: Data) -> int:
    return len(data.train) + len(data.val)


def held_out_counts(counts: Sequence[int]) -> list[int]:
    """How many images of each class validate."""
    labels = np.repeat(np.arange(len(counts)), counts)
    held_out = draw_validation(labels, seed=0)
    return np.bincount(labels[held_out], minlength=len(counts)).tolist()


@pytest.mark.filterwarnings("ignore:.*classes have no validation image")
def test_many_small_classes_are_validated_on() -> None:
    """A tenth of five is less than one: classes give one by lot, a tenth of all images."""
    counts = held_out_counts([5] * 600)
    assert sum(counts) == 300
    assert set(counts) == {0, 1}


def test_a_large_class_does_not_leave_small_ones_out() -> None:
    with pytest.warns(UserWarning, match="of 600 classes have no validation image"):
        counts = held_out_counts([5] * 599 + [100])
    assert counts[-1] == 10
    assert sum(counts[:-1]) > 200


def test_the_only_image_of_a_class_is_trained_on() -> None:
    with pytest.warns(UserWarning, match="1 of 3 classes have no validation image"):
        counts = held_out_counts([900, 2, 1])
    assert counts[1:] == [1, 0]


def test_what_a_mac_leaves_beside_images_is_no_image(folder: Folder) -> None:
    path = folder()
    for image in list((path / "train").rglob("*.png")):
        (image.parent / f"._{image.name}").write_bytes(MAC)
    assert num_read(read(path)) == 40


@pytest.mark.parametrize("place", ["__MACOSX/000", "000/__MACOSX", "000/.ipynb_checkpoints"])
def test_folders_of_programs_are_no_classes_and_hold_no_images(folder: Folder, place: str) -> None:
    path = folder()
    (path / "train" / place).mkdir(parents=True)
    Image.new("L", (4, 4)).save(path / "train" / place / "0000-checkpoint.png")
    data = read(path)
    assert data.class_names == ("000", "001")
    assert num_read(data) == 40


def test_a_link_to_a_folder_above_is_not_followed_round_and_round(folder: Folder) -> None:
    path = folder()
    (path / "train" / "000" / "self").symlink_to(".", target_is_directory=True)
    (path / "train" / "000" / "all").symlink_to("..", target_is_directory=True)
    assert num_read(read(path)) == 40


def test_a_link_to_images_elsewhere_is_followed(folder: Folder, tmp_path: Path) -> None:
    path = folder()
    elsewhere = (path / "train" / "000").rename(tmp_path / "elsewhere")
    (path / "train" / "000").symlink_to(elsewhere, target_is_directory=True)
    assert num_read(read(path)) == 40


def test_a_photo_is_turned_as_the_camera_was_held(tmp_path: Path) -> None:
    """EXIF orientation 6: what is stored left is seen at the top."""
    exif = Image.Exif()
    exif[0x0112] = 6
    stored = np.zeros((4, 4), dtype=np.uint8)
    stored[:, 0] = 255
    for split in ("train", "test"):
        for name in "ab":
            (tmp_path / split / name).mkdir(parents=True)
            for number in range(10):
                place = tmp_path / split / name / f"{number}.png"
                Image.fromarray(stored).save(place, exif=exif)
    seen = read(tmp_path).train.where(torch.tensor([0])).images[0, 0]
    assert seen[0].tolist() == [255] * 4
    assert int(seen[1:].sum()) == 0


def test_images_that_are_not_read_are_counted(folder: Folder) -> None:
    path = folder()
    images = sorted((path / "train" / "001").iterdir())
    for image in images[:5]:
        image.rename(image.with_suffix(".HEIC"))
    images[6].rename(images[6].with_suffix(".avif"))
    (path / "train" / "001" / "notes.txt").write_text("no image")
    with pytest.warns(UserWarning, match=r"left out 6 images .*\(\.avif, \.heic\): convert them"):
        assert num_read(read(path)) == 34


def test_jpegs_named_jfif_are_read(folder: Folder) -> None:
    path = folder()
    Image.new("L", (4, 4)).save(path / "train" / "000" / "web.jfif", format="JPEG")
    assert num_read(read(path)) == 41


def test_a_class_that_only_the_test_split_has_is_refused_before_training(folder: Folder) -> None:
    path = folder()
    (path / "test" / "zebra").mkdir()
    with pytest.raises(DataError, match="test: holds the class 'zebra', which train/ lacks"):
        read(path)


def test_a_test_split_may_lack_a_class(folder: Folder) -> None:
    path = folder(test=(3, 0))
    (path / "test" / "001").rmdir()
    assert read(path).test().labels.tolist() == [0, 0, 0]


def test_an_image_too_large_to_open_is_left_out(
    folder: Folder, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Pillow raises DecompressionBombError, also where the header alone is read."""
    path = folder((60, 60))
    Image.new("1", (40, 40)).save(path / "train" / "000" / "scan.png")
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", 100)
    with pytest.warns(UserWarning, match=r"skipped 1 damaged images: .*scan\.png"):
        assert num_read(read(path)) == 120
