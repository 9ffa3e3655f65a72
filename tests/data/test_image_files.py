"""Images that do not fit in memory are decoded on the fly, to the same training."""

import os
import signal
import time
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from nassearch.data import image_files
from nassearch.data import loading as data_module
from nassearch.data.dataset import Data
from nassearch.data.image_files import ImageFiles
from nassearch.data.image_set import ImageSet
from nassearch.data.loading import load_data
from nassearch.errors import DataError
from nassearch.space import SearchSpace
from nassearch.training.state import start
from nassearch.training.trainer import train
from nassearch.training.training_recipe import TrainingRecipe

RECIPE = TrainingRecipe(
    strategy="delayed-shrinking", epochs=2, batch_size=32, lr=0.05, ramp_epochs=0.5, seed=2
)


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """120 training and 20 test images of noise, 8x8, grey, in two classes."""
    rng = np.random.default_rng(0)
    for split, count in (("train", 60), ("test", 10)):
        for name in ("cat", "dog"):
            place = tmp_path / "images" / split / name
            place.mkdir(parents=True)
            for number in range(count):
                pixels = rng.integers(0, 256, (8, 8), dtype=np.uint8)
                Image.fromarray(pixels).save(place / f"{number:03d}.png")
    return tmp_path / "images"


@pytest.fixture
def small_memory(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(data_module, "MAX_BYTES", 120 * 64 - 1)


def streamed(folder: Path) -> tuple[Data, ImageFiles]:
    data = load_data(f"imagefolder:{folder}")
    assert isinstance(data.train, ImageFiles)
    return data, data.train


def test_a_set_as_large_as_memory_is_decoded_and_a_larger_one_is_not(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(data_module, "MAX_BYTES", 120 * 64)
    assert isinstance(load_data(f"imagefolder:{folder}").train, ImageSet)
    monkeypatch.setattr(data_module, "MAX_BYTES", 120 * 64 - 1)
    assert isinstance(load_data(f"imagefolder:{folder}").train, ImageFiles)


def test_a_set_that_would_take_half_of_the_free_memory_is_streamed(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(data_module, "free_bytes", lambda: 2 * 120 * 64 - 1)
    assert isinstance(load_data(f"imagefolder:{folder}").train, ImageFiles)


def test_images_that_must_be_in_memory_and_find_none_are_refused_with_what_they_need(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(image_files, "free_bytes", lambda: 10)
    with pytest.raises(DataError, match=r"need 0.0 MiB of memory, 0.0 are free.*@4$") as error:
        load_data(f"imagefolder:{folder}")
    assert str(folder / "train") in str(error.value)


def test_a_streamed_set_is_the_one_in_memory(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    memory = load_data(f"imagefolder:{folder}")
    monkeypatch.setattr(data_module, "MAX_BYTES", 0)
    data, files = streamed(folder)
    assert torch.equal(data.val.images, memory.val.images)
    assert (data.mean, data.std) == (memory.mean, memory.std)
    chosen = torch.randperm(len(files)).split(20)
    for found, expected in zip(files.batches(chosen), memory.train.batches(chosen), strict=True):
        assert torch.equal(found.images, expected.images)
        assert torch.equal(found.labels, expected.labels)
    test, expected_test = data.test(), memory.test()
    assert isinstance(test, ImageFiles)
    everything = torch.arange(20)
    assert torch.equal(test.where(everything).images, expected_test.where(everything).images)


def test_training_on_a_streamed_set_gives_the_weights_of_the_one_in_memory(
    folder: Path, space: SearchSpace, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Also when it was broken off in the middle of an epoch and resumed."""

    def stop(stage: str, fraction: float, note: str = "") -> None:
        if fraction == 4 / 6:  # of 3 steps an epoch
            signal.raise_signal(signal.SIGINT)

    memory = load_data(f"imagefolder:{folder}")
    expected = train(space, memory, recipe=RECIPE, out=tmp_path / "memory").state_dict()
    monkeypatch.setattr(data_module, "MAX_BYTES", 0)
    data, _ = streamed(folder)
    with pytest.raises(KeyboardInterrupt):
        train(space, data, recipe=RECIPE, out=tmp_path / "streamed", progress=stop)
    found = train(space, data, recipe=RECIPE, out=tmp_path / "streamed", resume=True).state_dict()
    for name, value in expected.items():
        assert torch.equal(found[name], value), name


def test_a_large_jpeg_decoded_at_a_fraction_of_its_size_is_the_image_made_smaller(
    tmp_path: Path,
) -> None:
    rng = np.random.default_rng(0)
    coarse = Image.fromarray(rng.integers(0, 256, (12, 16, 3), dtype=np.uint8))
    coarse.resize((512, 384), Image.Resampling.BICUBIC).save(tmp_path / "large.jpg", quality=95)
    form = image_files.Form("RGB", 60, 60)
    out = np.zeros(form.shape, dtype=np.uint8)
    assert image_files.decode(tmp_path / "large.jpg", form, out) is image_files.State.DECODED
    with Image.open(tmp_path / "large.jpg") as image:
        expected = image.resize((60, 60), Image.Resampling.BILINEAR)
    difference = np.abs(out.astype(float) - np.asarray(expected).transpose(2, 0, 1))
    assert difference.mean() < 3


@pytest.mark.usefixtures("small_memory")
def test_reading_a_stream_leaves_the_global_generator_alone(folder: Path) -> None:
    _, files = streamed(folder)
    torch.manual_seed(0)
    expected = torch.rand(3)
    torch.manual_seed(0)
    list(files.batches(torch.arange(40).split(10)))
    assert torch.equal(torch.rand(3), expected)


@pytest.mark.usefixtures("small_memory")
def test_the_neighbour_of_a_damaged_file_stands_in_for_it_and_it_is_told_once(
    folder: Path,
) -> None:
    _, files = streamed(folder)
    bad = folder / files.root.name / files.names[7].decode()
    bad.write_bytes(bad.read_bytes()[:40])
    order = torch.tensor([5, 7, 9])
    with pytest.warns(UserWarning, match=f"skipped 1 damaged images: {bad}") as told:
        batches = list(files.batches([order, order + 1, order]))
    assert len(told) == 1
    stand_in = files.where(torch.tensor([5, 8, 9]))
    for batch in (batches[0], batches[2]):
        assert torch.equal(batch.images, stand_in.images)
        assert torch.equal(batch.labels, stand_in.labels)


@pytest.mark.usefixtures("small_memory")
def test_a_stream_with_more_than_one_percent_damaged_is_refused(
    folder: Path, space: SearchSpace, tmp_path: Path
) -> None:
    data, files = streamed(folder)
    start(space, data, recipe=RECIPE, out=tmp_path / "run", resume=False)  # reads the sample
    for index in (7, 11):
        (files.root / files.names[index].decode()).write_bytes(b"\x89PNG")
    with (
        pytest.warns(UserWarning, match="skipped 1"),
        pytest.raises(DataError, match=r"2 of 120 images are damaged, the first .*replace"),
    ):
        list(files.batches(torch.arange(len(files)).split(10)))


@pytest.mark.usefixtures("small_memory")
def test_a_decoding_process_that_dies_is_told_in_one_line(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    _, files = streamed(folder)
    parent = os.getpid()

    def die(*_: object) -> None:
        assert os.getpid() != parent
        os.kill(os.getpid(), signal.SIGKILL)

    monkeypatch.setattr(image_files, "decode", die)
    with pytest.raises(DataError, match=r"ended by the system.*--shm-size"):
        list(files.batches(torch.arange(40).split(10)))


@pytest.mark.usefixtures("small_memory")
def test_a_decoding_process_that_hangs_is_told_in_one_line(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    _, files = streamed(folder)

    def hang(*_: object) -> None:
        time.sleep(2.0)
        os._exit(0)  # or the end of the test would wait for it

    monkeypatch.setattr(image_files, "decode", hang)
    monkeypatch.setattr(image_files, "_ANSWER_SECONDS", 0.5)
    with pytest.raises(DataError, match=r"has not answered for 0.5 s.*whether the disk answers"):
        list(files.batches(torch.arange(40).split(10)))
